"""Models whose replicas come and go: requests wait for them, none is lost, and what cannot hold for
the time that loading takes is told at once."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fmedge.sched.core import (
    Arrival,
    Assign,
    CancelOn,
    CoreSettings,
    Fail,
    Refuse,
    SchedulerCore,
    StepFacts,
    Withdraw,
)
from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.steps import StepLimits
from fmedge.types import BEST_EFFORT, Promise
from tests.sched.virtual import cpu_like

FACTS = ReplicaFacts(slots=2, ctx_size=4096, limits=StepLimits(max_tokens=256))
TIGHT = Promise(sla_class="tight", ttft_s=2.0, on_miss="refuse")
SOFT = Promise(sla_class="soft", ttft_s=2.0)


def make_core(load_s: float = 10.0, **settings: int) -> SchedulerCore:
    core = SchedulerCore(CoreSettings(**settings))
    core.on_model_added("m", load_s)
    return core


def arrive(core: SchedulerCore, request_id: int, now_s: float = 0.0, promise=BEST_EFFORT):
    arrival = Arrival(request_id, "m", 10, 10, promise=promise)
    return core.on_arrival(now_s, arrival)


def assigned(effects) -> list[tuple[int, str]]:
    return [(e.request_id, e.replica) for e in effects if isinstance(e, Assign)]


@pytest.mark.parametrize("is_estimated", [False, True])
def test_requests_wait_for_the_first_replica(is_estimated):
    core = make_core()
    assert arrive(core, 1) == arrive(core, 2, promise=Promise(e2e_s=60.0)) == []
    assert core.num_waiting("m") == 2
    assert core.refusal("m") is None
    decision = core.decision(1)
    assert decision.action == "queue"
    assert "m is not loaded: it is expected to serve in 10.0 s" in decision.reason
    assert decision.estimates[0].l_r_s == 10.0
    core.on_replica_added("m/0", "m")
    core.on_load_expected("m", 8.0, 10.0)
    assert arrive(core, 3, 1.0) == []
    assert "is loading: it is expected to serve in 7.0 s" in core.decision(3).reason
    if is_estimated:
        effects = core.on_replica_ready(8.0, "m/0", FACTS, cpu_like(1.0).packed())
    else:
        effects = core.on_replica_ready(8.0, "m/0", 2)
    assert sorted(assigned(effects)) == [(1, "m/0"), (2, "m/0")]
    assert assigned(core.on_finish(9.0, 1)) == [(3, "m/0")]


def test_a_promise_that_loading_breaks_is_refused_or_given_up_and_counts_as_demand():
    core = make_core(load_s=10.0)
    told = core.estimate(0.0, Arrival(1, "m", 10, 10, promise=TIGHT))
    (refused,) = arrive(core, 1, promise=TIGHT)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.retry_after_s) == ("sla_unattainable", 10.0)
    assert told.reason == refused.message == core.decision(1).reason
    assert told.action == core.decision(1).action == "refuse"
    assert core.num_open == 0
    assert arrive(core, 2, promise=SOFT) == []
    assert core.decision(2).action == "best_effort"
    work = core.open_work("m")
    assert work.refused == ((0.0, 1.0),)
    assert work.num_arrived == 2
    # Soon enough, and neither is touched.
    core.on_replica_added("m/0", "m")
    core.on_load_expected("m", 1.5, 10.0)
    assert arrive(core, 3, 0.0, promise=TIGHT) == []
    assert core.decision(3).action == "queue"
    core.on_replica_ready(1.5, "m/0", 4)
    assert core.open_work("m").refused == ()


def test_what_the_model_could_do_at_best_comes_on_top_of_the_load():
    core = make_core(load_s=1.9)
    core.on_replica_added("m/0", "m")
    core.on_replica_ready(0.0, "m/0", FACTS, cpu_like(1.0).packed())
    core.on_tick(0.0)
    core.on_replica_retiring(0.0, "m/0")
    core.on_replica_gone(0.0, "m/0", "unloaded")
    long = Arrival(1, "m", 4000, 10, promise=TIGHT)
    (refused,) = core.on_arrival(1.0, long)
    assert isinstance(refused, Refuse)
    assert core.decision(1).estimates[0].l_x_s > 0.1
    assert arrive(core, 2, 1.0, promise=TIGHT) == []


def test_the_queue_is_bounded_without_a_replica():
    core = make_core(max_waiting=2)
    arrive(core, 1)
    arrive(core, 2)
    (refused,) = arrive(core, 3)
    assert isinstance(refused, Refuse)
    assert refused.code == "overloaded"
    none_wait = make_core(max_waiting=0)
    (refused,) = arrive(none_wait, 1)
    assert isinstance(refused, Refuse)
    assert "0 requests waiting" in refused.message


def test_retiring_finishes_what_runs_and_gives_nothing_more():
    core = make_core()
    core.on_replica_added("m/0", "m")
    core.on_replica_ready(0.0, "m/0", 1)
    assert assigned(arrive(core, 1)) == [(1, "m/0")]
    arrive(core, 2)
    assert core.on_replica_retiring(1.0, "m/0") == []
    assert core.on_replica_retiring(1.0, "m/0") == []
    assert core.on_finish(2.0, 1) == []
    assert core.num_assigned("m/0") == 0
    assert core.on_replica_ready(2.0, "m/0", 4) == []
    assert core.on_replica_gone(3.0, "m/0", "unloaded") == []
    assert core.num_waiting("m") == 1
    core.on_replica_added("m/0", "m")
    assert assigned(core.on_replica_ready(5.0, "m/0", 1)) == [(2, "m/0")]


def test_what_a_retired_replica_still_ran_goes_to_another():
    core = make_core()
    for name in ("m/0", "m/1"):
        core.on_replica_added(name, "m")
    core.on_replica_ready(0.0, "m/0", 4)
    assert assigned(arrive(core, 1)) == [(1, "m/0")]
    core.on_replica_ready(0.0, "m/1", 4)
    core.on_replica_retiring(1.0, "m/0")
    assert assigned(arrive(core, 2)) == [(2, "m/1")]
    assert assigned(core.on_replica_lost(2.0, "m/0", crashed=False)) == [(1, "m/1")]


def test_a_model_that_cannot_be_loaded_fails_what_waits_until_it_can():
    core = make_core()
    arrive(core, 1)
    (failed,) = core.on_model_failed(1.0, "m", "no memory", 5.0)
    assert isinstance(failed, Fail)
    assert failed.retry_after_s == 5.0
    assert "no memory" in failed.message
    (refused,) = arrive(core, 2)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.retry_after_s) == ("model_failed", 5.0)
    core.on_model_added("m", 3.0)
    assert arrive(core, 3) == []
    assert core.decision(3).estimates[0].l_r_s == 3.0


def test_work_is_told_with_its_age_and_weight():
    core = make_core()
    arrive(core, 1, 1.0, Promise(weight=3.0))
    arrive(core, 2, 2.0)
    core.on_replica_added("m/0", "m")
    core.on_replica_ready(3.0, "m/0", 1)
    work = core.open_work("m")
    assert work.waiting == ((2.0, 1.0),)
    assert (work.num_running, work.running_weight, work.num_arrived) == (1, 3.0, 2)


MAX_WAITING = 6
NAMES = {"a": ("a/0", "a/1"), "b": ("b/0",)}
PROMISES = (BEST_EFFORT, Promise(weight=4.0), TIGHT, SOFT, Promise(e2e_s=30.0, weight=2.0))


class ColdMachine(RuleBasedStateMachine):
    """Replicas of two models come, retire and go in any order; nothing is lost or doubled, and a
    replica that retires is given nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.core = SchedulerCore(CoreSettings(max_waiting=MAX_WAITING, best_effort_wait_s=2.0))
        self.now_s = 10.0
        self.ready: set[str] = set()
        self.added: set[str] = set()
        self.retiring: set[str] = set()
        self.where: dict[int, str | None] = {}
        self.model: dict[int, str] = {}
        self.left: set[int] = set()
        self.next_id = 1
        for model in NAMES:
            self.core.on_model_added(model, 3.0)

    def apply(self, effects, *, may_fail: bool = False) -> None:
        for effect in effects:
            request_id = effect.request_id
            assert request_id not in self.left
            match effect:
                case Assign():
                    assert self.where[request_id] is None, "assigned twice"
                    assert effect.replica in self.ready - self.retiring
                    self.where[request_id] = effect.replica
                case Withdraw():
                    assert self.where[request_id] == effect.replica
                    self.where[request_id] = None
                case Fail():
                    assert may_fail
                    assert self.where.pop(request_id) is None
                    self.left.add(request_id)
                case Refuse():
                    del self.where[request_id]
                    self.left.add(request_id)
                case CancelOn():
                    assert self.where.get(request_id) == effect.replica

    @rule(seconds=st.sampled_from([0.0, 0.05, 1.0, 2.5]))
    def time_passes(self, seconds):
        self.now_s += seconds
        self.apply(self.core.on_tick(self.now_s))

    @rule(
        model=st.sampled_from("ab"),
        promise=st.sampled_from(PROMISES),
        num_prompt=st.sampled_from([1, 600]),
        max_tokens=st.sampled_from([0, 50]),
    )
    def arrival(self, model, promise, num_prompt, max_tokens):
        request_id, self.next_id = self.next_id, self.next_id + 1
        self.where[request_id] = None
        self.model[request_id] = model
        arrival = Arrival(
            request_id, model, num_prompt, max_tokens, promise=promise, prompt=bytes(4 * num_prompt)
        )
        told = self.core.estimate(self.now_s, arrival)
        effects = self.core.on_arrival(self.now_s, arrival)
        self.apply(effects)
        if not any(self.name_of(name) == model for name in self.ready - self.retiring):
            assert (told.action == "refuse") == (request_id in self.left)
        assert self.core.decision(request_id).reason

    @staticmethod
    def name_of(replica: str) -> str:
        return replica.partition("/")[0]

    @rule(name=st.sampled_from(["a/0", "a/1", "b/0"]), expected_s=st.sampled_from([1.0, math.nan]))
    def add(self, name, expected_s):
        if name not in self.added:
            self.added.add(name)
            self.core.on_replica_added(name, self.name_of(name))
            self.core.on_load_expected(self.name_of(name), self.now_s + expected_s, 3.0)

    @precondition(lambda self: self.added - self.ready)
    @rule(data=st.data(), is_estimated=st.booleans())
    def load(self, data, is_estimated):
        name = data.draw(st.sampled_from(sorted(self.added - self.ready)))
        if name not in self.retiring:
            self.ready.add(name)
        if is_estimated:
            packed = cpu_like(1.0).packed()
            self.apply(self.core.on_replica_ready(self.now_s, name, FACTS, packed))
        else:
            self.apply(self.core.on_replica_ready(self.now_s, name, 4))

    @precondition(lambda self: self.added)
    @rule(data=st.data())
    def retire(self, data):
        name = data.draw(st.sampled_from(sorted(self.added)))
        self.retiring.add(name)
        self.apply(self.core.on_replica_retiring(self.now_s, name))

    @precondition(lambda self: self.added)
    @rule(data=st.data(), is_gone=st.booleans(), crashed=st.booleans())
    def end(self, data, is_gone, crashed):
        name = data.draw(st.sampled_from(sorted(self.added)))
        self.ready.discard(name)
        for request_id, where in self.where.items():
            if where == name:
                self.where[request_id] = None
        if is_gone:
            self.added.discard(name)
            self.retiring.discard(name)
            self.apply(self.core.on_replica_gone(self.now_s, name, "it was closed"))
        else:
            effects = self.core.on_replica_lost(self.now_s, name, crashed=crashed)
            self.apply(effects, may_fail=crashed)

    @rule(model=st.sampled_from("ab"))
    def fail(self, model):
        effects = self.core.on_model_failed(self.now_s, model, "no memory", 5.0)
        self.apply(effects, may_fail=True)
        self.core.on_model_added(model, 3.0)

    def running(self) -> list[int]:
        return [request_id for request_id, where in self.where.items() if where is not None]

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def step(self, data):
        request_id = data.draw(st.sampled_from(self.running()))
        self.now_s += 0.02
        self.core.on_step(self.now_s, self.where[request_id], StepFacts(((request_id, 5),)))
        self.apply(self.core.on_tokens(self.now_s, request_id, 1))
        self.core.on_first_token(self.now_s, request_id, 0)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def finish(self, data):
        request_id = data.draw(st.sampled_from(self.running()))
        del self.where[request_id]
        self.left.add(request_id)
        self.apply(self.core.on_finish(self.now_s, request_id))

    @precondition(lambda self: self.where)
    @rule(data=st.data())
    def cancel(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.where)))
        del self.where[request_id]
        self.left.add(request_id)
        effects = self.core.on_cancel(self.now_s, request_id)
        self.apply([e for e in effects if not isinstance(e, CancelOn)])

    @invariant()
    def agrees(self):
        core = self.core
        assert core.num_open == len(self.where)
        for request_id, where in self.where.items():
            assert core.replica_of(request_id) == where
        for model in NAMES:
            mine = [where for r, where in self.where.items() if self.model[r] == model]
            work = core.open_work(model)
            assert len(work.waiting) == core.num_waiting(model) == mine.count(None)
            assert work.num_running == len(mine) - mine.count(None)


ColdMachine.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestColdProperties = ColdMachine.TestCase
