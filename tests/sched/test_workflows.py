"""Instances of workflows: whose they are, when they end, what bounds them, what is kept of them."""

from __future__ import annotations

from math import inf, nan

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.workflow_learning import MAX_INSTANCE_CALLS, MAX_RECENT_CALLS
from fmedge.sched.workflows import (
    CallObserved,
    InstanceOwnedError,
    TooManyInstancesError,
    UnknownWorkflowError,
    WorkflowError,
    Workflows,
)
from fmedge.types import FinishReason, WorkflowCall, WorkflowSettings
from tests.sched.workflow_process import PlannedCall, agent, run_instances

CONFIGS = {
    "agent": WorkflowSettings(name="agent", e2e_s=10.0, idle_s=30.0),
    "free": WorkflowSettings(name="free", idle_s=5.0),
}


def _call(
    instance: str = "i", stage: str = "s", *, workflow: str = "agent", **more: object
) -> WorkflowCall:
    return msgspec.structs.replace(
        WorkflowCall(workflow=workflow, instance=instance, stage=stage), **more
    )


def _took(l_x_s: float = 1.0, l_q_s: float = 0.0, finish: FinishReason = "stop") -> CallObserved:
    return CallObserved(
        l_q_s=l_q_s,
        l_x_s=l_x_s,
        e2e_s=l_q_s + l_x_s,
        num_prompt=100,
        num_cached=40,
        num_output=20,
        finish=finish,
    )


def test_the_deadline_counts_from_the_first_call_unless_a_call_says_what_is_left() -> None:
    workflows = Workflows(CONFIGS)
    assert workflows.begin(100.0, 1, _call(), "k").deadline_s == 110.0
    workflows.end(101.0, 1, _took())
    assert workflows.begin(105.0, 2, _call(), "k").deadline_s == 110.0
    assert workflows.begin(106.0, 3, _call(deadline_s=2.0), "k").deadline_s == 108.0
    assert workflows.begin(106.5, 4, _call(), "k").deadline_s == 108.0
    assert workflows.begin(100.0, 5, _call(workflow="free"), "k").deadline_s == inf


def test_visits_are_counted_by_stage() -> None:
    workflows = Workflows(CONFIGS)
    visits = []
    for number, stage in enumerate(("a", "b", "a", "a", "b")):
        visits.append(workflows.begin(number, number, _call(stage=stage), "k").visit)
        workflows.end(number, number, _took())
    assert visits == [1, 1, 2, 3, 2]


def test_the_last_call_ends_the_instance_when_all_have_ended() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(), "k")
    last = workflows.begin(0.0, 2, _call(is_last=True), "k")
    assert (last.rest == 0).all()
    assert workflows.end(1.0, 2, _took()) is None
    outcome = workflows.end(4.0, 1, _took(4.0))
    assert outcome is not None
    assert outcome.held is True
    assert outcome.ended_by == "last"
    assert outcome.e2e_s == 4.0
    assert outcome.num_calls == 2
    assert workflows.num_open_instances == 0


def test_a_late_instance_missed() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(is_last=True), "k")
    outcome = workflows.end(10.5, 1, _took(10.5))
    assert outcome is not None
    assert outcome.held is False
    assert workflows.report("agent")[0].num_missed == 1


def test_an_idle_instance_is_over_and_was_over_when_its_last_call_ended() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(), "k")
    assert workflows.tick(500.0) == []  # a call in flight is no idling
    workflows.end(500.0, 1, _took())
    assert workflows.tick(529.9) == []
    outcomes = workflows.tick(530.0)
    assert [(outcome.ended_by, outcome.e2e_s) for outcome in outcomes] == [("idle", 500.0)]
    assert workflows.num_open_instances == 0


def test_a_call_after_the_idle_time_begins_anew_even_before_a_tick() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(), "k")
    workflows.end(1.0, 1, _took())
    again = workflows.begin(40.0, 2, _call(), "other")
    assert again.began_s == 40.0
    assert again.visit == 1
    assert workflows.report("agent")[0].num_instances == 1


