"""Model output to content and tool calls, incrementally: any chunking gives the same events.

Text goes out as soon as it cannot be part of a call any more; a call's name as soon as it is
whole; its arguments as they come, exactly as the model wrote them. What looked like a call and
was none is content, unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from msgspec import Struct

from fmedge.models.json_scan import ValueScanner
from fmedge.models.text import any_first_character, partial_start

_WHITE = " \t\r\n"
_MAX_NAME_CHARS = 256
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*(?=[^ \t\r\n])')
_KEY_SO_FAR = re.compile(r'"(?:[^"\\]|\\.)*(?:\\|"[ \t\r\n]*(?::[ \t\r\n]*)?)?')


class Content(Struct, frozen=True):
    """More of the answer's text."""

    text: str


class CallStart(Struct, frozen=True):
    """A call begins; `index` counts calls from 0."""

    index: int
    id: str
    name: str


class CallArguments(Struct, frozen=True):
    """More of a call's arguments, as JSON text."""

    index: int
    text: str


ToolEvent = Content | CallStart | CallArguments


class CallSyntax(Struct, frozen=True, kw_only=True):
    """How a format writes calls.

    opening: markers that start a call (or a list of them) anywhere in the text.
    leading: texts that start calls only at the very beginning of the output; they stay part of
    what follows if `keep_leading` (a JSON object's own brace).
    name_then: None when a call is a JSON object with `name_key` and `arguments_key`; else the
    marker between a bare name and its JSON arguments.
    separators: characters between calls; closing: what ends a call or the list; repeats: another
    call may follow without a new opening.
    """

    opening: tuple[str, ...] = ()
    leading: tuple[str, ...] = ()
    keep_leading: bool = False
    name_key: str = "name"
    arguments_key: str = "arguments"
    name_then: str | None = None
    list_opening: str = ""
    separators: str = ""
    closing: tuple[str, ...] = ()
    repeats: bool = False


