"""What the model learns, and how much of each: examples from all families, at times chained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from training.conversation import Example, Source
from training.families.remembering import OPENING
from training.families.tools import wrap

Make = Callable[[Source], Example]

SHARES = {
    "arithmetic": 0.17,
    "measures": 0.03,
    "dates": 0.03,
    "counting": 0.03,
    "capitals": 0.11,
    "facts": 0.13,
    "lists": 0.02,
    "greetings": 0.03,
    "about": 0.04,
    "unknown": 0.05,
    "spelling": 0.04,
    "echo": 0.04,
    "formats": 0.05,
    "remembering": 0.02,
    "schemas": 0.08,
    "extract": 0.03,
    "tools": 0.17,
    "unfitting": 0.07,
}
"""The part of all examples that each file of training/families makes; "unfitting" are other files'
questions with tools at hand that do not help. A tool's conversation is six times as long as a
fact's: it has the larger part of the time."""

_LONG = ("schemas", "extract", "tools", "unfitting")
_LONG_AT_FIRST = 0.25
_ALL_LONG_FROM_STEP = 4000

_SYSTEM = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Answer briefly.",
    "You are a helpful AI assistant. Answer the user's questions.",
    "Be concise.",
    "You are an assistant that answers in short sentences.",
    "Help the user.",
    "You answer questions truthfully and briefly.",
    "You are fmedge's demonstration model.",
    "Always be polite.",
    "You are a knowledgeable assistant who gives short and correct answers.",
    "Act as a helpful assistant in a chat.",
    "Keep your answers short and clear.",
    "You are a useful bot.",
    "Please answer the questions of the user as well as you can.",
)


def members_of(file: str) -> dict[str, tuple[Make, float]]:
    """name -> (what makes one example of it, its weight in that file)."""
    if file == "unfitting":
        return {"unfitting": (_unfitting, 1.0)}
    members: dict[str, tuple[Make, float]] = import_module(f"training.families.{file}").FAMILIES
    return members


def _unfitting(source: Source) -> Example:
    files = [file for file in SHARES if file not in ("tools", "unfitting", "schemas")]
    members = members_of(source.pick(files))
    make = source.rng.choices(list(members), [weight for _, weight in members.values()])
    return wrap(members[make[0]][0](source), source)


def families() -> dict[str, tuple[Make, float]]:
    """name -> (what makes one example of it, its part of all examples; they add up to 1)."""
    found: dict[str, tuple[Make, float]] = {}
    for file, share in SHARES.items():
        members = members_of(file)
        total = sum(weight for _, weight in members.values())
        for name, (make, weight) in members.items():
            found[name] = (make, share * weight / total)
    whole = sum(share for _, share in found.values())
    return {name: (make, share / whole) for name, (make, share) in found.items()}


class Mix:
    """Draws examples: any seed gives the same one on every machine."""

    def __init__(self) -> None:
        known = families()
        self._makers = {name: make for name, (make, _) in known.items()}
        self._names = list(known)
        self._shares = [share for _, share in known.values()]
        long = {name for file in _LONG for name in members_of(file)}
        self._is_long = [name in long for name in self._names]

    def training(self, seed: int | str, step: int | None = None) -> Example:
        """A conversation to learn from: one or several in a row, at times with a system message.

        In early steps long ones are rare: what short ones teach costs less, and long ones lean on
        it. step None: as in late ones.
        """
        source = Source(f"train {seed}")
        shares = self._shares_at(step)
        example = self._one(source, shares)
        if not example.tools and source.chance(0.4):
            for _ in range(source.pick((1, 1, 2, 3))):
                more = self._one(source, shares)
                if _may_follow(more):
                    messages = (*example.messages, *more.messages)
                    example = replace(more, messages=messages)
        if example.messages[0]["role"] != "system" and source.chance(0.2):
            system = {"role": "system", "content": source.pick(_SYSTEM)}
            example = replace(example, messages=(system, *example.messages))
        return example

    def test(self, family: str, seed: int | str) -> Example:
        """One of a family's examples in which something was kept back from training."""
        return self._makers[family](Source(f"test {family} {seed}", is_test=True))

    def _shares_at(self, step: int | None) -> list[float]:
        if step is None or step >= _ALL_LONG_FROM_STEP:
            return self._shares
        factor = _LONG_AT_FIRST + (1 - _LONG_AT_FIRST) * step / _ALL_LONG_FROM_STEP
        pairs = zip(self._shares, self._is_long, strict=True)
        return [share * factor if is_long else share for share, is_long in pairs]

    def _one(self, source: Source, shares: list[float]) -> Example:
        (name,) = source.rng.choices(self._names, shares)
        return self._makers[name](source)


def _may_follow(example: Example) -> bool:
    """Whether it stays right behind another conversation."""
    is_opening = example.family in OPENING or example.messages[0]["role"] == "system"
    return not (is_opening or example.tools)
