"""The policies that fmedge's own is compared with."""

from __future__ import annotations

from collections import Counter

import pytest

from fmedge.sched.core import POLICIES, Arrival, Assign, CoreSettings, SchedulerCore, StepFacts
from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.steps import StepLimits
from fmedge.types import BEST_EFFORT, Promise
from tests.sched.virtual import Call, World, cpu_like


def make_core(policy: str, *capacities: int, seed: int = 0) -> SchedulerCore:
    core = SchedulerCore(CoreSettings(seed=seed), policy)
    for index, capacity in enumerate(capacities):
        core.on_replica_added(f"r{index}", "m")
        core.on_replica_ready(0.0, f"r{index}", capacity)
    return core


def placed(core: SchedulerCore, sizes: list[int], begin: int = 1) -> list[str]:
    where = []
    for request_id, size in enumerate(sizes, begin):
        effects = core.on_arrival(0.0, Arrival(request_id, "m", size, 1))
        where += [effect.replica for effect in effects if isinstance(effect, Assign)]
    return where


def test_an_unknown_policy_names_those_there_are():
    with pytest.raises(ValueError, match="no policy 'best'; there are fmedge, round_robin"):
        SchedulerCore(policy="best")


def test_round_robin_takes_turns_and_skips_the_full():
    core = make_core("round_robin", 2, 1, 9)
    assert placed(core, [5] * 6) == ["r0", "r1", "r2", "r0", "r2", "r2"]


def test_least_outstanding_counts_work():
    assert placed(make_core("least_outstanding", 9, 9), [500, 5, 5, 600]) == [
        "r0", "r1", "r1", "r1",
    ]  # fmt: skip


def test_power_of_two_is_seeded_and_prefers_the_less_busy():
    first = placed(make_core("power_of_two", 99, 99, 99, seed=4), [5] * 60)
    assert first == placed(make_core("power_of_two", 99, 99, 99, seed=4), [5] * 60)
    assert first != placed(make_core("power_of_two", 99, 99, 99, seed=5), [5] * 60)
    counts = Counter(first)
    assert max(counts.values()) - min(counts.values()) <= 4


def test_speed_weighted_gives_the_fast_one_more():
    core = make_core("speed_weighted", 50, 50)
    core.on_step(0.0, "r0", StepFacts((), 0.001, 0.010))
    core.on_step(0.0, "r1", StepFacts((), 0.002, 0.040))
    counts = Counter(placed(core, [10] * 40))
    assert counts["r0"] == pytest.approx(4 * counts["r1"], abs=4)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_queues_in_order_and_loses_nothing(policy):
    core = make_core(policy, 1, 1)
    assert len(placed(core, [10] * 6)) == 2
    served: list[int] = [1, 2]
    while core.num_open:
        for effect in core.on_finish(
            1.0, served[-core.num_assigned("r0") - core.num_assigned("r1")]
        ):
            assert isinstance(effect, Assign)
            served.append(effect.request_id)
    assert served == [1, 2, 3, 4, 5, 6]


def with_profiles(policy: str, *speeds: float, slots: int = 4, **settings: object) -> SchedulerCore:
    core = SchedulerCore(CoreSettings(**settings), policy)
    facts = ReplicaFacts(slots=slots, ctx_size=8192, limits=StepLimits(max_tokens=512))
    for index, speed in enumerate(speeds):
        core.on_replica_added(f"r{index}", "m")
        core.on_replica_ready(0.0, f"r{index}", facts, cpu_like(speed).packed())
    return core


def sent(core: SchedulerCore, promise: Promise, count: int, begin: int = 1) -> list[str]:
    where = []
    for request_id in range(begin, begin + count):
        arrival = Arrival(request_id, "m", 100, 50, promise=promise)
        where += [e.replica for e in core.on_arrival(0.0, arrival) if isinstance(e, Assign)]
    return where


def test_highest_load_fills_one_as_long_as_promises_hold():
    core = with_profiles("highest_load", 1.0, 1.0, 1.0, slots=8)
    where = sent(core, Promise(ttft_s=0.3, tpot_s=0.1), 12)
    # 100 tokens take 40 ms to prefill: the first replica is the one until 0.3 s are full
    first = where.index("r1")
    assert where[:first] == ["r0"] * first
    assert 4 <= first <= 7
    assert where[first:] == ["r1"] * min(first, 12 - first) + ["r2"] * max(0, 12 - 2 * first)


def test_highest_load_takes_the_least_loaded_where_nothing_holds_or_is_promised():
    core = with_profiles("highest_load", 1.0, 1.0)
    assert sent(core, Promise(ttft_s=0.001), 4) == ["r0", "r1", "r0", "r1"]
    core = with_profiles("highest_load", 1.0, 1.0)
    assert sent(core, BEST_EFFORT, 4) == ["r0", "r1", "r0", "r1"]


def test_highest_load_breaks_no_promise_that_was_made():
    core = with_profiles("highest_load", 1.0, 1.0)
    tight = Promise(ttft_s=0.3, tpot_s=0.0052)  # two at a time, not three
    assert sent(core, tight, 1) == ["r0"]
    loose = Promise(ttft_s=5.0, tpot_s=1.0)
    assert "r1" in sent(core, loose, 3, begin=2)


def test_highest_load_serves_all_there_is():
    world = World((1.0, 0.4), policy="highest_load")
    promise = Promise(ttft_s=2.0, tpot_s=0.02)
    calls = [Call(0.02 * i, 100, 20, promise if i % 2 else BEST_EFFORT) for i in range(60)]
    assert all(r.num_tokens == 20 for r in world.run(calls).values())
    assert world.core.num_open == 0


@pytest.mark.parametrize(("capacity", "most"), [(1.0, 4), (2.0, 8), (0.1, 1), (float("inf"), 30)])
def test_how_many_a_baseline_gives_a_replica(capacity, most):
    core = with_profiles("least_outstanding", 1.0, baseline_capacity=capacity)
    assert len(sent(core, BEST_EFFORT, 30)) == most
    assert core.num_waiting("m") == 30 - most