class ToolParser:
    """Incremental parser of one output. make_id: gives each call its id."""

    def __init__(self, syntax: CallSyntax, make_id: Callable[[], str]) -> None:
        self._syntax = syntax
        self._make_id = make_id
        self._begins_opening = any_first_character(syntax.opening)
        self._text = ""
        self._raw = ""
        self._events: list[ToolEvent] = []
        self._steps: dict[str, Callable[[], bool]] = {
            "start": self._start,
            "content": self._content,
            "before": self._before,
            "name": self._name,
            "key": self._key,
            "value": self._value,
            "after_value": self._after_value,
            "after": self._after,
        }
        self._state = "start" if syntax.leading else "content"
        self._drop_white = False
        self._num_calls = 0
        self._is_started = False
        self._has_arguments = False
        self._key_name = ""
        self._scanner = ValueScanner()
        self._early_arguments = ""
        self._value_text = ""

    @property
    def num_calls(self) -> int:
        """Calls begun so far."""
        return self._num_calls

    def push(self, text: str) -> list[ToolEvent]:
        """Take in the next text; returns what is certain by now."""
        if not text:
            return []
        is_plain = self._state == "content" and not self._text and not self._drop_white
        if is_plain and text[-1] not in _WHITE and self._begins_opening(text) is None:
            return [Content(text)]
        self._text += text
        while self._text and self._steps[self._state]():
            pass
        events, self._events = self._events, []
        return events

    def flush(self) -> list[ToolEvent]:
        """The output is over: what was held back is content after all, or ends its call."""
        if self._state in ("start", "content") or not self._is_started:
            rest = self._raw + self._text
            if self._state == "after":
                rest = ""
            self._emit_content(rest)
        self._raw = self._text = ""
        events, self._events = self._events, []
        return events

    # Each step consumes from self._text and returns False when it needs more text.

    def _start(self) -> bool:
        syntax = self._syntax
        stripped = self._text.lstrip(_WHITE)
        for lead in syntax.leading:
            if stripped.startswith(lead):
                self._raw = self._text[: len(self._text) - len(stripped)]
                consumed = 0 if syntax.keep_leading else len(lead)
                self._raw += stripped[:consumed]
                self._text = stripped[consumed:]
                self._state = "before"
                self._is_started = False
                return True
        if any(mark.startswith(stripped) for mark in syntax.leading + syntax.opening):
            return False
        self._state = "content"
        return True

    def _content(self) -> bool:
        text = self._text
        if self._drop_white:
            text = self._text = text.lstrip(_WHITE)
            if not text:
                return False
        found = [(at, mark) for mark in self._syntax.opening if (at := text.find(mark)) >= 0]
        if found:
            at, mark = min(found)
            before = text[:at].rstrip(_WHITE)
            self._emit_content(before)
            self._raw = text[len(before) : at + len(mark)]
            self._text = text[at + len(mark) :]
            self._state = "before"
            self._is_started = False
            return True
        if not self._syntax.opening:
            self._emit_content(text)
            self._text = ""
            return False
        certain = min(partial_start(text, mark) for mark in self._syntax.opening)
        certain = len(text[:certain].rstrip(_WHITE))
        self._emit_content(text[:certain])
        self._text = text[certain:]
        return False

    def _before(self) -> bool:
        """Between an opening (or a separator) and the next call."""
        skip = _WHITE + self._syntax.list_opening
        stripped = self._text.lstrip(skip)
        self._raw += self._text[: len(self._text) - len(stripped)]
        self._text = stripped
        if not stripped:
            return False
        self._is_started = False
        self._early_arguments = self._value_text = ""
        if self._syntax.name_then is not None:
            self._state = "name"
            return True
        if stripped[0] != "{":
            return self._give_up()
        self._take(1)
        self._state = "key"
        return True

    def _name(self) -> bool:
        marker = self._syntax.name_then or ""
        at = self._text.find(marker)
        if at < 0:
            return len(self._text) > _MAX_NAME_CHARS + len(marker) and self._give_up()
        name = self._text[:at].strip()
        if not name or at > _MAX_NAME_CHARS:
            return self._give_up()
        self._begin_call(name)
        self._text = self._text[at + len(marker) :]
        self._key_name = self._syntax.arguments_key
        self._scanner = ValueScanner()
        self._state = "value"
        return True

    def _key(self) -> bool:
        """At `"key":` of a call's object, or at its closing brace."""
        stripped = self._text.lstrip(_WHITE + ",")
        self._take(len(self._text) - len(stripped))
        if not stripped:
            return False
        if stripped[0] == "}":
            self._take(1)
            return self._end_object()
        match = _KEY.match(stripped)
        if match is None:
            may_become_one = _KEY_SO_FAR.fullmatch(stripped) and len(stripped) <= _MAX_NAME_CHARS
            return not may_become_one and self._give_up()
        if match.end() > _MAX_NAME_CHARS:
            return self._give_up()
        self._key_name = match.group(1)
        self._take(match.end())
        self._scanner = ValueScanner()
        self._value_text = ""
        self._state = "value"
        return True

    def _value(self) -> bool:
        if not self._scanner.is_begun:
            self._text = self._text.lstrip(_WHITE)
        if not self._text:
            return False
        end = self._scanner.scan(self._text, 0)
        part = self._text[:end]
        self._take(end)
        if self._key_name == self._syntax.arguments_key:
            if self._is_started:
                self._emit_arguments(part)
            else:
                self._early_arguments += part
        elif self._key_name == self._syntax.name_key and not self._is_started:
            self._value_text += part
            if len(self._value_text) > 4 * _MAX_NAME_CHARS:
                return self._give_up()
        if not self._scanner.done:
            return False
        self._state = "after_value"
        return True

    def _after_value(self) -> bool:
        if self._syntax.name_then is not None:
            return self._end_object()
        if self._key_name == self._syntax.name_key and not self._is_started:
            name = _string_of(self._value_text)
            if not name:
                return self._give_up()
            self._begin_call(name)
            if self._early_arguments:
                self._emit_arguments(self._early_arguments)
        self._state = "key"
        return True

    def _end_object(self) -> bool:
        if not self._is_started:
            return self._give_up()
        if not self._has_arguments:
            self._emit_arguments("{}")
        self._state = "after"
        return True

    def _after(self) -> bool:
        """After a call: a closing marker, a separator, or content again."""
        syntax = self._syntax
        text = self._text = self._text.lstrip(_WHITE)
        if not text:
            return False
        for mark in syntax.closing:
            if text.startswith(mark):
                self._text = text[len(mark) :]
                return self._to_content()
            if mark.startswith(text):
                return False
        if text[0] in syntax.separators:
            self._raw = text[0]
            self._text = text[1:]
            self._state = "before"
            return True
        if syntax.repeats and text[0] == "{":
            self._raw = ""
            self._state = "before"
            return True
        return self._to_content()

    def _to_content(self) -> bool:
        self._state = "content"
        self._drop_white = True
        self._raw = ""
        return True

    def _give_up(self) -> bool:
        """Not a call after all: what was read of it is content."""
        if not self._is_started:
            self._text = self._raw + self._text
        self._raw = ""
        self._state = "content"
        self._drop_white = False
        # The opening itself must go out, or it would be found again.
        size = max(1, self._opening_size())
        self._emit_content(self._text[:size])
        self._text = self._text[size:]
        return True

    def _opening_size(self) -> int:
        for mark in self._syntax.opening:
            at = self._text.find(mark)
            if at >= 0 and not self._text[:at].strip(_WHITE):
                return at + len(mark)
        return 0

    def _take(self, size: int) -> None:
        if not self._is_started:
            self._raw += self._text[:size]
        self._text = self._text[size:]

    def _begin_call(self, name: str) -> None:
        self._events.append(CallStart(self._num_calls, self._make_id(), name))
        self._num_calls += 1
        self._is_started = True
        self._has_arguments = False
        self._raw = ""

    def _emit_arguments(self, text: str) -> None:
        if text:
            self._has_arguments = True
            self._events.append(CallArguments(self._num_calls - 1, text))

    def _emit_content(self, text: str) -> None:
        if text:
            self._drop_white = False
            self._events.append(Content(text))


def _string_of(value: str) -> str:
    try:
        decoded = json.loads(value)
    except ValueError:
        return ""
    return decoded if isinstance(decoded, str) else ""
