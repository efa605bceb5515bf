"""JSON Schemas drawn at random, and the one value that each gets when no text gives another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from training.conversation import Source
from training.families import json_tables as tables

Schema = dict[str, Any]
_KINDS = (
    *("string",) * 9,
    *("integer",) * 6,
    *("number",) * 4,
    *("boolean",) * 4,
    *("strings",) * 3,
    "numbers",
    *("enum",) * 3,
    *("object",) * 2,
)
_MOST_TITLED = 4  # properties: with more, titles make a schema too long
_ORDINARY = frozenset(_KINDS) - {"object"}


def snake(name: str) -> str:
    """The name as the tables have it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema["type"]
    return str(kind[0] if isinstance(kind, list) else kind)


def _invented_list(name: str, schema: Mapping[str, Any]) -> list[Any]:
    items = schema["items"]
    num = max(2, schema.get("minItems", 0))
    if "enum" in items:
        return list(items["enum"][:num])
    if _type_of(items) == "object":
        return [invented(name, items)]
    if _type_of(items) == "string" and name in tables.STRING_LISTS:
        return list(tables.STRING_LISTS[name][:num])
    return list(tables.LIST_DEFAULTS[_type_of(items)][:num])


def invented(name: str, schema: Mapping[str, Any]) -> Any:
    """The value that a property of this name and schema always gets.

    What the schema says goes before what the name says, and that before the type's default.
    """
    name = snake(name)
    if "anyOf" in schema:
        return invented(name, schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = _type_of(schema)
    if kind == "object":
        return {key: invented(key, value) for key, value in schema["properties"].items()}
    if kind == "array":
        return _invented_list(name, schema)
    for limit in ("minimum", "maximum"):
        if limit in schema:
            return schema[limit]
    if kind == "string" and "format" in schema:
        return tables.FORMATS[schema["format"]]
    by_name: Mapping[str, Mapping[str, Any]] = {
        "string": tables.STRINGS,
        "integer": tables.INTEGERS,
        "number": tables.NUMBERS,
    }
    return by_name.get(kind, {}).get(name, tables.DEFAULTS[kind])


def draw_name(source: Source, kind: str) -> str:
    """A name fit for the kind, or one that says nothing about it: of those this source may use."""
    known: Mapping[str, tuple[str, ...]] = {
        "string": tuple(tables.STRINGS),
        "integer": tuple(tables.INTEGERS),
        "number": tuple(tables.NUMBERS),
        "boolean": tables.BOOLEANS,
        "strings": tuple(tables.STRING_LISTS),
        "numbers": tables.NUMBER_LISTS,
        "enum": tuple(tables.ENUMS),
        "object": tables.OBJECTS,
    }
    share = source.rng.random()
    if share < 0.62:
        return source.pick(known[kind])
    if share < 0.72:  # a name that another type is usual for: the schema's type decides
        return source.pick(known[source.pick(_KINDS)])
    while True:
        words = [source.pick(tables.NOUNS)]
        if share < 0.93:
            words.insert(0, source.pick(tables.MODIFIERS))
        if share < 0.78:
            words.append(source.pick(("id", "name", "count", "type", "2", "size", "date", "code")))
        name = "_".join(words)
        if source.may_see(name):
            return name


def _string(source: Source) -> Schema:
    schema: Schema = {"type": "string"}
    if source.chance(0.08):
        schema["format"] = source.pick(tuple(tables.FORMATS))
    elif source.chance(0.04):
        schema["minLength"] = 1
    elif source.chance(0.03):
        schema["maxLength"] = source.pick((50, 64, 80, 100, 255))
    elif source.chance(0.02):
        schema["type"] = ["string", "null"]
    return schema


def _numeric(source: Source, kind: str) -> Schema:
    schema: Schema = {"type": kind}
    if source.chance(0.2):
        low = source.pick((0, 0, 1, 1, 2, 3, 5, 10, 18, 20, 50, 100, 1000))
        if source.chance(0.8):
            schema["minimum"] = low
        if "minimum" not in schema or source.chance(0.5):
            schema["maximum"] = low + source.pick((1, 4, 5, 9, 10, 20, 50, 90, 100, 120))
    return schema


def _enum(source: Source, name: str) -> Schema:
    values = tables.ENUMS.get(name) or tables.ENUMS[source.pick(tuple(tables.ENUMS))]
    if source.chance(0.3):
        values = tuple(source.sample(tables.NOUNS, 4))
    num = source.rng.randint(2, min(4, len(values)))
    schema: Schema = {"type": "string", "enum": source.sample(values, num)}
    if source.chance(0.1):
        del schema["type"]
    elif source.chance(0.08):
        schema = {"const": schema["enum"][0]}
    return schema


def draw_property(source: Source, kind: str, name: str) -> Schema:
    """A schema of the kind for a property of that name."""
    match kind:
        case "string":
            schema = _string(source)
        case "integer" | "number":
            schema = _numeric(source, kind)
        case "strings" | "numbers":
            item = "string" if kind == "strings" else source.pick(("integer", "integer", "number"))
            schema = {"type": "array", "items": {"type": item}}
            if source.chance(0.15):
                schema["minItems"] = source.pick((1, 2, 3))
        case "enum":
            schema = _enum(source, name)
        case "object":
            schema = draw_object(source, source.pick((1, 2, 2, 3)), nested=False, plain=True)
        case _:
            schema = {"type": kind}
    if source.chance(0.08):
        spoken = name.replace("_", " ")
        schema["description"] = source.pick(("The {}", "The {}.", "{}", "Its {}")).format(spoken)
    return schema


def draw_object(
    source: Source, num: int, *, nested: bool = True, plain: bool = False, kinds: str = ""
) -> Schema:
    """An object's schema with num properties.

    plain: without title, description and the like. kinds: the only kinds of property, as words.
    """
    allowed = kinds.split() or [kind for kind in _KINDS if nested or kind in _ORDINARY]
    is_camel = not plain and source.chance(0.25)
    while True:
        properties: dict[str, Schema] = {}
        while len(properties) < num:
            kind = source.pick(allowed)
            name = draw_name(source, kind)
            properties.setdefault(
                _camel(name) if is_camel else name, draw_property(source, kind, name)
            )
        if plain or source.may_see(",".join(properties)):
            break
    schema: Schema = {"type": "object", "properties": properties}
    if source.chance(0.8):
        schema["required"] = list(properties)
    elif source.chance(0.5):
        schema["required"] = list(properties)[: source.rng.randint(1, num)]
    if plain:
        return schema
    if source.chance(0.25):
        schema["additionalProperties"] = False
    if source.chance(0.12):
        schema = {"title": source.pick(tables.OBJECTS).capitalize(), **schema}
    if source.chance(0.05):
        schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    if source.chance(0.12) and num <= _MOST_TITLED:
        schema = _as_generated(source, schema)
    elif source.chance(0.05):
        schema = {key: schema[key] for key in sorted(schema)}
    return schema


def _as_generated(source: Source, schema: Schema) -> Schema:
    """The schema as libraries print one: sorted keywords, a title everywhere, null if optional."""
    required = schema.get("required", ())
    properties: dict[str, Schema] = {}
    for name, part in schema["properties"].items():
        shown = {**part, "title": name.replace("_", " ").title()}
        if name not in required and part.get("type") in ("string", "integer", "number"):
            shown = {"anyOf": [part, {"type": "null"}], "title": shown["title"]}
            if source.chance(0.6):
                shown["default"] = None
        properties[name] = dict(sorted(shown.items()))
    title = source.pick(tables.OBJECTS).capitalize()
    return dict(sorted({**schema, "properties": properties, "title": title}.items()))


def strict(schema: Mapping[str, Any]) -> Schema:
    """The same schema, with every property required and no other allowed."""
    if schema.get("type") == "object":
        properties = {name: strict(value) for name, value in schema["properties"].items()}
        return {
            **schema,
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    if "items" in schema:
        return {**schema, "items": strict(schema["items"])}
    return dict(schema)


def with_values(schema: Mapping[str, Any], value: Any) -> Schema:
    """A schema that only this value of it fulfils."""
    return {**schema, "const": value}
