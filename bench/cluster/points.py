"""What an evaluation has found: one system under one workload at one rate, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fmedge.sim.search import TARGET as ATTAINED
from fmedge.sim.summary import Spread, Summary


@dataclass(frozen=True)
class Point:
    """summary: of the calls after the warm-up. ended: why it is partial, if it is. file: the run's,
    in the results' folder."""

    cluster: str
    workload: str
    system: str
    rate_per_s: float
    summary: Summary
    is_simulated: bool
    ended: str = ""
    file: str = ""

    @property
    def is_attained(self) -> bool:
        return not self.ended and (self.summary.attainment or 0.0) >= ATTAINED

    @property
    def reading_ttft(self) -> Spread | None:
        """TTFT of those who were promised one; work in the background may wait."""
        name = "chat" if "chat" in self.summary.classes else ""
        own = self.summary.classes.get(name)
        return None if own is None else own.latencies.ttft

    def line(self) -> str:
        s, ttft = self.summary, self.reading_ttft
        kept = "-" if s.attainment is None else f"{s.attainment:.1%}"
        shown = "" if ttft is None else f", TTFT {ttft.p50_s:.2f}/{ttft.p99_s:.2f} s"
        return (
            f"{self.system} at {self.rate_per_s:.2f}/s: {kept} kept, goodput "
            f"{s.goodput_per_s:.2f}/s{shown} {self.ended}"
        )


def by_system(points: Iterable[Point]) -> dict[str, list[Point]]:
    """In order of rate."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.system, []).append(point)
    return {name: sorted(own, key=lambda p: p.rate_per_s) for name, own in found.items()}


def best(points: Sequence[Point]) -> Point | None:
    """At the highest rate up to which 95 % of promises held at every rate that was tried."""
    found = None
    for point in sorted(points, key=lambda p: p.rate_per_s):
        if not point.is_attained:
            break
        found = point
    return found
