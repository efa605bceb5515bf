"""Questions that share one answer: written phrasings, of which some are kept back for the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.conversation import Example, Message, Source, as_typed, assistant, user


@dataclass(frozen=True)
class Topic:
    """One answer, the word or words that make it right, and the ways of asking for it."""

    answer: str
    key: str
    trained: tuple[str, ...]
    kept_back: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """Something with several names, what is to be said of it, and the words that make it right."""

    names: tuple[str, ...]
    answer: str
    key: str


def phrases(text: str) -> tuple[str, ...]:
    """The phrasings of a text, which separates them by |."""
    return tuple(" ".join(phrase.split()) for phrase in text.split("|"))


def topic(answer: str, key: str, trained: str, kept_back: str) -> Topic:
    return Topic(answer, key, phrases(trained), phrases(kept_back))


def entry(names: str, answer: str, key: str) -> Entry:
    return Entry(phrases(names), answer, key)


def turn(source: Source, chosen: Topic) -> list[Message]:
    """A question of the topic, as typed, and its answer."""
    question = as_typed(source, source.phrase(chosen.trained, chosen.kept_back))
    return [user(question), assistant(chosen.answer)]


def example(source: Source, family: str, topics: Sequence[Topic], *, chain: float) -> Example:
    """A conversation on one topic; with the probability chain, others of the table come before."""
    num = 1
    if source.chance(chain):
        num = 2 if source.chance(0.8) else 3
    chosen = source.sample(topics, num)
    messages = [message for one in chosen for message in turn(source, one)]
    return Example(family=family, messages=tuple(messages), key=chosen[-1].key)
