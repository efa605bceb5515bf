"""The highest rate at which promises are kept: what a cluster is good for.

The rule: whoever asks plays the workload; this only says which rate to try next. Attainment is
taken to fall as the rate grows, which holds but for the noise of a finite workload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from msgspec import Struct

from fmedge.sim.outcome import Row, has_promise, is_held
from fmedge.sim.workload import Workload

TARGET = 0.95
TOLERANCE = 0.02
"""The rate is known once the next one that was tried and failed is so little higher."""

MAX_TRIALS = 32


class Trial(Struct, frozen=True, kw_only=True):
    """A workload played at one rate. attainment: share of promises that held, or, where it was
    given up early, a bound that this share is below."""

    rate_per_s: float
    attainment: float
    goodput_per_s: float


class Found(Struct, frozen=True, kw_only=True):
    """best: the trial of the highest rate that keeps enough, None where none that was tried does.
    trials: all, in order. is_bounded: a higher rate that fails is known."""

    best: Trial | None
    trials: tuple[Trial, ...]
    is_bounded: bool


def highest_rate(
    play: Callable[[float], Trial | None],
    first_per_s: float,
    *,
    target: float = TARGET,
    tolerance: float = TOLERANCE,
    max_trials: int = MAX_TRIALS,
) -> Found:
    """Doubles or halves from first_per_s until both sides are known, then halves the gap (on a
    scale of ratios). play: None ends the search with what is known."""
    trials: list[Trial] = []
    good: Trial | None = None
    bad_per_s = 0.0  # not known
    rate = first_per_s
    while len(trials) < max_trials:
        trial = play(rate)
        if trial is None:
            break
        trials.append(trial)
        if trial.attainment >= target:
            good = trial
        else:
            bad_per_s = rate
        if good is None:
            rate = bad_per_s / 2
        elif not bad_per_s:
            rate = good.rate_per_s * 2
        elif bad_per_s <= good.rate_per_s * (1 + tolerance):
            break
        else:
            rate = sqrt(good.rate_per_s * bad_per_s)
    return Found(best=good, trials=tuple(trials), is_bounded=bad_per_s > 0)


class Misses:
    """Counts broken promises while a workload is played, to end it once it cannot attain any more.
    Those of workflows are not counted, so this is a lower bound."""

    def __init__(self, workload: Workload, target: float = TARGET) -> None:
        self._workload = workload
        tasks = {
            (call.workflow, call.instance)
            for call in workload.calls
            if call.workflow in workload.workflows
        }
        self.num_promises = sum(has_promise(call) for call in workload.calls)
        self.num_promises += sum(
            workload.workflows[workflow].e2e_s < float("inf") for workflow, _ in tasks
        )
        self.most = (1 - target) * self.num_promises
        self.num_missed = 0
        self._num_seen = 0

    def __call__(self, now_s: float, rows: Sequence[Row]) -> bool:
        """As `simulate`'s progress: whether it is lost."""
        calls = self._workload.calls
        for row in rows[self._num_seen :]:
            call = calls[row.call]
            self.num_missed += has_promise(call) and not is_held(call, row)
        self._num_seen = len(rows)
        return self.num_missed > self.most
