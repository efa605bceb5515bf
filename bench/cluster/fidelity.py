"""Whether the simulator says what happens: against the emulated server in real time, and against
real llama.cpp on two unequal replicas.

The rule: the simulator is given what could be known, the replicas' specifications and the calls,
and never an outcome; of llama.cpp, profiles that were measured before the run, and (the one figure
from the run itself) the median of what a first token takes between worker and front.

How wrong: of each of p50 and p99, of TTFT and end to end, |simulated / measured - 1|. One choice of
the scheduler that turns out otherwise, over a millisecond, changes the next hundred; so the
emulated server is measured NUM_RUNS times, all at once and each on a server of its own, and
simulated 1 + NUM_CHAOS times, with arrivals up to CHAOS_S late, and the answers of all runs of a
kind are one pool: its percentiles are compared. The warm-up calls that a client sends before are
part of what is simulated: the steps that they take shift the noise of all later ones. Beside the
error stands what such a pool of measured runs differs by from one time to the next (`chaos`): twice
the standard deviation of single simulations, divided by the root of the number of runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from math import sqrt
from statistics import median, stdev

from msgspec.structs import replace

from bench.cluster import simulated, systems
from bench.cluster.cases import Case, case
from bench.cluster.emulated import lateness_ms
from bench.cluster.real_pair import Real, measure_real, specs_of_profiles
from bench.context import Bench, Outcome, Skipped
from fmedge.replica.emulated.engine import EmulatedEngine, VirtualClock
from fmedge.replica.loop import EngineLoop
from fmedge.replica.measure import measure
from fmedge.replica.protocol import Measure
from fmedge.sched.design import design
from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.fit import Samples, fit
from fmedge.sched.steptime import StepModel
from fmedge.server.profiles import BUDGET_S
from fmedge.sim.outcome import Row
from fmedge.sim.summary import spread
from fmedge.sim.workload import Call, Workload
from fmedge.sim.world import simulate
from fmedge.types import Vocab

CLUSTER, WORKLOAD = "rack", "conversation"
RATE_PER_S = 3.3
"""About two thirds of the highest that keeps 95 %."""

NUM_REQUESTS, NUM_REQUESTS_SHORT = 500, 250
POLICIES = ("least_outstanding", "fmedge")
EMULATED_LIMIT, REAL_LIMIT = 5.0, 10.0
LOADS = (0.5, 0.7)
NUM_REAL, NUM_REAL_SHORT, NUM_REAL_WARM_UP = 300, 120, 40
NUM_CHAOS, CHAOS_S = 8, 0.002
NUM_RUNS = 3
WARM_UP_S = 1.0
"""From the first warm-up call to the first that counts."""

Figures = dict[str, float]
"""Seconds, by the name of a percentile."""

Said = Callable[[Workload], Sequence[Row]]
"""A simulation."""


async def run(bench: Bench) -> list[Outcome | Skipped]:
    return await emulated(bench) + await real(bench)


# --- the emulated server ---


async def emulated(bench: Bench) -> list[Outcome | Skipped]:
    asked = case(CLUSTER, WORKLOAD)
    count = NUM_REQUESTS if bench.is_full else NUM_REQUESTS_SHORT
    specs = await asyncio.to_thread(simulated.replicas, CLUSTER)
    told = await _measured(specs)
    found: list[Outcome | Skipped] = []
    for policy in POLICIES:
        found += await _emulated(bench, asked, policy, count, specs, told)
    return found


async def _emulated(
    bench: Bench,
    asked: Case,
    policy: str,
    count: int,
    specs: Sequence[ReplicaSpec],
    told: Mapping[str, StepModel],
) -> list[Outcome | Skipped]:
    row = f"fidelity, emulated server, {asked.name}, {policy}"
    options = asked.options(RATE_PER_S, count)
    warmup_s = simulated.WARM_UP_SHARE * count / RATE_PER_S
    log = bench.folder / f"fmedge-{asked.cluster}.log"
    num_before = len(log.read_bytes()) if log.exists() else 0
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(
                systems.fmedge(bench, asked, arguments=("--policy", policy))
            )
            for _ in range(NUM_RUNS)
        ]
        made = await asyncio.gather(
            *(
                systems.play(bench, address, options, f"fidelity-{policy}-{number}", warmup_s)
                for number, address in enumerate(addresses)
            )
        )
    for one in made:
        if one.ended:
            return [Skipped(row, f"failed: {one.ended}")]
    workload = asked.load(RATE_PER_S, count)
    first = round(simulated.WARM_UP_SHARE * count)
    runs = [sorted(one.rows, key=lambda r: r.call) for one in made]

    def said(of: Workload) -> Sequence[Row]:
        return simulate(specs, warmed_up(of), policy, told=told).rows[systems.NUM_WARM_UP :]

    here = await asyncio.to_thread(said, workload)
    others = await asyncio.to_thread(_chaos, workload, said, first)
    pairs = [
        (a, b)
        for rows in runs
        for a, b in zip(rows, here, strict=True)
        if a.status == b.status == "ok"
    ]
    mean_late_ms, most_late_ms = lateness_ms(log, num_before)
    detail = {
        "steps_late_ms": mean_late_ms,
        "steps_late_ms_at_most": most_late_ms,
        "runs": NUM_RUNS,
        "requests": NUM_RUNS * (count - first),
        "not_answered": NUM_RUNS * count - len(pairs),
        "median_s_longer_ttft": median(a.ttft_s - b.ttft_s for a, b in pairs),
        "median_s_longer_e2e": median(a.e2e_s - b.e2e_s for a, b in pairs),
    }
    there = [one for rows in runs for one in rows[first:]]
    for number, rows in enumerate(runs):
        detail |= {f"{what}, run {number}": s for what, s in figures(rows[first:]).items()}
    return outcomes(
        bench, row, there, [here[first:], *others], EMULATED_LIMIT, detail, num_runs=NUM_RUNS
    )


def warmed_up(workload: Workload) -> Workload:
    """With the calls that `fmedge bench` sends before, one after another, all alike."""
    if workload.block_tokens:
        raise ValueError("blocks of the workload's own")
    warm = [
        Call(at_s=0.0, num_prompt=8, num_output=64, max_tokens=2, blocks=(0,),
             after=(number - 1,) if number else ())
        for number in range(systems.NUM_WARM_UP)
    ]  # fmt: skip
    calls = [
        replace(
            call,
            at_s=call.at_s if call.after else call.at_s + WARM_UP_S,
            after=tuple(place + len(warm) for place in call.after),
        )
        for call in workload.calls
    ]
    return replace(workload, calls=(*warm, *calls), block_tokens=8)


async def _measured(specs: Sequence[ReplicaSpec]) -> dict[str, StepModel]:
    """What a server that starts finds out of its replicas' speed, by the same steps."""
    from fmedge.server.emulated import open_vocabs

    vocabs = await open_vocabs({spec.engine.model_path for spec in specs})
    return {spec.name: _measured_one(spec, vocabs[spec.engine.model_path]) for spec in specs}


