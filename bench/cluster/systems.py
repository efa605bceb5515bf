"""Real servers in front of a cluster's emulated replicas: fmedge, Ray Serve, and others' fronts.

The rule: every system gets the same replicas, planned once, and the same load by the same client; a
server is told nothing of lengths, and only fmedge's own is told promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from bench import servers
from bench.cluster.cases import Case, cluster_file
from bench.context import Bench
from bench.fronts import apart, front, why_absent
from bench.ray_serve.server import RayServer, ray_server
from bench.servers import REPOSITORY, ServerError
from fmedge.sim.run import Run
from fmedge.sim.run_file import read_run

ANSWER_TIMEOUT_S = 240.0
NUM_WARM_UP = 4


@dataclass(frozen=True, eq=False)
class Address:
    """Of a server that is ready."""

    system: str
    url: str
    key: str = ""
    server: RayServer | None = None


def configuration(asked: Case, folder: Path) -> Path:
    """What a server must know beforehand of the case's promises: its classes and workflows."""
    workload = asked.load(asked.first_per_s, 100)
    promises = {call.promise.sla_class: call.promise for call in workload.calls}
    blocks = []
    for name, promise in promises.items():
        limits = {"ttft_ms": promise.ttft_s, "tpot_ms": promise.tpot_s, "e2e_ms": promise.e2e_s}
        lines = [f"{key} = {limit * 1e3:g}" for key, limit in limits.items() if limit < inf]
        if name:
            blocks.append("\n".join([f"[sla.{name}]", *lines, f"target = {promise.target}"]))
    blocks += [
        f"[workflows.{name}]\ne2e_ms = {settings.e2e_s * 1e3:g}\ntarget = {settings.target}"
        for name, settings in workload.workflows.items()
    ]
    path = folder / f"{asked.name.replace(', ', '-').replace(' ', '-')}.toml"
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return path


@contextlib.asynccontextmanager
async def fmedge(
    bench: Bench, asked: Case, *, arguments: Sequence[str] = ()
) -> AsyncIterator[Address]:
    """fmedge, told the case's promises."""
    promises = ("--config", str(configuration(asked, bench.folder)))
    log = bench.folder / f"fmedge-{asked.cluster}.log"
    async with serving(cluster_file(asked.cluster), log, (*promises, *arguments)) as address:
        yield address


@contextlib.asynccontextmanager
async def serving(
    cluster: Path, log: Path, arguments: Sequence[str] = ()
) -> AsyncIterator[Address]:
    """`fmedge serve --emulate` of that file, fresh, until the block ends."""
    port = servers.free_port()
    command = [
        sys.executable, "-m", "fmedge", "serve", "--emulate", str(cluster), "--port", str(port),
        "--log-level", "info", *arguments,
    ]  # fmt: skip
    manager = servers.running("fmedge", command, port, log)
    server = await asyncio.to_thread(manager.__enter__)
    try:
        yield Address("fmedge", f"http://{server.host}:{server.port}")
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def ray(
    bench: Bench, cluster: str, setup: str = "tuned", arguments: Sequence[str] = ()
) -> AsyncIterator[Address]:
    """Ray Serve with that set-up, until the block ends."""
    folder = bench.folder / f"ray-{setup}"
    folder.mkdir(exist_ok=True)
    async with ray_server(cluster_file(cluster), setup, folder, arguments) as server:
        yield Address(f"ray, {setup}", server.url, server=server)


@contextlib.asynccontextmanager
async def other(bench: Bench, cluster: str, name: str) -> AsyncIterator[Address]:
    """Somebody else's front, before each replica as an endpoint."""
    reason = why_absent(name)
    if reason:
        raise ServerError(reason)
    async with (
        apart(cluster_file(cluster), bench.folder) as endpoints,
        front(name, endpoints.urls, model=endpoints.model, log_folder=bench.folder) as address,
    ):
        yield Address(name, address.url, address.key)


async def play(
    bench: Bench, address: Address, options: Sequence[str], name: str, warmup_s: float
) -> Run:
    """`fmedge bench` with these options of a workload; what it wrote."""
    out = bench.folder / f"{name}.json"
    command = [
        sys.executable, "-m", "fmedge", "bench", "--url", address.url, *options,
        "--lengths", "emulated", "--warmup-s", f"{warmup_s:.3f}", "--warmup", str(NUM_WARM_UP),
        "--timeout-s", str(ANSWER_TIMEOUT_S), "--label", address.system, "--out", str(out),
    ]  # fmt: skip
    if address.key:
        command += ["--api-key", address.key]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        _, said = await process.communicate()
    except BaseException:
        process.terminate()
        await process.wait()
        raise
    if not out.exists():
        raise ServerError(f"{address.system}: {said.decode(errors='replace').strip()}")
    for line in said.decode(errors="replace").splitlines():
        bench.say(f"    {line}")
    return read_run(out)
