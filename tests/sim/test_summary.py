"""What runs amount to, against figures worked out by hand and a plain loop."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sim.outcome import Row, has_promise, is_held
from fmedge.sim.summary import spread, summarise
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise, WorkflowSettings

FAST = Promise(sla_class="fast", ttft_s=1.0)


def call(at_s: float, promise: Promise = FAST, **fields: object) -> Call:
    return Call(at_s=at_s, num_prompt=10, num_output=5, promise=promise, **fields)  # type: ignore[arg-type]


def ok(n: int, at_s: float, ttft_s: float = 0.5, e2e_s: float = 1.0, tokens: int = 5) -> Row:
    return Row(call=n, at_s=at_s, status="ok", ttft_s=ttft_s, e2e_s=e2e_s, num_tokens=tokens)


def test_a_run_worked_out_by_hand() -> None:
    workload = Workload(
        source="test", calls=(call(0.0), call(1.0), call(2.0), call(4.0, Promise()), call(10.0))
    )
    rows = [
        ok(0, 0.0),
        ok(1, 1.0, ttft_s=1.5, e2e_s=2.0),  # late
        Row(call=2, at_s=2.0, status="refused"),
        ok(3, 4.0, e2e_s=4.0, tokens=1),
        Row(call=4, at_s=10.0, status="unfinished"),
    ]
    summary = summarise(workload, rows, busy_s={"a": 4.0, "b": 2.0})
    assert summary.num_calls == 5
    assert summary.counts == {"ok": 3, "refused": 1, "unfinished": 1}
    assert (summary.num_promises, summary.num_held) == (4, 1)
    assert summary.attainment == pytest.approx(0.25)
    assert (summary.arrival_s, summary.duration_s) == (10.0, 8.0)
    assert summary.goodput_per_s == pytest.approx(0.1)
    assert summary.calls_per_s == pytest.approx(3 / 8)
    assert summary.output_tokens_per_s == pytest.approx(11 / 8)
    assert summary.prompt_tokens_per_s == pytest.approx(30 / 8)
    assert summary.latencies.tpot is not None
    assert summary.latencies.tpot.count == 2
    assert summary.latencies.tpot.mean_s == pytest.approx(0.125)
    assert summary.classes[""].attainment is None
    assert summary.classes["fast"].num_held == 1
    assert summary.utilisation == {"a": 0.5, "b": 0.25}
    assert summary.replica_s == pytest.approx(16.0)


def test_replicas_held_for_a_part_of_the_run() -> None:
    workload = Workload(source="", calls=(call(0.0),))
    summary = summarise(
        workload, [ok(0, 0.0, e2e_s=10.0)], busy_s={"a": 4.0}, replica_s={"a": 5.0, "b": 1.0}
    )
    assert summary.utilisation == {"a": 0.8}
    assert summary.replica_s == pytest.approx(6.0)


def workflow(*statuses: str, took_s: float) -> tuple[Workload, list[Row]]:
    """Two stages, each of half of the time, one second of a tool between them."""
    calls: list[Call] = []
    rows: list[Row] = []
    each_s = (took_s - 1.0) / 2
    for n, status in enumerate(statuses):
        first = len(calls)
        calls.append(call(20.0 * n, Promise(), workflow="w", instance=str(n)))
        calls.append(call(1.0, Promise(), workflow="w", instance=str(n), after=(first,)))
        rows.append(ok(first, 20.0 * n, e2e_s=each_s))
        if status == "ok":
            rows.append(ok(first + 1, 20.0 * n + each_s + 1.0, e2e_s=each_s))
        else:
            rows.append(Row(call=first + 1, at_s=nan, status=status))  # type: ignore[arg-type]
    workflows = {"w": WorkflowSettings(name="w", e2e_s=9.0)}
    return Workload(source="", calls=tuple(calls), workflows=workflows), rows


@pytest.mark.parametrize(
    ("statuses", "took_s", "num_ok", "num_held"),
    [(("ok", "ok"), 9.0, 2, 2), (("ok", "ok"), 9.5, 2, 0), (("ok", "failed"), 5.0, 1, 1)],
)
def test_instances_of_workflows(
    statuses: tuple[str, ...], took_s: float, num_ok: int, num_held: int
) -> None:
    summary = summarise(*workflow(*statuses, took_s=took_s))
    found = summary.workflows["w"]
    assert (found.num_instances, found.num_ok, found.num_held) == (2, num_ok, num_held)
    assert found.e2e is not None
    assert found.e2e.p50_s == pytest.approx(took_s)
    assert summary.attainment == pytest.approx(num_held / 2)
    assert summary.num_promises == 2  # the calls promise nothing of their own


def test_what_was_not_due_when_the_run_ended_is_left_out() -> None:
    workload, rows = workflow("ok", "ok", "ok", took_s=5.0)
    cut = [row for row in rows if row.call < 2] + [Row(call=2, at_s=20.0, status="unfinished")]
    summary = summarise(workload, cut)
    assert summary.num_calls == 4
    assert summary.counts == {"ok": 2, "unfinished": 1, "unsent": 3}
    assert (summary.num_promises, summary.num_held) == (2, 1)


def test_a_window_takes_whole_instances() -> None:
    workload, rows = workflow("ok", "ok", "ok", took_s=5.0)
    summary = summarise(workload, rows, window=(19.0, 40.0))
    assert summary.num_calls == 2
    assert summary.workflows["w"].num_instances == 1
    assert summary.arrival_s == pytest.approx(21.0)
    assert summary.goodput_per_s == pytest.approx(1 / 21.0)


def test_nothing_at_all() -> None:
    summary = summarise(Workload(source="", calls=()), [])
    assert (summary.num_calls, summary.attainment, summary.goodput_per_s) == (0, None, 0.0)
    assert summary.latencies.ttft is None


def test_without_promises_goodput_counts_answers() -> None:
    workload = Workload(source="", calls=(call(0.0, Promise()), call(2.0, Promise())))
    summary = summarise(workload, [ok(0, 0.0), Row(call=1, at_s=2.0, status="failed")])
    assert (summary.attainment, summary.goodput_per_s) == (None, 0.5)


STATUSES = st.sampled_from(["ok", "refused", "failed", "timeout", "unfinished"])


@given(st.lists(st.tuples(st.floats(0, 100), STATUSES, st.floats(0, 3), st.booleans())))
def test_any_run_against_a_plain_count(asked: list[tuple[float, str, float, bool]]) -> None:
    asked.sort()
    calls = tuple(call(at_s, FAST if has else Promise()) for at_s, _, _, has in asked)
    rows = [
        Row(call=n, at_s=at_s, status=status, ttft_s=ttft_s, e2e_s=4.0)  # type: ignore[arg-type]
        for n, (at_s, status, ttft_s, _) in enumerate(asked)
    ]
    summary = summarise(Workload(source="", calls=calls), rows)
    held = [is_held(c, r) for c, r in zip(calls, rows, strict=True) if has_promise(c)]
    assert (summary.num_promises, summary.num_held) == (len(held), sum(held))
    assert sum(summary.counts.values()) == len(rows)
    assert sum(one.num_calls for one in summary.classes.values()) == len(rows)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_spread_is_numpys(values_s: list[float]) -> None:
    found = spread(values_s)
    assert found is not None
    assert found.p99_s == pytest.approx(np.percentile(values_s, 99))
    assert found.count == len(values_s)