def _measured_one(spec: ReplicaSpec, vocab: Vocab) -> StepModel:
    clock = VirtualClock()
    engine = EmulatedEngine(spec, vocab, clock)
    info = engine.info
    points = design(info.slots, info.ctx_size, info.batch_size, info.ubatch_size)
    measured = measure(
        Measure(tuple(points), BUDGET_S), engine, lambda _: None, run_step=EngineLoop.run_step,
        is_interrupted=lambda: False, clock=clock,
    )  # fmt: skip
    return fit(Samples.of(measured.samples)).model


# --- llama.cpp ---


async def real(bench: Bench) -> list[Outcome | Skipped]:
    count = NUM_REAL if bench.is_full else NUM_REAL_SHORT
    runs = await measure_real(bench, LOADS, NUM_REAL_WARM_UP, count)
    found: list[Outcome | Skipped] = []
    for one in runs:
        found += await asyncio.to_thread(_real, bench, one)
    return found


def _real(bench: Bench, one: Real) -> list[Outcome | Skipped]:
    told = {name: profile.model for name, profile in one.profiles.items()}
    specs = specs_of_profiles(one)

    def said(of: Workload) -> Sequence[Row]:
        made = simulate(specs, of, "oracle", told=told).rows
        return [
            replace(row, ttft_s=row.ttft_s + one.link_s, e2e_s=row.e2e_s + one.link_s)
            for row in made
        ]

    here = said(one.workload)
    others = _chaos(one.workload, said, NUM_REAL_WARM_UP)
    detail = dict(one.detail) | {
        "link_ms": 1e3 * one.link_s,
        "on_fast": _share(one.rows[NUM_REAL_WARM_UP:]),
        "simulated_on_fast": _share(here[NUM_REAL_WARM_UP:]),
    }
    return outcomes(
        bench, f"fidelity, llama.cpp, {one.load:.0%} load", one.rows[NUM_REAL_WARM_UP:],
        [here[NUM_REAL_WARM_UP:], *others], REAL_LIMIT, detail,
    )  # fmt: skip


