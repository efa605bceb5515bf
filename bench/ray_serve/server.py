"""Starts `python -m bench.ray_serve` in a process of its own, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from bench import servers
from bench.servers import REPOSITORY, ServerError

READY_TIMEOUT_S = 180.0  # Ray, its controller and then each replica's process start one by one
STOP_TIMEOUT_S = 60.0


@dataclass
class RayServer:
    """A running set-up. events: what it has printed; "ended" comes last, with "replica_s"."""

    url: str
    pid: int
    log: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def replica_s(self) -> float:
        """Replica-seconds when last said: at each change of the replicas, and at the end."""
        return float(next((e["replica_s"] for e in self.events[::-1] if "replica_s" in e), 0.0))


def why_absent() -> str:
    """Why Ray Serve cannot be run here, or ""."""
    # not "ray.serve", as looking for that imports Ray before its settings stand
    if find_spec("ray") is None or find_spec("starlette") is None:
        return "Ray Serve is not installed: pip install -r bench/ray_serve/requirements.txt"
    return ""


@contextlib.asynccontextmanager
async def ray_server(
    cluster: Path, setup: str, folder: Path, arguments: Sequence[str] = ()
) -> AsyncIterator[RayServer]:
    """The cluster behind a set-up of bench.ray_serve.setups. cluster: a .toml cluster file, or a
    .json of replicas. arguments: more of the command's. ServerError, with the end of its log."""
    port = servers.free_port()
    source = "--specs" if cluster.suffix == ".json" else "--cluster"
    log = folder / f"ray-{setup}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.ray_serve", source, str(cluster), "--setup", setup,
            "--port", str(port), *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=output,
            cwd=REPOSITORY,
        )  # fmt: skip
    server = RayServer("", process.pid, log)
    reader: asyncio.Task[None] | None = None
    try:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await _until_ready(process, server)
        except TimeoutError:
            raise ServerError(
                f"Ray Serve was not ready in {READY_TIMEOUT_S:.0f} s:\n{servers.tail(log)}"
            ) from None
        reader = asyncio.create_task(_read(process, server))
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if reader is not None:
            await reader


async def _until_ready(process: asyncio.subprocess.Process, server: RayServer) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        event = msgspec.json.decode(line)
        server.events.append(event)
        if event["event"] == "ready":
            server.url = event["url"]
            return
    raise ServerError(f"Ray Serve ended with {await process.wait()}:\n{servers.tail(server.log)}")


async def _read(process: asyncio.subprocess.Process, server: RayServer) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        server.events.append(msgspec.json.decode(line))
