"""The report on a workflow: its numbers, and that advice names what helps most and by how much."""

from __future__ import annotations

import time
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.workflow_advice import Change, Instance, Measure
from fmedge.sched.workflow_report import WorkflowReport
from fmedge.sched.workflow_rest import Call
from fmedge.sched.workflows import Workflows
from fmedge.types import WorkflowSettings
from tests.sched.workflow_process import PlannedCall, agent, run_instances


def _chain(*parts: tuple[str, float, float, float], **more: object) -> list[PlannedCall]:
    """Calls one after the other: (stage, tool time before, l_q, l_x)."""
    calls: list[PlannedCall] = []
    now_s = 0.0
    for stage, tool_s, l_q_s, l_x_s in parts:
        call = PlannedCall(stage, now_s + tool_s, l_q_s, l_x_s)
        calls.append(msgspec.structs.replace(call, **more))
        now_s = call.end_s
    return calls


def _report(plans: list[list[PlannedCall]], e2e_s: float = 10.0) -> WorkflowReport:
    workflows = Workflows({"agent": WorkflowSettings(name="agent", e2e_s=e2e_s)})
    run_instances(workflows, plans, spacing_s=100.0)
    return workflows.report("agent")[0]


def test_the_numbers_of_a_chain() -> None:
    plan = _chain(("a", 0, 1, 2), ("b", 3, 0.5, 1.5), num_prompt=300, num_cached=100, num_output=7)
    report = _report([plan] * 5)
    assert report.num_instances == report.num_recent == 5
    assert report.promise_ms == 10_000
    assert report.attainment == 1.0
    assert report.e2e_ms == pytest.approx(8000)
    a, b = report.stages
    assert (a.stage, a.num_calls, a.calls_per_instance) == ("a", 5, 1.0)
    assert (a.prompt_tokens, a.cached_tokens, a.output_tokens) == (300, 100, 7)
    assert (a.l_q_ms, a.l_x_ms, a.tool_ms) == pytest.approx((1000, 2000, 3000))
    assert a.critical_ms == pytest.approx(6000)
    assert a.share == pytest.approx(0.6)
    assert (b.l_q_ms, b.l_x_ms, b.tool_ms) == pytest.approx((500, 1500, 0))
    assert b.share == pytest.approx(0.2)


def test_shares_are_of_the_critical_path_and_add_up_to_the_end_to_end_time() -> None:
    rng = np.random.default_rng(1)
    plans = [agent(rng, 0.5) for _ in range(80)]
    report = _report(plans, e2e_s=20.0)
    ends_s = [max(call.end_s for call in plan) for plan in plans]
    assert sum(stage.critical_ms for stage in report.stages) == pytest.approx(
        1e3 * np.mean(ends_s), rel=1e-6
    )
    assert report.num_missed == sum(end_s > 20.0 for end_s in ends_s) > 0
    assert sum(stage.num_missed for stage in report.stages) == report.num_missed
    assert report.attainment == pytest.approx(np.mean([end_s <= 20.0 for end_s in ends_s]))


def test_a_miss_is_laid_to_the_stage_that_took_longer_than_it_does() -> None:
    usual = _chain(("a", 0, 0, 2), ("b", 0, 0, 6))
    slow_a = _chain(("a", 0, 3, 2), ("b", 0, 0, 6))
    report = _report([usual] * 20 + [slow_a] * 4)
    assert {stage.stage: stage.num_missed for stage in report.stages} == {"a": 4, "b": 0}


def test_without_a_promise_shares_are_of_the_time_taken() -> None:
    report = _report([_chain(("a", 0, 0, 3), ("b", 0, 0, 1))] * 3, e2e_s=float("inf"))
    assert report.promise_ms is None
    assert report.attainment is None
    assert [stage.share for stage in report.stages] == pytest.approx([0.75, 0.25])
    assert msgspec.json.decode(msgspec.json.encode(report))["promise_ms"] is None


def test_nothing_seen_nothing_said() -> None:
    report = _report([])
    assert report.stages == report.advice == ()
    assert report.attainment is None


@pytest.mark.parametrize(
    ("plan", "stage", "measure", "gain_ms"),
    [
        # Four independent calls of 1 s in a row: side by side they take 1 s.
        (
            _chain(("plan", 0, 0, 0.2), *[("map", 0, 0, 1.0)] * 4, ("sum", 0, 0, 0.5)),
            "map",
            "parallel_calls",
            3000,
        ),
        # The second prompt holds the first one and its answer, and is computed anew.
        (
            [
                PlannedCall("read", 0.0, 0.0, 1.0, 3000, 0, 100, 0.5),
                PlannedCall("ask", 1.0, 0.0, 3.2, 3200, 0, 20, 3.0),
            ],
            "ask",
            "cached_prefix",
            3.0 * 3100 / 3200 * 1000,
        ),
        (_chain(("fetch", 0, 0, 0.5), ("answer", 6.0, 0, 1.0)), "fetch", "faster_tools", 3000),
        (_chain(("a", 0, 0.1, 1.0), ("b", 0, 4.0, 1.0)), "b", "less_queueing", 4000),
        (_chain(("a", 0, 0.1, 1.0), ("b", 0, 0, 5.0)), "b", "faster_model", 2500),
    ],
)
def test_the_first_advice_is_what_helps_most(
    plan: list[PlannedCall], stage: str, measure: Measure, gain_ms: float
) -> None:
    first = _report([plan] * 12).advice[0]
    assert (first.stage, first.measure) == (stage, measure)
    assert first.gain_ms == pytest.approx(gain_ms, rel=1e-6)
    assert "12 recent instances" in first.how
    assert first.what


