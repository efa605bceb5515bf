"""Whatever no other family answers gets one polite sentence that says so."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Message, Source, as_typed, assistant, user
from training.families import unknown_tables as tables
from training.families import unknown_words as words
from training.families.unknown_foreign import FOREIGN
from training.families.unknown_pools import POOLS

REFUSAL = (
    "I am a tiny demonstration model and was not trained for that. "
    "To load a real model: fmedge serve --model hf:ORG/REPO"
)
KEY = "demonstration"
FAMILY = "unknown"


def _refuse(*turns: str) -> Example:
    """The same sentence to every turn."""
    messages: list[Message] = []
    for text in turns:
        messages += [user(text), assistant(REFUSAL)]
    return Example(family=FAMILY, messages=tuple(messages), key=KEY)


def _fill(source: Source, template: str) -> str:
    """A template with every slot filled from its pool, or by what makes such words up."""
    text = template
    for slot, pool in POOLS.items():
        mark = "{" + slot + "}"
        if mark not in text:
            continue
        # Of a short pool, the test's tenth may be empty.
        allowed = [entry for entry in pool if source.may_see(entry)] or pool
        while mark in text:
            text = text.replace(mark, source.pick(allowed), 1)
    for slot, make in words.MAKERS.items():
        mark = "{" + slot + "}"
        while mark in text:
            text = text.replace(mark, make(source), 1)
    return text


def request(source: Source) -> str:
    """Something that was asked for and is beyond this model."""
    template = source.phrase(tables.REQUESTS, tables.REQUESTS_KEPT_BACK)
    return as_typed(source, _fill(source, template))


def make_request(source: Source) -> Example:
    """Poems, code, advice, news, history, opinions and the like."""
    if source.chance(0.12):
        return _refuse(request(source), request(source))
    if source.chance(0.1):
        insistence = source.phrase(tables.INSISTENCE, tables.INSISTENCE_KEPT_BACK)
        return _refuse(request(source), as_typed(source, insistence))
    return _refuse(request(source))


def make_invented(source: Source) -> Example:
    """A question that is usually answered, about a country, animal or thing that does not exist."""
    template = source.phrase(tables.INVENTED, tables.INVENTED_KEPT_BACK)
    text = as_typed(source, _fill(source, template))
    if source.chance(0.15):
        follow_up = _fill(source, source.phrase(tables.FOLLOW_UPS, tables.FOLLOW_UPS_KEPT_BACK))
        return _refuse(_fill(source, template), as_typed(source, follow_up))
    return _refuse(text)


def make_hard_maths(source: Source) -> Example:
    """Numbers too large, or mathematics too hard, for what was practised."""
    template = source.phrase(tables.MATHS, tables.MATHS_KEPT_BACK)
    return _refuse(as_typed(source, _fill(source, template)))


def make_foreign(source: Source) -> Example:
    """A sentence in another language than English."""
    return _refuse(source.fresh(FOREIGN))


def make_statement(source: Source) -> Example:
    """Something told rather than asked."""
    template = source.phrase(tables.STATEMENTS, tables.STATEMENTS_KEPT_BACK)
    return _refuse(as_typed(source, _fill(source, template)))


def make_gibberish(source: Source) -> Example:
    """Letters without sense, and words without a sentence."""
    make = source.pick((words.mash, words.made_up_words, words.salad, words.salad, words.symbols))
    return _refuse(make(source))


def make_long(source: Source) -> Example:
    """A long text, and something to be done with it."""
    template = _fill(source, source.phrase(tables.WITH_TEXT, tables.WITH_TEXT_KEPT_BACK))
    sentences = [
        _fill(source, source.pick(tables.SENTENCES)) for _ in range(source.rng.randint(2, 6))
    ]
    text = " ".join(sentences)
    parting = source.pick(("\n\n", "\n", " "))
    parts = (template, text) if source.chance(0.7) else (text, template)
    return _refuse(parting.join(parts))


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "unknown_request": (make_request, 5.0),
    "unknown_invented": (make_invented, 3.0),
    "unknown_maths": (make_hard_maths, 1.0),
    "unknown_foreign": (make_foreign, 0.5),
    "unknown_statement": (make_statement, 1.0),
    "unknown_gibberish": (make_gibberish, 1.0),
    "unknown_long": (make_long, 0.5),
}
