"""This machine's devices, offered to fmedge and llama.cpp elsewhere: `fmedge device-server`.

The rule: llama.cpp's RPC server, which serves one client at a time and dies of a bad one, runs in
children; this process accepts, looks at what a client says first, and hands its connection to a
child that is idle. All children together hold to one limit of memory for each device.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from fmedge import children
from fmedge._native import handover
from fmedge.errors import ConfigError, DeviceError
from fmedge.replica.device_child import ChildSettings
from fmedge.replica.process import signal_name
from fmedge.types import DeviceInfo

FIRST_WORDS_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 20.0
START_TIMEOUT_S = 60.0
MAX_PENDING = 64
NUM_SPARE = 2
MAX_LINE_BYTES = 1024
STOP_TIMEOUT_S = 5.0
BACKLOG = 64
MAX_FAILED_STARTS = 3

# HELLO, and the length of what comes with it.
_FIRST_WORDS = bytes((14, 24, 0, 0, 0, 0, 0, 0, 0))

log = logging.getLogger(__name__)


class DeviceServerSettings(Struct, frozen=True, kw_only=True):
    """limits: bytes that clients together get of each device, by ggml's name, in the order
    offered. max_clients: at once; more are turned away. threads: of each client's CPU work."""

    host: str
    port: int
    threads: int
    limits: dict[str, int]
    max_clients: int = 8


def limits_of(
    devices: Sequence[DeviceInfo], wanted: Sequence[str] | None, memory_bytes: int | None
) -> dict[str, int]:
    """What to offer, by name: `wanted` or all GPUs or the CPU, memory_bytes of each (None: what is
    free). ConfigError where that is not there."""
    names = [device.name for device in devices]
    if wanted is None:
        gpus = [d for d in devices if d.kind in ("gpu", "igpu") and d.backend != "RPC"]
        offered = gpus or [device for device in devices if device.kind == "cpu"]
    else:
        for name in wanted:
            if name not in names:
                raise ConfigError(f"--devices: there is no {name!r}; there are {', '.join(names)}")
        offered = [device for device in devices if device.name in wanted]
    if not 0 < len(offered) <= handover.MAX_DEVICES:
        raise ConfigError(f"--devices: between 1 and {handover.MAX_DEVICES} can be offered")
    for device in offered:
        if memory_bytes is not None and memory_bytes > device.memory_total:
            raise ConfigError(
                f"--memory-gib: {device.name} has {device.memory_total / 2**30:.1f} GiB of memory, "
                f"not {memory_bytes / 2**30:.1f}"
            )
    return {device.name: memory_bytes or device.memory_free for device in offered}


