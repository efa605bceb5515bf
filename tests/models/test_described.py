"""Described models: files that llama.cpp reads, and a vocabulary that reads English."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from fmedge._native.gguf import read_header
from fmedge._native.vocab import Vocab
from fmedge.config.cluster import Figures
from fmedge.errors import ConfigError
from fmedge.models.described import QUANTS, described_model
from fmedge.models.metadata import check_header
from fmedge.models.plain_vocab import CONTROL_TOKENS, plain_vocab
from fmedge.replica.sizing import Sizer
from fmedge.sched.provision.shapes import shape_of
from fmedge.types import EngineSettings

SMALL = Figures(
    layers=8, embedding=512, feed_forward=1536, heads=8, kv_heads=2, vocab=40_000, ctx=4096
)
EXPERTS = {"experts": 8, "experts_used": 2, "expert_feed_forward": 512}

ENGLISH = (
    "I think that we should go to the market tomorrow morning, because the weather will be fine "
    "and the children have no school. After that, perhaps your sister wants to have dinner with "
    "us; she said last week that she would like to see the new house before the long winter."
)


def test_a_published_model_weighs_what_it_does(tmp_path: Path) -> None:
    """Llama 3.1 8B at Q4_K_M, whose file is 4.92e9 bytes (its page at Hugging Face)."""
    figures = Figures(layers=32, embedding=4096, feed_forward=14336, heads=32, kv_heads=8)
    path = described_model(figures, tmp_path, "here")
    metadata = check_header(read_header(str(path)))
    assert metadata.file_bytes == pytest.approx(4.92e9, rel=0.01)
    assert metadata.num_params == pytest.approx(8.03e9, rel=0.01)
    assert metadata.quant == "Q4_K_M"
    assert path.stat().st_blocks * 512 < 16e6  # its weights are a hole


@pytest.mark.parametrize(
    ("changes", "architecture"),
    [
        ({}, "llama"),
        ({**EXPERTS, "tied": True}, "qwen3moe"),
        ({"window": 512, "head_size": 128}, "gemma3"),
        ({**EXPERTS, "window": 128}, "gpt-oss"),
    ],
)
async def test_llama_cpp_lays_it_out_as_the_planner_does(
    tmp_path: Path, changes: dict[str, int], architecture: str
) -> None:
    path = described_model(replace(SMALL, **changes), tmp_path, "here")
    shape = shape_of([read_header(str(path))])
    assert shape.architecture == architecture
    async with Sizer() as sizer:
        assert await sizer.check_vocab(str(path)) == SMALL.vocab
        (host,) = await sizer.size(
            str(path), EngineSettings(model_path=str(path), ctx_size=1024, devices=())
        )
    assert host.weights == pytest.approx(shape.weight_bytes, rel=0.001)


@pytest.mark.parametrize("quant", QUANTS)
def test_every_quant_is_of_its_file_type(tmp_path: Path, quant: str) -> None:
    path = described_model(replace(SMALL, quant=quant, vocab=1024), tmp_path, "here")
    assert check_header(read_header(str(path))).quant == quant


def test_equal_figures_are_one_file_and_nothing_else_lies_there(tmp_path: Path) -> None:
    first = described_model(SMALL, tmp_path, "here")
    written_ns = first.stat().st_mtime_ns
    again = described_model(SMALL, tmp_path, "there")
    other = described_model(SMALL, tmp_path / "other", "here")
    assert again == first
    assert first.stat().st_mtime_ns == written_ns
    assert other.read_bytes() == first.read_bytes()
    assert described_model(replace(SMALL, layers=4), tmp_path, "here") != first
    assert sorted(p.suffix for p in tmp_path.iterdir() if p.is_file()) == [".gguf", ".gguf"]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quant": "Q9"}, "here: quant: 'Q9' is not one of F32"),
        ({"feed_forward": 1500}, "here: blk.0.ffn_down.weight has rows of 1500, which Q6_K"),
    ],
)
def test_what_no_file_can_be_is_refused_before_it_is_written(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        described_model(replace(SMALL, **changes), tmp_path / "models", "here")
    assert said in str(raised.value)
    assert not (tmp_path / "models").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"here: cannot write the described model to .*file"):
        described_model(SMALL, tmp_path / "file", "here")


def test_the_vocabulary_reads_english_and_gives_every_text_back(tmp_path: Path) -> None:
    vocab = Vocab.open(described_model(SMALL, tmp_path, "here"))
    tokens = _tokens(vocab, ENGLISH)
    assert len(ENGLISH.split()) * 0.9 <= len(tokens) <= len(ENGLISH) / 3.5
    for text in (ENGLISH, "Grüße, 日本 \U0001f389\n\n\tx\\y\r\0", "a" * 1000):
        assert b"".join(vocab.piece(token) for token in _tokens(vocab, text)) == text.encode()
    turn = _tokens(vocab, "<|im_start|>user\nhello<|im_end|>")
    assert vocab.piece(turn[0]) == b"<|im_start|>"
    assert turn[-1] == vocab.eos == vocab.eot
    assert vocab.eos in vocab.eog_tokens


@pytest.mark.parametrize("size", [259, 1024, 128_256, 400_000])
def test_a_vocabulary_has_the_size_that_was_asked_and_no_token_twice(size: int) -> None:
    vocab = plain_vocab(size)
    assert len(vocab.tokens) == len(set(vocab.tokens)) == size
    assert vocab.tokens[vocab.num_text :][:3] == CONTROL_TOKENS
    with pytest.raises(ValueError, match="at least 259"):
        plain_vocab(258)


def _tokens(vocab: Vocab, text: str) -> list[int]:
    packed = vocab.tokenize(text, add_special=False, parse_special=True)
    return list(memoryview(packed).cast("i"))
