"""One worker process from its start to its reaped end; it is never used again after that.

Its end is the end of its socket (whatever it sent has then been read) and its exit status. It is
killed when it hangs: no sign of life, or a step that never ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from typing import cast

from msgspec import Struct

from fmedge import children
from fmedge.replica.channel import FrontChannel
from fmedge.replica.protocol import FrontMessage, Heartbeat, Log, WorkerMessage

MAX_STDERR_LINE_BYTES = 4096
NUM_LAST_LINES = 8
EXIT_GRACE_S = 1.0

log = logging.getLogger(__name__)


class WatchSettings(Struct, frozen=True, kw_only=True):
    """When a worker counts as hung, in seconds.

    start_timeout_s: until its first message. heartbeat_timeout_s: without any message after that.
    step_timeout_s: one engine step; on a slow device a step of a full batch is allowed to take
    minutes. load_timeout_s: until the model is loaded. check_interval_s: how often to look.
    """

    start_timeout_s: float = 60.0
    heartbeat_timeout_s: float = 15.0
    step_timeout_s: float = 600.0
    load_timeout_s: float = 3600.0
    check_interval_s: float = 1.0


class WorkerEnd(Struct, frozen=True):
    """How a worker process ended. `status`: exit status, negative for a signal."""

    status: int
    reason: str


class _StderrProtocol(asyncio.Protocol):
    """Logs what a worker prints (llama.cpp's last words before an abort) and keeps the last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._partial = b""
        self.last_lines: deque[str] = deque(maxlen=NUM_LAST_LINES)
        self.closed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_STDERR_LINE_BYTES:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._log(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._log(self._partial)
        if not self.closed.done():
            self.closed.set_result(None)

    def _log(self, line: bytes) -> None:
        text = line[:MAX_STDERR_LINE_BYTES].decode("utf-8", "replace").strip()
        if text:
            self.last_lines.append(text)
            log.info("%s: %s", self._name, text)


class WorkerProcess:
    """A child process and its channel. `on_messages` gets all but heartbeats and log lines."""

    def __init__(
        self, name: str, watch: WatchSettings, on_messages: Callable[[list[WorkerMessage]], None]
    ) -> None:
        self._name = name
        self._watch = watch
        self._on_messages = on_messages
        self._loop = asyncio.get_running_loop()
        self._channel = FrontChannel(self._received, self._channel_closed)
        self._channel_end: asyncio.Future[str] = self._loop.create_future()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: _StderrProtocol | None = None
        self._kill_reason = ""
        self._last_heard_s = 0.0
        self._started_s = 0.0
        self._has_spoken = False
        self._is_loaded = False
        self._check: asyncio.TimerHandle | None = None
        self.rss_bytes = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def silent_s(self) -> float:
        """Since it was last heard of; 0 before its first word and after its end."""
        if not self._has_spoken or self._exited.done():
            return 0.0
        return self._loop.time() - self._last_heard_s

    @property
    def was_killed(self) -> bool:
        """Whether the front killed it, as it hung or was told to close and did not."""
        return bool(self._kill_reason)

    async def start(self) -> None:
        """Spawn it. Raises OSError when the system cannot."""
        front_end, worker_end = socket.socketpair()
        stderr_read, stderr_write = os.pipe()
        try:
            with worker_end:
                # A session of its own: a terminal's Ctrl-C must not reach it before the front
                # has drained.
                self._process = subprocess.Popen(  # noqa: ASYNC220 - vfork+exec, about a millisecond
                    worker_command(worker_end.fileno()),
                    env=children.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=stderr_write,
                    stderr=stderr_write,
                    pass_fds=(worker_end.fileno(),),
                    start_new_session=True,
                )
        except OSError:
            front_end.close()
            os.close(stderr_read)
            raise
        finally:
            os.close(stderr_write)
        self._started_s = self._last_heard_s = self._loop.time()
        try:
            await self._attach(self._process, front_end, stderr_read)
        except OSError:
            front_end.close()
            self._process.kill()
            self._process.wait()
            raise
        self._schedule_check()

    async def _attach(
        self, process: subprocess.Popen[bytes], front_end: socket.socket, stderr_read: int
    ) -> None:
        """Hear of its exit, its messages and its output."""
        stderr = os.fdopen(stderr_read, "rb", 0)
        front_end.setblocking(False)
        _, self._stderr = await self._loop.connect_read_pipe(
            lambda: _StderrProtocol(self._name), stderr
        )
        await self._loop.create_unix_connection(lambda: self._channel, sock=front_end)
        pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(pidfd, self._process_exited, pidfd)

    def send(self, *messages: FrontMessage) -> None:
        """Raises ReplicaLostError when the worker is gone or does not read."""
        self._channel.send(*messages)

    def mark_loaded(self) -> None:
        """From now on step times are watched instead of the load's."""
        self._is_loaded = True

    def kill(self, reason: str) -> None:
        """SIGKILL; `ended` then reports this reason."""
        if self._process is not None and not self._exited.done():
            self._kill_reason = self._kill_reason or reason
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def disconnected(self) -> str:
        """Wait until the socket is read to its end: the worker can tell nothing more."""
        return await asyncio.shield(self._channel_end)

    async def ended(self) -> WorkerEnd:
        """Wait until it is disconnected and the process is reaped."""
        channel_reason = await self.disconnected()
        if self._check is not None:
            self._check.cancel()
        # Whoever closed its socket has nothing left to do; a grace lets it report a true status.
        kill = self._loop.call_later(EXIT_GRACE_S, self.kill, channel_reason)
        status = await asyncio.shield(self._exited)
        kill.cancel()
        if self._stderr is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._stderr.closed), EXIT_GRACE_S)
        return WorkerEnd(status, self._describe(status, channel_reason))

    # --- what it says ---

    def _received(self, messages: list[WorkerMessage]) -> None:
        self._last_heard_s = self._loop.time()
        self._has_spoken = True
        kind = type(messages[0])
        if kind is not Heartbeat and kind is not Log and len(messages) == 1:
            self._on_messages(messages)
            return
        others: list[WorkerMessage] = []
        for message in messages:
            if isinstance(message, Heartbeat):
                self.rss_bytes = message.rss_bytes
                if message.step_running_s > self._watch.step_timeout_s:
                    self.kill(f"an engine step ran for {message.step_running_s:.0f} s")
            elif isinstance(message, Log):
                log.log(message.level, "%s: %s", self._name, message.line)
            else:
                others.append(message)
        if others:
            self._on_messages(others)

    def _channel_closed(self, reason: str) -> None:
        if not self._channel_end.done():
            self._channel_end.set_result(reason)

    def _process_exited(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        process = cast("subprocess.Popen[bytes]", self._process)
        self._exited.set_result(process.wait())
        # Its socket ends with it, unless a grandchild inherited it.
        self._loop.call_later(EXIT_GRACE_S, self._channel.abort, "it exited")

    # --- what it does not say ---

    def _schedule_check(self) -> None:
        due_s = self._loop.time() + self._watch.check_interval_s
        self._check = self._loop.call_at(due_s, self._check_alive, due_s)

    def _check_alive(self, due_s: float) -> None:
        now_s = self._loop.time()
        if now_s - due_s > self._watch.check_interval_s:
            self._last_heard_s = now_s  # we were stopped ourselves; unread heartbeats may wait
        silent_s = now_s - self._last_heard_s
        watch = self._watch
        if silent_s > (watch.heartbeat_timeout_s if self._has_spoken else watch.start_timeout_s):
            self.kill(f"no heartbeat for {silent_s:.1f} s")
        elif not self._is_loaded and now_s - self._started_s > watch.load_timeout_s:
            self.kill(f"loading took longer than {watch.load_timeout_s:.0f} s")
        else:
            self._schedule_check()

    def _describe(self, status: int, channel_reason: str) -> str:
        if self._kill_reason:
            what = f"killed: {self._kill_reason}"
        elif status < 0:
            what = f"died of {signal_name(-status)}"
        elif status > 0:
            what = f"exited with status {status}"
        else:
            what = f"ended: {channel_reason}"
        lines = self._stderr.last_lines if self._stderr is not None else ()
        return f"{what}; its last words: {' | '.join(lines)}" if lines and status != 0 else what


def signal_name(number: int) -> str:
    """ "SIGSEGV" for 11; the number itself where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def worker_command(fd: int) -> list[str]:
    return children.module_command(children.WORKER, str(fd), str(os.getpid()))