class DeviceServer:
    """Use it on one event loop: start(), wait(), close()."""

    def __init__(self, settings: DeviceServerSettings) -> None:
        if not 1 <= settings.max_clients < handover.MAX_PROCESSES:
            raise ConfigError(
                f"--max-clients must lie between 1 and {handover.MAX_PROCESSES - 1}, but is "
                f"{settings.max_clients}"
            )
        self._settings = settings
        self._children: set[_Child] = set()
        self._pending: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._num_failed_starts = 0
        self._table = os.memfd_create("fmedge-devices", os.MFD_CLOEXEC)
        os.ftruncate(self._table, handover.TABLE_BYTES)

    @property
    def endpoint(self) -> str:
        """HOST:PORT where it listens."""
        if self._listener is None:
            raise RuntimeError("the device server is not started")
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    @property
    def num_clients(self) -> int:
        return sum(child.is_busy for child in self._children)

    @property
    def num_processes(self) -> int:
        return len(self._children)

    def used_bytes(self) -> int:
        """That clients have allocated, on all devices."""
        table = os.pread(self._table, handover.TABLE_BYTES, 0)
        return sum(memoryview(table).cast("Q"))

    async def start(self) -> None:
        """Listen, and have a child ready; close() is due however it ends. ConfigError where the
        address cannot be listened on, DeviceError where the children cannot start."""
        settings = self._settings
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; "
                "choose another --listen"
            ) from None
        self._listener = listener
        self._keep_spare()
        try:
            await self._wait_idle(START_TIMEOUT_S)
        except TimeoutError:
            raise DeviceError(
                f"llama.cpp's RPC server was not ready within {START_TIMEOUT_S:g} s"
            ) from None
        loop = asyncio.get_running_loop()
        self._accepting = loop.create_task(self._accept(listener), name="device server: accept")

    async def wait(self) -> None:
        """Until children cannot be started any more: DeviceError says why."""
        await self._failure

    async def close(self) -> None:
        """Stop listening, turn everyone out, end the children. Idempotent."""
        tasks = [*self._pending, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        children = list(self._children)
        for child in children:
            child.stop()
        if children:
            await asyncio.wait([child.ended for child in children], timeout=STOP_TIMEOUT_S)
        if self._table >= 0:
            os.close(self._table)
            self._table = -1
        if not self._failure.done():
            self._failure.cancel()

    # --- clients ---

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:  # out of descriptors, or a client that left at once
                log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._pending) >= MAX_PENDING:
                log.warning("too many connections at once: %s:%d was turned away", *address)
                connection.close()
                continue
            task = loop.create_task(self._admit(connection, f"{address[0]}:{address[1]}"))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _admit(self, connection: socket.socket, client: str) -> None:
        with connection:
            connection.setblocking(False)
            _keep_alive(connection)
            try:
                words = await asyncio.wait_for(_first_words(connection), FIRST_WORDS_TIMEOUT_S)
            except (TimeoutError, OSError):
                log.warning("%s said nothing and was turned away", client)
                return
            if words != _FIRST_WORDS:
                if words:
                    log.warning("%s does not speak llama.cpp's RPC protocol", client)
                return
            try:
                child = await self._wait_idle(IDLE_TIMEOUT_S)
            except (TimeoutError, DeviceError):
                log.warning(
                    "%s was turned away: %d clients are served already",
                    client, self.num_clients,
                )  # fmt: skip
                return
            connection.setblocking(True)  # a property of the connection, which the child shares
            child.serve(connection, client)
            self._keep_spare()

    async def _wait_idle(self, timeout_s: float) -> _Child:
        """An idle child; with as many clients as may be, wait for one to leave."""
        async with asyncio.timeout(timeout_s), self._changed:
            while True:
                for child in self._children:
                    if child.is_idle:
                        return child
                self._keep_spare()
                if self._failure.done():
                    self._failure.result()
                await self._changed.wait()

    # --- children ---

    def _keep_spare(self) -> None:
        """Some more than are busy, so that the next clients find a process that is ready: llama.cpp
        comes and goes several times in a load."""
        num_wanted = min(self._settings.max_clients, self.num_clients + NUM_SPARE)
        while len(self._children) < num_wanted:
            self._spawn()

    def _spawn(self) -> None:
        rows = {child.row for child in self._children}
        row = next(i for i in range(handover.MAX_PROCESSES) if i not in rows)
        child = _Child(self._settings, self._table, row, self._child_changed)
        self._children.add(child)
        child.start()

    def _child_changed(self, child: _Child) -> None:
        """It became idle, or ended."""
        if child.ended.done():
            self._children.discard(child)
            if self._table >= 0:
                # What it had allocated is free again.
                os.pwrite(self._table, bytes(handover.ROW_BYTES), child.row * handover.ROW_BYTES)
            self._num_failed_starts += not child.has_started
            if self._num_failed_starts >= MAX_FAILED_STARTS and not self._failure.done():
                self._failure.set_exception(
                    DeviceError(f"llama.cpp's RPC server does not start: {child.last_line}")
                )
        else:
            self._num_failed_starts = 0
        notify = asyncio.get_running_loop().create_task(self._notify())
        self._pending.add(notify)
        notify.add_done_callback(self._pending.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class _Child:
    """A process that serves one client after the other. `changed` is called when it becomes idle
    and when it has ended."""

    def __init__(
        self,
        settings: DeviceServerSettings,
        table: int,
        row: int,
        changed: Callable[[_Child], None],
    ) -> None:
        self._settings = settings
        self._table = table
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._client = ""
        self._output = b""
        self._is_stopping = False
        self.row = row
        self.is_idle = False
        self.has_started = False
        self.last_line = ""
        self.ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_busy(self) -> bool:
        return bool(self._client)

    def start(self) -> None:
        settings = self._settings
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, their_output = os.pipe()
        argument = ChildSettings(
            control=theirs.fileno(),
            table=self._table,
            row=self.row,
            parent_pid=os.getpid(),
            threads=settings.threads,
            limits=settings.limits,
        )
        try:
            self._process = subprocess.Popen(
                children.module_command(children.DEVICE, msgspec.json.encode(argument).decode()),
                env=handover.environment({**children.environment(), "GGML_NO_BACKTRACE": "1"}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # llama.cpp's account of every connection
                stderr=their_output,
                pass_fds=(theirs.fileno(), self._table),
                start_new_session=True,
            )  # fmt: skip
        finally:
            theirs.close()
            os.close(their_output)
        self._control.setblocking(False)
        os.set_blocking(output, False)
        self._loop.add_reader(self._control, self._heard)
        self._loop.add_reader(output, self._printed, output)
        pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(pidfd, self._exited, pidfd, output)

    def serve(self, connection: socket.socket, client: str) -> None:
        """Hand a connection over; only while idle."""
        self.is_idle = False
        self._client = client
        with contextlib.suppress(OSError):  # it has just died, which closes the connection
            socket.send_fds(self._control, [b"c"], [connection.fileno()])

    def stop(self) -> None:
        self._is_stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _heard(self) -> None:
        try:
            data = self._control.recv(1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control)
            return
        if self._client:
            log.debug("%s left", self._client)
        self._client = ""
        self.is_idle = self.has_started = True
        self._changed(self)

    def _printed(self, output: int) -> None:
        try:
            data = os.read(output, 65536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(output)
            os.close(output)
            return
        *lines, self._output = (self._output + data).split(b"\n")
        self._output = self._output[-MAX_LINE_BYTES:]
        for line in lines:
            text = line[:MAX_LINE_BYTES].decode("utf-8", "replace").strip()
            if text:
                self.last_line = text
                log.info("%s: %s", self._client or "idle", text)

    def _exited(self, pidfd: int, output: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        status = self._process.wait()
        self._loop.remove_reader(self._control)
        self._control.close()
        if not self._is_stopping and (status != 0 or self._client):
            what = f"died of {signal_name(-status)}" if status < 0 else f"ended with {status}"
            whose = f"the process that served {self._client}" if self._client else "a process"
            log.warning("%s %s", whose, what)
        self._client = ""
        self.is_idle = False
        self.ended.set_result(None)
        self._changed(self)


async def _first_words(connection: socket.socket) -> bytes:
    """What a client says first, left in the connection; less where it says less and leaves."""
    loop = asyncio.get_running_loop()
    while True:
        readable = loop.create_future()
        loop.add_reader(connection, _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(connection)
        words = connection.recv(len(_FIRST_WORDS), socket.MSG_PEEK)
        if len(words) == len(_FIRST_WORDS) or not _FIRST_WORDS.startswith(words) or not words:
            return words
        await asyncio.sleep(0.01)  # a part of it is there, so it stays readable


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _keep_alive(connection: socket.socket) -> None:
    """A client whose machine has gone is noticed within about a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


async def serve_devices(
    settings: DeviceServerSettings,
    on_listening: Callable[[str], None],
    lifeline_fd: int | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or the end of lifeline_fd. on_listening gets the endpoint."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _resolve, stopping)
    if lifeline_fd is not None:
        loop.add_reader(lifeline_fd, _resolve, stopping)
    server = DeviceServer(settings)
    try:
        await server.start()
        on_listening(server.endpoint)
        failed = loop.create_task(server.wait())
        await asyncio.wait((stopping, failed), return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        failed.cancel()
        await asyncio.gather(failed, return_exceptions=True)
    finally:
        await server.close()
