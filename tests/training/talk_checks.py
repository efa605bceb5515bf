"""What must hold for every family of examples that answers from tables of phrasings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from training.conversation import Example, Source

Maker = Callable[[Source], Example]


def examples(make: Maker, num: int = 300) -> Iterable[Example]:
    """Of training and of the test, the same seed giving the same one."""
    for is_test in (False, True):
        for seed in range(num):
            made = make(Source(seed, is_test=is_test))
            assert made == make(Source(seed, is_test=is_test))
            yield made


def holds(key: str, answer: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", answer, re.IGNORECASE))


def check_form(made: Example) -> None:
    """User and assistant take turns, the assistant ends, nothing is empty or left unfilled."""
    roles = [message["role"] for message in made.messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    for message in made.messages:
        assert message["content"].strip()
        assert not re.search(r"\{[a-z_]+\}", message["content"]), message
    answer = made.messages[-1]["content"]
    assert made.is_exact or (made.key and holds(made.key, answer)), made


def plain(phrase: str) -> str:
    """A phrasing without its case and punctuation; slots stay what they are."""
    return re.sub(r"[^\w{}]+", " ", phrase.lower()).strip()


def words(phrases: Iterable[str]) -> set[str]:
    return {word for phrase in phrases for word in plain(phrase).split()}


def check_kept_back(trained: Iterable[str], kept_back: Iterable[str]) -> None:
    """No phrasing of the test is trained, and no word of it is new."""
    trained = list(trained)
    seen = {plain(phrase) for phrase in trained}
    known = words(trained)
    for phrase in kept_back:
        assert plain(phrase) not in seen, phrase
        assert not words([phrase]) - known, phrase
