"""The scheduler core: every arrival leaves exactly once, and only a culprit pays for crashes."""

from __future__ import annotations

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fmedge.sched.core import (
    PROGRESS_TOKENS,
    Arrival,
    Assign,
    CancelOn,
    CoreSettings,
    Fail,
    Refuse,
    SchedulerCore,
)


def make_core(*replicas: tuple[str, int], **settings: int) -> SchedulerCore:
    core = SchedulerCore(CoreSettings(**settings))
    for name, capacity in replicas:
        core.on_replica_added(name, "m")
        if capacity:
            core.on_replica_ready(0.0, name, capacity)
    return core


def arrive(
    core: SchedulerCore, request_id: int, *, priority: int = 0, prompt: int = 10, out: int = 10
):
    return core.on_arrival(0.0, Arrival(request_id, "m", prompt, out, priority))


def assigned(effects) -> list[tuple[int, str]]:
    return [(e.request_id, e.replica) for e in effects if isinstance(e, Assign)]


@pytest.mark.parametrize(
    ("replicas", "model", "is_draining", "code"),
    [
        ([], "m", False, "model_not_found"),
        ([("a", 4)], "other", False, "model_not_found"),
        ([("a", 0)], "m", False, "loading"),
        ([("a", 4)], "m", True, "draining"),
        ([], "m", True, "draining"),
    ],
)
def test_refusals(replicas, model, is_draining, code):
    core = make_core(*replicas)
    if is_draining:
        core.on_drain()
    (effect,) = core.on_arrival(0.0, Arrival(1, model, 10, 10))
    assert isinstance(effect, Refuse)
    assert effect.code == code
    assert core.num_open == 0


def test_a_full_queue_refuses_and_says_when_to_come_back():
    core = make_core(("a", 1), max_waiting=2)
    assert assigned(arrive(core, 1)) == [(1, "a")]
    assert arrive(core, 2) == arrive(core, 3) == []
    (refused,) = arrive(core, 4)
    assert isinstance(refused, Refuse)
    assert refused.code == "overloaded"
    assert refused.retry_after_s >= 1.0
    assert assigned(core.on_finish(1.0, 1)) == [(2, "a")]
    assert arrive(core, 5) == []


def test_without_a_queue_what_finds_no_room_is_refused():
    core = make_core(("a", 2), max_waiting=0)
    assert assigned(arrive(core, 1)) == [(1, "a")]
    assert core.refusal("m") is None
    assert assigned(arrive(core, 2)) == [(2, "a")]
    (refused,) = arrive(core, 3)
    assert isinstance(refused, Refuse)
    assert refused.code == "overloaded"
    assert core.refusal("m", request_id=3) == refused
    assert core.on_finish(1.0, 1) == []
    assert assigned(arrive(core, 4)) == [(4, "a")]


def test_retry_after_follows_the_pace_of_finishes():
    core = make_core(("a", 1), max_waiting=20)
    for request_id in range(21):
        arrive(core, request_id)
    for request_id in range(10):
        core.on_finish(4.0 * request_id, request_id)
    for request_id in range(100, 110):
        arrive(core, request_id)
    (refused,) = arrive(core, 200)
    assert refused.retry_after_s == 4.0 * 20 / 2


def test_least_outstanding_work_then_capacity():
    core = make_core(("a", 2), ("b", 2))
    assert assigned(arrive(core, 1, prompt=1000)) == [(1, "a")]
    assert assigned(arrive(core, 2, prompt=10)) == [(2, "b")]
    assert assigned(arrive(core, 3, prompt=10)) == [(3, "b")]
    assert assigned(arrive(core, 4, prompt=10)) == [(4, "a")]
    assert arrive(core, 5) == []
    assert core.num_waiting("m") == 1
    assert core.num_assigned("a") == core.num_assigned("b") == 2


def test_what_has_left_is_no_outstanding_work():
    core = make_core(("a", 2), ("b", 2))
    assert assigned(arrive(core, 1, prompt=1000)) == [(1, "a")]
    core.on_finish(0.0, 1)
    assert assigned(arrive(core, 2)) == [(2, "a")]
    core.on_replica_lost(0.0, "a", crashed=True)
    core.on_cancel(0.0, 2)
    core.on_replica_ready(0.0, "a", 2)
    assert assigned(arrive(core, 3)) == [(3, "a")]


def test_priority_then_arrival_order():
    core = make_core(("a", 1))
    arrive(core, 1)
    for request_id, priority in [(2, 0), (3, 5), (4, 5), (5, -1)]:
        assert arrive(core, request_id, priority=priority) == []
    order = []
    running = 1
    while running:
        effects = assigned(core.on_finish(0.0, running))
        running = effects[0][0] if effects else 0
        order.append(running)
    assert order == [3, 4, 2, 5, 0]


