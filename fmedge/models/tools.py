"""Tool calling: which format a model was trained on, and one interface over all of them.

The format is read off the chat template's text. Each is data (how calls are written); the grammar
makes the model write them so, and the parser reads them back.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from fmedge.errors import RequestError
from fmedge.models.tool_grammar import CallLayout, Tool, build_grammar, read_tools
from fmedge.models.tool_parser import CallSyntax, ToolParser
from fmedge.types import Grammar

ToolChoice = str | Mapping[str, Any] | None
"""OpenAI's tool_choice: "none", "auto", "required", or {"type": "function", ...}. None: auto."""

_ALPHANUMERIC = string.ascii_letters + string.digits


class ToolFormat(Struct, frozen=True, kw_only=True):
    """One way of writing tool calls.

    markers: literal markers that may be control tokens of the vocabulary; text streams must show
    them. is_native: the template itself presents the tools; otherwise a system message does.
    """

    name: str
    layout: CallLayout
    syntax: CallSyntax
    markers: tuple[str, ...] = ()
    is_native: bool = True
    short_ids: bool = False

    def grammar(
        self,
        tools: Sequence[Mapping[str, Any]],
        tool_choice: ToolChoice = "auto",
        parallel: bool = True,
        *,
        special: Mapping[str, int] | None = None,
        thinking: tuple[str, str, bool] | None = None,
    ) -> Grammar | None:
        """The constraint under which arguments are valid JSON of their schemas by construction.

        None for "none" (or no tools). special: markers that are control tokens, with their ids.
        thinking: (opening, closing, is open already) of a reasoning block that may come first.
        RequestError naming the field when a tool, its schema or the choice is wrong.
        """
        choice, chosen = resolve_choice(tools, tool_choice)
        if choice == "none" or not chosen:
            return None
        return build_grammar(
            self.layout,
            chosen,
            is_required=choice != "auto",
            parallel=parallel and choice != "named",
            special=special or {},
            thinking=thinking,
        )

    def parser(self) -> ToolParser:
        """A parser for one output."""
        return ToolParser(self.syntax, self.make_id)

    def make_id(self) -> str:
        """A fresh call id in the form that the format's templates accept."""
        if self.short_ids:
            return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))
        return "call_" + secrets.token_hex(12)

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        tool_choice: ToolChoice = "auto",
    ) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]] | None]:
        """The messages and tools to give to the template."""
        choice, chosen = resolve_choice(tools, tool_choice)
        is_asked = choice != "none" and bool(chosen)
        if self.is_native:
            return list(messages), list(tools) if is_asked else None
        plain = [_as_plain_text(message) for message in messages]
        if is_asked:
            plain = _with_instruction(plain, chosen, is_required=choice != "auto")
        return plain, None


HERMES = ToolFormat(
    name="hermes",
    markers=("<tool_call>", "</tool_call>"),
    layout=CallLayout(
        call_opening="<tool_call>",
        call_closing="</tool_call>",
        inner_space="\n",
        between="\n",
    ),
    syntax=CallSyntax(opening=("<tool_call>",), closing=("</tool_call>",)),
)
LLAMA3 = ToolFormat(
    name="llama3",
    markers=("<|python_tag|>",),
    layout=CallLayout(
        optional_opening="<|python_tag|>",
        arguments_key="parameters",
        between="; ",
        is_leading=True,
    ),
    syntax=CallSyntax(
        opening=("<|python_tag|>",),
        leading=("{",),
        keep_leading=True,
        arguments_key="parameters",
        separators=";",
        repeats=True,
    ),
)
MISTRAL = ToolFormat(
    name="mistral",
    markers=("[TOOL_CALLS]",),
    short_ids=True,
    layout=CallLayout(list_opening="[TOOL_CALLS]", list_start="[", between=", ", list_end="]"),
    syntax=CallSyntax(opening=("[TOOL_CALLS]",), list_opening="[", separators=",", closing=("]",)),
)
MISTRAL_ARGS = ToolFormat(
    name="mistral_args",
    markers=("[TOOL_CALLS]", "[ARGS]"),
    short_ids=True,
    layout=CallLayout(call_opening="[TOOL_CALLS]", name_then="[ARGS]"),
    syntax=CallSyntax(opening=("[TOOL_CALLS]",), name_then="[ARGS]"),
)
GENERIC = ToolFormat(
    name="generic",
    is_native=False,
    layout=CallLayout(
        list_opening='{"tool_calls": ',
        list_start="[",
        between=", ",
        list_end="]}",
        is_leading=True,
    ),
    syntax=CallSyntax(
        leading=('{"tool_calls":',), list_opening="[", separators=",", closing=("]}",)
    ),
)


