"""JSON without a schema: named keys filled from a text, lists as arrays, one value looked up.

The answer is one line of JSON and nothing else; a value that is looked up stands as JSON has it,
but a string without its quotes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.conversation import Example, Message, Source, as_typed, assistant, user
from training.families import json_phrasings as phrasings
from training.families import json_values as values
from training.families.json_scenes import Told, draw_list, draw_sentence
from training.families.json_shapes import draw_name, invented, snake, with_values
from training.families.json_tables import (
    BOOLEANS,
    COUNTED,
    INTEGERS,
    NUMBERS,
    STRING_LISTS,
    STRINGS,
    THINGS,
)

_FAMILY = "extract"
_KINDS = ("string", "string", "string", "integer", "integer", "number", "boolean")


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _asked(source: Source, template: str, **slots: str) -> str:
    """A request; only its wording is bent, never what stands in its slots."""
    text = as_typed(source, template)
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    return text


def _example(messages: Sequence[Message], value: Any) -> Example:
    return Example(
        family=_FAMILY,
        messages=(*messages, assistant(_as_json(value))),
        schema=with_values({}, value),
    )


def _enumerated(parts: Sequence[str], *, last: str = " and ") -> str:
    *head, tail = parts
    return f"{', '.join(head)}{last}{tail}" if head else tail


def _said_keys(source: Source, names: Sequence[str]) -> str:
    """The keys as people name them: always letter by letter as the JSON has them."""
    share = source.rng.random()
    if share < 0.25:
        return _enumerated([f'"{name}"' for name in names])
    if share < 0.35:
        return _enumerated([f"`{name}`" for name in names])
    return _enumerated(names, last=source.pick((" and ", " and ", ", ")))


def make_extracted(source: Source) -> Example:
    """Named keys from a sentence, or from a list of properties."""
    told: Told = draw_sentence(source) if source.chance(0.85) else draw_list(source)
    template = source.phrase(phrasings.EXTRACT, phrasings.EXTRACT_KEPT_BACK)
    keys = _said_keys(source, tuple(told.value))
    messages = [user(_asked(source, template, keys=keys, text=told.text))]
    if source.chance(0.15):
        messages.append(assistant(_as_json(told.value)))
        told = told.again(source)
        template = source.phrase(phrasings.AGAIN_FILL, phrasings.AGAIN_FILL_KEPT_BACK)
        messages.append(user(_asked(source, template, text=told.text)))
    return _example(messages, told.value)


def _draw_properties(source: Source, num: int) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    while len(drawn) < num:
        kind = source.pick(_KINDS)
        drawn.setdefault(draw_name(source, kind), values.typed_value(source, {"type": kind}))
    return drawn


def _said_value(value: Any, *, is_quoted: bool) -> str:
    return f'"{value}"' if is_quoted and isinstance(value, str) else values.as_said(value)


def make_built(source: Source) -> Example:
    """An object from names and values in the request itself."""
    drawn = _draw_properties(source, source.pick((1, 2, 2, 2, 3, 3, 4)))
    sign = source.pick((" ", " ", ": ", " = ", " is ", "="))
    is_quoted = source.chance(0.2)
    parts = [
        f"{name}{sign}{_said_value(value, is_quoted=is_quoted)}" for name, value in drawn.items()
    ]
    pairs = _enumerated(parts, last=source.pick((" and ", ", ")))
    template = source.phrase(phrasings.BUILD, phrasings.BUILD_KEPT_BACK)
    return _example([user(_asked(source, template, pairs=pairs))], drawn)


def _usual_value(name: str) -> Any:
    """The invented value of a name alone: as the type that such a name is mostly of."""
    name = snake(name)
    for kind, table in (("string", STRINGS), ("integer", INTEGERS), ("number", NUMBERS)):
        if name in table:
            return invented(name, {"type": kind})
    if name in BOOLEANS:
        return True
    if name in STRING_LISTS:
        return invented(name, {"type": "array", "items": {"type": "string"}})
    return invented(name, {"type": "string"})


def make_named(source: Source) -> Example:
    """An object with the keys asked for and values made up."""
    num = source.pick((1, 2, 2, 3, 3, 4))
    names: list[str] = []
    while len(names) < num or not source.may_see(",".join(names)):
        if len(names) == num:
            names.clear()
        name = draw_name(source, source.pick((*_KINDS, "strings")))
        if name not in names:
            names.append(name)
    template = source.phrase(phrasings.NAMED, phrasings.NAMED_KEPT_BACK)
    question = _asked(source, template, keys=_said_keys(source, names))
    return _example([user(question)], {name: _usual_value(name) for name in names})


def make_thing(source: Source) -> Example:
    """A thing as an object, or two or three of a kind as an array: always the same ones."""
    value: Any
    if source.chance(0.6):
        thing = source.pick(tuple(THINGS))
        template = source.phrase(phrasings.THING, phrasings.THING_KEPT_BACK)
        question = _asked(source, template, thing=thing)
        value = {name: invented(name, {"type": kind}) for name, kind in THINGS[thing].items()}
    else:
        things = source.pick(COUNTED)
        value = list(STRING_LISTS[things][: source.pick((2, 3))])
        num = source.pick((("2", "two"), ("3", "three"))[len(value) - 2])
        template = source.phrase(phrasings.THINGS, phrasings.THINGS_KEPT_BACK)
        question = _asked(source, template, num=num, things=things)
    return _example([user(question)], value)


def make_array(source: Source) -> Example:
    """A list of things or numbers as an array."""
    num = source.pick((1, 2, 2, 3, 3, 3, 4, 5, 6))
    makers: Mapping[str, Callable[[Source], Any]] = {
        "things": values.thing,
        "words": lambda drawn: drawn.fresh(values.WORDS),
        "pseudo-words": values.pseudo_word,
        "people": values.person,
        "cities": values.city,
        "colours": values.color,
        "integers": values.integer,
        "numbers": values.number,
    }
    make = makers[source.pick(tuple(makers))]
    items: list[Any] = [make(source) for _ in range(max(num, 2))]
    said = [values.as_said(item) for item in items]
    if source.chance(0.15):
        listed = "\n" + "\n".join(f"- {item}" for item in said)
    else:
        listed = _enumerated(said, last=source.pick((" and ", ", ", ", ")))
    template = source.phrase(phrasings.ARRAY, phrasings.ARRAY_KEPT_BACK)
    return _example([user(_asked(source, template, items=listed))], items)


def make_looked_up(source: Source) -> Example:
    """One value out of an object, and perhaps another one."""
    drawn = _draw_properties(source, source.pick((1, 2, 3, 3, 4)))
    names = source.sample(tuple(drawn), len(drawn))
    template = source.phrase(phrasings.LOOK_UP, phrasings.LOOK_UP_KEPT_BACK)
    key = source.pick(('"{}"', "{}", "{}")).format(names[0])
    messages = [user(_asked(source, template, key=key, json=_as_json(drawn)))]
    messages.append(assistant(values.as_said(drawn[names[0]])))
    if len(names) > 1 and source.chance(0.2):
        template = source.phrase(phrasings.LOOK_UP_AGAIN, phrasings.LOOK_UP_AGAIN_KEPT_BACK)
        messages.append(user(_asked(source, template, key=names[1])))
        messages.append(assistant(values.as_said(drawn[names[1]])))
    return Example(family=_FAMILY, messages=tuple(messages), is_exact=True)


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "extract_keys": (make_extracted, 0.8),
    "extract_built": (make_built, 0.5),
    "extract_named": (make_named, 0.4),
    "extract_thing": (make_thing, 0.35),
    "extract_array": (make_array, 0.35),
    "extract_look_up": (make_looked_up, 0.3),
}
