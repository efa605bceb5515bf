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
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from fmedge import children
from fmedge.errors import UnavailableError

_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 18

_patience_s: ContextVar[float | None] = ContextVar("sandbox_patience_s", default=None)


class NotYetError(Exception):
    """The sandbox has no answer within the caller's patience; ask again with more of it."""


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Within it, asking a sandbox takes no longer than this, or raises NotYetError: for an event
    loop, which may wait for a usual answer but not for a hostile one."""
    token = _patience_s.set(seconds)
    try:
        yield
    finally:
        _patience_s.reset(token)


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
        requests keep it busy for wall_s. NotYetError as `patience` says.
        """
        patience_s = _patience_s.get()
        if patience_s is not None:
            return self._ask_quickly(request, patience_s)
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

    def start(self) -> None:
        """Start the child, if there is none, without waiting for it: the first request then does
        not wait for all of its start."""
        with self._lock:
            self._begin()

    def close(self) -> None:
        """End the child; a later request would start a new one."""
        with self._lock:
            self._drop()

    def _ask_quickly(self, request: dict[str, Any], patience_s: float) -> dict[str, str]:
        if not self._lock.acquire(blocking=False):
            raise NotYetError
        child = self._child
        try:
            if child is not None and not child.is_new:
                return child.exchange(request, patience_s, is_patient=False)
        except NotYetError:
            raise
        except _ChildEndedError:
            self._drop()
            raise NotYetError from None
        except BaseException:
            self._drop()
            raise
        finally:
            self._lock.release()
        raise NotYetError  # a start takes too long

    def _ask(self, request: dict[str, Any], opening: dict[str, Any]) -> dict[str, str]:
        while True:
            child = self._begin()
            is_new, child.is_new = child.is_new, False
            try:
                return child.exchange({**request, **opening} if is_new else request, self._wall_s)
            except _ChildEndedError as error:
                self._drop()
                if is_new or not error.was_idle:
                    return {"kind": "limit", "error": error.reason}
            except BaseException:
                self._drop()  # an interrupted exchange leaves half a frame in the pipe
                raise

    def _begin(self) -> _Child:
        child = self._child
        if child is None:
            child = self._child = _Child(self._cpu_s, self._memory_bytes)
            weakref.finalize(self, child.stop)
        return child

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


class _TooLateError(Exception):
    """The deadline of a wait has passed."""


class _Child:
    """One process and the pipes to it."""

    def __init__(self, cpu_s: float, memory_bytes: int) -> None:
        self._process = subprocess.Popen(
            children.module_command(children.SANDBOX, str(cpu_s), str(memory_bytes)),
            env=children.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout
        self.is_new = True  # it was asked nothing yet
        self._num_owed = 0  # replies that have not come yet
        self._received = bytearray()
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)

    def exchange(
        self, request: dict[str, Any], wall_s: float, *, is_patient: bool = True
    ) -> dict[str, str]:
        """The reply. Too late, an impatient caller gets NotYetError, and the reply is thrown away
        when it comes; for a patient one the child has failed."""
        if self._process.poll() is not None:
            raise _ChildEndedError("the sandbox had ended", was_idle=True)
        deadline_s = time.monotonic() + wall_s
        try:
            while self._num_owed:
                self._receive(deadline_s)
        except (_TooLateError, _ChildEndedError) as error:
            if isinstance(error, _TooLateError) and not is_patient:
                raise NotYetError from None
            # An earlier request's doing, of which this one must not be blamed.
            raise _ChildEndedError("the sandbox had ended", was_idle=True) from None
        body = json.dumps(request).encode()
        try:
            self._write(memoryview(_LENGTH.pack(len(body)) + body), deadline_s)
        except _TooLateError:  # half a request is in the pipe: this child is of no use any more
            raise _ChildEndedError("it took too long", was_idle=False) from None
        self._num_owed += 1
        try:
            reply: dict[str, str] = json.loads(self._receive(deadline_s))
        except _TooLateError:
            if not is_patient:
                raise NotYetError from None
            raise _ChildEndedError("it took too long", was_idle=False) from None
        return reply

    def _receive(self, deadline_s: float) -> bytes:
        """The next reply, in order of the requests."""
        received = self._received
        while (
            len(received) < _LENGTH.size
            or len(received) < _LENGTH.size + _LENGTH.unpack_from(received)[0]
        ):
            self._wait(self._stdout.fileno(), select.POLLIN, deadline_s)
            data = os.read(self._stdout.fileno(), _READ_BYTES)
            if not data:
                raise self._ended()
            received += data
        self._num_owed -= 1
        self._received = bytearray()  # one request is answered at a time: nothing lies behind it
        return bytes(received[_LENGTH.size :])

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
            raise _TooLateError

    def _ended(self) -> _ChildEndedError:
        """Its end of the pipe is closed, so it has ended or is about to."""
        self._process.kill()
        status = self._process.wait()
        if status == -signal.SIGPROF:
            return _ChildEndedError("it took too much CPU time", was_idle=False)
        if status == -signal.SIGSEGV:
            return _ChildEndedError("it is nested too deeply", was_idle=False)
        return _ChildEndedError(f"it ended the sandbox ({status})", was_idle=False)