def detect_tool_format(template: str | None) -> ToolFormat:
    """The format that a chat template speaks of; the generic one when it knows no tools."""
    if not template or "tools" not in template:
        return GENERIC
    if "[TOOL_CALLS]" in template:
        return MISTRAL_ARGS if "[ARGS]" in template else MISTRAL
    if "<tool_call>" in template:
        # A template whose calls are XML inside the same tag would be misled by JSON.
        return GENERIC if "<function=" in template or "<arg_key>" in template else HERMES
    if "<|python_tag|>" in template or (
        "<|start_header_id|>" in template and '"parameters"' in template
    ):
        return LLAMA3
    return GENERIC


def resolve_choice(
    tools: Sequence[Mapping[str, Any]], tool_choice: ToolChoice
) -> tuple[str, list[Tool]]:
    """("none" | "auto" | "required" | "named", the tools that may be called)."""
    known = read_tools(tools)
    if tool_choice is None or tool_choice in ("none", "auto", "required"):
        choice = str(tool_choice or "auto")
        if choice == "required" and not known:
            raise RequestError(
                'tool_choice "required" needs at least one tool in "tools".', param="tool_choice"
            )
        return choice, known
    name = None
    if isinstance(tool_choice, Mapping) and tool_choice.get("type") == "function":
        function = tool_choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else tool_choice.get("name")
    if not isinstance(name, str):
        raise RequestError(
            'tool_choice must be "none", "auto", "required" or '
            '{"type": "function", "function": {"name": ...}}.',
            param="tool_choice",
        )
    chosen = [tool for tool in known if tool.name == name]
    if not chosen:
        raise RequestError(
            f'tool_choice names the function "{name}", which is not in "tools".',
            param="tool_choice",
        )
    return "named", chosen


def _with_instruction(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], *, is_required: bool
) -> list[Mapping[str, Any]]:
    """The messages with the tools described in the system message."""
    listing = "\n".join(
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            ensure_ascii=False,
        )
        for tool in tools
    )
    when = (
        "Answer by calling one or more of these functions."
        if is_required
        else "If calling functions helps, answer with the calls alone; otherwise answer in text."
    )
    instruction = (
        f"You can call these functions, given as JSON Schema:\n{listing}\n{when} "
        'To call, write exactly: {"tool_calls": [{"name": "<function>", "arguments": {...}}]}'
    )
    result = list(messages)
    if result and result[0].get("role") in ("system", "developer"):
        system = _text_of(result[0].get("content"))
        merged = f"{system}\n\n{instruction}" if system else instruction
        result[0] = {**result[0], "content": merged}
    else:
        result.insert(0, {"role": "system", "content": instruction})
    return result


def _as_plain_text(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Calls and results of earlier turns as text, for a template that knows neither."""
    if message.get("role") == "tool":
        return {
            "role": "user",
            "content": f"Function result: {_text_of(message.get('content'))}",
        }
    calls = message.get("tool_calls")
    if not calls:
        return message
    functions = [call.get("function") or {} for call in calls]
    written = ", ".join(
        f'{{"name": {json.dumps(function.get("name", ""))}, '
        f'"arguments": {function.get("arguments") or "{}"}}}'
        for function in functions
    )
    content = _text_of(message.get("content"))
    text = f'{{"tool_calls": [{written}]}}'
    return {"role": "assistant", "content": f"{content}\n{text}" if content else text}


def _text_of(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
