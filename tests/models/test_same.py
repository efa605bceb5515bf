"""Which files may be replicas of one model."""

from __future__ import annotations

from typing import Any

import pytest

from fmedge._native.gguf import read_header
from fmedge.errors import ModelFileError
from fmedge.models.same import check_same_model
from fmedge.types import GgufHeader
from tests.synthetic import cached

BASE: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "<|end|>"],
    "tokenizer.ggml.token_type": [1, 1, 3],
    "tokenizer.ggml.bos_token_id": 2,
    "tokenizer.ggml.eos_token_id": 2,
}


def header(path: str = "b.gguf", **changes: Any) -> GgufHeader:
    """BASE with changes; keys by their last part, None takes one away."""
    metadata = dict(BASE)
    for short, value in changes.items():
        key = next((k for k in BASE if k.endswith(f".{short}")), f"tokenizer.ggml.{short}")
        if value is None:
            metadata.pop(key, None)
        else:
            metadata[key] = value
    return GgufHeader(
        path=path, version=3, alignment=32, data_offset=0, file_bytes=0,
        metadata=metadata, tensors=(),
    )  # fmt: skip


def test_another_quantisation_of_the_same_model() -> None:
    check_same_model(
        read_header(cached("tiny", quant="f16")), read_header(cached("tiny", quant="q8_0"))
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_layers": 3}, "number of layers is 3, not 2"),
        ({"vocab_size": 600}, "has 600 tokens, not 512"),
        ({"n_embd": 128}, "embedding length is 128, not 64"),
        ({"arch": "qwen2"}, "architecture is qwen2, not llama"),
    ],
)
def test_another_model(fields: dict[str, Any], words: str) -> None:
    ours, theirs = cached("tiny"), cached("tiny", **fields)
    with pytest.raises(ModelFileError) as caught:
        check_same_model(read_header(ours), read_header(theirs))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(theirs))
    assert str(ours) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"padding_token_id": 1},
        {"pre": "other"},
        {"eot_token_id": 2},
        {"eot_token_id": 0xFFFFFFFF},
        {"token_type": None},
    ],
)
def test_differences_that_change_nothing(changes: dict[str, Any]) -> None:
    check_same_model(header("a.gguf"), header(**changes))
    check_same_model(header("a.gguf", **changes), header())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "llama"}, "tokenizer is 'llama', not 'gpt2'"),
        ({"tokens": ["a", "c", "<|end|>"]}, "token 1 is 'c', not 'b'"),
        ({"tokens": ["a", "b"]}, "2 tokens, not 3"),
        ({"tokens": ["a", "x" * 99, "<|end|>"]}, "token 1 is 'xxx"),
        ({"token_type": [1, 3, 3]}, "the type of token 1 is 3, not 1"),
        ({"eos_token_id": 1}, "eos token is 1, not 2"),
        ({"bos_token_id": None}, "bos token is not set, not 2"),
        ({"eos_token_id": 0xFFFFFFFF}, "eos token is not set, not 2"),
    ],
)
def test_another_vocabulary(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        check_same_model(header("a.gguf"), header(**changes))
    assert words in str(caught.value)
    assert "b.gguf has another vocabulary than a.gguf" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_contradicting_ends_of_turn() -> None:
    with pytest.raises(ModelFileError, match="eot token is 1, not 2"):
        check_same_model(header("a.gguf", eot_token_id=2), header(eot_token_id=1))
