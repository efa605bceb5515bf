"""Texts that tell the values of an object's properties: in sentences, or as a list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.conversation import Source
from training.families import json_values as values
from training.families.json_scene_table import SCENES, Field, Scene
from training.families.json_shapes import Schema, draw_object, invented
from training.families.json_tables import ENUMS

_PLAIN = "string string string integer integer number number boolean enum"
_WITH_LISTS = f"{_PLAIN} strings numbers"


@dataclass(frozen=True)
class Told:
    """A schema, a text and the value that the text gives for the schema.

    again: another text, about another thing, for the same schema.
    """

    schema: Schema
    text: str
    value: Mapping[str, Any]
    again: Callable[[Source], Told]


def draw_told(source: Source) -> Told:
    return draw_sentence(source) if source.chance(0.6) else draw_list(source)


def _schema_of(source: Source, field: Field) -> Schema:
    if field.kind != "enum":
        return {"type": field.kind}
    allowed = list(ENUMS[field.names[0]])
    source.rng.shuffle(allowed)
    return {"type": "string", "enum": allowed}


def draw_sentence(source: Source) -> Told:
    """A thing of a scene: some of what is told of it is asked for, mostly in the order told."""
    scene = source.pick(SCENES)
    num_told = source.rng.randint(1, min(4, len(scene.fields)))
    told = _without_twins(source.sample(scene.fields, num_told))
    asked = [scene.subject, *told] if source.chance(0.85) else list(told)
    if len(asked) > 2 and source.chance(0.2):  # something is told that nobody asks for
        asked.remove(source.pick(asked))
    if source.chance(0.2):
        source.rng.shuffle(asked)
    names = {field: source.pick(field.names) for field in asked}
    schema: Schema = {
        "type": "object",
        "properties": {name: _schema_of(source, field) for field, name in names.items()},
    }
    if source.chance(0.85):
        schema["required"] = list(schema["properties"])
    if source.chance(0.2):
        schema["additionalProperties"] = False
    return _tell(source, scene, told, names, schema)


def _without_twins(fields: Sequence[Field]) -> tuple[Field, ...]:
    """The fields, without any that may share a name with one before it."""
    kept: list[Field] = []
    for field in fields:
        if not any(set(field.names) & set(other.names) for other in kept):
            kept.append(field)
    return tuple(kept)


def _tell(
    source: Source,
    scene: Scene,
    told: tuple[Field, ...],
    names: Mapping[Field, str],
    schema: Schema,
) -> Told:
    drawn: dict[Field, Any] = {}
    for field in (scene.subject, *told):
        if field.kind == "enum":
            drawn[field] = source.pick(ENUMS[field.names[0]])
        elif field.kind == "boolean":
            drawn[field] = source.chance(0.5)
        else:
            drawn[field] = field.draw(source)
    clauses = [_clause(source, field, drawn[field]) for field in told]
    subject = source.pick(scene.subject.clauses).replace("{}", str(drawn[scene.subject]))
    return Told(
        schema=schema,
        text=_sentences(source, subject, clauses),
        value={name: drawn[field] for field, name in names.items()},
        again=lambda other: _tell(other, scene, told, names, schema),
    )


def _clause(source: Source, field: Field, value: Any) -> str:
    if field.kind == "boolean":
        pairs = field.clauses
        return source.pick(pairs).split("|")[0 if value else 1]
    return source.pick(field.clauses).replace("{}", str(value))


def _sentences(source: Source, subject: str, clauses: list[str]) -> str:
    """One sentence with all that is told, or one after each of two clauses."""
    if len(clauses) > 2 and source.chance(0.4):
        parts = [clauses[:2], clauses[2:]]
    elif len(clauses) == 2 and source.chance(0.25):
        parts = [clauses[:1], clauses[1:]]
    else:
        parts = [clauses]
    sentences = [f"{subject} {_joined(part)}." for part in parts]
    return " ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)


def _joined(parts: list[str]) -> str:
    *head, last = parts
    return f"{', '.join(head)} and {last}" if head else last


def draw_list(source: Source) -> Told:
    """Names with their values, one after the other; at times one that the schema has is missing."""
    is_by_line = source.chance(0.4)
    num = source.pick((1, 2, 2, 3, 3, 3, 4, 5))
    schema = draw_object(source, num, nested=False, kinds=_WITH_LISTS if is_by_line else _PLAIN)
    missing = source.pick(tuple(schema["properties"])) if num > 1 and source.chance(0.08) else ""
    return _tell_list(source, schema, missing, is_by_line=is_by_line)


def _tell_list(source: Source, schema: Schema, missing: str, *, is_by_line: bool) -> Told:
    value = {
        name: invented(name, part) if name == missing else values.typed_value(source, part)
        for name, part in schema["properties"].items()
    }
    said = [(name, values.as_said(item)) for name, item in value.items() if name != missing]
    if source.chance(0.15):
        source.rng.shuffle(said)
    return Told(
        schema=schema,
        text=listed(source, said, is_by_line=is_by_line),
        value=value,
        again=lambda other: _tell_list(other, schema, missing, is_by_line=is_by_line),
    )


def listed(source: Source, said: list[tuple[str, str]], *, is_by_line: bool) -> str:
    """Names with their values, each on its line or all on one."""
    are_spaced = source.chance(0.3)
    sign = source.pick((": ", ": ", " = ", " is ", "="))
    mark = source.pick(("", "", "- ")) if is_by_line else ""
    entries = [
        f"{mark}{name.replace('_', ' ') if are_spaced else name}{sign}{item}" for name, item in said
    ]
    return "\n".join(entries) if is_by_line else source.pick((", ", ", ", "; ")).join(entries)
