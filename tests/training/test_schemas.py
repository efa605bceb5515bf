"""JSON for a schema fulfils it, says what the text says, and is always put the same way."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import jsonschema
import pytest

from training.conversation import Example, Source
from training.families.json_shapes import draw_object, invented
from training.families.schemas import FAMILIES

_SEEDS = range(300)
_MAKERS = [pytest.param(make, id=name) for name, (make, _) in FAMILIES.items()]

_VALIDATOR = jsonschema.Draft202012Validator

Maker = Callable[[Source], Example]


@cache
def _examples(make: Maker, *, is_test: bool) -> tuple[Example, ...]:
    return tuple(make(Source(seed, is_test=is_test)) for seed in _SEEDS)


def _all(make: Maker) -> tuple[Example, ...]:
    return _examples(make, is_test=False) + _examples(make, is_test=True)


@pytest.mark.parametrize("make", _MAKERS)
def test_the_answer_is_one_line_of_json_that_fulfils_the_schema(make: Maker) -> None:
    for example in _all(make):
        text = example.messages[-1]["content"]
        value = json.loads(text)
        assert example.schema is not None
        assert _VALIDATOR(dict(example.schema)).is_valid(value), text
        assert text == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("make", _MAKERS)
def test_turns_alternate_and_end_with_the_assistant(make: Maker) -> None:
    for example in _all(make):
        roles = [message["role"] for message in example.messages]
        if roles[0] == "system":
            del roles[0]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles


@pytest.mark.parametrize("make", _MAKERS)
def test_the_same_seed_makes_the_same_example(make: Maker) -> None:
    for seed in range(30):
        assert make(Source(seed)) == make(Source(seed))


@pytest.mark.parametrize("make", _MAKERS)
def test_no_question_of_the_test_is_trained(make: Maker) -> None:
    trained = {str(example.messages) for example in _examples(make, is_test=False)}
    assert not trained & {str(example.messages) for example in _examples(make, is_test=True)}


def test_a_schema_of_the_test_has_other_properties_than_any_trained() -> None:
    def names(seed: int, *, is_test: bool) -> tuple[str, ...]:
        return tuple(draw_object(Source(seed, is_test=is_test), 3)["properties"])

    trained = {names(seed, is_test=False) for seed in _SEEDS}
    assert not trained & {names(seed, is_test=True) for seed in _SEEDS}


@pytest.mark.parametrize(
    ("name", "schema", "value"),
    [
        ("age", {"type": "integer"}, 30),
        ("city", {"type": "string"}, "Paris"),
        ("firstName", {"type": "string"}, "Anna"),
        ("is_active", {"type": "boolean"}, True),
        ("x", {"type": "string"}, "example"),
        ("blue_lever", {"type": "integer"}, 1),
        ("blue_lever", {"type": "number"}, 1.5),
        ("age", {"type": "integer", "minimum": 18, "maximum": 99}, 18),
        ("rank", {"type": "integer", "maximum": 0}, 0),
        ("state", {"type": "string", "enum": ["off", "on"]}, "off"),
        ("kind", {"const": "b"}, "b"),
        ("city", {"type": "string", "format": "date"}, "2025-01-15"),
        ("city", {"type": ["string", "null"]}, "Paris"),
        ("age", {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}, 30),
        ("parts", {"type": "array", "items": {"type": "string"}}, ["first", "second"]),
        ("parts", {"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 2, 3]),
        ("colors", {"type": "array", "items": {"type": "string"}}, ["red", "green"]),
        (
            "home",
            {"type": "object", "properties": {"city": {"type": "string"}}},
            {"city": "Paris"},
        ),
    ],
)
def test_an_invented_value_goes_by_schema_then_name_then_type(
    name: str, schema: dict[str, object], value: object
) -> None:
    assert invented(name, schema) == value