def test_a_row_of_calls_that_build_on_each_other_is_not_made_parallel() -> None:
    turns = [
        PlannedCall("turn", i * 1.0, 0.0, 1.0, num_prompt=500 + 200 * i, num_output=100)
        for i in range(5)
    ]
    assert all(advice.measure != "parallel_calls" for advice in _report([turns] * 5).advice)


def test_what_runs_beside_something_longer_gains_nothing() -> None:
    plan = [
        PlannedCall("start", 0.0, 0.0, 0.1),
        PlannedCall("short", 0.1, 0.0, 3.0),
        PlannedCall("long", 0.1, 0.0, 5.0),
        PlannedCall("end", 5.1, 0.0, 0.1),
    ]
    gains = {
        advice.stage: advice.gain_ms
        for advice in _report([plan] * 5).advice
        if advice.measure == "faster_model"
    }
    assert "short" not in gains
    # Half of 5 s would be 2.5 s, but then the short one is the longer one.
    assert gains["long"] == pytest.approx(2000)


def test_advice_counts_the_misses_that_it_would_have_saved() -> None:
    plans = [_chain(("a", 0, 0, l_x_s)) for l_x_s in (4.0, 12.0, 18.0, 30.0)]
    first = _report(plans).advice[0]
    assert first.measure == "faster_model"
    assert first.num_saved == 2


def test_prompts_and_outputs_have_advice_where_prefill_was_measured() -> None:
    plan = _chain(("a", 0, 0, 4.0), num_prompt=2000, num_output=50, prefill_s=3.0)
    gains = {each.measure: each.gain_ms for each in _report([plan] * 3).advice}
    assert gains == pytest.approx(
        {"faster_model": 2000, "shorter_prompts": 1500, "shorter_outputs": 500}
    )
    unknown = _chain(("a", 0, 0, 4.0), num_prompt=2000, num_output=50)
    assert [each.measure for each in _report([unknown] * 3).advice] == ["faster_model"]


def test_what_the_best_calls_found_cached_the_others_could_too() -> None:
    cold = [PlannedCall("a", 0.0, 0.0, 2.0, 1000, 0, 10, 1.6)]
    warm = [PlannedCall("a", 0.0, 0.0, 0.8, 1000, 800, 10, 0.4)]
    report = _report([cold] * 8 + [warm] * 2)
    gains = {each.measure: each.gain_ms for each in report.advice}
    assert gains["cached_prefix"] == pytest.approx(0.8 * 1.6 * 0.8 * 1000)


def test_advice_is_ranked_and_bounded() -> None:
    rng = np.random.default_rng(2)
    advice = _report([agent(rng, 1.0) for _ in range(60)]).advice
    assert len(advice) == 5
    assert all(first.gain_ms >= second.gain_ms for first, second in pairwise(advice))


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=10
    ),
    st.integers(0, 9),
)
def test_replayed_without_change_it_takes_as_long_and_with_less_work_never_longer(
    drawn: list[tuple[float, float, float]], chosen: int
) -> None:
    first_s = min(start_s for start_s, _, _ in drawn)
    calls = [
        Call("s", 1, start_s - first_s, start_s - first_s + took_s, 0.0, 0.0, 1, 0, 1, "stop")
        for start_s, took_s, _ in sorted(drawn)
    ]
    instance = Instance(calls, 10.0)
    assert instance.replay_s(Change()) == pytest.approx(instance.e2e_s)
    index = chosen % len(calls)
    took_s = calls[index].end_s - calls[index].start_s
    saved_s = took_s * drawn[index][2]
    shorter_s = instance.replay_s(Change(saved_s={index: saved_s}))
    assert instance.e2e_s - saved_s - 1e-9 <= shorter_s <= instance.e2e_s + 1e-9


def test_a_report_on_many_long_instances_is_quick() -> None:
    rng = np.random.default_rng(3)
    plans = []
    for _ in range(40):
        parts = [(f"s{rng.integers(16)}", 0.1, 0.1, float(rng.random())) for _ in range(200)]
        plans.append(_chain(*parts))
    workflows = Workflows({"agent": WorkflowSettings(name="agent", e2e_s=100.0)})
    run_instances(workflows, plans, spacing_s=1000.0)
    began_s = time.process_time()
    report = workflows.report("agent")[0]
    assert time.process_time() - began_s < 2.0
    assert report.advice
