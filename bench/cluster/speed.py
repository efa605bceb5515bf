"""How fast the simulator is: requests simulated per second of one core, and how the cost of a
request grows with the number of replicas."""

from __future__ import annotations

import asyncio
import time

from msgspec.structs import replace

from bench.cluster.simulated import replicas
from bench.context import Bench, Outcome, Skipped
from fmedge.sim.load import load_workload
from fmedge.sim.summary import summarise
from fmedge.sim.world import simulate

POLICIES = ("fmedge", "least_outstanding")
SIZES = (16, 1000)
PER_REPLICA_PER_S = 1.7
"""Arrivals: about 80 % of what the replicas can do."""

SLOTS = 12
NUM_CALLS = {16: 4000, 1000: 6000}
WORKLOAD = (
    "poisson:rate={rate},requests={count},prompt=512/1024,output=128/256,ttft_ms=2000,e2e_ms=30000"
)
WANTED_PER_S = 2000.0


async def run(bench: Bench) -> list[Outcome | Skipped]:
    return await asyncio.to_thread(_run, bench)


def _run(bench: Bench) -> list[Outcome | Skipped]:
    found: list[Outcome | Skipped] = []
    own = [spec for spec in replicas("rack") if spec.name != "chat/6"]  # an L4 is another world
    for policy in POLICIES:
        cost_s = {}
        for size in SIZES:
            specs = [
                replace(spec, name=f"chat/{i}", num_ids=0, engine=replace(spec.engine, slots=SLOTS))
                for i, spec in ((i, own[i % len(own)]) for i in range(size))
            ]
            rate = PER_REPLICA_PER_S * size
            workload = load_workload(WORKLOAD.format(rate=rate, count=NUM_CALLS[size]))
            simulate(specs, replace(workload, calls=workload.calls[:8]), policy)  # kernels load
            begun_s, cpu_s = time.perf_counter(), time.process_time()
            made = simulate(specs, workload, policy)
            wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
            summary = summarise(workload, made.rows, busy_s=made.busy_s)
            cost_s[size] = cpu_s / len(workload.calls)
            busy = sum(summary.utilisation.values()) / size
            bench.say(
                f"  {policy}, {size} replicas: {len(workload.calls) / wall_s:.0f} requests/s, "
                f"{1e6 * cost_s[size]:.0f} us of a core each, replicas busy {busy:.0%}, "
                f"{summary.attainment or 0:.1%} kept"
            )
        few, many = SIZES
        row = f"simulator, {policy}"
        found += [
            Outcome(row, f"requests/s of one core at {few} replicas", 1 / cost_s[few], "/s",
                    WANTED_PER_S, True),
            Outcome(row, f"cost of a request at {many} replicas, by replica, against {few}",
                    cost_s[many] / cost_s[few] / (many / few), "x", 1.0, False,
                    detail={str(size): cost for size, cost in cost_s.items()}),
        ]  # fmt: skip
    return found
