"""The policies that fmedge's own is compared with."""

from __future__ import annotations

from collections import Counter

import pytest

from fmedge.sched.core import POLICIES, Arrival, Assign, CoreSettings, SchedulerCore, StepFacts


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
