"""The core under its own policy, any order of events: nothing is lost or doubled, everything
leaves once, what the estimator and the mirror hold is what is open."""

from __future__ import annotations

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fmedge.sched.core import (
    Arrival,
    Assign,
    CancelOn,
    CoreSettings,
    Fail,
    Observed,
    Refuse,
    SchedulerCore,
    StepFacts,
    Withdraw,
)
from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.steps import StepLimits
from fmedge.types import BEST_EFFORT, Promise
from tests.sched.virtual import cpu_like

MAX_WAITING = 5
SLOTS = {"a": 2, "b": 3}
PROMISES = (
    BEST_EFFORT,
    Promise(weight=4.0),
    Promise(ttft_s=0.2, on_miss="refuse"),
    Promise(ttft_s=0.5, tpot_s=0.02),
    Promise(e2e_s=3.0, weight=2.0),
)
PROMPT = bytes(4 * 600)


class EstimatedMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        settings = CoreSettings(max_waiting=MAX_WAITING, best_effort_wait_s=2.0)
        self.core = SchedulerCore(settings)
        self.now_s = 100.0
        self.ready: set[str] = set()
        self.where: dict[int, str | None] = {}
        self.prompts: dict[int, int] = {}
        self.emitted: dict[int, int] = {}
        self.withdrawn: dict[int, int] = {}
        self.left: set[int] = set()
        self.next_id = 1
        for name in SLOTS:
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
                case Withdraw():
                    assert self.where[request_id] == effect.replica
                    self.where[request_id] = None
                    self.withdrawn[request_id] = self.withdrawn.get(request_id, 0) + 1
                case Fail() | Refuse():
                    del self.where[request_id]
                    self.left.add(request_id)
                case CancelOn():
                    assert self.where.get(request_id) == effect.replica

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 2.5]))
    def time_passes(self, seconds):
        self.now_s += seconds
        self.apply(self.core.on_tick(self.now_s))

    @rule(
        promise=st.sampled_from(PROMISES),
        num_prompt=st.sampled_from([1, 40, 600]),
        max_tokens=st.sampled_from([0, 1, 100]),
        priority=st.sampled_from([0, 0, 1]),
        key=st.sampled_from(["x", "y"]),
    )
    def arrival(self, promise, num_prompt, max_tokens, priority, key):
        request_id, self.next_id = self.next_id, self.next_id + 1
        num_waiting = sum(where is None for where in self.where.values())
        self.where[request_id] = None
        self.prompts[request_id] = num_prompt
        self.emitted[request_id] = 0
        arrival = Arrival(
            request_id, "m", num_prompt, max_tokens, priority,
            promise=promise, api_key_id=key, prompt=PROMPT[: 4 * num_prompt],
        )  # fmt: skip
        before = self.core.estimate(self.now_s, arrival)
        assert before.action in ("assign", "queue", "best_effort", "refuse")
        self.apply(self.core.on_arrival(self.now_s, arrival))
        decision = self.core.decision(request_id)
        assert decision is not None
        assert decision.reason
        assert (decision.action == "refuse") == (request_id in self.left)
        if not self.ready:
            assert num_waiting < MAX_WAITING or request_id in self.left

    @rule(name=st.sampled_from(["a", "b"]))
    def ready_again(self, name):
        if name not in self.ready:
            self.ready.add(name)
            facts = ReplicaFacts(
                slots=SLOTS[name], ctx_size=4096, limits=StepLimits(max_tokens=256)
            )
            packed = cpu_like(1.0 if name == "a" else 0.4).packed()
            self.apply(self.core.on_replica_ready(self.now_s, name, facts, packed))

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), crashed=st.booleans())
    def lost(self, data, crashed):
        name = data.draw(st.sampled_from(sorted(self.ready)))
        self.ready.discard(name)
        for request_id, where in self.where.items():
            if where == name:
                self.where[request_id] = None
        self.apply(self.core.on_replica_lost(self.now_s, name, crashed=crashed))

    def running(self) -> list[int]:
        return [request_id for request_id, where in self.where.items() if where is not None]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), has_tokens=st.booleans())
    def step(self, data, has_tokens):
        request_id = data.draw(st.sampled_from(self.running()))
        replica = self.where[request_id]
        num_computed = self.prompts[request_id] + self.emitted[request_id]
        if not has_tokens:
            num_computed = max(1, num_computed // 2)
        self.now_s += 0.02
        facts = StepFacts(((request_id, num_computed), (10**9, 3)), 0.0004, 0.004)
        self.core.on_step(self.now_s, replica, facts)
        if has_tokens:
            self.emitted[request_id] += 1
            self.apply(self.core.on_tokens(self.now_s, request_id, 1))
            self.core.on_first_token(self.now_s, request_id, 0)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), tells=st.booleans())
    def finish(self, data, tells):
        request_id = data.draw(st.sampled_from(self.running()))
        del self.where[request_id]
        self.left.add(request_id)
        observed = Observed(e2e_s=1.0, ttft_s=0.1, tokens=bytes(256)) if tells else None
        self.apply(self.core.on_finish(self.now_s, request_id, observed))

    @precondition(lambda self: self.where)
    @rule(data=st.data())
    def cancel(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.where)))
        where = self.where.pop(request_id)
        effects = self.core.on_cancel(self.now_s, request_id)
        if where is not None:
            assert effects[0] == CancelOn(request_id, where)
        self.left.add(request_id)
        self.apply([e for e in effects if not isinstance(e, CancelOn)])

    @rule()
    def unknown_events_are_harmless(self):
        assert self.core.on_finish(self.now_s, 10**9) == []
        assert self.core.on_cancel(self.now_s, 10**9) == []
        assert self.core.on_tokens(self.now_s, 10**9, 1) == []
        self.core.on_first_token(self.now_s, 10**9, 0)
        self.core.on_step(self.now_s, "nobody", StepFacts())

    @invariant()
    def agrees(self):
        core = self.core
        assert core.num_open == len(self.where)
        for request_id, where in self.where.items():
            assert core.replica_of(request_id) == where
        num_waiting = sum(where is None for where in self.where.values())
        assert core.num_waiting("m") == num_waiting
        capacity = {name: slots + 2 * (1 + slots // 8) for name, slots in SLOTS.items()}
        assert num_waiting <= MAX_WAITING + sum(capacity.values())
        for name, most in capacity.items():
            num_assigned = sum(where == name for where in self.where.values())
            assert core.num_assigned(name) == num_assigned <= most
        assert core.watched <= set(self.where)
        limit = CoreSettings().max_withdrawals
        assert all(num <= limit + 4 for num in self.withdrawn.values())

    @invariant()
    def the_queue_is_in_order(self):
        waiting = self.core._models["m"].waiting
        orders = [request.order() for request in waiting]
        assert orders == sorted(orders)

    @invariant()
    def the_estimator_holds_what_is_open(self):
        plans = self.core._router._plans
        if plans is None:
            return
        held = {i for name in plans.fleet.names for i in plans.fleet.requests_on(name)}
        assert held <= set(self.where)
        for request_id, where in self.where.items():
            request = self.core._requests[request_id]
            if where is not None and not request.is_embedding:
                assert plans.fleet.replica_of(request_id) == where
            elif request.home is not None and not request.is_embedding:
                assert plans.fleet.replica_of(request_id) == request.home.name
        assert set(plans._told) <= set(self.where)

    @invariant()
    def no_slot_idles_beside_best_effort(self):
        if not all(r.is_estimated for r in self.core._replicas.values() if r.capacity):
            return
        for request in self.core._models["m"].waiting:
            if request.arrival.request_id in self.core.watched or not request.is_aged:
                continue
            for name in self.ready:
                assert self.core.num_assigned(name) >= SLOTS[name]


EstimatedMachine.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestEstimatedCore = EstimatedMachine.TestCase


def test_a_burst_is_held_to_the_queue_before_anything_of_it_has_started():
    core = SchedulerCore(CoreSettings(max_waiting=MAX_WAITING))
    core.on_replica_added("a", "m")
    facts = ReplicaFacts(slots=SLOTS["a"], ctx_size=4096, limits=StepLimits(max_tokens=256))
    core.on_replica_ready(0.0, "a", facts, cpu_like(1.0).packed())
    refused = []
    for request_id in range(60):
        arrival = Arrival(request_id, "m", 40, 100, promise=BEST_EFFORT, prompt=PROMPT[:160])
        effects = core.on_arrival(0.0, arrival)
        if any(isinstance(effect, Refuse) for effect in effects):
            refused.append(request_id)
    assert core.num_waiting("m") == MAX_WAITING
    assert refused == list(range(SLOTS["a"] + MAX_WAITING, 60))
