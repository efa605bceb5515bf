"""Goodput in real time: each system's highest rate at which 95 % of promises hold, found in one run
in which the systems take turns."""

from __future__ import annotations

import asyncio

from bench.cluster import simulated, store, systems
from bench.cluster.cases import Case, case
from bench.cluster.points import Point, best
from bench.cluster.systems import Address
from bench.context import Bench, Outcome, Skipped
from bench.ray_serve.server import why_absent

NUM_REQUESTS, NUM_REQUESTS_SHORT = 320, 240
STEP = 1.15
MAX_POINTS = 5
"""Of one system in one case."""

_SIMULATED = {"tuned": "power_of_two", "tuned-haproxy": "least_outstanding"}
"""By which policy a search's first rate is guessed."""

TUNED, HAPROXY = "tuned", "tuned-haproxy"
CASES = (
    ("rack", "conversation, two classes", TUNED, 1.5),
    ("rack", "conversation, two classes", HAPROXY, 1.5),
    ("workstation", "conversation, two classes", HAPROXY, 1.5),
    ("control", "conversation, two classes", HAPROXY, 1.0),
    ("rack", "conversation", HAPROXY, 1.5),
)
"""With each the set-up of Ray beside which fmedge is measured, and the wanted ratio. Power of two
choices is what Ray is known by; with HAProxy as its ingress it sends to the fewest connections,
which is the stronger of the two on these clusters."""

SHORT = CASES[:1]


async def run(bench: Bench) -> list[Outcome | Skipped]:
    reason = why_absent()
    if reason:
        return [Skipped("cluster, goodput against Ray Serve", reason)]
    found: list[Outcome | Skipped] = []
    for cluster, workload, setup, wanted in CASES if bench.is_full else SHORT:
        asked = case(cluster, workload)
        points = await compare(bench, asked, setup)
        store.add(bench, points)
        found += outcomes(asked, points, wanted)
    return found


async def compare(bench: Bench, asked: Case, setup: str) -> list[Point]:
    """fmedge's and Ray's points, each system's search step by step in turn."""
    points: list[Point] = []
    async with (
        systems.fmedge(bench, asked) as ours,
        systems.ray(bench, asked.cluster, setup) as theirs,
    ):
        guess = await asyncio.to_thread(simulated.highest_rate, asked, "fmedge")
        peers = await asyncio.to_thread(
            simulated.highest_rate, asked, _SIMULATED[setup], settings=simulated.RAY_LIKE
        )
        searches = {
            ours: Search(guess or asked.first_per_s / 2),
            theirs: Search(peers or asked.first_per_s / 4),
        }
        while not all(search.is_over for search in searches.values()):
            for address, search in searches.items():
                if not search.is_over:
                    points.append(await measure(bench, asked, address, search.next_per_s))
                    search.tell(points[-1])
        top = best([p for p in points if p.system == theirs.system])
        if top is not None:
            points.append(await measure(bench, asked, ours, top.rate_per_s))
    return points


async def measure(bench: Bench, asked: Case, address: Address, rate_per_s: float) -> Point:
    count = NUM_REQUESTS if bench.is_full else NUM_REQUESTS_SHORT
    name = f"{asked.name}-{address.system}-{rate_per_s:.3g}".replace(", ", "-").replace(" ", "-")
    warmup_s = simulated.WARM_UP_SHARE * count / rate_per_s
    run = await systems.play(bench, address, asked.options(rate_per_s, count), name, warmup_s)
    point = Point(
        asked.cluster, asked.workload, address.system, rate_per_s, run.summary,
        is_simulated=False, ended=run.ended, file=f"{name}.json",
    )  # fmt: skip
    bench.say(f"  {asked.name}: {point.line()}")
    return point


class Search:
    """Rates of one system on a grid of STEP: up while promises hold, else down, until both sides
    are known."""

    def __init__(self, first_per_s: float) -> None:
        self.next_per_s = first_per_s
        self.is_over = False
        self._held = 0.0
        self._missed = float("inf")
        self._num = 0

    def tell(self, point: Point) -> None:
        self._num += 1
        if point.is_attained:
            self._held = max(self._held, point.rate_per_s)
        else:
            self._missed = min(self._missed, point.rate_per_s)
        self.next_per_s = self._missed / STEP if not self._held else self._held * STEP
        is_known = self._held > 0 and self._missed <= self._held * STEP * 1.01
        self.is_over = is_known or self._num >= MAX_POINTS or bool(point.ended)


def outcomes(asked: Case, points: list[Point], wanted: float) -> list[Outcome | Skipped]:
    """Goodput at each system's highest rate; p99 of TTFT of both at Ray's highest."""
    peer = next(p.system for p in points if p.system != "fmedge")
    row = f"cluster, {asked.name}, {peer}"
    ours = best([p for p in points if p.system == "fmedge"])
    theirs = best([p for p in points if p.system == peer])
    if ours is None:
        return [Skipped(row, "fmedge kept 95 % at no rate that was tried")]
    detail = {"fmedge_per_s": ours.rate_per_s, "fmedge_goodput": ours.summary.goodput_per_s}
    if theirs is None:
        lowest = min(p.rate_per_s for p in points if p.system == peer)
        what = f"goodput against the lowest rate tried ({lowest:.2f}/s), where Ray kept below 95 %"
        ratio = ours.summary.goodput_per_s / lowest
        return [Outcome(row, what, ratio, "x", wanted, True, detail=detail)]
    detail |= {"ray_per_s": theirs.rate_per_s, "ray_goodput": theirs.summary.goodput_per_s}
    ratio = ours.summary.goodput_per_s / theirs.summary.goodput_per_s
    found: list[Outcome | Skipped] = [
        Outcome(row, "goodput against Ray Serve", ratio, "x", wanted, True, detail=detail)
    ]
    beside = points[-1]  # fmedge at Ray's highest rate
    if beside.reading_ttft and theirs.reading_ttft:
        both = beside.reading_ttft.p99_s, theirs.reading_ttft.p99_s
        found.append(
            Outcome(row, "p99 of promised TTFT at Ray's highest rate, against Ray's",
                    both[0] / both[1], "x", 0.5, False,
                    detail={"fmedge_s": both[0], "ray_s": both[1]})
        )  # fmt: skip
    return found