def test_an_instance_belongs_to_the_key_that_began_it() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(), "mine")
    with pytest.raises(InstanceOwnedError, match="another API key"):
        workflows.begin(1.0, 2, _call(), "yours")
    workflows.end(1.0, 1, _took())
    with pytest.raises(InstanceOwnedError, match="another API key"):
        workflows.begin(2.0, 3, _call(), "yours")
    assert workflows.begin(3.0, 4, _call(), "mine").began_s == 0.0
    # The same id in another workflow is another instance.
    assert workflows.begin(4.0, 5, _call(workflow="free"), "yours").began_s == 4.0


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (_call(workflow="agnet"), UnknownWorkflowError, "Did you mean 'agent'"),
        (_call("i" * 257), WorkflowError, "257 characters"),
        (_call(stage="s" * 1000), WorkflowError, "1000 characters"),
        (_call(deadline_s=0.0), WorkflowError, "deadline"),
        (_call(deadline_s=-1.0), WorkflowError, "deadline"),
        (_call(deadline_s=nan), WorkflowError, "deadline"),
    ],
)
def test_calls_that_do_not_fit_change_nothing(
    call: WorkflowCall, error: type[WorkflowError], text: str
) -> None:
    workflows = Workflows(CONFIGS)
    with pytest.raises(error, match=text):
        workflows.begin(0.0, 1, call, "k")
    assert workflows.num_open_instances == 0
    assert workflows.end(1.0, 1, _took()) is None


def test_a_request_is_one_call() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(), "k")
    with pytest.raises(WorkflowError, match="already"):
        workflows.begin(0.0, 1, _call("j"), "k")
    with pytest.raises(UnknownWorkflowError, match="no workflow 'x'"):
        workflows.report("x")


def test_refused_at_the_first_call_nothing_began() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(), "k")
    assert workflows.abandon(0.0, 1) is None
    assert workflows.num_open_instances == 0
    assert workflows.begin(5.0, 2, _call(), "other").deadline_s == 15.0
    assert workflows.abandon(5.0, 99) is None


def test_an_instance_cut_short_is_missed_and_teaches_nothing_of_what_remains() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(stage="a"), "k")
    workflows.end(1.0, 1, _took())
    workflows.begin(1.0, 2, _call(stage="b"), "k")
    workflows.abandon(1.0, 2)
    outcome = workflows.tick(100.0)[0]
    assert outcome.held is False
    assert workflows.begin(200.0, 3, _call(stage="a"), "k").num_learned == 0


def test_a_retry_after_a_failure_goes_on() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(0.0, 1, _call(stage="a"), "k")
    workflows.end(1.0, 1, _took())
    workflows.begin(1.0, 2, _call(stage="b"), "k")
    workflows.abandon(2.0, 2)
    assert workflows.begin(3.0, 3, _call(stage="b", is_last=True), "k").visit == 1
    outcome = workflows.end(4.0, 3, _took())
    assert outcome is not None
    assert outcome.held is True
    context = workflows.begin(10.0, 4, _call(stage="a"), "k")
    assert context.num_learned == 1
    assert context.rest == pytest.approx(np.full(16, 3.0))


def test_silence_is_an_end_only_where_callers_do_not_say_which_call_is_last() -> None:
    for says_last in (True, False):
        workflows = Workflows(CONFIGS)
        plan = [PlannedCall("a", 0.0, 0.0, 1.0), PlannedCall("b", 2.0, 0.0, 3.0)]
        run_instances(workflows, [plan] * 20, spacing_s=50.0, says_last=says_last)
        workflows.begin(2000.0, 1, _call("lost", "a"), "k")
        workflows.end(2001.0, 1, _took())
        workflows.tick(3000.0)
        context = workflows.begin(4000.0, 2, _call("next", "a"), "k")
        assert context.num_learned == (20 if says_last else 21)


def test_a_clock_that_goes_back_counts_as_standing_still() -> None:
    workflows = Workflows(CONFIGS)
    workflows.begin(100.0, 1, _call(), "k")
    workflows.end(50.0, 1, _took())
    workflows.begin(-1e9, 2, _call(is_last=True), "k")
    workflows.tick(nan)
    outcome = workflows.end(0.0, 2, _took(nan, nan))
    assert outcome is not None
    assert outcome.e2e_s == 0.0
    assert workflows.begin(90.0, 3, _call(), "k").began_s == 100.0


