"""What fmedge's policy does without some of its parts, and progress that is told in bulk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.sched.core import Arrival, Assign, CoreSettings, SchedulerCore, StepFacts
from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.steps import StepLimits
from fmedge.types import Promise
from tests.sched.virtual import INTERACTIVE, World, cpu_like, mixed_calls, score

DURATION_S = 60.0


def make_core(*speeds: float, slots: int = 4, **options: object) -> SchedulerCore:
    core = SchedulerCore(CoreSettings(**options))
    facts = ReplicaFacts(slots=slots, ctx_size=8192, limits=StepLimits(max_tokens=512))
    for index, speed in enumerate(speeds):
        core.on_replica_added(f"r{index}", "m")
        core.on_replica_ready(0.0, f"r{index}", facts, cpu_like(speed).packed())
    return core


def test_an_unknown_part_names_those_there_are():
    with pytest.raises(ValueError, match=r"no part 'rectifier'.* there are queue, rectify"):
        SchedulerCore(CoreSettings(without=frozenset({"queue", "rectifier"})))


def test_without_queues_each_estimate_is_of_an_idle_replica():
    for without in (frozenset(), frozenset({"queue"})):
        core = make_core(1.0, without=without)
        for request_id in range(1, 9):
            core.on_arrival(0.0, Arrival(request_id, "m", 400, 50, promise=Promise(ttft_s=9.0)))
        first, last = core.decision(1).estimate, core.decision(8).estimate
        if without:
            assert last == first
            assert last.l_q_s == 0.0
        else:
            assert last.ttft_s > 4 * first.ttft_s


def test_knowing_queues_is_worth_something_and_all_is_served_without():
    goodput = {}
    for without in (frozenset(), frozenset({"queue"})):
        chosen = CoreSettings(max_waiting=10_000, without=without)
        world = World((1.0, 0.4), settings=chosen, seed=2)
        world.run(mixed_calls(3.2, DURATION_S, seed=2))
        assert world.core.num_open == 0
        goodput[without] = score(world.results.values(), DURATION_S).goodput
    assert goodput[frozenset()] > goodput[frozenset({"queue"})] + 0.1


def test_without_rectifying_nothing_moves_or_is_given_up():
    chosen = CoreSettings(max_waiting=10_000, without=frozenset({"rectify"}))
    world = World((1.0, 0.4), settings=chosen, seed=2)
    world.run(mixed_calls(5.0, 20.0, seed=2))
    events = [event for d in world.core.recent() for event in d.events]
    assert events
    assert not any("cannot be kept any more" in e.detail or e.what == "moved" for e in events)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 3)), max_size=12), st.booleans())
def test_progress_in_bulk_is_as_each_alone(tokens, was_lost):
    single, bulk = make_core(1.0, 0.5), make_core(1.0, 0.5)
    for core in (single, bulk):
        for request_id in range(1, 7):
            core.on_arrival(0.0, Arrival(request_id, "m", 50, 90, promise=INTERACTIVE))
        if was_lost:  # so that what runs is watched
            effects = core.on_replica_lost(0.1, "r1", crashed=True)
            assert all(isinstance(effect, Assign) for effect in effects)
    started = tuple((i, 50) for i in range(1, 7))
    facts = StepFacts(started, 4e-4, 4e-3)
    single.on_step(0.5, "r0", facts)
    one_by_one = [e for i, n in tokens for e in single.on_tokens(0.5, i, n)]
    assert bulk.on_progress_bulk(0.5, "r0", tokens, facts) == one_by_one
    assert bulk.watched == single.watched
    arrival = Arrival(99, "m", 80, 40, promise=INTERACTIVE)
    assert bulk.estimate(0.6, arrival) == single.estimate(0.6, arrival)
    assert bulk.on_arrival(0.6, arrival) == single.on_arrival(0.6, arrival)
    for request_id in range(1, 7):
        assert bulk.on_finish(0.7, request_id) == single.on_finish(0.7, request_id)
