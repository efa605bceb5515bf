"""What a tool is before it gets a name: one meaning, many ways to declare it and to ask for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.conversation import Source
from training.families.tool_values import draw, schema_of

LETTERS = "abcd"


@dataclass(frozen=True)
class Param:
    """names: a|b|c. kind: see tool_values.draw. Asked for as {a}, {b}, ... by its place."""

    names: str
    kind: str
    description: str = ""


@dataclass(frozen=True)
class Tool:
    """Texts are alternatives split by |. A parameter that some question lacks is optional.

    bare: questions that lack the only parameter that is needed, the first.
    result: what it answers, as name:kind pairs; "" for a tool that only does something.
    """

    domain: str
    names: str
    descriptions: str
    params: tuple[Param, ...]
    asks: str
    kept_asks: str
    result: str = ""
    is_kept_back: bool = False
    bare: str = ""
    kept_bare: str = ""

    def optional(self, place: int) -> bool:
        slot = "{" + LETTERS[place] + "}"
        return any(slot not in ask for ask in f"{self.asks}|{self.kept_asks}".split("|"))


@dataclass(frozen=True)
class Declared:
    """A tool as one conversation has it: its names and its order of parameters are fixed."""

    tool: Tool
    name: str
    spec: Mapping[str, Any]
    places: tuple[tuple[str, int], ...]
    """(the parameter's name, its place in tool.params) in the schema's order."""

    def arguments(self, values: Mapping[int, Any]) -> dict[str, Any]:
        return {name: values[place] for name, place in self.places if place in values}


def declare(tool: Tool, source: Source) -> Declared:
    """The tool in OpenAI's form, with one of its names, descriptions and spellings."""
    spell = source.pick((_snake, _snake, _snake, _snake, _camel))
    places = list(range(len(tool.params)))
    if source.chance(0.15):
        source.rng.shuffle(places)
    is_described = source.chance(0.3)
    named: list[tuple[str, int]] = []
    properties: dict[str, Any] = {}
    for place in places:
        param = tool.params[place]
        name = spell(source.pick(param.names.split("|")))
        if name in properties:
            continue
        named.append((name, place))
        schema = schema_of(param.kind)
        if param.description and is_described:
            schema["description"] = param.description
        properties[name] = schema
    required = [name for name, place in named if not tool.optional(place)]
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required or source.chance(0.3):
        parameters["required"] = required
    name = spell(source.pick(tool.names.split("|")))
    function: dict[str, Any] = {"name": name}
    if not source.chance(0.05):
        function["description"] = source.pick(tool.descriptions.split("|"))
    if properties or source.chance(0.7):
        function["parameters"] = parameters
    return Declared(tool, name, {"type": "function", "function": function}, tuple(named))


def ask(
    tool: Tool, source: Source, *, joined: bool = False
) -> tuple[str, list[dict[int, Any]], str]:
    """A question for the tool: its text, the values of each call that it asks for (one, or two
    when joined) and the template that it was made from."""
    if source.is_test:
        texts = tool.kept_asks if not tool.is_kept_back else f"{tool.asks}|{tool.kept_asks}"
    else:
        texts = tool.asks
    template = source.pick(texts.split("|"))
    is_lower = source.chance(0.06)
    said: dict[str, str] = {}
    values: dict[int, Any] = {}
    for place, param in enumerate(tool.params):
        if "{" + LETTERS[place] + "}" in template:
            words, value = draw(param.kind, source)
            if is_lower and words == value and ":" not in param.kind:
                words = value = words.lower()
            said[LETTERS[place]], values[place] = words, value
    results = [values]
    if joined:
        several = [said["a"]]
        for _ in range(source.pick((1, 1, 1, 2))):
            words, value = draw(tool.params[0].kind, source)
            if words not in several:
                several.append(words)
                results.append({**values, 0: value})
        said["a"] = f"{', '.join(several[:-1])} and {several[-1]}" if several[1:] else several[0]
    return typed(template, said, source, is_lower=is_lower), results, template


def typed(template: str, said: Mapping[str, str], source: Source, *, is_lower: bool = False) -> str:
    """The template filled in as people type it: only its own words change, never an argument."""
    if is_lower:
        template = template.lower()
    elif source.chance(0.1):
        template = template[:1].lower() + template[1:]
    if source.chance(0.2):
        template = template.rstrip("?.")
    if re.match(r"[A-Za-z]", template) and source.chance(0.06):
        template = source.pick(("Please ", "Hi, ", "Hey, ", "Hello, please ", "OK, ")) + (
            template[:1].lower() + template[1:] if not template.startswith("I ") else template
        )
    return template.format(**said)


def can_join(tool: Tool) -> bool:
    """Whether "... X and Y" can only mean two calls of it."""
    if not tool.params or tool.optional(0) or any(p.kind == "email" for p in tool.params[1:]):
        return False
    kind = tool.params[0].kind
    return kind in ("city", "country", "name", "code", "product", "room", "host", "email", "file")


def _snake(name: str) -> str:
    return name


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
