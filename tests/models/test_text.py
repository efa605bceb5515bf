from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.models.text import PieceTable, TextStream

from .vocab import ByteVocab

VOCAB = ByteVocab()


def reference(tokens: list[int], stops: list[str]) -> str:
    """The text in one go: decode everything, cut before the stop that is complete first."""
    data = b"".join(VOCAB.piece(t) for t in tokens if not VOCAB.is_control(t))
    text = data.decode("utf-8", "replace")
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


TOKENS = st.lists(
    st.one_of(
        st.integers(0, VOCAB.num_tokens - 1),
        st.sampled_from([VOCAB.first_byte + b for b in b"abab<|/s> \n"]),
    ),
    max_size=40,
)
STOPS = st.lists(
    st.one_of(st.text("ab<|/s>", min_size=1, max_size=5), st.text(min_size=1, max_size=3)),
    max_size=4,
)


@given(TOKENS, STOPS, st.lists(st.integers(0, 5), max_size=40))
def test_any_grouping_gives_the_reference_text(
    tokens: list[int], stops: list[str], sizes: list[int]
) -> None:
    stream = TextStream(VOCAB, stops)
    parts = []
    rest = list(tokens)
    for size in sizes:
        parts.append(stream.push(rest[:size]))
        rest = rest[size:]
    parts += [stream.push([token]) for token in rest]
    parts.append(stream.flush())
    assert "".join(parts) == reference(tokens, stops)


@given(TOKENS, STOPS)
def test_nothing_is_held_back_without_reason(tokens: list[int], stops: list[str]) -> None:
    stream = TextStream(VOCAB, stops)
    given_out = ""
    seen = b""
    for token in tokens:
        given_out += stream.push([token])
        seen += b"" if VOCAB.is_control(token) else VOCAB.piece(token)
        if stream.stopped is not None:
            return
        held = seen.decode("utf-8", "ignore").removeprefix(given_out.replace("\ufffd", ""))
        if "\ufffd" not in seen.decode("utf-8", "replace") and held:
            assert any(stop.startswith(held) for stop in stops)


def test_a_character_waits_for_its_last_byte() -> None:
    stream = TextStream(VOCAB)
    first, second, third = "日".encode()
    assert stream.push([VOCAB.first_byte + first]) == ""
    assert stream.push([VOCAB.first_byte + second]) == ""
    assert stream.push([VOCAB.first_byte + third]) == "日"
    assert stream.push([VOCAB.first_byte + first]) == ""
    assert stream.flush() == "\ufffd"


def test_stop_is_cut_exactly_and_named() -> None:
    stream = TextStream(VOCAB, ["\n\nUser", "END"])
    assert stream.push(VOCAB.ids("one\n\nUs")) == "one"
    assert stream.push(VOCAB.ids("ual\n")) == "\n\nUsual"
    assert stream.push(VOCAB.ids("\nUser: x")) == ""
    assert stream.stopped == "\n\nUser"
    assert stream.push(VOCAB.ids("more")) == ""
    assert stream.flush() == ""


def test_control_tokens_are_hidden_unless_asked_for() -> None:
    tokens = [*VOCAB.ids("a"), 2, *VOCAB.ids("b")]
    assert TextStream(VOCAB).push(tokens) == "ab"
    assert TextStream(VOCAB, show_control=True).push(tokens) == "a<|im_end|>b"
    shown = PieceTable(VOCAB, shown=["<|im_end|>"])
    assert TextStream(shown).push([0, *tokens]) == "a<|im_end|>b"


@pytest.mark.parametrize("token", [-1, 10**6])
def test_tokens_outside_the_vocabulary_are_no_text(token: int) -> None:
    assert TextStream(VOCAB).push([token]) == ""
