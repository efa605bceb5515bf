"""Plays the service manager: opens sockets, starts `fmedge serve` on them with a notify socket and
a watchdog's period, and writes down what it says, as systemd would hear it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.e2e.server import ROOT, workers_of

DEADLINE_S = 120.0
WATCHDOG_S = 1.0

# What the manager does between fork and exec: descriptors from 3 on, and whom they are for.
START = """
import fcntl, os, sys
fds, names, command = sys.argv[1], sys.argv[2], sys.argv[3:]
copies = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds.split(",") if fd]
for number, fd in enumerate(copies):
    os.dup2(fd, 3 + number)
me = str(os.getpid())
os.environ.update(WATCHDOG_PID=me)
if copies:
    os.environ.update(LISTEN_PID=me, LISTEN_FDS=str(len(copies)), LISTEN_FDNAMES=names)
os.execv(sys.executable, [sys.executable, "-m", "fmedge", *command])
"""


class Manager:
    """Its sockets outlive the services that it starts on them."""

    def __init__(self, folder: Path, sockets: dict[str, socket.socket]) -> None:
        self._folder = folder
        self.sockets = sockets
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind("")  # an abstract address, as paths of tests are long
        self._notify.settimeout(0.1)
        self._is_over = threading.Event()
        self._changed = threading.Condition()
        self.heard: list[tuple[float, str]] = []
        """When (monotonic), and which line."""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while not self._is_over.is_set():
            try:
                message = self._notify.recv(1 << 16).decode()
            except TimeoutError:
                continue
            now_s = time.monotonic()
            with self._changed:
                self.heard += [(now_s, line) for line in message.split("\n")]
                self._changed.notify_all()

    @property
    def num_heard(self) -> int:
        return len(self.heard)

    def until(self, wanted: str, since: int = 0) -> int:
        """The index of the first line, from `since` on, that begins like this."""

        def found() -> int | None:
            lines = enumerate(self.heard)
            return next((i for i, (_, x) in lines if i >= since and x.startswith(wanted)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, DEADLINE_S)
            index = found()
        assert index is not None, f"{wanted} was not heard: {self.lines(since)}"
        return index

    def until_true(self, condition: Callable[[], bool]) -> None:
        """Looked at whenever something was heard, and often besides."""
        deadline_s = time.monotonic() + DEADLINE_S
        with self._changed:
            while not condition():
                assert time.monotonic() < deadline_s, self.lines(0)
                self._changed.wait(0.05)

    def lines(self, since: int = 0) -> list[str]:
        return [line for _, line in self.heard[since:]]

    def last_fed_s(self) -> float:
        """When the watchdog was last fed."""
        return max((at_s for at_s, line in self.heard if line == "WATCHDOG=1"), default=0.0)

    @contextlib.contextmanager
    def service(self, args: Sequence[str], env: dict[str, str] | None = None) -> Iterator[Service]:
        """`fmedge serve ARGS` as a service, killed at the end if it is still there."""
        fds = [sock.fileno() for sock in self.sockets.values()]
        log = self._folder / f"service-{time.monotonic_ns()}.log"
        address = "@" + self._notify.getsockname()[1:].decode()
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", START, ",".join(map(str, fds)), ":".join(self.sockets),
                 "serve", *args],
                cwd=self._folder, stdout=out, stderr=subprocess.STDOUT, pass_fds=fds,
                env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": address,
                     "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6)), **(env or {})},
            )  # fmt: skip
        service = Service(process, log)
        try:
            yield service
        finally:
            for worker in service.workers():
                worker.resume()
            if process.poll() is None:
                process.kill()
            process.wait(DEADLINE_S)

    def close(self) -> None:
        self._is_over.set()
        self._reader.join(DEADLINE_S)
        self._notify.close()
        for sock in self.sockets.values():
            sock.close()


class Service:
    """A process that the manager started, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def workers(self) -> list[psutil.Process]:
        return workers_of(self.process.pid)