def test_cancel_waiting_and_running():
    core = make_core(("a", 1))
    arrive(core, 1)
    arrive(core, 2)
    arrive(core, 3)
    assert core.on_cancel(0.0, 2) == []
    assert core.on_cancel(0.0, 1) == [CancelOn(1, "a"), Assign(3, "a")]
    assert core.on_cancel(0.0, 1) == []
    assert core.num_open == 1


def test_a_lost_replica_gives_its_requests_to_another_in_order():
    core = make_core(("a", 2), ("b", 2))
    for request_id in range(1, 5):
        arrive(core, request_id)
    arrive(core, 5)
    assert core.on_replica_lost(0.0, "a", crashed=True) == []
    assert core.replica_of(1) is None
    assert assigned(core.on_finish(0.0, 2)) == [(1, "b")]
    assert assigned(core.on_replica_ready(0.0, "a", 2)) == [(3, "a"), (5, "a")]


def test_the_last_replica_gone_fails_what_waits():
    core = make_core(("a", 1), ("b", 1))
    for request_id in (1, 2, 3):
        arrive(core, request_id)
    assert core.on_replica_gone(0.0, "a", "no file") == []
    effects = core.on_replica_gone(0.0, "b", "no file")
    assert [e.request_id for e in effects if isinstance(e, Fail)] == [1, 2, 3]
    assert core.num_open == 0
    (refused,) = arrive(core, 4)
    assert refused.code == "model_failed"
    assert "no file" in refused.message


def crash(core: SchedulerCore, replica: str = "a", capacity: int = 64):
    """One crash and restart: (failed ids, assigned ids)."""
    effects = core.on_replica_lost(0.0, replica, crashed=True)
    effects += core.on_replica_ready(0.0, replica, capacity)
    return [e.request_id for e in effects if isinstance(e, Fail)], [i for i, _ in assigned(effects)]


def test_one_crash_runs_everything_again_at_once():
    core = make_core(("a", 64))
    for request_id in range(16):
        arrive(core, request_id)
    assert crash(core) == ([], list(range(16)))


@pytest.mark.parametrize("poison", [0, 3, 7])
def test_poison_alone_fails_and_costs_few_crashes(poison):
    core = make_core(("a", 64))
    for request_id in range(8):
        arrive(core, request_id)
    running = set(range(8))
    failed: list[int] = []
    finished: set[int] = set()
    num_crashes = 0
    for _ in range(100):
        if poison in running:
            now_failed, now_assigned = crash(core)
            num_crashes += 1
            failed += now_failed
            running = set(now_assigned)
        elif running:
            request_id = min(running)
            running.discard(request_id)
            finished.add(request_id)
            running |= {i for i, _ in assigned(core.on_finish(0.0, request_id))}
    assert failed == [poison]
    assert finished == set(range(8)) - {poison}
    assert num_crashes == 3


def test_poison_does_not_drag_others_across_replicas():
    core = make_core(("a", 64), ("b", 64))
    for request_id in range(8):
        arrive(core, request_id)
    poison, failed, finished = 5, [], set()
    for _ in range(100):
        where = core.replica_of(poison)
        if where is not None:
            failed += crash(core, where)[0]
            continue
        running = [i for i in range(8) if core.replica_of(i) is not None]
        if running:
            core.on_finish(0.0, running[0])
            finished.add(running[0])
    assert failed == [poison]
    assert finished == set(range(8)) - {poison}


def test_a_suspect_runs_alone_among_suspects_but_beside_others():
    core = make_core(("a", 64))
    arrive(core, 1)
    arrive(core, 2)
    crash(core)
    assert crash(core) == ([], [1])
    assert assigned(arrive(core, 3)) == [(3, "a")]
    # 1 is the one suspect that ran, so it is blamed, and 3 is not even counted.
    assert crash(core) == ([1], [2, 3])
    assert 3 not in core.watched


def test_tokens_clear_a_suspect():
    core = make_core(("a", 64))
    arrive(core, 1)
    arrive(core, 2)
    crash(core)
    assert crash(core) == ([], [1])
    assert core.on_progress(1, PROGRESS_TOKENS - 1) == []
    assert assigned(core.on_progress(1, 1)) == [(2, "a")]
    assert core.on_progress(1, 100) == []
    # 2 is still a suspect and the crash is its third; 1 goes on.
    assert crash(core) == ([2], [1])