def test_open_instances_are_bounded_and_a_flood_evicts_its_own() -> None:
    workflows = Workflows(CONFIGS, max_instances=10)
    for number in range(3):
        workflows.begin(number, number, _call(f"mine {number}"), "mine")
        workflows.end(number, number, _took())
    for number in range(100, 200):
        workflows.begin(10.0, number, _call(f"flood {number}"), "flood")
        workflows.end(10.0, number, _took())
    assert workflows.num_open_instances == 10
    for number in range(3):
        assert workflows.begin(11.0, number, _call(f"mine {number}"), "mine").visit == 2
    assert workflows.report("agent")[0].num_instances == 0  # evicted: neither learned nor missed


def test_when_all_instances_have_calls_in_flight_no_other_begins() -> None:
    workflows = Workflows(CONFIGS, max_instances=2)
    workflows.begin(0.0, 1, _call("a"), "k")
    workflows.begin(0.0, 2, _call("b"), "k")
    with pytest.raises(TooManyInstancesError, match="in flight"):
        workflows.begin(0.0, 3, _call("c"), "k")
    workflows.end(1.0, 1, _took())
    assert workflows.begin(1.0, 3, _call("c"), "k").began_s == 1.0


def test_an_endless_instance_is_bounded_and_not_learned_from() -> None:
    workflows = Workflows(CONFIGS)
    for number in range(2 * MAX_INSTANCE_CALLS):
        workflows.begin(number, number, _call(stage=f"s{number}"), "k")
        workflows.end(number, number, _took())
    assert workflows.tick(1e6)[0].num_calls == 2 * MAX_INSTANCE_CALLS
    assert workflows.begin(2e6, 1, _call(stage="s0"), "k").num_learned == 0
    assert len(workflows.report("agent")[0].stages) == 64


def test_recent_instances_are_bounded() -> None:
    workflows = Workflows(CONFIGS)
    for number in range(MAX_RECENT_CALLS + 50):
        workflows.begin(number, number, _call(f"i{number}", is_last=True), "k")
        workflows.end(number, number, _took())
    report = workflows.report("agent")[0]
    assert report.num_instances == MAX_RECENT_CALLS + 50
    assert report.num_recent == MAX_RECENT_CALLS


def test_other_settings_keep_what_was_learned_and_what_is_open() -> None:
    workflows = Workflows(CONFIGS)
    rng = np.random.default_rng(1)
    run_instances(workflows, [agent(rng, 0.0) for _ in range(20)])
    workflows.begin(100.0, 1, _call(), "k")
    workflows.begin(100.0, 2, _call(workflow="free"), "k")
    workflows.configure({"agent": WorkflowSettings(name="agent", e2e_s=99.0)})
    assert workflows.num_open_instances == 1
    assert workflows.begin(101.0, 3, _call(), "k").deadline_s == 110.0
    assert workflows.begin(101.0, 4, _call("new", "plan"), "k").deadline_s == 200.0
    assert workflows.begin(101.0, 5, _call("newer", "plan"), "k").num_learned == 20
    assert workflows.end(102.0, 2, _took()) is None
    with pytest.raises(UnknownWorkflowError):
        workflows.begin(103.0, 6, _call(workflow="free"), "k")


def test_what_was_learned_outlives_a_restart() -> None:
    workflows = Workflows(CONFIGS)
    rng = np.random.default_rng(2)
    run_instances(workflows, [agent(rng, 0.5) for _ in range(60)])
    restored = Workflows.from_bytes(workflows.to_bytes(), CONFIGS)
    assert restored.report() == workflows.report()
    for stage in ("plan", "search", "check"):
        new = restored.begin(1000.0, 1, _call("x", stage), "k")
        old = workflows.begin(1000.0, 1, _call("x", stage), "k")
        assert new.rest == pytest.approx(old.rest)
        assert new.num_learned == old.num_learned > 0
        restored.abandon(1000.0, 1)
        workflows.abandon(1000.0, 1)
    elsewhere = Workflows.from_bytes(workflows.to_bytes(), {"free": CONFIGS["free"]})
    assert [report.workflow for report in elsewhere.report()] == ["free"]


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="learned workflows"):
        Workflows.from_bytes(data, CONFIGS)


