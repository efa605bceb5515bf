from __future__ import annotations

from typing import Any

import pytest

from fmedge.errors import RequestError
from fmedge.models import constrain

from .vocab import CONTROL, ByteVocab, GrammarTester

TESTER = GrammarTester(ByteVocab())
SPECIAL = GrammarTester(ByteVocab(CONTROL))
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def test_json_object() -> None:
    grammar = constrain.from_response_format({"type": "json_object"})
    assert grammar is not None
    assert TESTER.accepts(grammar.source, '{"a": [1, null, {"b": "é"}]}')
    assert TESTER.accepts(grammar.source, '{\n    "a": 1\n}')
    for text in ("[1]", '"a"', '{"a": }', '{"a": 1', "text", '{"a":' + " " * 50 + "1}"):
        assert not TESTER.accepts(grammar.source, text), text


def test_json_schema() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}
    grammar = constrain.from_response_format(wanted)
    assert grammar is not None
    assert TESTER.accepts(grammar.source, '{"a": 1, "b": "x"}')
    for text in ('{"a": 1}', '{"a": 1, "b": "z"}', '{"a": "1", "b": "x"}', '{"b": "x", "a": 1, '):
        assert not TESTER.accepts(grammar.source, text), text


def test_text_and_absent_mean_no_constraint() -> None:
    assert constrain.from_response_format(None) is None
    assert constrain.from_response_format({"type": "text"}) is None


def test_regex_lark_gbnf_and_choice() -> None:
    regex = constrain.from_regex("[0-9]{3}-(a|b)").source
    assert TESTER.accepts(regex, "123-b")
    assert not TESTER.accepts(regex, "123-c")
    lark = constrain.from_grammar('start: "a" DIGIT+\nDIGIT: /[0-9]/').source
    assert TESTER.accepts(lark, "a42")
    gbnf = constrain.from_grammar('root ::= "yes" | digits\ndigits ::= [0-9]+').source
    assert TESTER.accepts(gbnf, "yes")
    assert TESTER.accepts(gbnf, "42")
    assert not TESTER.accepts(gbnf, "no")
    choice = constrain.from_choice(["red", 'gr"een\n']).source
    assert TESTER.accepts(choice, 'gr"een\n')
    assert not TESTER.accepts(choice, "re")


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("tester", [TESTER, SPECIAL], ids=["text", "special"])
def test_the_constraint_begins_after_thinking(is_open: bool, tester: GrammarTester) -> None:
    special = {"<think>": CONTROL.index("<think>")} if tester is SPECIAL else {}
    for inner, text in (
        (constrain.from_json_schema(SCHEMA), '{"a": 1, "b": "x"}'),
        (constrain.from_regex("[0-9]+"), "42"),
        (constrain.from_choice(["yes"]), "yes"),
    ):
        grammar = constrain.after_thinking(inner, ("<think>", "</think>", is_open), special)
        block = ("" if is_open else "<think>") + 'hm {"\n</think>\n\n'
        assert tester.accepts(grammar.source, block + text)
        assert not tester.accepts(grammar.source, block + "else")
        assert tester.accepts(grammar.source, text) is not is_open


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "yaml"}, "response_format.type"),
        ({}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": 5}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"strict": True, "schema": {"if": {}}}},
            "response_format.json_schema.schema",
        ),
        ({"type": "json_object", "schema": [1]}, "response_format.schema"),
    ],
)
def test_errors_name_the_field(response_format: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        constrain.from_response_format(response_format)
    assert caught.value.param == param


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def _references(length: int) -> dict[str, Any]:
    """Each definition refers to the next: deep without nesting, and fatal to llguidance."""
    definitions: dict[str, Any] = {
        f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}}
        for i in range(length)
    }
    definitions[f"d{length}"] = {"type": "string"}
    return {"$ref": "#/$defs/d0", "$defs": definitions}


def _chain(length: int) -> str:
    rules = [f'a{i}: "x" a{i + 1}' for i in range(length)]
    return "\n".join(["start: a0", *rules, f'a{length}: "y"'])


def test_chains_of_a_sensible_length_pass() -> None:
    assert constrain.from_lark(_chain(50))
    assert constrain.from_json_schema(_references(50))


@pytest.mark.parametrize(
    "build",
    [
        lambda: constrain.from_regex("("),
        lambda: constrain.from_regex("(" * 5000 + "a" + ")" * 5000),
        lambda: constrain.from_lark("start: missing"),
        lambda: constrain.from_lark("start: " + "(" * 5000 + '"a"' + ")" * 5000),
        lambda: constrain.from_gbnf("root ::= ((("),
        lambda: constrain.from_gbnf("root ::= " + "(" * 5000),
        lambda: constrain.from_choice([]),
        lambda: constrain.from_json_schema(_nested(400)),
        lambda: constrain.from_json_schema({"$ref": "http://example.invalid/x"}),
        lambda: constrain.from_json_schema({"type": "string", "pattern": "("}),
        lambda: constrain.from_lark('start: "' + "a" * (1 << 20) + '"'),
        lambda: constrain.from_lark(_chain(20_000)),
        lambda: constrain.from_gbnf("root ::= x\n" + "\n".join(f"r{i} ::= x" for i in range(9999))),
        lambda: constrain.from_json_schema(_references(3000)),
    ],
)
def test_what_cannot_be_compiled_is_refused(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constrain, "_COMPILE_CPU_S", 0.5)
    constrain._sandbox.cache_clear()
    with pytest.raises(RequestError) as caught:
        build()
    constrain._sandbox.cache_clear()
    assert caught.value.param
