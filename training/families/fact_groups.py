"""A group of facts that are asked for and answered alike, such as all capitals.

The answer's wording follows from the fact alone; only the question's wording is drawn by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.conversation import Example, Message, Source, as_typed, assistant, user

FOLLOW_UPS = (
    "And {x}?",
    "What about {x}?",
    "How about {x}?",
    "and {x}",
    "{x}?",
    "Now {x}.",
    "Now {x}, please.",
    "OK, and {x}?",
    "The same for {x}, please.",
    "And for {x}?",
    "Thanks! And {x}?",
    "Good. What about {x}?",
)
KEPT_BACK_FOLLOW_UPS = (
    "And what about {x}?",
    "OK, what about {x}?",
    "And how about {x}?",
    "Thanks. What about {x}?",
    "OK, now {x}.",
)
_FOLLOW_UP_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class FactGroup:
    """Facts with the slots of their templates by name: x is what is asked for, y is the answer.

    key: the template of what a right answer must hold.
    """

    name: str
    entries: tuple[Mapping[str, str], ...]
    trained: tuple[str, ...]
    kept_back: tuple[str, ...]
    answer: str
    key: str = "{y}"

    def question(self, source: Source, entry: Mapping[str, str]) -> Message:
        """One entry asked for in one of the wordings."""
        phrasing = source.phrase(self.trained, self.kept_back)
        return user(as_typed(source, capitalised(phrasing.format_map(entry))))

    def reply(self, entry: Mapping[str, str]) -> Message:
        """The one answer about an entry."""
        return assistant(capitalised(self.answer.format_map(entry)))

    def make(self, source: Source) -> Example:
        """A question with its answer, at times with a follow-up about another entry."""
        entry = source.pick(self.entries)
        messages = [self.question(source, entry), self.reply(entry)]
        if source.chance(_FOLLOW_UP_SHARE):
            for _ in range(2 if source.chance(0.2) else 1):
                entry = source.pick(self.entries)
                phrasing = source.phrase(FOLLOW_UPS, KEPT_BACK_FOLLOW_UPS)
                asked = as_typed(source, capitalised(phrasing.format_map(entry)))
                messages += [user(asked), self.reply(entry)]
        return Example(family=self.name, messages=tuple(messages), key=self.key.format_map(entry))


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, and nothing else changed."""
    return text[:1].upper() + text[1:]


def table(text: str) -> dict[str, str]:
    """The facts in lines of "asked: answer | asked: answer"."""
    facts = {}
    for fact in " ".join(text.split()).split(" | "):
        asked, answer = fact.split(": ")
        facts[asked] = answer
    return facts


def pairs(facts: Mapping[str, str]) -> tuple[Mapping[str, str], ...]:
    """Entries of a table from x to y."""
    return tuple({"x": asked, "y": answer} for asked, answer in facts.items())


def named_pairs(facts: Mapping[str, str]) -> tuple[Mapping[str, str], ...]:
    """Entries of a table from "a dog" to y, with a slot for the noun alone: n is "dog"."""
    return tuple(
        {"x": asked, "y": answer, "n": without_article(asked)} for asked, answer in facts.items()
    )


def without_article(noun: str) -> str:
    for article in ("a ", "an ", "the "):
        if noun.startswith(article):
            return noun.removeprefix(article)
    return noun
