"""What holds for every family of conversations, whatever it asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from training.conversation import Example, Source
from training.mix import members_of

NUM_SEEDS = 300

Maker = Callable[[Source], Example]
Families = Mapping[str, tuple[Maker, float]]
Pair = tuple[Sequence[str], Sequence[str]]
"""Phrasings that are trained, and those kept back."""


def examples(make: Maker, *, is_test: bool | None = None) -> Iterator[Example]:
    """Those of training, of the test, or (None) of both."""
    for asked in (False, True) if is_test is None else (is_test,):
        for seed in range(NUM_SEEDS):
            yield make(Source(seed, is_test=asked))


def answers(make: Maker) -> Iterator[tuple[str, str]]:
    """The last question and its answer of each trained example."""
    for example in examples(make, is_test=False):
        yield example.messages[-2]["content"], last_answer(example)


def last_answer(example: Example) -> str:
    return str(example.messages[-1]["content"])


def holds(key: str, answer: str) -> bool:
    """As a whole word or number."""
    return re.search(rf"(?<![\w-]){re.escape(key)}(?!\w)", answer, re.IGNORECASE) is not None


def check_family(families: Families, name: str) -> None:
    """Well-formed conversations under the name of the family, or of its file; the same seeds give
    the same ones."""
    make, weight = families[name]
    assert weight > 0
    made = list(examples(make))
    assert made == list(examples(make))
    for example in made:
        assert example.family == name or name in members_of(example.family)
        check_form(example)


def check_form(example: Example) -> None:
    """Turns alternate, the assistant ends, nothing is empty or left unfilled, and the last answer
    holds what it must."""
    roles = [message["role"] for message in example.messages]
    assert roles
    assert roles == ["user", "assistant"] * (len(roles) // 2), example
    for message in example.messages:
        assert message["content"].strip(), example
        is_filled = not re.search(r"\{[a-z_]+\}", message["content"])
        assert is_filled or example.family == "echo.enclose", example
    assert bool(example.key) != example.is_exact, example
    assert example.is_exact or holds(example.key, last_answer(example)), example


def check_kept_back(pairs: Iterable[Pair]) -> None:
    """No kept-back phrasing is a trained one, and each of its words occurs in a trained one."""
    pairs = list(pairs)
    trained = {plain(phrase) for phrases, _ in pairs for phrase in phrases}
    known = {word for phrase in trained for word in phrase.split()}
    for _, kept_back in pairs:
        for phrase in kept_back:
            assert plain(phrase) not in trained, phrase
            assert set(plain(phrase).split()) <= known, phrase


def plain(phrase: str) -> str:
    """Without case and punctuation, but with the signs between numbers' slots."""
    spaced = re.sub(r"([-+*/=])(?=\{)|(?<=\})([-+*/=])", r" \1\2 ", phrase.lower())
    return " ".join(re.findall(r"[\w{}]+|(?<= )[-+*/=](?= )", spaced))
