"""What a user tells about himself to be asked about later, with the ways to tell and to ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from training.conversation import Source
from training.families.format_tables import KINDS
from training.families.word_table import NAMES, known_word, made_up_word


class Thing(NamedTuple):
    """told and asked: phrasings to train on; kept_told, kept_asked: those of the test."""

    values: Callable[[Source], str]
    told: tuple[str, ...]
    kept_told: tuple[str, ...]
    noted: str
    asked: tuple[str, ...]
    kept_asked: tuple[str, ...]
    answer: str


def _name(source: Source) -> str:
    if source.chance(0.25):
        return made_up_word(source, longest=8).capitalize()
    return source.pick(NAMES)


def _of_kind(kind: str) -> Callable[[Source], str]:
    return lambda source: source.pick(KINDS[kind])


def _animal(source: Source) -> str:
    return f"the {source.pick(KINDS['animal'])}"


def _number(source: Source) -> str:
    return str(source.rng.randrange(1, 10 ** source.rng.randint(1, 4)))


def _age(source: Source) -> str:
    return str(source.rng.randrange(5, 95))


def _word(source: Source) -> str:
    return made_up_word(source) if source.chance(0.5) else known_word(source)


def _liked(name: str, values: Callable[[Source], str]) -> Thing:
    return Thing(
        values=values,
        told=(
            f"My favourite {name} is {{v}}.",
            f"my favourite {name} is {{v}}",
            f"{{v}} is my favourite {name}.",
            f"Remember that my favourite {name} is {{v}}.",
            f"I like {{v}} best. It is my favourite {name}.",
            f"Of all, {{v}} is my favourite {name}.",
            f"Please remember: my favourite {name} is {{v}}.",
            f"Just so you know, my favourite {name} is {{v}}.",
            f"I have a favourite {name}: {{v}}",
            f"My favourite {name}? It is {{v}}.",
            f"For me {{v}} is the best {name}. It is my favourite.",
        ),
        kept_told=(
            f"Remember: my favourite {name} is {{v}}.",
            f"Please remember that my favourite {name} is {{v}}.",
            f"Remember that {{v}} is my favourite {name}.",
        ),
        noted=f"OK, your favourite {name} is {{v}}.",
        asked=(
            f"What is my favourite {name}?",
            f"What's my favourite {name}?",
            f"Which {name} do I like best?",
            f"Which is my favourite {name}?",
            f"Tell me my favourite {name}.",
            f"Do you remember my favourite {name}?",
            f"Do you know which {name} is my favourite?",
            f"Which {name} did I say I like best?",
            f"What did I say my favourite {name} is?",
            f"My favourite {name} is what?",
            f"I forgot my favourite {name}.",
            f"Can you tell me what my favourite {name} is?",
            f"My favourite {name}?",
        ),
        kept_asked=(
            f"Do you know my favourite {name}?",
            f"What {name} do I like best?",
            f"Do you remember which {name} is my favourite?",
            f"What did I say is my favourite {name}?",
            f"Tell me which {name} I like best.",
        ),
        answer=f"Your favourite {name} is {{v}}.",
    )


def _called(name: str) -> Thing:
    return Thing(
        values=_name,
        told=(
            f"My {name} is called {{v}}.",
            f"My {name}'s name is {{v}}.",
            f"I have a {name} called {{v}}.",
            f"I have a {name}. Her name is {{v}}.",
            f"The name of my {name} is {{v}}.",
            f"Remember that my {name} is called {{v}}.",
            f"{{v}} is the name of my {name}.",
            f"Just so you know, my {name} is called {{v}}.",
            f"{{v}} is what my {name} is called.",
            f"We call my {name} {{v}}.",
            f"I want to tell you about my {name} {{v}}.",
        ),
        kept_told=(
            f"I have a {name} and the name is {{v}}.",
            f"Remember that {{v}} is the name of my {name}.",
            f"Remember that my {name}'s name is {{v}}.",
        ),
        noted=f"OK, your {name} is called {{v}}.",
        asked=(
            f"What is my {name} called?",
            f"What is my {name}'s name?",
            f"What is the name of my {name}?",
            f"What's my {name} called?",
            f"How is my {name} called?",
            f"Tell me the name of my {name}.",
            f"Do you remember my {name}'s name?",
            f"Which name does my {name} have?",
            f"Do you know what my {name} is called?",
            f"I forgot the name of my {name}.",
            f"Can you tell me my {name}'s name?",
            f"What do we call my {name}?",
            f"What did I say my {name} is called?",
        ),
        kept_asked=(
            f"What's the name of my {name}?",
            f"Do you remember what my {name} is called?",
            f"Tell me my {name}'s name.",
            f"What name does my {name} have?",
            f"What did I say is the name of my {name}?",
        ),
        answer=f"Your {name} is called {{v}}.",
    )


def _noted_down(name: str, values: Callable[[Source], str]) -> Thing:
    return Thing(
        values=values,
        told=(
            f"Remember the {name} {{v}}.",
            f"Remember this {name}: {{v}}",
            f"The {name} is {{v}}.",
            f"The {name} is {{v}}. Remember it.",
            f"Please remember the {name} {{v}}.",
            f"Keep the {name} {{v}} in mind.",
            f"Here is a {name}: {{v}}",
            f"{{v}} is the {name}.",
            f"Note this {name}: {{v}}",
        ),
        kept_told=(
            f"Please remember this {name}: {{v}}",
            f"Keep this {name} in mind: {{v}}",
            f"Remember: the {name} is {{v}}.",
            f"Note the {name} {{v}}.",
        ),
        noted=f"OK, the {name} is {{v}}.",
        asked=(
            f"What is the {name}?",
            f"What was the {name}?",
            f"What's the {name}?",
            f"Which {name} did I give you?",
            f"Which {name} did I tell you?",
            f"Tell me the {name}.",
            f"Do you remember the {name}?",
            f"What {name} should you remember?",
            f"Now tell me the {name} again.",
            f"The {name} was what?",
            f"I forgot the {name}.",
            f"Can you tell me the {name}?",
            f"What is the {name} that I gave you?",
            f"Give me the {name}.",
        ),
        kept_asked=(
            f"What {name} did I tell you?",
            f"Which {name} should you remember?",
            f"What {name} did I give you?",
            f"Tell me the {name} again.",
            f"Now what was the {name}?",
        ),
        answer=f"The {name} is {{v}}.",
    )


_MY_NAME = Thing(
    values=_name,
    told=(
        "My name is {v}.",
        "my name is {v}",
        "I am {v}.",
        "I'm {v}.",
        "Call me {v}.",
        "Hello, my name is {v}.",
        "Hi, I'm {v}.",
        "Hi! My name is {v}.",
        "You can call me {v}.",
        "People call me {v}.",
        "Remember that my name is {v}.",
        "Hello, I am {v}. Nice to meet you.",
    ),
    kept_told=(
        "Hello! I'm {v}.",
        "Hi, my name is {v}. Nice to meet you.",
        "Please call me {v}.",
        "Hi, you can call me {v}.",
    ),
    noted="Hello, {v}! How can I help you?",
    asked=(
        "What is my name?",
        "What's my name?",
        "Who am I?",
        "Do you remember my name?",
        "Do you know my name?",
        "Tell me my name.",
        "What am I called?",
        "How am I called?",
        "Which name did I give you?",
        "What did I say my name is?",
        "Say my name.",
        "what was my name again?",
        "Can you tell me my name?",
    ),
    kept_asked=(
        "Do you remember what my name is?",
        "Can you say my name?",
        "What was my name?",
        "Tell me what I am called.",
        "Do you know who I am?",
        "What name did I give you?",
    ),
    answer="Your name is {v}.",
)
_MY_TOWN = Thing(
    values=_of_kind("city"),
    told=(
        "I live in {v}.",
        "i live in {v}",
        "My home is in {v}.",
        "I live and work in {v}.",
        "My home town is {v}.",
        "{v} is where I live.",
        "I come from {v} and still live there.",
        "My house is in {v}.",
        "We live in {v}.",
        "Remember that I live in {v}.",
        "I have lived in {v} for years.",
    ),
    kept_told=("{v} is my home town.", "I live in {v} and work in {v}.", "My home is {v}."),
    noted="OK, you live in {v}.",
    asked=(
        "Where do I live?",
        "In which city do I live?",
        "Which city do I live in?",
        "What city do I live in?",
        "Do you remember where I live?",
        "Do you know where my home is?",
        "Tell me where I live.",
        "Where is my home?",
        "Where did I say I live?",
        "Can you tell me where I live?",
        "I forgot where I live.",
        "What is my home town?",
    ),
    kept_asked=(
        "Do you know where I live?",
        "In what city do I live?",
        "Tell me which city I live in.",
        "Do you remember which city I live in?",
        "In which city is my home?",
    ),
    answer="You live in {v}.",
)
_MY_AGE = Thing(
    values=_age,
    told=(
        "I am {v} years old.",
        "I'm {v} years old.",
        "My age is {v}.",
        "I turned {v} this year.",
        "Remember that I am {v} years old.",
        "I am {v}. That is my age.",
        "This year I am {v} years old.",
    ),
    kept_told=(
        "Remember that I'm {v} years old.",
        "Remember: my age is {v}.",
        "This year I am {v}.",
    ),
    noted="OK, you are {v} years old.",
    asked=(
        "How old am I?",
        "What is my age?",
        "What's my age?",
        "Do you remember how old I am?",
        "Do you know my age?",
        "Tell me how old I am.",
        "What age am I?",
        "How old did I say I am?",
        "Can you tell me how old I am?",
        "I forgot how old I am.",
        "My age?",
    ),
    kept_asked=(
        "Do you know how old I am?",
        "Do you remember my age?",
        "Tell me my age.",
        "What age did I say I am?",
    ),
    answer="You are {v} years old.",
)
THINGS: dict[str, Thing] = {
    "my name": _MY_NAME,
    "my town": _MY_TOWN,
    "my age": _MY_AGE,
    "colour": _liked("colour", _of_kind("colour")),
    "animal": _liked("animal", _animal),
    "fruit": _liked("fruit", _of_kind("fruit")),
    "drink": _liked("drink", _of_kind("drink")),
    "sport": _liked("sport", _of_kind("sport")),
    "number liked": _liked("number", _of_kind("number")),
    "dog": _called("dog"),
    "cat": _called("cat"),
    "sister": _called("sister"),
    "friend": _called("friend"),
    "code": _noted_down("code", _number),
    "secret number": _noted_down("secret number", _number),
    "word": _noted_down("word", _word),
    "secret word": _noted_down("secret word", _word),
    "password": _noted_down("password", _word),
}
NOTED_DOWN = frozenset({"code", "secret number", "word", "secret word", "password"})