def test_progress_between_crashes_does_not_save_a_poison_for_ever():
    core = make_core(("a", 64), max_crashes=3, max_total_crashes=6)
    arrive(core, 1)
    arrive(core, 2)
    num_crashes = 0
    while core.num_open == 2:
        num_crashes += 1
        failed, _ = crash(core)
        core.on_progress(1, PROGRESS_TOKENS)
        core.on_progress(2, PROGRESS_TOKENS)
        assert num_crashes < 20
    assert len(failed) == 1
    assert num_crashes > 6


def test_an_orderly_end_is_no_crash():
    core = make_core(("a", 4))
    arrive(core, 1)
    for _ in range(10):
        core.on_replica_lost(0.0, "a", crashed=False)
        assert assigned(core.on_replica_ready(0.0, "a", 4)) == [(1, "a")]
    assert not core.watched


MAX_WAITING = 4


class CoreMachine(RuleBasedStateMachine):
    """Any order of events: nothing is lost, doubled, over capacity or over the queue's bound."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SchedulerCore(CoreSettings(max_waiting=MAX_WAITING))
        self.capacity = {"a": 2, "b": 3}
        self.ready: set[str] = set()
        self.where: dict[int, str | None] = {}
        self.left: set[int] = set()
        self.num_resumed = 0
        self.next_id = 0
        for name in self.capacity:
            self.core.on_replica_added(name, "m")

    def apply(self, effects) -> None:
        for effect in effects:
            request_id = effect.request_id
            assert request_id not in self.left
            match effect:
                case Assign():
                    assert self.where[request_id] is None, "assigned twice"
                    assert effect.replica in self.ready
                    self.where[request_id] = effect.replica
                case Fail() | Refuse():
                    del self.where[request_id]
                    self.left.add(request_id)
                case CancelOn():
                    assert self.where.get(request_id) == effect.replica

    @rule(priority=st.integers(0, 2), tokens=st.integers(1, 500))
    def arrival(self, priority, tokens):
        request_id, self.next_id = self.next_id, self.next_id + 1
        num_waiting = sum(where is None for where in self.where.values())
        self.where[request_id] = None
        effects = self.core.on_arrival(0.0, Arrival(request_id, "m", tokens, tokens, priority))
        self.apply(effects)
        is_refused = request_id in self.left
        if num_waiting >= MAX_WAITING:
            assert is_refused

    @rule(name=st.sampled_from(["a", "b"]))
    def ready_again(self, name):
        if name not in self.ready:
            self.ready.add(name)
            self.apply(self.core.on_replica_ready(0.0, name, self.capacity[name]))

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), crashed=st.booleans())
    def lost(self, data, crashed):
        name = data.draw(st.sampled_from(sorted(self.ready)))
        self.ready.discard(name)
        for request_id, where in self.where.items():
            if where == name:
                self.where[request_id] = None
        self.apply(self.core.on_replica_lost(0.0, name, crashed=crashed))

    def running(self) -> list[int]:
        return [request_id for request_id, where in self.where.items() if where is not None]

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def finish(self, data):
        request_id = data.draw(st.sampled_from(self.running()))
        del self.where[request_id]
        self.left.add(request_id)
        self.apply(self.core.on_finish(0.0, request_id))

    @precondition(lambda self: self.running())
    @rule(data=st.data(), num_tokens=st.integers(1, 10))
    def progress(self, data, num_tokens):
        self.apply(self.core.on_progress(data.draw(st.sampled_from(self.running())), num_tokens))

    @precondition(lambda self: self.where)
    @rule(data=st.data())
    def cancel(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.where)))
        where = self.where[request_id]
        effects = self.core.on_cancel(0.0, request_id)
        assert (CancelOn(request_id, where) in effects) == (where is not None)
        self.where.pop(request_id)
        self.left.add(request_id)
        self.apply([e for e in effects if not isinstance(e, CancelOn)])

    @invariant()
    def agrees(self):
        core = self.core
        assert core.num_open == len(self.where)
        num_waiting = 0
        for request_id, where in self.where.items():
            assert core.replica_of(request_id) == where
            num_waiting += where is None
        assert core.num_waiting("m") == num_waiting
        assert num_waiting <= MAX_WAITING + sum(self.capacity.values())
        for name, capacity in self.capacity.items():
            num_assigned = sum(where == name for where in self.where.values())
            assert core.num_assigned(name) == num_assigned <= capacity
        assert core.watched <= set(self.where)

    @invariant()
    def no_idle_slot_beside_a_request_above_suspicion(self):
        has_room = any(self.core.num_assigned(name) < self.capacity[name] for name in self.ready)
        if has_room:
            waiting = {i for i, where in self.where.items() if where is None}
            assert waiting <= self.core.watched


CoreMachine.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestCoreProperties = CoreMachine.TestCase
