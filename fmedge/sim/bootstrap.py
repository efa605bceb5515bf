"""Ratios of two sides of runs, drawn anew many times: how far chance alone moves them.

The rule: what waits together is drawn together. Calls that follow each other wait in the same
queues, so blocks of them are drawn, not single ones (Künsch, "The jackknife and the bootstrap for
general stationary observations", 1989; circular as in Politis and Romano, 1992), and where there
are several runs of a side, runs of these first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, nan, sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
Drawn = Sequence[tuple[list[Floats], list[Floats]]]
"""Of each group, runs of the base and of the new side."""


class Group(Struct, frozen=True):
    """Runs that are drawn from together, float64[calls] each, calls by arrival. Paired: runs of
    both sides, of the same calls. Else all of either side, of whatever lengths."""

    base: list[Floats]
    new: list[Floats]


def draw(groups: Sequence[Group], is_paired: bool, rng: np.random.Generator) -> Drawn:
    """As many groups, runs and calls as there are, drawn with replacement."""
    drawn = []
    for place in rng.integers(len(groups), size=len(groups)):
        group = groups[place]
        places = _blocks(len(group.base[0]), rng) if is_paired else None
        drawn.append((_runs(group.base, places, rng), _runs(group.new, places, rng)))
    return drawn


def pooled(drawn: Drawn, side: int) -> Floats:
    """All values of a side: 0 the base, 1 the new one."""
    return np.concatenate([run for sides in drawn for run in sides[side]])


def num_blocks(groups: Sequence[Group]) -> int:
    """Of which either side consists at least: so many values are independent of each other."""
    return min(
        sum(ceil(len(run) / _block(len(run))) for run in runs if len(run))
        for runs in (
            [run for group in groups for run in group.base],
            [run for group in groups for run in group.new],
        )
    )


def interval(ratio: float, ratios: Floats, level: float, count: int) -> tuple[float, float]:
    """That holds a ratio but for `level` on either side. ratios: the drawn ones. Student's, of
    ln(ratio), of `count` values: quantiles so far out would rest on one or two of the drawn."""
    if not len(ratios):
        return nan, nan
    if ratios.min() <= 0:  # none held of some draws: a logarithm has no place here
        low, high = np.quantile(ratios, (level, 1 - level)).tolist()
        return low, high
    times = float(stdtrit(max(1, count - 1), 1 - level))
    width = times * float(np.std(np.log(ratios)))
    return ratio * exp(-width), ratio * exp(width)


def percentile(values: Floats, percent: float) -> float:
    """As numpy's, which takes ten times as long for as few values as these; nan for none."""
    if not len(values):
        return nan
    place = (len(values) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    parted = np.partition(values, (low, high))
    return float(parted[low] + (parted[high] - parted[low]) * (place - low))


def _runs(
    runs: Sequence[Floats], places: NDArray[np.int64] | None, rng: np.random.Generator
) -> list[Floats]:
    """As many runs as there are, drawn anew; of each the calls at `places`, or own blocks."""
    chosen = (runs[n] for n in rng.integers(len(runs), size=len(runs)))
    return [run[_blocks(len(run), rng) if places is None else places] for run in chosen]


def _block(count: int) -> int:
    """Calls of a block."""
    return ceil(sqrt(count))


def _blocks(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64[count]: places of calls, in circular blocks."""
    if not count:
        return np.zeros(0, dtype=np.int64)
    length = _block(count)
    starts = rng.integers(count, size=ceil(count / length))
    return ((starts[:, None] + np.arange(length)) % count).ravel()[:count]
