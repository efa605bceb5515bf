"""What was said earlier in the conversation: what the user told about himself, what he asked."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Message, Source, as_typed, assistant, user
from training.families.echo import make_repeat, make_times, make_upper
from training.families.remembering_things import NOTED_DOWN, THINGS, Thing
from training.families.spelling import make_count, make_reverse, make_spell

PHRASINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "last": (
        (
            "What did I ask before?",
            "What did I just ask?",
            "What did I ask you before this?",
            "What was my last question?",
            "What was my question?",
            "What was my previous question?",
            "Repeat my question.",
            "Repeat my last question.",
            "Which question did I ask you last?",
            "Tell me what I asked you.",
            "Do you remember what I just asked?",
            "Do you remember my question?",
            "What did I ask you?",
        ),
        (
            "What did I just ask you?",
            "Tell me my last question.",
            "Tell me my previous question.",
            "Repeat my previous question.",
            "Which question did I ask before this?",
            "Do you remember my last question?",
        ),
    ),
    "first": (
        (
            "What was my first question?",
            "What did I ask first?",
            "Which question did I ask first?",
            "What was the first thing that I asked?",
            "Repeat my first question.",
            "Tell me the first thing I asked you.",
            "What was the question I started with?",
            "Do you remember my first question?",
        ),
        (
            "What did I ask you first?",
            "Tell me my first question.",
            "What was the first question I asked?",
            "Repeat the first thing I asked.",
        ),
    ),
}
_ASIDES: tuple[Callable[[Source], Example], ...] = (
    make_repeat,
    make_times,
    make_upper,
    make_count,
    make_reverse,
    make_spell,
)


def _told(source: Source, thing: Thing, value: str) -> list[Message]:
    said = source.phrase(thing.told, thing.kept_told).format(v=value)
    return [user(said), assistant(thing.noted.format(v=value))]


def _asked(source: Source, thing: Thing) -> str:
    return as_typed(source, source.phrase(thing.asked, thing.kept_asked))


def _aside(source: Source) -> list[Message]:
    """A question about something else, in one turn."""
    return list(source.pick(_ASIDES)(source).messages[:2])


def _different_things(source: Source) -> list[str]:
    """Two things that no question takes for each other, as a word and a secret word."""
    while True:
        names = source.sample(tuple(THINGS), 2)
        if not NOTED_DOWN.issuperset(names):
            return names


def make_told(source: Source) -> Example:
    """One or two things told, at times a turn about something else, and one of them asked."""
    things = _different_things(source)[: 2 if source.chance(0.35) else 1]
    if source.chance(0.1):
        things = ["my name"]
    values = {name: THINGS[name].values(source) for name in things}
    messages = [message for name in things for message in _told(source, THINGS[name], values[name])]
    if NOTED_DOWN.isdisjoint(things) and source.chance(0.4):
        messages += _aside(source)
    wanted = source.pick(things)
    messages.append(user(_asked(source, THINGS[wanted])))
    answer = THINGS[wanted].answer.format(v=values[wanted])
    return Example(
        family="remembering.told",
        messages=(*messages, assistant(answer)),
        key=values[wanted],
    )


def make_noted(source: Source) -> Example:
    """What is told is confirmed."""
    name = source.pick(tuple(THINGS))
    value = THINGS[name].values(source)
    messages = _told(source, THINGS[name], value)
    return Example(family="remembering.noted", messages=tuple(messages), key=value)


def make_untold(source: Source) -> Example:
    """A thing is asked that was never told, though another one may have been."""
    wanted, other = _different_things(source)
    messages: list[Message] = []
    if source.chance(0.3):
        messages += _told(source, THINGS[other], THINGS[other].values(source))
    elif wanted not in NOTED_DOWN and source.chance(0.2):
        messages += _aside(source)
    messages.append(user(_asked(source, THINGS[wanted])))
    answer = assistant("You have not told me that.")
    return Example(
        family="remembering.untold", messages=(*messages, answer), key="have not told me"
    )


def _recalled(source: Source, which: str) -> Example:
    turns = [_aside(source) for _ in range(source.rng.randint(1, 2))]
    question = turns[0 if which == "first" else -1][0]["content"]
    messages = [message for turn in turns for message in turn]
    messages.append(user(as_typed(source, source.phrase(*PHRASINGS[which]))))
    return Example(
        family=f"remembering.{which}",
        messages=(*messages, assistant(f'You said: "{question}"')),
        is_exact=True,
    )


def make_first(source: Source) -> Example:
    """The first question of the conversation, word by word."""
    return _recalled(source, "first")


def make_last(source: Source) -> Example:
    """The question before this one, word by word."""
    return _recalled(source, "last")


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "remembering.told": (make_told, 3.0),
    "remembering.noted": (make_noted, 0.8),
    "remembering.untold": (make_untold, 0.4),
    "remembering.first": (make_first, 0.3),
    "remembering.last": (make_last, 0.5),
}
OPENING = frozenset({"remembering.untold", "remembering.first"})
"""The families whose answers are right only if nothing was said before."""
