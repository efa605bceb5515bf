"""What a client asks of the output's form, as grammars checked before they reach a worker.

Sources: response_format's json_object and json_schema, and regex, Lark, GBNF and choice as
extensions. A grammar that llguidance cannot compile is the client's error and names its field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from fmedge.errors import RequestError
from fmedge.models.child import Sandbox
from fmedge.models.tool_grammar import thought_rules
from fmedge.types import Grammar

MAX_SOURCE_BYTES = 512 << 10
_COMPILE_CPU_S = 2.0
_WHITE_SPACE = {"whitespace_pattern": "[ \\n\\t]{0,40}"}
"""Bounded, so that a model cannot fill its whole output with blanks inside valid JSON."""


def from_response_format(response_format: Mapping[str, Any] | None) -> Grammar | None:
    """OpenAI's response_format; None for absent or {"type": "text"}.

    RequestError (param response_format...) when it is malformed or the schema is not supported.
    """
    if response_format is None:
        return None
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        schema = response_format.get("schema")  # llama-server's extension
        return from_json_schema(
            {"type": "object"} if schema is None else schema, param="response_format.schema"
        )
    if kind == "json_schema":
        holder = response_format.get("json_schema")
        at = "response_format.json_schema"
        if not isinstance(holder, Mapping):
            raise RequestError(f"{at} must be an object with name and schema.", param=at)
        schema = holder.get("schema")
        if schema is None:
            schema = {"type": "object"}
        return from_json_schema(schema, is_strict=bool(holder.get("strict")), param=f"{at}.schema")
    raise RequestError(
        'response_format.type must be "text", "json_object" or "json_schema".',
        param="response_format.type",
    )


def from_json_schema(
    schema: Any, *, is_strict: bool = True, param: str = "response_format"
) -> Grammar:
    """Output is JSON that the schema (an object or a boolean) allows.

    is_strict: a keyword that cannot be enforced is an error; otherwise it is ignored.
    """
    if not isinstance(schema, Mapping | bool):
        raise RequestError(f"{param} must be a JSON Schema object.", param=param)
    body: dict[str, Any] = {} if schema is True else {"not": {}} if schema is False else {**schema}
    style: dict[str, Any] = dict(_WHITE_SPACE)
    if not is_strict:
        style["lenient"] = True
    body["x-guidance"] = style
    return validate(Grammar(json.dumps({"grammars": [{"json_schema": body}]})), param=param)


def from_regex(pattern: str, *, param: str = "regex") -> Grammar:
    """Output matches the regular expression from beginning to end (Rust regex syntax)."""
    from llguidance import LLMatcher

    return validate(Grammar(LLMatcher.grammar_from_regex(pattern)), param=param)


def from_lark(source: str, *, param: str = "grammar") -> Grammar:
    """Output follows a grammar in llguidance's dialect of Lark, from its rule `start`."""
    return validate(Grammar(source), param=param)


def from_gbnf(source: str, *, param: str = "grammar") -> Grammar:
    """Output follows a grammar in llama.cpp's GBNF, from its rule `root`."""
    _check_size(source, param)
    reply = _sandbox().ask({"gbnf": source})
    if "error" in reply:
        raise RequestError(f"{param} cannot be read as GBNF: {reply['error']}", param=param)
    return validate(Grammar(reply["text"]), param=param)


def from_grammar(source: str, *, param: str = "grammar") -> Grammar:
    """Lark or GBNF, told apart by GBNF's `::=`."""
    if "::=" in source:
        return from_gbnf(source, param=param)
    return from_lark(source, param=param)


def from_choice(choices: Sequence[str], *, param: str = "guided_choice") -> Grammar:
    """Output is one of the strings."""
    if not choices or not all(isinstance(choice, str) and choice for choice in choices):
        raise RequestError(f"{param} must be a list of non-empty strings.", param=param)
    alternatives = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    return validate(Grammar(f"start: {alternatives}\n"), param=param)


def after_thinking(
    grammar: Grammar, thinking: tuple[str, str, bool], special: Mapping[str, int]
) -> Grammar:
    """The same constraint on what follows a reasoning block.

    thinking: (opening marker, closing marker, the prompt has opened it already). special: ids of
    markers that are control tokens. If the prompt did not open a block, one is allowed.
    """
    opening, closing, is_open = thinking
    first = f"<[{special[opening]}]>" if opening in special else json.dumps(opening)
    block = "thought" if is_open else f"({first} thought)?"
    rules = [f"start: {block} @answer", *thought_rules(closing, special)]
    inner: dict[str, Any] = {"lark_grammar": grammar.source}
    if grammar.source.lstrip().startswith("{"):
        inner = json.loads(grammar.source)["grammars"][0]
    grammars = [{"lark_grammar": "\n".join(rules) + "\n"}, {**inner, "name": "answer"}]
    return Grammar(json.dumps({"grammars": grammars}))


def validate(grammar: Grammar, *, param: str) -> Grammar:
    """The grammar itself. RequestError naming `param` if llguidance cannot compile it.

    Takes about a millisecond for ordinary grammars, up to some seconds for enormous ones. It is
    compiled in a sandbox: llguidance's recursion overflows the stack, and so ends the process,
    on grammars that nest some thousand levels deep.
    """
    _check_size(grammar.source, param)
    reply = _sandbox().ask({"grammar": grammar.source})
    if "error" in reply:
        raise RequestError(f"{param} cannot be enforced: {reply['error']}", param=param)
    return grammar


@cache
def _sandbox() -> Sandbox:
    """One for the process: a child that compiles is stateless, and 30 MB."""
    return Sandbox(cpu_s=_COMPILE_CPU_S, wall_s=20.0, memory_bytes=2 << 30)


def _check_size(source: str, param: str) -> None:
    if len(source) > MAX_SOURCE_BYTES:
        raise RequestError(f"{param} is longer than {MAX_SOURCE_BYTES} characters.", param=param)
