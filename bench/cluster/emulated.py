"""An emulated server of a cluster file that a row has written for itself."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bench import servers
from bench.cluster.systems import Address

_LATENESS = re.compile(r"announced ([\d.]+) ms late on average, ([\d.]+) ms at most")


@contextlib.asynccontextmanager
async def serving(file: Path, log: Path) -> AsyncIterator[Address]:
    """`fmedge serve --emulate` of that file, fresh, until the block ends."""
    port = servers.free_port()
    command = [
        sys.executable, "-m", "fmedge", "serve", "--emulate", str(file), "--port", str(port),
        "--log-level", "info",
    ]  # fmt: skip
    manager = servers.running("fmedge", command, port, log)
    server = await asyncio.to_thread(manager.__enter__)
    try:
        yield Address("fmedge", f"http://{server.host}:{server.port}")
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def lateness_ms(log: Path) -> tuple[float, float]:
    """How late steps were announced by the log of a server that has ended: the replica's with the
    largest mean, and the latest of all. Milliseconds; nan where the log does not say."""
    said = [(float(m[1]), float(m[2])) for m in _LATENESS.finditer(log.read_text())]
    if not said:
        return float("nan"), float("nan")
    return max(mean for mean, _ in said), max(latest for _, latest in said)
