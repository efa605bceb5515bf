"""Whether steps have come to take another time than they used to.

The rule: a change must have lasted; rare slow steps and bursts of them are none.

Steps are compared in blocks, by the median of measured / expected time, which a minority of slow
steps does not reach. A two-sided cumulative sum test (Page, Continuous inspection schemes, 1954)
compares the logarithm of each block's median with that of the first blocks:

    S <- max(0, S + (level - before) - ALLOWANCE)            a change when S > threshold

ALLOWANCE, half of a change of 20 %, is what passes as no change. With normal, independent blocks of
standard deviation s, Wald's bound puts exp(2 * ALLOWANCE * threshold / s**2) of them between false
alarms; the threshold follows from that, from s as observed, and from BLOCKS_BETWEEN_ALARMS.
"""

from __future__ import annotations

from itertools import pairwise
from math import exp, log
from statistics import median
from typing import Literal

from msgspec import Struct

ALLOWANCE = log(1.2) / 2
BLOCKS_BETWEEN_ALARMS = 1e6
REFERENCE_BLOCKS = 8
LASTING_S = 0.5
"""Busy time for which a change must have lasted."""

_MIN_THRESHOLD = 0.25
_MIN_SPREAD = 0.01
_SPREAD_RATE = 0.05
_NORMAL_DIFFERENCE = 1.128  # mean absolute difference of two standard normal numbers

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
        "_kind",
        "_last",
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
        self._before = 0.0
        self._last = 0.0
        self._spread = 0.0
        self._rising = _Sum()
        self._falling = _Sum()

    def close(self, expected_s: float) -> DriftEvent | None:
        """Ends a block, whose steps were expected to take about expected_s each."""
        level = log(median(self.ratios))
        step_s = sum(self.ratios) * expected_s
        self.ratios.clear()
        if len(self._reference) < REFERENCE_BLOCKS:
            self._reference.append(level)
            if len(self._reference) == REFERENCE_BLOCKS:
                self._begin()
            return None
        # A block far off is the test's business, not the spread's.
        difference = min(abs(level - self._last) / _NORMAL_DIFFERENCE, 3 * self._spread)
        self._last = level
        self._spread += _SPREAD_RATE * (difference - self._spread)
        spread = max(self._spread, _MIN_SPREAD)
        threshold = max(_MIN_THRESHOLD, spread**2 * log(BLOCKS_BETWEEN_ALARMS) / (2 * ALLOWANCE))
        change = level - self._before
        self._rising.add(change - ALLOWANCE, level, step_s)
        self._falling.add(-change - ALLOWANCE, level, step_s)
        for total in (self._rising, self._falling):
            if total.value > threshold and total.lasted_s >= LASTING_S:
                return self._change(total, expected_s)
        return None

    def _begin(self) -> None:
        levels = self._reference
        self._before = median(levels)
        self._last = levels[-1]
        differences = [abs(b - a) for a, b in pairwise(levels)]
        self._spread = max(median(differences) / 0.954, _MIN_SPREAD)

    def _change(self, total: _Sum, expected_s: float) -> DriftEvent:
        before, after = self._before, median(total.levels)
        event = DriftEvent(
            kind=self._kind,
            before_ms=1e3 * expected_s * exp(before),
            after_ms=1e3 * expected_s * exp(after),
            ratio=exp(after - before),
            since_steps=total.num_blocks * self.block_steps,
            since_s=total.lasted_s,
        )
        self._before = after
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
