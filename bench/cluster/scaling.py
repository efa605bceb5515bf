"""Replicas by load: a quiet phase, a rush and a quiet phase again on four equal cards, and what
each way to have replicas keeps of promises and costs in replica-seconds.

The rule: nobody is told of the rush. Those who scale begin with what the quiet phase needs, and a
replica that they add loads the model first; those who do not hold all four cards all the time.
Replica-seconds count from the start of a replica's loading to its end, while the client plays. Of
Ray Serve and fmedge one each plays at a time, beside each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from bench.cluster import simulated, systems
from bench.cluster.cases import HERE, cluster_file
from bench.cluster.systems import Address
from bench.context import Bench, Outcome, Skipped
from bench.ray_serve.server import why_absent
from bench.servers import ServerError
from fmedge.sim.run import Run
from fmedge.sim.summary import summarise

ROW = "cluster, control, a rush"
CLUSTER = "control"
WORKLOAD = HERE / "workloads" / "rush.toml"
OPTIONS = ("--workload", str(WORKLOAD), "--seed", "1", "--longest", "7000")
PHASES = {"quiet": (0.0, 60.0), "rush": (60.0, 140.0), "quiet again": (140.0, 210.0)}
LOAD_GB_S = 2.0
"""An SSD's; the model's 15.7 GB take 8 s."""

SHORT_DELAYS_S = (5.0, 20.0)
"""Before Ray scales up and down, in place of its own 30 and 600. In either case it decides by the
mean of its last 30 s, as it does where nothing is set."""

POLL_S = 0.5
GOODPUT = 1.0
FMEDGE, REPLANNED = "fmedge, all four", "fmedge, re-planning"
RAY, SCALED, SCALED_SOON = "ray, all four", "ray, autoscaling", "ray, autoscaling sooner"
COMPARED = (
    (FMEDGE, RAY), (FMEDGE, SCALED), (FMEDGE, SCALED_SOON), (REPLANNED, SCALED),
    (REPLANNED, SCALED_SOON),
)  # fmt: skip

_GROWS = """
[[demand]]
model = "chat"
rate_per_s = 0.3
prompt_tokens = { p50 = 400, p95 = 1600 }
output_tokens = { p50 = 120, p95 = 350 }
sla = "chat"

