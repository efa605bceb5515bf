"""JSON for a JSON Schema: every property, in the schema's order, on one line and nothing else.

Values come from the text; what no text gives is invented by the property's name and type.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from training.conversation import Example, Message, Source, as_typed, assistant, user
from training.families import json_phrasings as phrasings
from training.families.json_scenes import draw_told
from training.families.json_shapes import Schema, draw_object, invented, strict, with_values
from training.families.json_tables import OBJECTS

_FAMILY = "schemas"
_LONGEST = 650  # characters on one line
_LONGEST_IN_LINES = 220  # indented, a longer schema is too many tokens


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _printed(source: Source, schema: Schema) -> str:
    """The schema as people paste it."""
    share = source.rng.random()
    is_short = len(as_json(schema)) <= _LONGEST_IN_LINES
    if share < 0.12 and is_short:
        text = json.dumps(schema, ensure_ascii=False, indent=2)
    elif share < 0.2 and is_short:
        name = source.pick(OBJECTS)
        text = as_json({"name": name, "schema": schema})
    elif share < 0.35:
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    else:
        text = as_json(schema)
    return f"```json\n{text}\n```" if source.chance(0.05) else text


def _asked(source: Source, template: str, **slots: str) -> str:
    """A request; only its wording is bent, never what stands in its slots."""
    text = as_typed(source, template)
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    return text


def _num_properties(source: Source) -> int:
    return source.pick((1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 6))


def _draw_schema(source: Source) -> Schema:
    """Mostly an object's; at times a list's or a single value's."""
    share = source.rng.random()
    if share < 0.03:
        return {"type": source.pick(("string", "integer", "number", "boolean"))}
    if share < 0.06:
        kind = source.pick(("string", "integer", "number", "boolean"))
        return {"type": "array", "items": {"type": kind}}
    if share < 0.1:
        return {"type": "array", "items": draw_object(source, source.pick((1, 2, 3)), plain=True)}
    while True:
        schema = draw_object(source, _num_properties(source))
        if len(as_json(schema)) <= _LONGEST:
            return schema


def _system(source: Source, schema: Schema) -> Message:
    template = source.phrase(phrasings.SYSTEM, phrasings.SYSTEM_KEPT_BACK)
    return {"role": "system", "content": template.replace("{schema}", _printed(source, schema))}


def make_invented(source: Source) -> Example:
    """An object for a schema alone."""
    schema = _draw_schema(source)
    messages: list[Message] = []
    if source.chance(0.15):
        question = source.phrase(phrasings.SYSTEM_INVENT, phrasings.SYSTEM_INVENT_KEPT_BACK)
        messages += [_system(source, schema), user(as_typed(source, question))]
    else:
        template = source.phrase(phrasings.INVENT, phrasings.INVENT_KEPT_BACK)
        messages.append(user(_asked(source, template, schema=_printed(source, schema))))
        if source.chance(0.12):
            messages.append(assistant(as_json(invented("", schema))))
            schema = draw_object(source, source.pick((1, 2, 3)), nested=False)
            template = source.phrase(phrasings.AGAIN_INVENT, phrasings.AGAIN_INVENT_KEPT_BACK)
            messages.append(user(_asked(source, template, schema=_printed(source, schema))))
    messages.append(assistant(as_json(invented("", schema))))
    return Example(family=_FAMILY, messages=tuple(messages), schema=strict(schema))


def make_filled(source: Source) -> Example:
    """An object for a schema with its values taken from a text."""
    told = draw_told(source)
    schema = told.schema
    messages: list[Message] = []
    if source.chance(0.25):
        messages += [_system(source, schema), user(told.text)]
    else:
        template = source.phrase(phrasings.FILL, phrasings.FILL_KEPT_BACK)
        slots = {"schema": _printed(source, schema), "text": told.text}
        messages.append(user(_asked(source, template, **slots)))
    if source.chance(0.12):
        messages.append(assistant(as_json(told.value)))
        told = told.again(source)
        template = source.phrase(phrasings.AGAIN_FILL, phrasings.AGAIN_FILL_KEPT_BACK)
        messages.append(user(_asked(source, template, text=told.text)))
    messages.append(assistant(as_json(told.value)))
    return Example(
        family=_FAMILY, messages=tuple(messages), schema=with_values(strict(schema), told.value)
    )


FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    "schemas_invented": (make_invented, 1.2),
    "schemas_filled": (make_filled, 1.2),
}