def test_partial_other_version_and_impossible_are_refused() -> None:
    workflows = Workflows(CONFIGS)
    run_instances(workflows, [agent(np.random.default_rng(3), 0.5) for _ in range(5)])
    data = workflows.to_bytes()
    for size in range(0, len(data), 41):
        with pytest.raises(ValueError, match="learned workflows"):
            Workflows.from_bytes(data[:size], CONFIGS)
    version, [first, second] = msgspec.msgpack.decode(data)
    name, count, missed, recent = first
    promise_s, is_cut, is_whole, said_last, calls = recent[0]

    def with_call(**changes: object) -> list[object]:
        fields = ("stage", "visit", "start_s", "end_s", "l_q_s", "prefill_s", "num_prompt")
        call = [changes.get(field, old) for field, old in zip(fields, calls[0], strict=False)]
        changed = [call + calls[0][len(fields) :], *calls[1:]]
        return [name, count, missed, [[promise_s, is_cut, is_whole, said_last, changed]]]

    for item in (
        with_call(start_s=nan),
        with_call(end_s=inf),
        with_call(end_s=-1.0),
        with_call(start_s=1e9),
        with_call(visit=0),
        with_call(num_prompt=-1),
        with_call(stage="s" * 300),
        [name, count, count + 1, recent],
        [name, count, missed, [[nan, is_cut, is_whole, said_last, calls]]],
        [name, count, missed, [[promise_s, is_cut, is_whole, said_last, []]]],
        [name, count, missed, [[promise_s, is_cut, is_whole, said_last, calls[:1] * 300]]],
    ):
        with pytest.raises(ValueError, match="learned workflows"):
            Workflows.from_bytes(msgspec.msgpack.encode([version, [item, second]]), CONFIGS)
    with pytest.raises(ValueError, match="version"):
        Workflows.from_bytes(msgspec.msgpack.encode([version + 1, []]), CONFIGS)
    assert Workflows.from_bytes(
        msgspec.msgpack.encode([version, [with_call(), second]]), CONFIGS
    ).report("agent")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "last", "end", "fail", "abandon", "tick"]),
            st.integers(0, 9),
            st.integers(0, 3),
            st.floats(-5, 40),
        ),
        max_size=60,
    )
)
def test_any_order_of_events_keeps_the_books(events: list[tuple[str, int, int, float]]) -> None:
    """Against a plain model: which requests are open, and that what ends was begun."""
    workflows = Workflows(CONFIGS, max_instances=3)
    opened: set[int] = set()
    now_s = 0.0
    for what, number, instance, later_s in events:
        now_s += later_s
        if what in ("begin", "last"):
            try:
                context = workflows.begin(
                    now_s,
                    number,
                    _call(f"i{instance}", is_last=what == "last"),
                    f"k{instance % 2}",
                )
            except WorkflowError:
                continue
            assert number not in opened
            opened.add(number)
            assert context.deadline_s >= context.began_s
            assert (context.rest >= 0).all()
        elif what == "tick":
            workflows.tick(now_s)
        elif what == "abandon":
            outcome = workflows.abandon(now_s, number)
            assert outcome is None or number in opened
            opened.discard(number)
        else:
            finish: FinishReason = "stop" if what == "end" else "error"
            outcome = workflows.end(now_s, number, _took(finish=finish))
            assert outcome is None or number in opened
            opened.discard(number)
        assert workflows.num_open_instances <= 3
    for number in opened:
        workflows.abandon(now_s, number)
    workflows.tick(now_s + 1e4)
    assert workflows.num_open_instances == 0
    assert Workflows.from_bytes(workflows.to_bytes(), CONFIGS).report() == workflows.report()
