"""Grammars under which tool calls are well-formed and their arguments fit their schemas.

Each is an llguidance grammar in Lark form: free text until a call's opening (where the choice
allows it), then calls exactly as the format lays them out. An opening that is a control token of
the vocabulary stands as that token's id, otherwise as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from fmedge.errors import RequestError
from fmedge.types import Grammar

MAX_TOOLS = 256
MAX_SCHEMA_BYTES = 256 << 10
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_ARGUMENT_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
}
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


class Tool(Struct, frozen=True, kw_only=True):
    """One function the model may call; index is its place in the request's `tools`."""

    index: int
    name: str
    description: str
    parameters: dict[str, Any]
    is_strict: bool


class CallLayout(Struct, frozen=True, kw_only=True):
    """How calls are written, for the grammar.

    call_opening/call_closing stand around each call, with inner_space inside; list_opening,
    list_start and list_end once around all. optional_opening may come before the first call.
    name_then: a bare name, this marker, and the arguments, instead of a JSON object.
    is_leading: calls come at the start of the output or not at all.
    """

    call_opening: str = ""
    call_closing: str = ""
    inner_space: str = ""
    between: str = ""
    list_opening: str = ""
    list_start: str = ""
    list_end: str = ""
    optional_opening: str = ""
    arguments_key: str = "arguments"
    name_then: str | None = None
    is_leading: bool = False


def read_tools(tools: Sequence[Mapping[str, Any]]) -> list[Tool]:
    """The request's tools, checked. RequestError naming the field that is wrong."""
    if len(tools) > MAX_TOOLS:
        raise RequestError(f"At most {MAX_TOOLS} tools are allowed.", param="tools")
    result: list[Tool] = []
    for index, tool in enumerate(tools):
        at = f"tools[{index}]"
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, Mapping):
            raise RequestError(
                f'{at} must be {{"type": "function", "function": {{...}}}}.', param=at
            )
        name = function.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise RequestError(
                f"{at}.function.name must be 1 to 128 letters, digits, '_', '-' or '.'.",
                param=f"{at}.function.name",
            )
        if any(other.name == name for other in result):
            raise RequestError(
                f'{at}.function.name: "{name}" occurs twice.', param=f"{at}.function.name"
            )
        parameters = function.get("parameters") or _NO_ARGUMENTS
        if not isinstance(parameters, Mapping):
            raise RequestError(
                f"{at}.function.parameters must be a JSON Schema object.",
                param=f"{at}.function.parameters",
            )
        result.append(
            Tool(
                index=index,
                name=name,
                description=str(function.get("description") or ""),
                parameters=dict(parameters),
                is_strict=bool(function.get("strict")),
            )
        )
    return result


def build_grammar(
    layout: CallLayout,
    tools: Sequence[Tool],
    *,
    is_required: bool,
    parallel: bool,
    special: Mapping[str, int],
    thinking: tuple[str, str, bool] | None,
) -> Grammar:
    """The grammar of an output that may (or, if is_required, must) call `tools`."""
    rules = ["TEXT: /(.|\\n)*/"]
    calls = []
    for tool in tools:
        rules.append(f"arguments_{tool.index}: %json {_schema(tool)}")
        calls.append(_call_rule(layout, tool, special))
    rules.append("one_call: " + " | ".join(calls))

    def literal(text: str) -> str:
        return _literal(text, special)

    inner = literal(layout.inner_space)
    body = _join(inner, "one_call", inner, literal(layout.call_closing))
    rules.append(f"body: {body}")
    next_call = _join(literal(layout.between), literal(layout.call_opening), "body")
    tail = _join(f"({next_call})*" if parallel else "", literal(layout.list_end))
    rest = _join(literal(layout.list_start), "body", tail)
    rules.append(f"rest: {rest}")

    opening = layout.call_opening or layout.list_opening
    if layout.optional_opening:
        called = f"{literal(layout.optional_opening)}? rest"
    else:
        called = _join(literal(opening), "rest")
    if is_required:
        start = called
    elif layout.is_leading:
        rules.append("ANSWER: /[ \\t\\r\\n]*[^ \\t\\r\\n{](.|\\n)*/")
        start = f"ANSWER | {called}"
    elif opening in special:
        start = f"TEXT ({literal(opening)} rest)?"
    else:
        rules.append(f"until_call[lazy]: TEXT {literal(opening)}")
        start = "TEXT | until_call rest"
    rules += _thinking_rules(thinking, special, is_free_text=not is_required, start=start)
    return Grammar("\n".join(rules) + "\n")


def _thinking_rules(
    thinking: tuple[str, str, bool] | None,
    special: Mapping[str, int],
    *,
    is_free_text: bool,
    start: str,
) -> list[str]:
    if thinking is None:
        return [f"start: {start}"]
    opening, closing, is_open = thinking
    if is_free_text and not is_open and opening not in special:
        return [f"start: {start}"]  # free text covers a block that begins as plain text
    return [*thought_rules(closing, special), *_started(opening, special, is_open, start)]


def thought_rules(closing: str, special: Mapping[str, int]) -> list[str]:
    """Rules of `thought`: anything up to and with the closing marker, and white space."""
    if closing in special:
        body = f"thought: THOUGHT {_literal(closing, special)} GAP"
    else:
        body = f"thought: thought_end GAP\nthought_end[lazy]: THOUGHT {_literal(closing, special)}"
    return ["THOUGHT: /(.|\\n)*/", "GAP: /\\n{0,2}/", body]


def _started(opening: str, special: Mapping[str, int], is_open: bool, start: str) -> list[str]:
    block = "thought" if is_open else f"({_literal(opening, special)} thought)?"
    return [f"start: {block} main", f"main: {start}"]


def _call_rule(layout: CallLayout, tool: Tool, special: Mapping[str, int]) -> str:
    arguments = f"arguments_{tool.index}"
    if layout.name_then is not None:
        return _join(_literal(tool.name, {}), _literal(layout.name_then, special), arguments)
    head = f'{{"name": {json.dumps(tool.name)}, "{layout.arguments_key}": '
    return f'{_literal(head, {})} {arguments} "}}"'


def _schema(tool: Tool) -> str:
    style: dict[str, Any] = dict(_ARGUMENT_STYLE)
    if not tool.is_strict:
        style["lenient"] = True  # keywords the decoder cannot enforce are ignored
    schema = {**tool.parameters, "x-guidance": style}
    schema.setdefault("type", "object")
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_BYTES:
        raise RequestError(
            f"tools[{tool.index}].function.parameters is longer than {MAX_SCHEMA_BYTES} bytes.",
            param=f"tools[{tool.index}].function.parameters",
        )
    return text


def _literal(text: str, special: Mapping[str, int]) -> str:
    if not text:
        return ""
    if text in special:
        return f"<[{special[text]}]>"
    return json.dumps(text)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
