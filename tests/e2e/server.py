"""Starts the real command `fmedge serve` and stops it again; nothing is faked on the way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 60.0


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes of a server that live now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [
            child
            for child in psutil.Process(pid).children()
            if child.status() != psutil.STATUS_ZOMBIE
            and any("worker" in part for part in child.cmdline())
        ]
    return []


class Server:
    """A running `fmedge serve`: its process, its log and where it listens."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.url = ""

    @property
    def host_port(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def workers(self) -> list[psutil.Process]:
        return workers_of(self.process.pid)

    def wait_ready(self) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if found := re.search(r"https?://[\w.\[\]:-]+:\d+", self.text()):
                self.url = found.group(0)
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.05)
                break
        raise AssertionError(f"fmedge serve did not become ready:\n{self.text()}")

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, timeout_s: float = 20.0) -> int:
        """Terminates politely; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=timeout_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(timeout=5)


def launch(
    folder: Path,
    args: Sequence[str],
    env: dict[str, str] | None = None,
    under: Sequence[str] = (),
) -> Server:
    """Starts `UNDER fmedge serve --port 0 ARGS`; the caller stops it."""
    log = folder / f"serve-{time.monotonic_ns()}.log"
    command = [*under, sys.executable, "-m", "fmedge", "serve", "--port", "0", *args]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        )
    return Server(process, log)


@contextlib.contextmanager
def serve(
    folder: Path,
    args: Sequence[str],
    env: dict[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[Server]:
    """Runs `fmedge serve` until the block ends."""
    server = launch(folder, args, env, under)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
