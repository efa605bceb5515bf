"""The tokenizer: round trips, special tokens, threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge._native.vocab import Vocab
from fmedge.errors import ModelFileError, ModelLoadError, NativeError
from tests.native.conftest import LoadEngine


@pytest.fixture(scope="module")
def vocab(tiny_path: Path) -> Iterator[Vocab]:
    opened = Vocab.open(tiny_path)
    yield opened
    opened.close()


def ids(tokens: bytes) -> list[int]:
    return list(memoryview(tokens).cast("i"))


@given(text=st.text())
def test_pieces_of_a_texts_tokens_are_the_text(vocab: Vocab, text: str) -> None:
    tokens = ids(vocab.tokenize(text, add_special=False, parse_special=False))
    assert b"".join(vocab.piece(token) for token in tokens) == text.encode()


def test_special_tokens_are_parsed_on_request_only(vocab: Vocab) -> None:
    (token,) = ids(vocab.tokenize("<|im_end|>", add_special=False, parse_special=True))
    assert vocab.is_control(token)
    assert vocab.piece(token) == b"<|im_end|>"
    assert token == vocab.eos
    assert token in vocab.eog_tokens
    plain = ids(vocab.tokenize("<|im_end|>", add_special=False, parse_special=False))
    assert len(plain) > 1
    assert not any(vocab.is_control(token) for token in plain)


def test_fim_tokens_are_known(vocab: Vocab) -> None:
    for token in (vocab.fim_prefix, vocab.fim_suffix, vocab.fim_middle):
        assert token is not None
        assert vocab.piece(token).startswith(b"<|fim_")


def test_an_empty_text_has_no_tokens(vocab: Vocab) -> None:
    assert vocab.tokenize("", add_special=False, parse_special=False) == b""


def test_nul_and_lone_surrogates_are_text_too(vocab: Vocab) -> None:
    tokens = ids(vocab.tokenize("a\0b\ud800", add_special=False, parse_special=False))
    assert b"".join(vocab.piece(token) for token in tokens) == b"a\0b?"


def test_a_long_text_is_tokenised_whole(vocab: Vocab) -> None:
    text = "The quick brown fox. " * 20_000
    tokens = ids(vocab.tokenize(text, add_special=False, parse_special=False))
    assert b"".join(vocab.piece(token) for token in tokens) == text.encode()


def test_unknown_tokens_are_refused(vocab: Vocab) -> None:
    for token in (-1, vocab.num_tokens):
        with pytest.raises(NativeError, match="no token"):
            vocab.piece(token)


def test_threads_agree(vocab: Vocab) -> None:
    texts = [f"{word} {n}" for n in range(50) for word in ("alpha", "beta", "gamma")]

    def tokenize(text: str) -> bytes:
        return vocab.tokenize(text, add_special=True, parse_special=True)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenize, texts)) == [tokenize(text) for text in texts]


def test_an_engines_vocabulary_is_the_files(vocab: Vocab, load_engine: LoadEngine) -> None:
    own = load_engine().vocab
    assert own.num_tokens == vocab.num_tokens == 512
    assert own.eog_tokens == vocab.eog_tokens
    text = "Some text <|im_start|> here"
    assert own.tokenize(text, add_special=True, parse_special=True) == vocab.tokenize(
        text, add_special=True, parse_special=True
    )


def test_a_closed_vocabulary_says_so(tiny_path: Path) -> None:
    opened = Vocab.open(tiny_path)
    opened.close()
    opened.close()
    with pytest.raises(ModelLoadError, match="closed"):
        opened.tokenize("a", add_special=False, parse_special=False)


def test_a_file_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelFileError, match=r"broken\.gguf: cannot read the tokenizer"):
        Vocab.open(broken)
