"""JSON of named keys, lists and single values: what the request says, and always put the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache

import jsonschema
import pytest

from tests.training import checks
from training.conversation import Example, Source
from training.families import json_phrasings
from training.families.extract import FAMILIES, make_array, make_built, make_looked_up, make_thing
from training.families.json_tables import COUNTED, STRING_LISTS, THINGS

_BY_SOURCE = [(seed, is_test) for seed in range(300) for is_test in (False, True)]
_MAKERS = [pytest.param(make, id=name) for name, (make, _) in FAMILIES.items()]
_PHRASINGS = {
    name: (getattr(json_phrasings, name), getattr(json_phrasings, f"{name}_KEPT_BACK"))
    for name in dir(json_phrasings)
    if name.isupper() and not name.endswith("KEPT_BACK")
}

Maker = Callable[[Source], Example]


@cache
def _examples(make: Maker) -> tuple[Example, ...]:
    return tuple(make(Source(seed, is_test=is_test)) for seed, is_test in _BY_SOURCE)


@pytest.mark.parametrize("make", _MAKERS)
def test_a_conversation_can_be_checked(make: Maker) -> None:
    for example in _examples(make):
        roles = [message["role"] for message in example.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        text = example.messages[-1]["content"]
        assert (example.schema is not None) != example.is_exact
        if example.schema is None:
            assert text
        else:
            value = json.loads(text)
            assert jsonschema.Draft202012Validator(dict(example.schema)).is_valid(value)
            assert text == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("make", _MAKERS)
def test_the_same_seed_makes_the_same_example(make: Maker) -> None:
    assert all(make(Source(seed)) == make(Source(seed)) for seed in range(30))


@pytest.mark.parametrize("make", [make_array, make_built])
def test_values_stand_in_the_request_in_the_order_of_the_answer(make: Maker) -> None:
    for example in _examples(make):
        request = example.messages[-2]["content"]
        value = json.loads(example.messages[-1]["content"])
        said = (
            value if isinstance(value, list) else [part for pair in value.items() for part in pair]
        )
        end = 0
        for part in said:
            text = part if isinstance(part, str) else json.dumps(part)
            start = request.index(text, end)
            end = start + len(text)


def test_a_value_is_looked_up_under_the_key_asked_for() -> None:
    for example in _examples(make_looked_up):
        first, answer = (message["content"] for message in example.messages[:2])
        found = re.search(r"\{.*\}", first)
        assert found
        held = json.loads(found[0])
        rest = first.replace(found[0], " ")
        if len(example.messages) > 2:
            rest, answer = (message["content"] for message in example.messages[2:])
        expected = {
            value if isinstance(value, str) else json.dumps(value)
            for name, value in held.items()
            if re.search(rf"(?<!\w){name}(?!\w)", rest)
        }
        assert answer in expected


def test_a_thing_is_always_the_same() -> None:
    answers: dict[str, set[str]] = {}
    for example in _examples(make_thing):
        request, answer = (message["content"] for message in example.messages)
        for thing in THINGS:
            if re.search(rf"\b{thing}\b(?! (object|example|array|list))", request, re.IGNORECASE):
                answers.setdefault(thing, set()).add(answer)
    assert answers["a person"] == {'{"name": "Anna", "age": 30, "city": "Paris"}'}
    assert answers["a product"] == {'{"product": "lamp", "price": 9.5, "in_stock": true}'}


def test_whatever_is_counted_has_its_list() -> None:
    assert set(COUNTED) <= set(STRING_LISTS)


def test_kept_back_phrasings_are_new_but_for_their_words() -> None:
    checks.check_kept_back(_PHRASINGS.values())
