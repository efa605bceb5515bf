"""What remains of a workflow: the critical path, and the learned l_r against simulated truth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.workflow_rest import (
    MAX_NODES,
    NUM_SCENARIOS,
    SAMPLES_PER_NODE,
    Call,
    RestModel,
    critical_path,
    rests_s,
)
from fmedge.sched.workflows import CallContext, Workflows
from fmedge.types import WorkflowSettings
from tests.sched.workflow_process import PlannedCall, agent, run_instances


def _call(stage: str, start_s: float, end_s: float, l_q_s: float = 0.0, visit: int = 1) -> Call:
    return Call(stage, visit, start_s, end_s, l_q_s, 0.0, 10, 0, 5, "stop")


def test_a_chain_leaves_tool_time_and_execution_but_no_queueing() -> None:
    calls = [_call("a", 0, 3, 1), _call("b", 5, 9, 2), _call("c", 9, 10, 0.5)]
    assert rests_s(calls) == pytest.approx([2 + 2 + 0.5, 0.5, 0])
    assert [(s.work, s.start_s, s.end_s) for s in critical_path(calls)] == [
        ("l_q", 0, 1),
        ("l_x", 1, 3),
        ("tool", 3, 5),
        ("l_q", 5, 7),
        ("l_x", 7, 9),
        ("l_q", 9, 9.5),
        ("l_x", 9.5, 10),
    ]


def test_of_parallel_calls_the_longest_counts_and_the_others_wait_for_it() -> None:
    calls = [
        _call("a", 0, 1),
        _call("b", 2, 4),
        _call("b", 2, 7),
        _call("b", 2, 3),
        _call("c", 8, 9),
    ]
    assert rests_s(calls) == pytest.approx([8, 5, 2, 6, 0])


def test_calls_that_begin_side_by_side_have_no_predecessor() -> None:
    calls = [_call("a", 0, 2), _call("b", 1, 6)]
    assert rests_s(calls) == pytest.approx([4, 0])
    assert critical_path(calls)[0].call == -1


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=12
    )
)
def test_the_critical_path_is_without_gaps_from_begin_to_end(
    drawn: list[tuple[float, float, float]],
) -> None:
    first_s = min(start_s for start_s, _, _ in drawn)
    calls = [
        _call("s", start_s - first_s, start_s - first_s + took_s, took_s * part)
        for start_s, took_s, part in sorted(drawn)
    ]
    path = critical_path(calls)
    assert path[0].start_s == 0.0
    assert path[-1].end_s == max(call.end_s for call in calls)
    assert all(before.end_s == after.start_s for before, after in pairwise(path))
    whole_s = sum(s.end_s - s.start_s for s in path if s.work != "l_q")
    assert all(0.0 <= rest_s <= whole_s + 1e-9 for rest_s in rests_s(calls))


def _truth(kinds: set[tuple[str, int]]) -> dict[tuple[str, int], list[float]]:
    """What remains after a call where nothing ever waits: wall time alone."""
    rng = np.random.default_rng(11)
    found: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
    for _ in range(8000):
        plan = agent(rng, queueing_s=0.0)
        end_s = max(call.end_s for call in plan)
        visits: dict[str, int] = {}
        for call in plan:
            visits[call.stage] = visits.get(call.stage, 0) + 1
            kind = (call.stage, visits[call.stage])
            if kind in found:
                found[kind].append(end_s - call.end_s)
    return found


def test_learned_rests_agree_with_simulation_whatever_the_queueing() -> None:
    rng = np.random.default_rng(12)
    workflows = Workflows({"agent": WorkflowSettings(name="agent", e2e_s=60.0)})
    plans = [agent(rng, queueing_s=1.0) for _ in range(1500)]
    seen: dict[tuple[str, int], list[np.ndarray]] = {}

    def on_begin(index: int, call: PlannedCall, context: CallContext) -> None:
        if index >= 1300:
            seen.setdefault((call.stage, context.visit), []).append(context.rest)

    run_instances(workflows, plans, on_begin=on_begin)
    kinds = {("plan", 1), ("search", 1), ("search", 2), ("search", 3), ("check", 1), ("check", 2)}
    truth = _truth(kinds)
    at = (np.arange(NUM_SCENARIOS) + 0.5) / NUM_SCENARIOS
    for kind in kinds:
        learned = np.mean(seen[kind], axis=0)
        expected = np.quantile(truth[kind], at)
        # 256 recent samples each: their p90 is good to about a tenth.
        distance = np.abs(learned - expected).mean() / expected.mean()
        assert distance <= 0.1, (kind, learned, expected)
        assert learned[7:9].mean() == pytest.approx(expected[7:9].mean(), rel=0.1), kind
        assert learned[14] == pytest.approx(expected[14], rel=0.2), kind


def test_nothing_known_is_nothing_remaining() -> None:
    rest, num_learned = RestModel().scenarios("a", 1, 1)
    assert num_learned == 0
    assert (rest == 0).all()
    assert rest.shape == (NUM_SCENARIOS,)
    assert rest.dtype == np.float32


def test_a_new_stage_goes_by_where_in_the_instance_it_is() -> None:
    model = RestModel()
    for _ in range(20):
        model.learn([_call("a", 0, 1), _call("b", 1, 2), _call("c", 2, 10)])
    assert model.scenarios("new", 1, 1)[0] == pytest.approx(np.full(16, 9), rel=1e-3)
    assert model.scenarios("new", 1, 2)[0] == pytest.approx(np.full(16, 8), rel=1e-3)
    assert model.scenarios("b", 2, 3)[0] == pytest.approx(np.full(16, 8), rel=1e-3)
    assert model.scenarios("new", 1, 99)[1] > 0


def test_a_new_visit_goes_by_its_stage() -> None:
    model = RestModel()
    for _ in range(20):
        model.learn([_call("a", 0, 1), _call("b", 1, 5)])
    assert model.scenarios("a", 2, 3)[0] == pytest.approx(np.full(16, 4), rel=1e-3)


def test_recent_instances_replace_old_ones() -> None:
    model = RestModel()
    for took_s in [100.0] * 300 + [1.0] * SAMPLES_PER_NODE:
        model.learn([_call("a", 0, 1), _call("b", 1, 1 + took_s)])
    assert model.scenarios("a", 1, 1)[0] == pytest.approx(np.full(16, 1.0), rel=1e-3)


def test_rests_are_ascending_and_cannot_be_written() -> None:
    model = RestModel()
    for took_s in (5.0, 1.0, 3.0):
        model.learn([_call("a", 0, 1), _call("b", 1, 1 + took_s)])
    rest, num_learned = model.scenarios("a", 1, 1)
    assert num_learned == 3
    assert (np.diff(rest) >= 0).all()
    with pytest.raises(ValueError, match="read-only"):
        rest[0] = 0


def test_names_without_end_are_bounded() -> None:
    model = RestModel()
    for i in range(MAX_NODES):
        model.learn([_call(f"s{i}", 0, 1), _call("end", 1, 2)])
    assert len(model) == MAX_NODES
    assert model.scenarios("s0", 1, 1)[0] == pytest.approx(np.full(16, 1.0), rel=1e-3)
    assert model.scenarios(f"s{MAX_NODES - 1}", 1, 1)[1] == 1
