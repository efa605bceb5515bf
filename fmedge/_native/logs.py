"""llama.cpp's log lines, handed to logging.getLogger("fmedge.llama").

The rule: llama.cpp's threads write to a ring in C and never touch Python; Python comes for them.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

from fmedge._native.binding import ffi, lib

LOGGER_NAME = "fmedge.llama"

_DEBUG, _INFO, _WARN, _ERROR = 1, 2, 3, 4
_LEVELS = {
    _DEBUG: logging.DEBUG,
    _INFO: logging.DEBUG,  # llama.cpp tells its whole life at info
    _WARN: logging.WARNING,
    _ERROR: logging.ERROR,
}
# What an aborted step says: real failures have negative codes. (The cleaning up after a step says
# nothing that the error before it does not.)
_OF_AN_ABORT = re.compile(
    r"graph_compute: .* failed with error 1"
    r"|process_ubatch: .* compute status: 1"
    r"|llama_decode: failed to decode, ret = 2"
    r"|decode: removing memory module entries .*"
)
_POLL_MS = 1000


class LogCursor:
    """A reader of the ring, from now on. Several may read at once; each sees every line."""

    def __init__(self) -> None:
        self._cursor: Any = ffi.new("uint64_t *", lib.fm_log_cursor())
        self._level: Any = ffi.new("int *")
        self._num_lost: Any = ffi.new("uint64_t *")
        self._text: Any = ffi.new("char[]", lib.FM_LOG_LINE_BYTES)

    def read(self) -> Iterator[tuple[int, str]]:
        """Lines not read yet, as (level of `logging`, text)."""
        while True:
            length = lib.fm_log_read(
                self._cursor, self._level, self._num_lost, self._text, lib.FM_LOG_LINE_BYTES
            )
            if length < 0:
                return
            if self._num_lost[0]:
                yield logging.WARNING, f"{self._num_lost[0]} log lines of llama.cpp were lost"
            text = ffi.unpack(self._text, length).decode("utf-8", "replace")
            level = _LEVELS.get(self._level[0], logging.DEBUG)
            yield logging.DEBUG if _OF_AN_ABORT.fullmatch(text) else level, text

    def wait(self, timeout_ms: int, num_wakes: int | None = None) -> bool:
        """True once there is a line; False after timeout_ms, or if the ring's readers were woken
        since there had been num_wakes (None: now) wakes."""
        if num_wakes is None:
            num_wakes = lib.fm_log_num_wakes()
        return bool(lib.fm_log_wait(self._cursor[0], num_wakes, timeout_ms))

    def problems(self, limit: int = 5) -> str:
        """The last warnings and errors since the cursor was made, on one line each."""
        lines = [text for level, text in self.read() if level >= logging.WARNING]
        return "\n".join(dict.fromkeys(lines[-limit:]))


class LogForwarder:
    """A thread that hands lines to `logging` until close()."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(LOGGER_NAME)
        self._cursor = LogCursor()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="llama-log", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            num_wakes = lib.fm_log_num_wakes()
            if self._is_closing:
                return
            self._cursor.wait(_POLL_MS, num_wakes)
            self._forward()

    def _forward(self) -> None:
        for level, text in self._cursor.read():
            self._logger.log(level, "%s", text)

    def close(self) -> None:
        """Hands over what is left and ends the thread."""
        self._is_closing = True
        lib.fm_log_wake()
        self._thread.join(timeout=5.0)
        self._forward()
