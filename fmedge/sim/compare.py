"""Whether new runs are worse than others: intervals of the ratios of what was measured.

The rule: only a change whose whole interval lies beyond the threshold is called one. All intervals
hold together with the confidence asked for (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, exp, nan
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from fmedge.errors import FmedgeError
from fmedge.sim.bootstrap import (
    Drawn,
    Floats,
    Group,
    draw,
    interval,
    num_blocks,
    percentile,
    pooled,
)
from fmedge.sim.outcome import has_promise, is_held
from fmedge.sim.run import Run
from fmedge.sim.summary import counted_calls, held_instances

Verdict = Literal["worse", "better", "same", "unclear", "too few"]

MEASURES = ("ttft", "tpot", "e2e")
STATISTICS = {"mean": 0.0, "p50": 50.0, "p90": 90.0, "p99": 99.0}
SHARES = ("attainment", "goodput")
METRICS = (*(f"{m}_{s}" for m in MEASURES for s in STATISTICS), *SHARES)
USUAL = (*(f"{m}_{s}" for m in MEASURES for s in ("p50", "p99")), *SHARES)
LEAST_BEYOND = 5
"""Calls beyond a percentile, for it to be compared: of fewer, a percentile is a matter of luck."""
LEAST_CALLS = 30
TINY_S = 1e-9
"""Instead of 0, of which there is no logarithm."""


class Change(Struct, frozen=True, kw_only=True):
    """One metric. base, new: of all runs of a side; latencies in seconds, goodput 1/s, attainment a
    share. ratio: new / base, for p50 of paired runs the median of the calls' own ratios; and the
    interval that holds it; nan where num calls are too few.
    worse, better: the whole interval is beyond the threshold; same: it is within; unclear: neither.
    """

    metric: str
    base: float
    new: float
    ratio: float
    low: float
    high: float
    num: int
    verdict: Verdict


class Comparison(Struct, frozen=True, kw_only=True):
    """is_paired: call by call. confidence: of all intervals together."""

    is_paired: bool
    num_base: int
    num_new: int
    threshold: float
    confidence: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_worse(self) -> bool:
        return any(change.verdict == "worse" for change in self.changes)


def compare(
    base: Sequence[Run],
    new: Sequence[Run],
    *,
    metrics: Sequence[str] = USUAL,
    threshold: float = 0.02,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """threshold: a share, as 0.02 for 2 %. resamples: times that runs and calls are drawn anew.
    progress(done, of): metrics. Raises FmedgeError where nothing can be compared."""
    is_paired = {run.asked for run in base} == {run.asked for run in new}
    sides = [[_Figures(run) for run in runs] for runs in (base, new)]
    level = (1 - confidence) / len(metrics) / 2
    changes = []
    for number, metric in enumerate(metrics):
        if progress is not None:
            progress(number, len(metrics))
        rng = np.random.default_rng((seed, number))
        change = _change(metric, sides[0], sides[1], is_paired, level, resamples, rng)
        if change is not None:
            changes.append(_judged(change, threshold))
    if all(change.verdict == "too few" for change in changes):
        raise FmedgeError(
            f"too few answered calls to compare: at least {LEAST_CALLS} on each side are needed"
        )
    return Comparison(
        is_paired=is_paired,
        num_base=len(base),
        num_new=len(new),
        threshold=threshold,
        confidence=confidence,
        changes=tuple(changes),
        notes=tuple(_notes(base, new, is_paired)),
    )


class _Figures:
    """A run's figures of each call that counts: float64[calls], nan where a call has none."""

    def __init__(self, run: Run) -> None:
        calls = run.workload.calls
        by_call = {row.call: row for row in run.rows}
        counted = counted_calls(run.workload, by_call, run.window)
        if run.ended:  # what was cut off is nobody's fault
            counted = [n for n in counted if n in by_call and
                       by_call[n].status not in ("unfinished", "unsent")]  # fmt: skip
        self.asked = run.asked
        self.arrival_s = run.summary.arrival_s
        self.values = {name: np.full(len(calls), nan) for name in MEASURES}
        self.held = np.full(len(calls), nan)
        self.num_promises = 0
        for n in counted:
            row = by_call.get(n)
            if row is not None and row.status == "ok":
                self.values["ttft"][n] = row.ttft_s
                self.values["e2e"][n] = row.e2e_s
                if row.num_tokens > 1:
                    self.values["tpot"][n] = row.tpot_s
            if has_promise(calls[n]):
                self.num_promises += 1
                self.held[n] = row is not None and is_held(calls[n], row)
        for first, is_kept in held_instances(run.workload, by_call, counted):
            self.num_promises += 1
            own = self.held[first]
            self.held[first] = is_kept if np.isnan(own) else (own + is_kept) / 2
        self.has_promises = self.num_promises > 0
        if not self.has_promises:  # then goodput is what was answered
            self.num_promises = len(counted)
            for n in counted:
                self.held[n] = not np.isnan(self.values["e2e"][n])

    def of(self, metric: str) -> Floats:
        return self.held if metric in SHARES else self.values[metric.partition("_")[0]]


