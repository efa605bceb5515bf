"""Several replicas on shared memory: against all splits, HiGHS, and bounds that hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fmedge.sched.provision import master, split, walk
from fmedge.sched.provision.joint import Joint, best_joint
from fmedge.sched.provision.split import Problem
from tests.sched.provision import naive_split
from tests.sched.provision.test_split import plain_problem


class Uncompiled:
    cheapest_walk = staticmethod(walk.cheapest_walk)
    solve = staticmethod(master.solve)


def assert_holds(problems: list[Problem], capacity: np.ndarray, found: Joint) -> None:
    pairs = list(zip(problems, found.splits, strict=True))
    used = sum(split.usage(problem, one.ranges) for problem, one in pairs)
    assert (used <= capacity).all()
    cost = sum(problem.weight * split.cost_s(problem, one.ranges) for problem, one in pairs)
    assert found.cost_s == pytest.approx(cost, rel=1e-9)
    assert found.bound_s <= found.cost_s


@pytest.mark.parametrize("variants", [1, 2])
def test_equal_to_trying_all_pairs_of_splits(variants: int) -> None:
    num_found = 0
    for seed in range(40):
        random = np.random.default_rng([7, variants, seed])
        num_devices, host = int(random.integers(2, 5 - variants // 2)), int(random.integers(-1, 1))
        problems = [
            naive_split.random_problem(
                random, int(random.integers(1, 6 - variants)), num_devices,
                variants=variants, host=host,
            )
            for _ in range(2)
        ]  # fmt: skip
        capacity = naive_split.random_capacity(random, problems)
        best = naive_split.best_cost(problems, capacity)
        found = best_joint(problems, capacity, max_nodes=10_000)
        assert (found is None) == (best == np.inf), seed
        if found is not None:
            num_found += 1
            assert_holds(problems, capacity, found)
            assert found.cost_s == pytest.approx(best, rel=1e-9), seed
            assert found.is_optimal
    assert num_found > 15


def test_the_device_goes_to_whom_it_serves_most() -> None:
    one = plain_problem([1.0, 4.0], [10, 10])
    other = replace(one, weight=3.0)
    found = best_joint([one, other], np.array([100, 20]))
    assert found is not None
    assert [[part.device for part in one.ranges] for one in found.splits] == [[0], [1]]
    assert found.is_optimal


def test_a_bound_holds_however_early_the_search_ends() -> None:
    for seed in range(10):
        random = np.random.default_rng([11, seed])
        problems = [naive_split.random_problem(random, 20, 4, variants=1, host=0) for _ in range(3)]
        capacity = naive_split.random_capacity(random, problems) * 3 // 2
        early = best_joint(problems, capacity, max_nodes=1)
        late = best_joint(problems, capacity, max_nodes=40)
        if early is None or late is None:
            continue
        assert_holds(problems, capacity, early)
        assert early.bound_s <= late.bound_s * (1 + 1e-9)
        assert late.cost_s <= early.cost_s
        assert early.bound_s <= late.cost_s


def test_a_gap_that_is_allowed_is_kept() -> None:
    random = np.random.default_rng(3)
    problems = [naive_split.random_problem(random, 20, 4, variants=1, host=-1) for _ in range(2)]
    capacity = np.full(4, sum(int(p.nbytes[0, :, 0].sum()) for p in problems) // 3)
    found = best_joint(problems, capacity, gap=0.02)
    assert found is not None
    assert found.is_optimal
    assert found.bound_s >= 0.98 * found.cost_s


def test_uncompiled_bodies_say_the_same() -> None:
    for seed in range(6):
        random = np.random.default_rng([5, seed])
        problems = [naive_split.random_problem(random, 4, 3, variants=2, host=0) for _ in range(2)]
        capacity = naive_split.random_capacity(random, problems)
        slow = best_joint(problems, capacity, bodies=Uncompiled)
        assert slow == best_joint(problems, capacity)


def test_alike_devices_are_told_apart_where_replicas_share_them() -> None:
    problem = replace(plain_problem([4.0] * 4 + [1.0], [10] * 6), fixed_s=np.ones(5))
    found = best_joint([problem] * 3, np.array([60] * 4 + [600]))
    assert found is not None
    assert found.cost_s == pytest.approx(3 * (60 / 4 + 1))
    assert len({one.ranges[0].device for one in found.splits}) == 3


def test_where_uses_are_too_many_to_count_a_walk_is_still_found() -> None:
    """The beam search is what runs then."""
    random = np.random.default_rng(9)
    problem = naive_split.random_problem(random, 24, 16, variants=1, host=-1)
    problem = replace(problem, is_allowed=np.ones(16, np.bool_))
    total = int(problem.nbytes[0, :, 0].sum())
    capacity = (random.uniform(0.1, 0.25, 16) * total).astype(np.int64) + 12
    found = best_joint([problem, problem], capacity, max_nodes=1)
    assert found is not None
    assert_holds([problem, problem], capacity, found)
    assert not found.is_optimal


def test_as_good_as_a_mixed_integer_programme() -> None:
    random = np.random.default_rng(1)
    problems = [naive_split.random_problem(random, 8, 3, variants=1, host=-1) for _ in range(2)]
    problems = [replace(problem, is_allowed=np.ones(3, np.bool_)) for problem in problems]
    capacity = np.full(3, sum(int(p.nbytes[0, :, 0].sum()) for p in problems) // 2)
    found = best_joint(problems, capacity)
    cost, bound = naive_split.milp_cost(problems, capacity, gap=1e-6, limit_s=30)
    assert found is not None
    assert found.is_optimal
    assert found.cost_s == pytest.approx(cost, rel=1e-5)
    assert bound <= found.cost_s * (1 + 1e-6)


def test_problems_of_other_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="different devices"):
        best_joint([plain_problem([1.0], [1])], np.array([1, 1]))
    assert best_joint([], np.array([1])) == Joint((), 0.0, 0.0, True, 0)


def test_only_planning_imports_numba() -> None:
    code = (
        "import sys, fmedge.sched.provision.joint, fmedge.sched.provision.split;"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
