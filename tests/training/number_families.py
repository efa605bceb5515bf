"""What holds for every family about numbers, whatever it asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from training.conversation import Example, Source
from training.families.numerals import holds

_NUM_SEEDS = 300


def examples_of(
    make: Callable[[Source], Example], *, is_test: bool | None = None
) -> Iterator[Example]:
    for asked in (False, True) if is_test is None else (is_test,):
        for seed in range(_NUM_SEEDS):
            yield make(Source(seed, is_test=asked))


def last_answer(example: Example) -> str:
    return str(example.messages[-1]["content"])


def check_conversations(make: Callable[[Source], Example], *, is_test: bool) -> None:
    """Turns alternate, the key is in the answer once, nothing is left unfilled, seeds decide."""
    for seed in range(_NUM_SEEDS):
        example = make(Source(seed, is_test=is_test))
        assert example == make(Source(seed, is_test=is_test))
        roles = [message["role"] for message in example.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles
        for message in example.messages:
            assert message["content"].strip()
            assert message["content"].isascii()
            assert not re.search(r"[{}]", message["content"])
        if example.is_exact:
            assert not example.key
        else:
            assert holds(last_answer(example), example.key) == 1


def check_phrasings(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> None:
    """No kept-back phrasing is a trained one, and each of its words occurs in a trained one."""
    pairs = list(pairs)
    trained = {_plain(phrase) for phrases, _ in pairs for phrase in phrases}
    known = {word for phrase in trained for word in phrase.split()}
    for _, kept_back in pairs:
        for phrase in kept_back:
            assert _plain(phrase) not in trained, phrase
            assert set(_plain(phrase).split()) <= known, set(_plain(phrase).split()) - known


def _plain(phrase: str) -> str:
    """Without case and punctuation, but with signs between numbers and slots."""
    spaced = re.sub(r"([-+*/=])(?=\{)|(?<=\})([-+*/=])", r" \1\2 ", phrase.lower())
    return " ".join(re.sub(r"[?.,:;!]", " ", spaced).split())