def _change(
    metric: str,
    base: Sequence[_Figures],
    new: Sequence[_Figures],
    is_paired: bool,
    level: float,
    resamples: int,
    rng: np.random.Generator,
) -> Change | None:
    """None for a metric that these runs do not have; the verdict is left to _judged."""
    if metric == "attainment" and not all(one.has_promises for one in (*base, *new)):
        return None
    groups = _groups(metric, base, new, is_paired)
    statistic = _statistic(metric, base, new)
    whole = [(group.base, group.new) for group in groups]
    found = [statistic(pooled(whole, side), side) for side in (0, 1)]
    num = min(len(pooled(whole, side)) for side in (0, 1))
    ratio_of: Callable[[Drawn], float]
    if is_paired and metric.endswith("_p50"):
        ratio_of = _ratio_of_calls
    else:

        def ratio_of(drawn: Drawn) -> float:
            return _ratio(*(statistic(pooled(drawn, side), side) for side in (0, 1)))

    ratio = ratio_of(whole)
    low = high = nan
    least = LEAST_CALLS
    if metric not in SHARES and (percent := STATISTICS[metric.partition("_")[2]]) > 50:
        least = ceil(LEAST_BEYOND * 100 / (100 - percent))
    if num >= least and ratio > 0:
        draws = (ratio_of(draw(groups, is_paired, rng)) for _ in range(resamples))
        ratios = np.fromiter(draws, dtype=np.float64, count=resamples)
        low, high = interval(ratio, _there(ratios), level, num_blocks(groups))
    return Change(
        metric=metric, base=found[0], new=found[1], ratio=ratio, low=low, high=high, num=num,
        verdict="too few",
    )  # fmt: skip


def _ratio_of_calls(drawn: Drawn) -> float:
    """The median of the calls' own ratios, each between the geometric means of its runs. Calls of
    a workload differ far more than a call's times in two runs, so this sees more than the ratio of
    two medians."""
    logs = [
        np.mean(np.log(np.maximum(new, TINY_S)), axis=0)
        - np.mean(np.log(np.maximum(base, TINY_S)), axis=0)
        for base, new in drawn
    ]
    return exp(percentile(np.concatenate(logs), 50))


def _groups(
    metric: str, base: Sequence[_Figures], new: Sequence[_Figures], is_paired: bool
) -> list[Group]:
    if not is_paired:
        sides = ([_there(one.of(metric)) for one in runs] for runs in (base, new))
        return [Group(*sides)]
    groups = []
    for asked in dict.fromkeys(one.asked for one in base):
        left = [one.of(metric) for one in base if one.asked == asked]
        right = [one.of(metric) for one in new if one.asked == asked]
        is_there = ~np.isnan([*left, *right]).any(axis=0)  # of calls answered in every run
        groups.append(Group([x[is_there] for x in left], [x[is_there] for x in right]))
    return groups


def _there(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def _statistic(
    metric: str, base: Sequence[_Figures], new: Sequence[_Figures]
) -> Callable[[Floats, int], float]:
    """Of values and the side that they are of: 0 base, 1 new."""
    if metric == "goodput":
        arrivals_s = [float(np.mean([one.arrival_s for one in runs])) for runs in (base, new)]
        nums = [float(np.mean([one.num_promises for one in runs])) for runs in (base, new)]
        per_s = [n / at_s if at_s > 0 else nan for n, at_s in zip(nums, arrivals_s, strict=True)]
        return lambda values, side: float(values.mean()) * per_s[side] if len(values) else nan
    if metric == "attainment" or metric.endswith("_mean"):
        return lambda values, _: float(values.mean()) if len(values) else nan
    percent = STATISTICS[metric.partition("_")[2]]
    return lambda values, _: percentile(values, percent)


def _ratio(base: float, new: float) -> float:
    return new / base if base > 0 else nan


def _judged(change: Change, threshold: float) -> Change:
    low, high = change.low, change.high
    if np.isnan(low):
        return change
    is_beyond = (low > 1 + threshold, high < 1 - threshold)
    verdict: Verdict
    if any(is_beyond):
        is_worse = is_beyond[1] if change.metric in SHARES else is_beyond[0]
        verdict = "worse" if is_worse else "better"
    else:
        verdict = "same" if low >= 1 - threshold and high <= 1 + threshold else "unclear"
    return msgspec.structs.replace(change, verdict=verdict)


def _notes(base: Sequence[Run], new: Sequence[Run], is_paired: bool) -> list[str]:
    notes = []
    if not is_paired:
        notes.append("the workloads differ: calls are not compared one by one, which sees less")
    for side, runs in (("BASE", base), ("NEW", new)):
        notes += [f"a run of {side} is partial: {run.ended}" for run in runs if run.ended]
    kinds = {run.kind for run in (*base, *new)}
    if len(kinds) > 1:
        notes.append("one side is measured, the other simulated")
    return notes
