"""Whether an answer to an example is right; and what a kept-back example asks of a server."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from training.conversation import Example

_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_MALFORMED = {"name": None, "arguments": None}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said: its text, its calls [{name, arguments}], and whether it ended itself."""

    text: str
    calls: tuple[Mapping[str, Any], ...] = ()
    is_ended: bool = True

    @classmethod
    def read(cls, text: str, *, is_ended: bool) -> Answer:
        """From the model's own words, in which calls stand in the template's format."""
        return cls(
            text=_CALL.sub("", text).strip(),
            calls=tuple(_call(found) for found in _CALL.findall(text)),
            is_ended=is_ended,
        )


def plain_schema(example: Example) -> Mapping[str, Any]:
    """The example's schema without the values that the question tells."""
    return {key: part for key, part in (example.schema or {}).items() if key != "const"}


def is_valid(example: Example, answer: Answer) -> bool:
    """Whether the answer is JSON of the example's schema, whatever its values."""
    return not answer.calls and _fulfils(answer.text, plain_schema(example))


def is_right(example: Example, answer: Answer) -> bool:
    """Whether the answer has what the example asks for (see Example)."""
    last = example.messages[-1]
    wanted = [call["function"] for call in last.get("tool_calls") or ()]
    if wanted or answer.calls:
        return _same_calls(wanted, answer.calls)
    if example.schema is not None:
        return _fulfils(answer.text, example.schema)
    if example.is_exact:
        return answer.text.strip() == last["content"].strip()
    if example.key:
        return (
            re.search(rf"(?<![\w-]){re.escape(example.key)}(?!\w)", answer.text, re.I) is not None
        )
    return True


def _same_calls(wanted: list[Any], given: tuple[Mapping[str, Any], ...]) -> bool:
    def ordered(calls: Any) -> list[str]:
        plain = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
        return sorted(json.dumps(call, sort_keys=True) for call in plain)

    return ordered(wanted) == ordered(given)


def _fulfils(text: str, schema: Mapping[str, Any]) -> bool:
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def read_call(name: str, arguments: str) -> Mapping[str, Any]:
    """As the API gives it: an answer cut at its longest may end within the arguments."""
    try:
        return {"name": name, "arguments": json.loads(arguments)}
    except ValueError:
        return _MALFORMED


def _call(text: str) -> Mapping[str, Any]:
    try:
        call = json.loads(text)
    except ValueError:
        return _MALFORMED
    is_call = isinstance(call, dict) and {"name", "arguments"} <= call.keys()
    return call if is_call else _MALFORMED
