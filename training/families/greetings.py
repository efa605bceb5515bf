"""Small talk, and what the demonstration model says of itself."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Message, Source, as_typed, assistant, user
from training.families.greetings_about_me import (
    ABOUT_ME,
    ASSISTANTS,
    NOT_ME,
    NOT_ME_KEPT_BACK,
    RECALL,
    RECALL_KEPT_BACK,
    WITH_NAME,
    WITH_NAME_KEPT_BACK,
)
from training.families.greetings_small_talk import GOODBYE, HELLO, HOW_ARE_YOU, SMALL_TALK, THANKS
from training.families.topics import example, turn
from training.families.unknown_words import first_name

_NOT_ONE = "No, I am a tiny demonstration model that comes with fmedge."


def make_small_talk(source: Source) -> Example:
    """Greetings, thanks and goodbyes, alone or one after the other."""
    if source.chance(0.15):
        order = [HELLO, HOW_ARE_YOU, THANKS, GOODBYE]
        start = source.rng.randrange(3)
        messages: list[Message] = []
        chosen = order[start : source.rng.randint(start + 2, 4)]
        for one in chosen:
            messages += turn(source, one)
        return Example(family="greetings", messages=tuple(messages), key=chosen[-1].key)
    return example(source, "greetings", SMALL_TALK, chain=0.1)


def make_about_me(source: Source) -> Example:
    """Who, what and why the demonstration model is."""
    return example(source, "greetings", ABOUT_ME, chain=0.2)


def make_not_me(source: Source) -> Example:
    """Mistaken for another model, or for a human being."""
    template = source.phrase(NOT_ME, NOT_ME_KEPT_BACK)
    question = as_typed(source, template.replace("{x}", source.pick(ASSISTANTS)))
    messages = [user(question), assistant(_NOT_ONE)]
    if source.chance(0.15):
        messages = turn(source, HELLO) + messages
    return Example(family="greetings", messages=tuple(messages), key="demonstration")


def make_with_name(source: Source) -> Example:
    """Somebody who greets by name is greeted by name."""
    name = first_name(source)
    text = source.phrase(WITH_NAME, WITH_NAME_KEPT_BACK).replace("{x}", name)
    messages = (user(text), assistant(f"Hello, {name}! How can I help you?"))
    return Example(family="greetings", messages=messages, key=name)


def make_recall(source: Source) -> Example:
    """What was asked before, word for word."""
    before = turn(source, source.pick(SMALL_TALK + ABOUT_ME))
    asked = before[0]["content"]
    messages = [*before, user(as_typed(source, source.phrase(RECALL, RECALL_KEPT_BACK)))]
    messages.append(assistant(f'You said: "{asked}"'))
    return Example(family="greetings", messages=tuple(messages), is_exact=True)


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "small_talk": (make_small_talk, 2.5),
    "about_me": (make_about_me, 2.5),
    "not_me": (make_not_me, 0.7),
    "hello_name": (make_with_name, 0.6),
    "recall": (make_recall, 0.5),
}
