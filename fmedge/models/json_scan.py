"""Where a JSON value ends, in text that arrives in pieces; nothing is checked beyond nesting."""

from __future__ import annotations

import re

_STRING_END = re.compile(r'["\\]')
_NEST = re.compile(r'["{}\[\]]')
_SCALAR_END = re.compile(r"[\s,}\]]")


class ValueScanner:
    """Finds the end of one JSON value in text that comes in pieces."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_kind", "done")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._kind = ""
        self.done = False

    @property
    def is_begun(self) -> bool:
        return bool(self._kind)

    def scan(self, text: str, start: int) -> int:
        """The index after the last character that belongs to the value (and `done` if it ends
        there). The first character of the first call must be the value's."""
        at, end = start, len(text)
        while at < end:
            if self._in_string:
                at = self._scan_string(text, at)
                if self.done:
                    return at
                continue
            if not self._kind:
                self._kind = text[at] if text[at] in '{["' else "scalar"
                if self._kind == "scalar" and _SCALAR_END.match(text, at):
                    self.done = True  # no value at all
                    return at
            if self._kind == "scalar":
                match = _SCALAR_END.search(text, at)
                self.done = match is not None
                return match.start() if match else end
            match = _NEST.search(text, at)
            if match is None:
                return end
            at = match.end()
            symbol = match.group()
            if symbol == '"':
                self._in_string = True
            elif symbol in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    self.done = True
                    return at
        return at

    def _scan_string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        match = _STRING_END.search(text, at)
        if match is None:
            return len(text)
        if match.group() == "\\":
            self._escaped = True
        else:
            self._in_string = False
            self.done = self._depth == 0
        return match.end()
