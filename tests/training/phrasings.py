"""What the examples and the kept-back phrasings of a family have to fulfil."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from training.conversation import Example, Source

Families = Mapping[str, tuple[Callable[[Source], Example], float]]
Phrasings = Mapping[str, tuple[Sequence[str], Sequence[str]]]


def plain(phrasing: str) -> str:
    """A phrasing without case and punctuation."""
    return " ".join(re.findall(r"\w+", phrasing.lower()))


def equal_phrasings(phrasings: Phrasings) -> list[str]:
    """Those kept back that are also trained, but for case and punctuation."""
    return [
        phrasing
        for trained, kept_back in phrasings.values()
        for phrasing in kept_back
        if plain(phrasing) in {plain(other) for other in trained}
    ]


def untrained_words(phrasings: Phrasings) -> set[str]:
    """The words of those kept back that no trained phrasing has."""
    trained = {
        word for kinds, _ in phrasings.values() for text in kinds for word in plain(text).split()
    }
    return {
        word for _, kinds in phrasings.values() for text in kinds for word in plain(text).split()
    } - trained


def is_whole_word(key: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(key)}(?!\w)", text, re.IGNORECASE) is not None


def check_conversation(example: Example) -> None:
    """The roles alternate, the assistant ends, and its answer holds what it must."""
    roles = [message["role"] for message in example.messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2), example
    assert all(message["content"].strip() for message in example.messages), example
    assert bool(example.key) != example.is_exact, example
    if example.key:
        assert is_whole_word(example.key, example.messages[-1]["content"]), example


def examples_of(families: Families, name: str, *, is_test: bool = False) -> list[Example]:
    make = families[name][0]
    return [make(Source(seed, is_test=is_test)) for seed in range(300)]


def answers_of(families: Families, name: str) -> list[tuple[str, str]]:
    """The last question and its answer of each trained example."""
    return [
        (example.messages[-2]["content"], example.messages[-1]["content"])
        for example in examples_of(families, name)
    ]


def check_family(families: Families, name: str, *, is_test: bool) -> None:
    """Well-formed conversations under the family's name; the same seeds give the same ones."""
    examples = examples_of(families, name, is_test=is_test)
    for example in examples:
        check_conversation(example)
        assert example.family == name
    assert examples == examples_of(families, name, is_test=is_test)
