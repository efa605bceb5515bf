"""Tasks of three stages with one promise end to end, beside people who chat: how many tasks miss it
under fmedge and under Ray Serve, at a rate that Ray can sustain and above it."""

from __future__ import annotations

import asyncio

from bench.cluster import measured, simulated, store, systems
from bench.cluster.cases import case
from bench.cluster.points import Point
from bench.context import Bench, Outcome, Skipped
from bench.ray_serve.server import why_absent

LOADS = (1.1, 1.4, 1.7)
"""In units of the rate up to which Ray keeps 95 %, as simulated."""

SETUP = measured.TUNED
WANTED = 0.5


async def run(bench: Bench) -> list[Outcome | Skipped]:
    row = "cluster, rack, agents"
    if why_absent():
        return [Skipped(row, why_absent())]
    asked = case("rack", "agents")
    points: list[Point] = []
    async with (
        systems.fmedge(bench, asked) as ours,
        systems.ray(bench, asked.cluster, SETUP) as theirs,
    ):
        top = await asyncio.to_thread(
            simulated.highest_rate, asked, "power_of_two", settings=simulated.RAY_LIKE, count=800
        )
        for load in LOADS:
            for address in (ours, theirs):
                rate = load * (top or asked.first_per_s)
                points.append(await measured.measure(bench, asked, address, rate))
    store.add(bench, points)
    missed = {
        address.system: [
            sum(w.num_instances - w.num_held for w in p.summary.workflows.values())
            / sum(w.num_instances for w in p.summary.workflows.values())
            for p in points
            if p.system == address.system
        ]
        for address in (ours, theirs)
    }
    bench.say(f"  missed at {LOADS} of Ray's rate: {missed}")
    mean = {system: sum(shares) / len(shares) for system, shares in missed.items()}
    if not mean[theirs.system]:
        return [Skipped(row, "Ray missed none at these rates")]
    ratio = mean["fmedge"] / mean[theirs.system]
    what = "tasks that miss their promise, against Ray Serve"
    return [Outcome(row, what, ratio, "x", WANTED, False, detail={"missed": missed})]