def _share(rows: Sequence[Row]) -> float:
    return sum(row.replica == "fast" for row in rows) / len(rows)


# --- what the comparisons share ---


def figures(rows: Sequence[Row]) -> Figures:
    """Of answered calls."""
    good = [row for row in rows if row.status == "ok"]
    ttft, e2e = spread([row.ttft_s for row in good]), spread([row.e2e_s for row in good])
    assert ttft is not None
    assert e2e is not None
    return {
        "p50 of TTFT": ttft.p50_s,
        "p99 of TTFT": ttft.p99_s,
        "p50 of end to end": e2e.p50_s,
        "p99 of end to end": e2e.p99_s,
    }


def outcomes(
    bench: Bench,
    row: str,
    there: Sequence[Row],
    here: Sequence[Sequence[Row]],
    limit: float,
    detail: Mapping[str, float],
    *,
    num_runs: int = 1,
) -> list[Outcome | Skipped]:
    """there: measured, of num_runs together; here: each simulation, with other milliseconds."""
    found: list[Outcome | Skipped] = []
    measured, said = figures(there), figures([row for rows in here for row in rows])
    each = [figures(rows) for rows in here]
    bench.say(f"  {row}: " + ", ".join(f"{key} {value:.3g}" for key, value in detail.items()))
    for what, value_s in measured.items():
        error = 100 * abs(said[what] / value_s - 1)
        own = 100 * 2 * stdev(one[what] for one in each) / sqrt(num_runs) / said[what]
        more = {"measured_s": value_s, "simulated_s": said[what], "chaos_percent": own}
        bench.say(
            f"    {what}: {value_s:.3f} s measured, {said[what]:.3f} s simulated, "
            f"{said[what] / value_s - 1:+.1%}; chaos {own:.1f} %"
        )
        found.append(
            Outcome(row, f"error of {what}", error, "%", limit, False, detail={**detail, **more})
        )
    return found


def _chaos(workload: Workload, said: Said, first: int) -> list[Sequence[Row]]:
    """Simulations of the same calls, each up to CHAOS_S later than it is."""
    found = []
    for seed in range(NUM_CHAOS):
        rng = random.Random(seed)
        late_s = sorted(call.at_s + rng.uniform(0.0, CHAOS_S) for call in workload.calls)
        calls = [
            replace(call, at_s=at_s) for call, at_s in zip(workload.calls, late_s, strict=True)
        ]
        found.append(said(replace(workload, calls=tuple(calls)))[first:])
    return found