[sla.chat]
ttft_ms = 3000
tpot_ms = 100
"""

Count = Callable[[], Awaitable[int]]


@dataclass
class Meter:
    """Replicas in use over time. changes: seconds since the start, and how many from then on."""

    replica_s: float = 0.0
    played_s: float = 0.0
    changes: list[tuple[float, int]] = field(default_factory=list)

    async def watch(self, count: Count) -> None:
        """Until cancelled."""
        start_s = last_s = time.monotonic()
        num = await count()
        self.changes.append((0.0, num))
        while True:
            await asyncio.sleep(POLL_S)
            before, num = num, await count()
            now_s = time.monotonic()
            self.replica_s += before * (now_s - last_s)
            self.played_s, last_s = now_s - start_s, now_s
            if num != before:
                self.changes.append((round(self.played_s, 1), num))


@dataclass(frozen=True)
class Played:
    system: str
    run: Run
    meter: Meter

    @property
    def goodput_per_s(self) -> float:
        return self.run.summary.goodput_per_s

    def facts(self) -> dict[str, Any]:
        summary, ttft = self.run.summary, self.run.summary.latencies.ttft
        by_phase = {
            name: summarise(self.run.workload, self.run.rows, window=window).attainment
            for name, window in PHASES.items()
        }
        return {
            "attainment": summary.attainment,
            "goodput_per_s": summary.goodput_per_s,
            "ttft_p99_s": None if ttft is None else ttft.p99_s,
            "replica_s": self.meter.replica_s,
            "mean_replicas": self.meter.replica_s / self.meter.played_s,
            "replicas": self.meter.changes,
            "attainment_by_phase": by_phase,
            "counts": {str(status): num for status, num in summary.counts.items()},
        }


async def run(bench: Bench) -> list[Outcome | Skipped]:
    reason = why_absent()
    if reason:
        return [Skipped(ROW, reason)]
    load_s = await asyncio.to_thread(_load_s)
    ours = partial(_fmedge, bench)
    theirs = partial(_ray, bench)
    scaled = ("--load-s", f"{load_s:.3f}", "--min-replicas", "1", "--max-replicas", "4")
    up_s, down_s = SHORT_DELAYS_S
    sooner = ("--upscale-delay-s", f"{up_s}", "--downscale-delay-s", f"{down_s}")
    pairs = [
        {FMEDGE: ours(cluster_file(CLUSTER), "static"), RAY: theirs(4, "tuned")},
        {
            REPLANNED: ours(growing(bench.folder), "replanned"),
            SCALED: theirs(1, "autoscaling", *scaled),
        },
        {SCALED_SOON: theirs(1, "autoscaling", *scaled, *sooner)},
    ]
    played: dict[str, Played] = {}
    for pair in pairs:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_play(bench, name, it)) for name, it in pair.items()]
        for one in (task.result() for task in tasks):
            played[one.system] = one
            bench.say(f"  {one.system}: {one.facts()}")
    return [_outcome(played[a], played[b]) for a, b in COMPARED]


def _outcome(ours: Played, theirs: Played) -> Outcome:
    return Outcome(
        ROW, f"goodput of {ours.system} against {theirs.system}",
        ours.goodput_per_s / theirs.goodput_per_s, "x", GOODPUT, True,
        detail={one.system: one.facts() for one in (ours, theirs)},
    )  # fmt: skip


def _load_s() -> float:
    """What a replica of Ray's takes to load: as long as fmedge's emulated ones."""
    model = Path(simulated.replicas(CLUSTER)[0].engine.model_path)
    return model.stat().st_size / (1e9 * LOAD_GB_S)


def growing(folder: Path) -> Path:
    """The cluster without a number of replicas, planned for the quiet phase."""
    text = cluster_file(CLUSTER).read_text()
    for was, now in (
        ("replicas = 4\n", ""),
        ("[emulation]\n", f"[emulation]\nload_gb_s = {LOAD_GB_S}\n"),
    ):
        if text.count(was) != 1:
            raise ServerError(f"{CLUSTER}.toml: {was.strip()} was expected once")
        text = text.replace(was, now)
    path = folder / "control-growing.toml"
    path.write_text(text + _GROWS)
    return path


Running = AbstractAsyncContextManager[tuple[Address, Count]]


async def _play(bench: Bench, name: str, system: Running) -> Played:
    meter = Meter()
    async with system as (address, count):
        watching = asyncio.create_task(meter.watch(count))
        try:
            run = await systems.play(
                bench, address, OPTIONS, name.replace(", ", "-").replace(" ", "-"), 0.0
            )
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    if not watching.cancelled():
        watching.result()  # what kept it from counting
    if run.ended:
        raise ServerError(f"{name}: {run.ended}")
    return Played(name, run, meter)


@contextlib.asynccontextmanager
async def _fmedge(bench: Bench, cluster: Path, name: str) -> AsyncIterator[tuple[Address, Count]]:
    async with (
        systems.serving(cluster, bench.folder / f"scaling-{name}.log") as address,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
    ):

        async def count() -> int:
            async with session.get(f"{address.url}/admin/status") as response:
                status = await response.json()
            return sum(
                replica["status"]["state"] not in ("stopped", "failed", "closed")
                for model in status["load"]["models"]
                for replica in model["replicas"]
            )

        yield address, count


@contextlib.asynccontextmanager
async def _ray(
    bench: Bench, num_first: int, setup: str, *arguments: str
) -> AsyncIterator[tuple[Address, Count]]:
    async with systems.ray(bench, CLUSTER, setup, arguments) as address:
        server = address.server
        assert server is not None

        async def count() -> int:
            """As its ledger said last; before that, those that it began with."""
            names = [event["names"] for event in server.events if "names" in event]
            return len(names[-1]) if names else num_first

        yield address, count
