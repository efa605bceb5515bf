from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.errors import RequestError
from fmedge.models.tool_parser import CallArguments, CallStart, Content, ToolParser
from fmedge.models.tools import (
    GENERIC,
    HERMES,
    LLAMA3,
    MISTRAL,
    MISTRAL_ARGS,
    ToolFormat,
    detect_tool_format,
    resolve_choice,
)

from .vocab import CONTROL, ByteVocab, GrammarTester

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "stop"}},
]
FORMATS = [HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, GENERIC]
WEATHER = '{"city": "P}{\\"aris", "days": 2}'
ONE = {
    "hermes": f'<tool_call>\n{{"name": "get_weather", "arguments": {WEATHER}}}\n</tool_call>',
    "llama3": f'{{"name": "get_weather", "parameters": {WEATHER}}}',
    "mistral": f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {WEATHER}}}]',
    "mistral_args": f"[TOOL_CALLS]get_weather[ARGS]{WEATHER}",
    "generic": f'{{"tool_calls": [{{"name": "get_weather", "arguments": {WEATHER}}}]}}',
}
TWO = {
    "hermes": ONE["hermes"] + '\n<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>',
    "llama3": ONE["llama3"] + '; {"name": "stop", "parameters": {}}',
    "mistral": ONE["mistral"][:-1] + ', {"name": "stop", "arguments": {}}]',
    "mistral_args": ONE["mistral_args"] + "[TOOL_CALLS]stop[ARGS]{}",
    "generic": ONE["generic"][:-2] + ', {"name": "stop", "arguments": {}}]}',
}
PLAIN = GrammarTester(ByteVocab())
SPECIAL = GrammarTester(ByteVocab(CONTROL))
SPECIAL_IDS = {name: CONTROL.index(name) for name in CONTROL[3:]}


