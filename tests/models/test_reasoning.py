from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.models.reasoning import (
    ReasoningMarkers,
    ReasoningSplitter,
    detect_reasoning,
    prompt_opens_reasoning,
)

THINK = ReasoningMarkers("<think>", "</think>")


def split(chunks: list[str], opened: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(THINK, opened=opened)
    deltas = [splitter.push(chunk) for chunk in chunks] + [splitter.flush()]
    return "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas)


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("<think>\nhm\n</think>\n\nyes", False, ("hm", "yes")),
        ("hm\n</think>\n\nyes", True, ("hm", "yes")),
        ("\n <think>a</think>b", False, ("a", "b")),
        ("<think></think>yes", False, ("", "yes")),
        ("no thoughts <think>x</think>", False, ("", "no thoughts <think>x</think>")),
        ("<thinking>", False, ("", "<thinking>")),
        ("<thin", False, ("", "<thin")),
        ("<think>cut off </thi", False, ("cut off </thi", "")),
        ("<think>a </think> b </think> c", False, ("a", "b </think> c")),
        ("", True, ("", "")),
        ("  ", False, ("", "  ")),
    ],
)
def test_splits(text: str, opened: bool, expected: tuple[str, str]) -> None:
    assert split([text], opened) == expected
    assert split(list(text), opened) == expected


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<thi", "nk>", " ", "\n", "a", "</", "b c"]),
    max_size=12,
)


@given(PIECES, st.booleans())
def test_any_chunking_gives_the_same(pieces: list[str], opened: bool) -> None:
    text = "".join(pieces)
    whole = split([text], opened)
    assert split(pieces, opened) == whole
    assert split(list(text), opened) == whole


def test_detection() -> None:
    assert detect_reasoning("x </think> y") == THINK
    assert detect_reasoning("plain") is None
    assert detect_reasoning(None) is None
    assert prompt_opens_reasoning("<|assistant|><think>\n", THINK)
    assert not prompt_opens_reasoning("<|assistant|><think>\n\n</think>\n\n", THINK)
