"""Starts the servers under test, waits until they answer, and ends them by their pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from fmedge.cli.bench_client import Target

REPOSITORY = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0


class ServerError(Exception):
    """A server did not start; the message has the end of its log."""


@dataclass(frozen=True)
class Server:
    """A server that answers. model_name is what requests call its model."""

    name: str
    host: str
    port: int
    model_name: str
    pid: int
    log: Path

    @property
    def target(self) -> Target:
        return Target(host=self.host, port=self.port)

    def processes(self) -> list[psutil.Process]:
        """The process itself, then its descendants."""
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def peer(variable: str) -> Path | None:
    """The peer binary that an environment variable names, None where it is unset.

    ServerError when it names something that cannot be run.
    """
    value = os.environ.get(variable, "")
    if not value:
        return None
    found = shutil.which(value)
    if found is None:
        raise ServerError(f"{variable}={value} is not an executable file")
    return Path(found)


def fmedge_command(model: Path, port: int, *, ctx_size: int, slots: int, threads: int) -> list[str]:
    return [
        sys.executable, "-m", "fmedge", "serve", "--model", str(model), "--alias", "bench",
        "--host", "127.0.0.1", "--port", str(port), "--ctx-size", str(ctx_size),
        "--slots", str(slots), "--threads", str(threads), "--log-level", "warning",
    ]  # fmt: skip


def llama_server_command(
    binary: Path, model: Path, port: int, *, ctx_size: int, slots: int, threads: int
) -> list[str]:
    """Its --ctx-size is the sum over the slots; everything not named is its default."""
    return [
        str(binary), "-m", str(model), "--alias", "bench", "--host", "127.0.0.1",
        "--port", str(port), "-c", str(ctx_size * slots), "-np", str(slots), "-t", str(threads),
    ]  # fmt: skip


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], port: int, log: Path, *, cores: Sequence[int] = ()
) -> Iterator[Server]:
    """The command as a server on `port`, on `cores` when given, until the block ends."""
    before = os.sched_getaffinity(0)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FMEDGE_")}
    environment = kept | {"PYTHONPATH": str(REPOSITORY)}
    with log.open("ab") as output:
        if cores:
            os.sched_setaffinity(0, cores)
        try:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=REPOSITORY,
                env=environment,
            )  # fmt: skip
        finally:
            os.sched_setaffinity(0, before)
    try:
        server = Server(name, "127.0.0.1", port, "bench", process.pid, log)
        wait_ready(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_ready(server: Server, process: subprocess.Popen[bytes], poll_s: float = 0.005) -> None:
    """Return at the first 200 from /health."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    url = f"http://{server.host}:{server.port}/health"
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise ServerError(f"{server.name} ended with {process.returncode}:\n{tail(server.log)}")
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=5) as response,
        ):
            if response.status == 200:
                return
        time.sleep(poll_s)
    raise ServerError(
        f"{server.name} was not ready in {READY_TIMEOUT_S:.0f} s:\n{tail(server.log)}"
    )


def tail(log: Path, max_bytes: int = 2000) -> str:
    return log.read_bytes()[-max_bytes:].decode(errors="replace")
