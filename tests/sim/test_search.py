"""The search for the highest rate, on curves that are known."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sim.outcome import Row
from fmedge.sim.search import TOLERANCE, Misses, Trial, highest_rate
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise, WorkflowSettings


def falling(knee_per_s: float):
    """All is kept up to the knee, and less and less beyond it."""

    def play(rate: float) -> Trial:
        kept = min(1.0, knee_per_s / rate)
        return Trial(rate_per_s=rate, attainment=kept, goodput_per_s=kept * rate)

    return play


@given(st.floats(0.01, 1000.0), st.floats(0.01, 1000.0))
def test_it_comes_within_its_tolerance_from_anywhere(knee_per_s, first_per_s):
    found = highest_rate(falling(knee_per_s), first_per_s)
    highest_per_s = knee_per_s / 0.95
    assert found.is_bounded
    assert found.best is not None
    assert found.best.rate_per_s <= highest_per_s * (1 + 1e-9)
    assert found.best.rate_per_s * (1 + TOLERANCE) >= highest_per_s * (1 - 1e-9)
    assert found.best in found.trials


def test_what_never_keeps_enough_has_no_rate():
    found = highest_rate(falling(0.0), 1.0, max_trials=6)
    assert found.best is None
    assert found.is_bounded
    assert [trial.rate_per_s for trial in found.trials] == [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_what_always_keeps_enough_has_no_bound():
    found = highest_rate(falling(inf), 1.0, max_trials=4)
    assert not found.is_bounded
    assert found.best is not None
    assert found.best.rate_per_s == 8


def test_who_ends_it_keeps_what_is_known():
    play = falling(3.0)
    found = highest_rate(lambda rate: play(rate) if rate < 4 else None, 1.0)
    assert found.best is not None
    assert (found.best.rate_per_s, found.is_bounded) == (2, False)


def test_it_is_lost_once_more_are_missed_than_may_be():
    promise = Promise(e2e_s=1.0)
    calls = [Call(at_s=n, num_prompt=1, num_output=1, promise=promise) for n in range(38)]
    calls += [
        Call(at_s=40, num_prompt=1, num_output=1, workflow="w", instance=str(n)) for n in (0, 0, 1)
    ]
    workload = Workload(
        source="", calls=tuple(calls), workflows={"w": WorkflowSettings(name="w", e2e_s=9.0)}
    )
    misses = Misses(workload)
    assert misses.num_promises == 38 + 2
    rows = [Row(call=n, at_s=n, status="ok", ttft_s=0.1, e2e_s=0.5 + (n > 35)) for n in range(38)]
    rows.insert(0, Row(call=38, at_s=40, status="ok", ttft_s=0.1, e2e_s=5.0))
    assert not misses(0.0, rows[:-1])
    assert not misses(0.0, rows)
    assert misses.num_missed == 2
    rows.append(Row(call=0, at_s=0, status="refused"))
    assert misses(0.0, rows)


@pytest.mark.parametrize("status", ["refused", "failed", "unfinished"])
def test_what_came_to_no_end_is_missed(status):
    call = Call(at_s=0, num_prompt=1, num_output=1, promise=Promise(e2e_s=1.0))
    misses = Misses(Workload(source="", calls=(call,)))
    assert misses(0.0, [Row(call=0, at_s=0.0, status=status)])
