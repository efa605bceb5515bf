"""Device servers on loopback, as unequal devices: real `fmedge device-server` processes."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@dataclass
class DeviceServerProcess:
    """One running server. endpoint: HOST:PORT."""

    endpoint: str
    process: subprocess.Popen[bytes]
    lifeline: socket.socket = field(repr=False)

    def kill(self) -> None:
        """As a machine that goes away: no goodbye."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self) -> int:
        """Politely; its exit status."""
        self.lifeline.close()
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start(
    *, threads: int = 1, memory_gib: float = 1.0, port: int = 0, max_clients: int = 8
) -> DeviceServerProcess:
    """A server on loopback that is ready when this returns; it ends with this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "fmedge", "device-server", "--listen", f"127.0.0.1:{port}",
                "--threads", str(threads), "--memory-gib", str(memory_gib),
                "--max-clients", str(max_clients), "--lifeline-fd", str(theirs.fileno()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )  # fmt: skip
    assert process.stdout is not None
    deadline_s = time.monotonic() + START_TIMEOUT_S
    said = b""
    while b"\n" not in said:
        left_s = deadline_s - time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, left_s))
        data = process.stdout.read1(4096) if ready else b""
        if not data:
            process.kill()
            process.wait()
            ours.close()
            raise RuntimeError(f"the device server did not start: {said!r}")
        said += data
    process.stdout.close()
    match = re.search(rb"listening on ([0-9.]+:\d+)", said)
    assert match, said
    return DeviceServerProcess(match[1].decode(), process, ours)


@contextlib.contextmanager
def device_servers(
    *sizes: tuple[int, float], max_clients: int = 8
) -> Iterator[Sequence[DeviceServerProcess]]:
    """A server for each (threads, memory in GiB)."""
    servers: list[DeviceServerProcess] = []
    try:
        for threads, memory_gib in sizes:
            servers.append(start(threads=threads, memory_gib=memory_gib, max_clients=max_clients))
        yield servers
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.stop()
            else:
                server.lifeline.close()
