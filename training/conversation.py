"""One conversation to learn from or to be tested on, and the randomness that it is made with."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Message = dict[str, Any]
"""One message as OpenAI's API has it. A tool call's arguments are an object, not a string."""

_KEPT_BACK_PERCENT = 10


@dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation that ends with the assistant's answer, in a form that can be checked.

    key: what that answer must hold as a whole word or number; "" when any of these decides instead:
    is_exact (the answer itself, but for outer spaces), schema (a JSON Schema that the answer, one
    JSON value, must fulfil), tool calls in the last message (the same calls with equal arguments,
    in any order), or tools and no call in the last message (no call, whatever the text).
    """

    family: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    key: str = ""
    is_exact: bool = False
    schema: Mapping[str, Any] | None = None


class Source:
    """The choices of one example: seeded, and either for training or for the test."""

    def __init__(self, seed: int | str, *, is_test: bool = False) -> None:
        self.rng = random.Random(seed)
        self.is_test = is_test

    def pick(self, items: Sequence[T]) -> T:
        """Any of them, in training and in the test."""
        return items[self.rng.randrange(len(items))]

    def sample(self, items: Sequence[T], num: int) -> list[T]:
        """num different ones, in random order."""
        return self.rng.sample(items, num)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def phrase(self, trained: Sequence[str], kept_back: Sequence[str]) -> str:
        """A phrasing: of the trained ones in training, of those kept back in the test."""
        return self.pick(kept_back if self.is_test else trained)

    def fresh(self, items: Sequence[T]) -> T:
        """An entry: one of nine tenths of them in training, of the other tenth in the test."""
        allowed = [item for item in items if self.may_see(str(item))]
        return self.pick(allowed)

    def may_see(self, entry: str) -> bool:
        """Whether this source may use an entry: a stable tenth of all is kept for the test."""
        return is_kept_back(entry) == self.is_test


def is_kept_back(entry: str) -> bool:
    """Whether an entry is one of the tenth that no training run sees."""
    return zlib.crc32(entry.encode()) % 100 < _KEPT_BACK_PERCENT


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def calls(*functions: tuple[str, Mapping[str, Any]]) -> Message:
    """The assistant's message that calls functions (name, arguments)."""
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
            for name, arguments in functions
        ],
    }


def tool_result(content: str) -> Message:
    """What a tool answered: JSON as a rule."""
    return {"role": "tool", "content": content}


def as_typed(source: Source, question: str) -> str:
    """The question as people type it: at times in lower case, unpunctuated, with a please or hello.

    For questions whose case does not matter to the answer.
    """
    text = question
    if source.chance(0.15):
        text = text.removesuffix("?").removesuffix(".")
    if source.chance(0.15):
        text = text.lower()
    elif source.chance(0.1):
        text = text[:1].lower() + text[1:]
    if source.chance(0.06):
        opening = source.pick(
            ("Please, ", "Hey, ", "Hello! ", "Hi, ", "Tell me: ", "Quick question: ")
        )
        text = opening + text
    elif source.chance(0.05) and text[-1:] == "?":
        text = text[:-1] + source.pick((", please?", " please?"))
    return text