def parse(parser: ToolParser, chunks: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """(content, [(name, arguments)]); checks ids and indices on the way."""
    content, calls, ids = "", [], set()
    for event in [e for chunk in chunks for e in parser.push(chunk)] + parser.flush():
        if isinstance(event, Content):
            content += event.text
        elif isinstance(event, CallStart):
            assert event.index == len(calls)
            ids.add(event.id)
            calls.append((event.name, ""))
        else:
            assert isinstance(event, CallArguments)
            assert event.index == len(calls) - 1
            name, arguments = calls[-1]
            calls[-1] = (name, arguments + event.text)
    assert len(ids) == len(calls)
    return content, calls


@pytest.mark.parametrize("tester", [PLAIN, SPECIAL], ids=["text", "special"])
@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_grammar_auto_and_required(tool_format: ToolFormat, tester: GrammarTester) -> None:
    special = SPECIAL_IDS if tester is SPECIAL else {}
    auto = tool_format.grammar(TOOLS, "auto", special=special)
    required = tool_format.grammar(TOOLS, "required", special=special)
    assert auto is not None
    assert required is not None
    one, two = ONE[tool_format.name], TWO[tool_format.name]
    for source in (auto.source, required.source):
        assert tester.accepts(source, one)
        assert tester.accepts(source, two)
        assert not tester.accepts(source, one.replace("city", "town"))
        assert not tester.accepts(source, one.replace("get_weather", "rm"))
        assert not tester.accepts(source, one.replace('"days": 2', '"days": "2"'))
        assert not tester.accepts(source, one[:-1])
    assert tester.accepts(auto.source, "Just text,\n no call.")
    assert not tester.accepts(required.source, "Just text,\n no call.")
    if not tool_format.layout.is_leading:
        assert tester.accepts(auto.source, "Let me see.\n" + two)


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_grammar_named_and_not_parallel(tool_format: ToolFormat) -> None:
    choice = {"type": "function", "function": {"name": "get_weather"}}
    named = tool_format.grammar(TOOLS, choice)
    single = tool_format.grammar(TOOLS, "auto", parallel=False)
    assert named is not None
    assert single is not None
    for source in (named.source, single.source):
        assert PLAIN.accepts(source, ONE[tool_format.name])
        assert not PLAIN.accepts(source, TWO[tool_format.name])
    stop = TWO[tool_format.name].replace("get_weather", "stop").replace(WEATHER, "{}")
    assert not PLAIN.accepts(named.source, stop)
    assert tool_format.grammar(TOOLS, "none") is None
    assert tool_format.grammar([], "auto") is None


@pytest.mark.parametrize("tester", [PLAIN, SPECIAL], ids=["text", "special"])
@pytest.mark.parametrize("is_open", [True, False])
def test_grammar_lets_the_model_think_first(tester: GrammarTester, is_open: bool) -> None:
    special = SPECIAL_IDS if tester is SPECIAL else {}
    thinking = ("<think>", "</think>", is_open)
    grammar = HERMES.grammar(TOOLS, "required", special=special, thinking=thinking)
    assert grammar is not None
    block = ("" if is_open else "<think>") + "hm {}\n</think>\n\n"
    assert tester.accepts(grammar.source, block + ONE["hermes"])
    assert not tester.accepts(grammar.source, block + "no call")
    assert tester.accepts(grammar.source, ONE["hermes"]) is not is_open


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_parser_reads_what_the_grammar_writes(tool_format: ToolFormat) -> None:
    text = TWO[tool_format.name]
    expected = ("", [("get_weather", WEATHER), ("stop", "{}")])
    assert parse(tool_format.parser(), [text]) == expected
    assert parse(tool_format.parser(), list(text)) == expected
    if not tool_format.layout.is_leading:
        assert parse(tool_format.parser(), ["Hm.\n\n", text, "\n"]) == ("Hm.", expected[1])
    assert json.loads(WEATHER) == {"city": 'P}{"aris', "days": 2}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 8},
        "number": {"type": "number"},
        "kind": {"enum": ["a", "b c", 3, None]},
        "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["text", "kind"],
    "additionalProperties": False,
}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FORMATS), st.randoms(use_true_random=False))
def test_whatever_is_drawn_under_the_grammar_is_a_valid_call(
    tool_format: ToolFormat, random: Random
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
    grammar = tool_format.grammar(tools, "required", parallel=False)
    assert grammar is not None
    text = PLAIN.draw(grammar.source, random, max_tokens=400)
    content, calls = parse(tool_format.parser(), [text])
    ((name, arguments),) = calls
    assert (content, name) == ("", "f")
    value = json.loads(arguments)
    assert {"text", "kind"} <= value.keys() <= SCHEMA["properties"].keys()
    assert len(value["text"]) <= 8
    assert value["kind"] in SCHEMA["properties"]["kind"]["enum"]


PIECES = st.lists(
    st.sampled_from(
        [
            "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<tool",
            '{"tool_calls": [', "]}", "]", "[", "{", "}", '"', "\\", ",", ";", ":", " ", "\n",
            '{"name": "f", "arguments": {"a": [1, {"b": "}"}]}}', '{"name": "f", "parameters": 1}',
            '{"arguments": {"x": 2}, "name": "g"}', '{"id": 7, "name": "h"}', '"name"', "f", "text",
        ]
    ),
    max_size=14,
)  # fmt: skip


@given(st.sampled_from(FORMATS), PIECES)
def test_any_chunking_gives_the_same(tool_format: ToolFormat, pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = parse(tool_format.parser(), [text])
    assert parse(tool_format.parser(), pieces) == whole
    assert parse(tool_format.parser(), list(text)) == whole


@given(st.sampled_from(FORMATS), st.text(alphabet='{}[]"ab <>|:,\n', max_size=30))
def test_text_without_calls_passes_unchanged(tool_format: ToolFormat, text: str) -> None:
    assert parse(tool_format.parser(), list(text)) == (text, [])


@pytest.mark.parametrize(
    ("tool_format", "text", "expected"),
    [
        (HERMES, "<tool_call>oops", ("<tool_call>oops", [])),
        (HERMES, '<tool_call>{"nam', ('<tool_call>{"nam', [])),
        (HERMES, '<tool_call>{"name": 5}', ('<tool_call>{"name": 5}', [])),
        (HERMES, '<tool_call>{"name": "f"}</tool_call>', ("", [("f", "{}")])),
        (HERMES, '<tool_call>{"arguments": {"a":1}, "name": "f"}', ("", [("f", '{"a":1}')])),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a', ("", [("f", '{"a')])),
        (LLAMA3, '<|python_tag|>{"name": "f", "parameters": {}}', ("", [("f", "{}")])),
        (LLAMA3, '{"answer": 42}', ('{"answer": 42}', [])),
        (MISTRAL, "[TOOL_CALLS][]", ("[TOOL_CALLS][]", [])),
        (GENERIC, 'I say {"tool_calls": [', ('I say {"tool_calls": [', [])),
    ],
)
def test_odd_outputs(
    tool_format: ToolFormat, text: str, expected: tuple[str, list[tuple[str, str]]]
) -> None:
    assert parse(tool_format.parser(), [text]) == expected
    assert parse(tool_format.parser(), list(text)) == expected


def test_arguments_are_streamed_as_they_come() -> None:
    parser = HERMES.parser()
    assert parser.push('<tool_call>\n{"name": "f') == []
    (start,) = parser.push('"')[:1] or parser.push(", ")
    assert isinstance(start, CallStart)
    parser.push('"arguments": ')
    assert [e.text for e in parser.push('{"a": "long ') if isinstance(e, CallArguments)] == [
        '{"a": "long '
    ]
    assert [e.text for e in parser.push("text") if isinstance(e, CallArguments)] == ["text"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, GENERIC),
        ("{{ messages }}", GENERIC),
        ("{% if tools %}<tool_call>{% endif %}", HERMES),
        ("{% if tools %}<tool_call><function=x>{% endif %}", GENERIC),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", MISTRAL),
        ("{% if tools %}[TOOL_CALLS]x[ARGS]{% endif %}", MISTRAL_ARGS),
        ("{% if tools %}<|python_tag|>{% endif %}", LLAMA3),
        ('{% if tools %}<|start_header_id|>{"name": x, "parameters": y}{% endif %}', LLAMA3),
        ("{% if tools %}something of its own{% endif %}", GENERIC),
    ],
)
def test_detection(template: str | None, expected: ToolFormat) -> None:
    assert detect_tool_format(template) is expected


def test_ids_have_the_form_that_templates_accept() -> None:
    assert HERMES.make_id().startswith("call_")
    assert len(MISTRAL.make_id()) == 9
    assert MISTRAL.make_id().isalnum()


def test_generic_puts_tools_calls_and_results_into_plain_messages() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Rain?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "get_weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "no"},
    ]
    prompted, tools = GENERIC.prompt(messages, TOOLS)
    assert tools is None
    assert [m["role"] for m in prompted] == ["system", "user", "assistant", "user"]
    assert prompted[0]["content"].startswith("Be kind.\n\n")
    assert "get_weather" in prompted[0]["content"]
    assert prompted[2]["content"] == '{"tool_calls": [{"name": "get_weather", "arguments": {}}]}'
    without, _ = GENERIC.prompt(messages, TOOLS, "none")
    assert without[0]["content"] == "Be kind."
    assert without[3]["role"] == "user"
    native, given_tools = HERMES.prompt(messages, TOOLS)
    assert native == messages
    assert given_tools == TOOLS


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([{"type": "function"}], "auto", "tools[0]"),
        ([{"type": "other", "function": {"name": "f"}}], "auto", "tools[0]"),
        ([{"type": "function", "function": {"name": "a b"}}], "auto", "tools[0].function.name"),
        ([TOOLS[1], TOOLS[1]], "auto", "tools[1].function.name"),
        (
            [{"type": "function", "function": {"name": "f", "parameters": [1]}}],
            "auto",
            "tools[0].function.parameters",
        ),
        ([TOOLS[1]] * 300, "auto", "tools"),
        (TOOLS, "sometimes", "tool_choice"),
        (TOOLS, {"type": "function", "function": {"name": "nope"}}, "tool_choice"),
        ([], "required", "tool_choice"),
    ],
)
def test_wrong_tools_are_named(tools: list[dict[str, Any]], choice: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        resolve_choice(tools, choice)
    assert caught.value.param == param


def test_strict_schemas_must_be_enforceable() -> None:
    from fmedge.models.constrain import validate

    def grammar(is_strict: bool) -> Any:
        parameters = {"type": "object", "properties": {"a": {"type": "string", "if": {}}}}
        function = {"name": "f", "parameters": parameters, "strict": is_strict}
        return HERMES.grammar([{"type": "function", "function": function}])

    assert validate(grammar(False), param="tools")
    with pytest.raises(RequestError, match="if"):
        validate(grammar(True), param="tools")
