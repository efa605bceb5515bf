"""All policies on all clusters and workloads in virtual time: goodput, fmedge's parts left out one
at a time, and how far an oracle of lengths would come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache

from bench.cluster import store
from bench.cluster.cases import Case, all_cases, case, cluster_file
from bench.cluster.points import Point
from bench.context import Bench, Outcome, Skipped
from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.events import CoreSettings
from fmedge.sim.policies import ABLATIONS, rules
from fmedge.sim.search import Misses
from fmedge.sim.summary import summarise
from fmedge.sim.world import simulate

NUM_REQUESTS, NUM_REQUESTS_SHORT = 1000, 500
PEERS = (
    "round_robin", "least_outstanding", "power_of_two", "speed_weighted", "highest_load",
)  # fmt: skip
RATES = (0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5)
"""Of the curves, in units of fmedge's highest rate."""

RAY_LIKE = CoreSettings(baseline_capacity=1.0)
"""A replica gets no more than decode at once, the others wait in common: max_ongoing_requests equal
to the slots."""

WARM_UP_SHARE = 0.1
FINENESS = 1.02
ORACLE_SHARE = 0.9


async def run(bench: Bench) -> list[Outcome | Skipped]:
    cases = all_cases() if bench.is_full else [case("rack", "conversation, two classes")]
    found: list[Outcome | Skipped] = []
    for asked in cases:
        found += await asyncio.to_thread(_case, bench, asked)
    return found


def _case(bench: Bench, asked: Case) -> list[Outcome | Skipped]:
    count = NUM_REQUESTS if bench.is_full else NUM_REQUESTS_SHORT
    tops: dict[str, Point] = {}
    for policy in ("fmedge", "oracle", *PEERS):
        top = search(asked, policy, count)
        if top is not None:
            tops[policy] = top
            bench.say(f"  {asked.name}: {top.line()}")
        else:
            bench.say(f"  {asked.name}: {policy} keeps 95 % at no rate")
    store.add(bench, tops.values())
    ours = tops.get("fmedge")
    if ours is None:
        return [Skipped(f"simulated, {asked.name}", "fmedge kept 95 % at no rate")]
    row = f"simulated, {asked.name}"
    peers = {name: tops[name].summary.goodput_per_s for name in PEERS if name in tops}
    found: list[Outcome | Skipped] = []
    if peers:
        name = max(peers, key=peers.__getitem__)
        ratio = ours.summary.goodput_per_s / peers[name]
        found.append(Outcome(row, f"goodput against the best other policy, {name}", ratio, "x",
                             1.0, True, detail=peers))  # fmt: skip
    if "oracle" in tops:
        share = ours.summary.goodput_per_s / tops["oracle"].summary.goodput_per_s
        found.append(Outcome(row, "goodput against the oracle's", share, "x", ORACLE_SHARE, True))
    curves = [
        play(asked, policy, share * ours.rate_per_s, count)
        for share in RATES
        for policy in ("fmedge", "oracle", *PEERS)
    ]
    store.add(bench, curves)
    left_out = [play(asked, "fmedge", ours.rate_per_s, count, without=(p,)) for p in ABLATIONS]
    for point in left_out:
        bench.say(f"  {asked.name}: {point.line()}")
    store.add(bench, left_out)
    return found


@cache
def replicas(cluster: str) -> tuple[ReplicaSpec, ...]:
    """As `serve --emulate` has them. Not on an event loop."""
    from fmedge.config.cluster import load_cluster
    from fmedge.server.emulation import specs_of

    return specs_of(load_cluster(cluster_file(cluster)))[1]


def search(
    asked: Case, policy: str, count: int, settings: CoreSettings | None = None
) -> Point | None:
    """At its highest rate that keeps 95 %."""
    from fmedge.sim.search import Trial
    from fmedge.sim.search import highest_rate as find

    seen: dict[float, Point] = {}

    def trial(rate_per_s: float) -> Trial:
        point = play(asked, policy, rate_per_s, count, settings=settings, ends_early=True)
        seen[rate_per_s] = point
        kept = 0.0 if point.ended else point.summary.attainment or 0.0
        return Trial(
            rate_per_s=rate_per_s, attainment=kept, goodput_per_s=point.summary.goodput_per_s
        )

    found = find(trial, asked.first_per_s, tolerance=FINENESS - 1, max_trials=14)
    return None if found.best is None else seen[found.best.rate_per_s]


def highest_rate(
    asked: Case, policy: str, *, settings: CoreSettings | None = None, count: int = 400
) -> float:
    """0 where it keeps 95 % at none."""
    top = search(asked, policy, count, settings)
    return 0.0 if top is None else top.rate_per_s


def play(
    asked: Case,
    policy: str,
    rate_per_s: float,
    count: int,
    *,
    without: Sequence[str] = (),
    settings: CoreSettings | None = None,
    ends_early: bool = False,
    specs: Sequence[ReplicaSpec] | None = None,
) -> Point:
    """ends_early: once 95 % cannot be kept any more."""
    workload = asked.load(rate_per_s, count)
    misses = Misses(workload)
    made = simulate(
        specs or replicas(asked.cluster), workload, policy, without=without, settings=settings,
        progress=(lambda now_s, rows: misses(now_s, rows)) if ends_early else None,
    )  # fmt: skip
    warmup_s = WARM_UP_SHARE * count / rate_per_s
    summary = summarise(workload, made.rows, busy_s=made.busy_s, window=(warmup_s, float("inf")))
    return Point(
        asked.cluster, asked.workload, rules(policy, without).label, rate_per_s, summary,
        is_simulated=True, ended=made.ended,
    )  # fmt: skip
