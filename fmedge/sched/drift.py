"""Whether steps have come to take another time than they used to.

The rule: a change must have lasted; rare slow steps and bursts of them are none.

Steps are compared in blocks, by the median of measured / expected time, which a minority of slow
steps does not reach. A two-sided cumulative sum test (Page, Continuous inspection schemes, 1954)
compares the logarithm of each block's median with the mean of n earlier ones:

    S <- max(0, S + (level - before) - ALLOWANCE - 2 s / sqrt(n))      a change when S > threshold

and likewise for before - level. ALLOWANCE, half of a change of 20 %, is what passes as no change;
the term after it is how well the earlier level is known. With normal, independent blocks of
standard deviation s, Wald's bound puts exp(2 * ALLOWANCE * threshold / s**2) of them between false
alarms; the threshold follows from that, from s as observed, and from BLOCKS_BETWEEN_ALARMS. As s is
only estimated there are more: of 600,000 simulated blocks each, none where s is 0.05, and between
five and ten where it is 0.1, 0.18 and 0.25.
"""

from __future__ import annotations

from itertools import pairwise
from math import exp, log, sqrt
from statistics import median
from typing import Literal

from msgspec import Struct

ALLOWANCE = log(1.2) / 2
BLOCKS_BETWEEN_ALARMS = 1e6
MIN_REFERENCE_BLOCKS, MAX_REFERENCE_BLOCKS = 8, 512
MIN_BLOCKS = 3
LASTING_S = 0.5
"""A change has lasted for more than so many blocks, and so much busy time."""

_MIN_THRESHOLD = 0.25
_MIN_SPREAD = 0.01
_SPREAD_RATE = 0.05
# Absolute difference of two standard normal numbers: its mean and its median.
_NORMAL_DIFFERENCE, _NORMAL_MEDIAN_DIFFERENCE = 1.128, 0.954

Kind = Literal["decode", "prefill"]


class DriftEvent(Struct, frozen=True, kw_only=True):
    """Steps of one kind take another time than they did: after_ms is what a typical one takes
    lately, before_ms what the same one took before; ratio = after / before. since_steps, since_s:
    how many steps of this kind, and how much of their time, ago it began."""

    kind: Kind
    before_ms: float
    after_ms: float
    ratio: float
    since_steps: int
    since_s: float


class Watch:
    """The test for one kind of steps.

    The caller appends measured / expected time of each step to `ratios`, and calls `close` when
    there are `block_steps` of them. After a change its level is what later ones are compared with.
    """

    __slots__ = (
        "_before",
        "_falling",
        "_is_learning",
        "_kind",
        "_last",
        "_num_known",
        "_reference",
        "_rising",
        "_spread",
        "block_steps",
        "ratios",
    )

    def __init__(self, kind: Kind, block_steps: int) -> None:
        self._kind: Kind = kind
        self.block_steps = block_steps
        self.ratios: list[float] = []
        self._reference: list[float] = []
        self._is_learning = True
        self._before = 0.0
        self._num_known = 0
        self._last = 0.0
        self._spread = 0.0
        self._rising = _Sum()
        self._falling = _Sum()

    def close(self, expected_s: float) -> DriftEvent | None:
        """Ends a block, whose steps were expected to take about expected_s each."""
        level = log(median(self.ratios))
        step_s = float(sum(self.ratios) * expected_s)
        self.ratios.clear()
        if self._is_learning:
            self._learn(level)
            return None
        # A block far off is the test's business, not the spread's.
        difference = min(abs(level - self._last) / _NORMAL_DIFFERENCE, 3 * self._spread)
        self._last = level
        self._spread += _SPREAD_RATE * (difference - self._spread)
        spread = max(self._spread, _MIN_SPREAD)
        threshold = max(_MIN_THRESHOLD, spread**2 * log(BLOCKS_BETWEEN_ALARMS) / (2 * ALLOWANCE))
        change = level - self._before
        allowance = ALLOWANCE + 2 * spread / sqrt(self._num_known)
        most = threshold / MIN_BLOCKS
        self._rising.add(min(change - allowance, most), level, step_s)
        self._falling.add(min(-change - allowance, most), level, step_s)
        if self._num_known < MAX_REFERENCE_BLOCKS:
            self._num_known += 1
            self._before += min(max(change, -2 * spread), 2 * spread) / self._num_known
        for total in (self._rising, self._falling):
            if total.value > threshold and total.lasted_s >= LASTING_S:
                return self._change(total, expected_s)
        return None

    def _learn(self, level: float) -> None:
        """One of the first blocks: as many as it takes to know their level well enough."""
        levels = self._reference
        levels.append(level)
        if len(levels) < MIN_REFERENCE_BLOCKS:
            return
        differences = [abs(b - a) for a, b in pairwise(levels)]
        self._spread = max(median(differences) / _NORMAL_MEDIAN_DIFFERENCE, _MIN_SPREAD)
        # The median of n is known to 1.25 * spread / sqrt(n): a quarter of the allowance will do.
        needed = min((5 * self._spread / ALLOWANCE) ** 2, MAX_REFERENCE_BLOCKS / 4)
        if len(levels) >= needed:
            self._is_learning = False
            self._num_known = len(levels)
            self._before = median(levels)
            self._last = level

    def _change(self, total: _Sum, expected_s: float) -> DriftEvent:
        before, after = self._before, median(total.levels)
        expected_ms = 1e3 * float(expected_s)
        event = DriftEvent(
            kind=self._kind,
            before_ms=expected_ms * exp(before),
            after_ms=expected_ms * exp(after),
            ratio=exp(after - before),
            since_steps=total.num_blocks * self.block_steps,
            since_s=total.lasted_s,
        )
        self._before, self._num_known = after, total.num_blocks
        self._rising.clear()
        self._falling.clear()
        return event


class _Sum:
    """One side of the test, and what it has seen since it last was 0."""

    __slots__ = ("lasted_s", "levels", "num_blocks", "value")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.value = 0.0
        self.lasted_s = 0.0
        self.num_blocks = 0
        self.levels: list[float] = []

    def add(self, amount: float, level: float, step_s: float) -> None:
        value = self.value + amount
        if value <= 0:
            if self.num_blocks:
                self.clear()
            return
        self.value = value
        self.lasted_s += step_s
        self.num_blocks += 1
        self.levels.append(level)
        if len(self.levels) > 64:
            del self.levels[:32]
