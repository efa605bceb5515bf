"""A sandboxed child process and the exchange with it; every wait on it has a bound.

The child (`sandboxed.py`) is started at first use and again after a request broke a limit; it
ends with its stdin, so it cannot outlive this process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from fmedge.errors import UnavailableError

_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 18


class Sandbox:
    """One child, shared by threads; requests run one at a time.

    cpu_s: CPU time a request may take; wall_s: until the parent gives up (a loaded machine may
    not run the child at once); memory_bytes: the child's address space.
    """

    def __init__(self, *, cpu_s: float, wall_s: float, memory_bytes: int) -> None:
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def ask(
        self, request: dict[str, Any], *, opening: dict[str, Any] | None = None
    ) -> dict[str, str]:
        """The child's reply: `text`, or `kind` and `error` (kind "limit" if it broke one).

        opening: what a fresh child must be told besides. UnavailableError if other threads'
        requests keep it busy for wall_s.
        """
        if not self._lock.acquire(timeout=self._wall_s):
            raise UnavailableError(
                "The sandbox for templates and grammars is busy; try again.",
                retry_after_s=1.0,
                code="sandbox_busy",
            )
        try:
            return self._ask(request, opening or {})
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the child; a later request would start a new one."""
        with self._lock:
            self._drop()

    def _ask(self, request: dict[str, Any], opening: dict[str, Any]) -> dict[str, str]:
        while True:
            child = self._child
            is_new = child is None
            if child is None:
                child = self._child = _Child(self._cpu_s, self._memory_bytes)
                weakref.finalize(self, child.stop)
            try:
                return child.exchange({**request, **opening} if is_new else request, self._wall_s)
            except _ChildEndedError as error:
                self._drop()
                if is_new or not error.was_idle:
                    return {"kind": "limit", "error": error.reason}
            except BaseException:
                self._drop()  # an interrupted exchange leaves half a frame in the pipe
                raise

    def _drop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


class _ChildEndedError(Exception):
    """`was_idle`: it had ended before the request; a new child may do better."""

    def __init__(self, reason: str, *, was_idle: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_idle = was_idle


class _Child:
    """One process and the pipes to it."""

    def __init__(self, cpu_s: float, memory_bytes: int) -> None:
        script = Path(__file__).with_name("sandboxed.py")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",  # its folder holds modules of ours, not of the script
                str(script),
                str(cpu_s),
                str(memory_bytes),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)

    def exchange(self, request: dict[str, Any], wall_s: float) -> dict[str, str]:
        if self._process.poll() is not None:
            raise _ChildEndedError("the sandbox had ended", was_idle=True)
        deadline_s = time.monotonic() + wall_s
        body = json.dumps(request).encode()
        self._write(memoryview(_LENGTH.pack(len(body)) + body), deadline_s)
        received = bytearray()
        while (
            len(received) < _LENGTH.size
            or len(received) < _LENGTH.size + _LENGTH.unpack_from(received)[0]
        ):
            self._wait(self._stdout.fileno(), select.POLLIN, deadline_s)
            data = os.read(self._stdout.fileno(), _READ_BYTES)
            if not data:
                raise self._ended()
            received += data
        reply: dict[str, str] = json.loads(received[_LENGTH.size :])
        return reply

    def stop(self) -> None:
        self._process.kill()
        self._stdin.close()
        self._stdout.close()
        self._process.wait()

    def _write(self, data: memoryview, deadline_s: float) -> None:
        while data:
            self._wait(self._stdin.fileno(), select.POLLOUT, deadline_s)
            try:
                data = data[os.write(self._stdin.fileno(), data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._ended() from None

    def _wait(self, fd: int, events: int, deadline_s: float) -> None:
        poller = select.poll()
        poller.register(fd, events)
        if not poller.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
            raise _ChildEndedError("it took too long", was_idle=False)

    def _ended(self) -> _ChildEndedError:
        """Its end of the pipe is closed, so it has ended or is about to."""
        self._process.kill()
        status = self._process.wait()
        if status == -signal.SIGPROF:
            return _ChildEndedError("it took too much CPU time", was_idle=False)
        if status == -signal.SIGSEGV:
            return _ChildEndedError("it is nested too deeply", was_idle=False)
        return _ChildEndedError(f"it ended the sandbox ({status})", was_idle=False)
