"""One replica's best split: against all splits, and what it must respect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fmedge.sched.provision import split
from fmedge.sched.provision.split import Part, Problem, best_split, explain
from tests.sched.provision import naive_split


def plain_problem(speeds: list[float], sizes: list[int], *, host: int = -1) -> Problem:
    """Layers of `sizes` on devices of `speeds`; nothing costs anything besides."""
    size = np.array(sizes)[:, None]
    num_devices = len(speeds)
    zeros = np.zeros(num_devices, np.int64)
    nbytes = np.repeat(size, num_devices, axis=1)[None]
    return Problem(
        cost_s=(size / np.array(speeds))[None],
        nbytes=nbytes,
        host_nbytes=np.zeros_like(nbytes),
        fixed_s=np.zeros(num_devices),
        fixed_bytes=zeros,
        last_bytes=zeros,
        hop_s=np.zeros((num_devices + 1, num_devices + 1)),
        host=host,
        is_allowed=np.ones(num_devices, np.bool_),
    )


def ranges(problem: Problem, capacity: list[int]) -> tuple[Part, ...] | None:
    found = best_split(problem, np.array(capacity))
    return None if found is None else found.ranges


def test_the_fastest_device_alone_where_it_holds_everything() -> None:
    problem = plain_problem([1.0, 5.0, 2.0], [10, 10, 10])
    assert ranges(problem, [100, 30, 100]) == (Part(1, 0, 2),)


def test_what_does_not_fit_goes_to_the_next_fastest() -> None:
    problem = plain_problem([1.0, 5.0, 2.0], [10, 10, 10])
    found = best_split(problem, np.array([100, 29, 100]))
    assert found is not None
    assert found.cost_s == pytest.approx(20 / 5 + 10 / 2)
    assert {part.device for part in found.ranges} == {1, 2}
    assert found.is_optimal


def test_the_host_only_comes_first() -> None:
    problem = plain_problem([1.0, 5.0], [10, 10, 40], host=0)
    assert ranges(problem, [100, 60]) == (Part(1, 0, 2),)
    assert ranges(problem, [100, 45]) == (Part(0, 0, 1), Part(1, 2, 2))
    assert ranges(problem, [100, 30]) == (Part(0, 0, 2),)
    assert ranges(problem, [30, 39]) is None


def test_a_device_whose_hop_costs_more_than_it_gains_is_left_out() -> None:
    problem = plain_problem([1.0, 5.0], [10, 10, 10])
    hop_s = np.full((3, 3), 17.0)
    assert ranges(replace(problem, hop_s=hop_s), [100, 20]) == (Part(0, 0, 2),)
    assert ranges(problem, [100, 20]) != (Part(0, 0, 2),)


def test_bytes_that_a_range_costs_at_all_and_those_of_the_last_one() -> None:
    problem = plain_problem([1.0, 5.0], [10, 10])
    fixed = replace(problem, fixed_bytes=np.array([0, 5]), last_bytes=np.array([0, 3]))
    assert ranges(fixed, [100, 28]) == (Part(1, 0, 1),)
    assert ranges(fixed, [7, 28]) == (Part(1, 0, 1),)
    assert ranges(fixed, [7, 27]) is None
    assert ranges(fixed, [10, 15]) == (Part(1, 0, 0), Part(0, 1, 1))
    assert ranges(fixed, [10, 14]) is None
    based = replace(fixed, base_bytes=np.array([0, 1]))
    assert ranges(based, [7, 29]) == (Part(1, 0, 1),)
    assert ranges(based, [7, 28]) is None


def test_experts_go_to_the_host_as_far_as_the_device_needs_it() -> None:
    problem = plain_problem([1.0, 10.0], [10, 10, 10, 10], host=0)
    experts = np.array([0, 8, 8, 0])[:, None] * np.array([0, 1])
    moe = replace(
        problem,
        cost_s=np.concatenate([problem.cost_s, problem.cost_s + experts * 0.2]),
        nbytes=np.concatenate([problem.nbytes, problem.nbytes - experts]),
        host_nbytes=np.stack([np.zeros_like(experts), experts]),
    )
    assert ranges(moe, [100, 40]) == (Part(1, 0, 3, 0),)
    assert ranges(moe, [100, 39]) == (Part(1, 0, 3, 1),)
    assert ranges(moe, [100, 31]) == (Part(1, 0, 3, 2),)
    assert ranges(moe, [15, 31]) == (Part(0, 0, 0), Part(1, 1, 3, 0))


@pytest.mark.parametrize("variants", [1, 2])
def test_equal_to_trying_all_splits(variants: int) -> None:
    num_found = 0
    for seed in range(60):
        random = np.random.default_rng([variants, seed])
        num_devices = int(random.integers(2, 5))
        host = int(random.integers(-1, 1))
        problem = naive_split.random_problem(
            random, int(random.integers(1, 6 - variants)), num_devices, variants=variants, host=host
        )
        capacity = naive_split.random_capacity(random, [problem])
        best = naive_split.best_cost([problem], capacity)
        found = best_split(problem, capacity)
        assert (found is None) == (best == np.inf), seed
        if found is None:
            continue
        num_found += 1
        assert problem.weight * found.cost_s == pytest.approx(best, rel=1e-9), seed
        assert found.cost_s == pytest.approx(split.cost_s(problem, found.ranges))
        assert (split.usage(problem, found.ranges) <= capacity).all()
        assert found.is_optimal
    assert num_found > 20


def test_explain_tells_what_a_device_gains_or_costs() -> None:
    problem = plain_problem([1.0, 5.0, 2.0], [10, 10, 10])
    capacity = np.array([100, 30, 100])
    best = best_split(problem, capacity)
    slow = explain(problem, capacity, best, 0)
    assert slow.without_it is best
    assert slow.with_it is not None
    assert slow.with_it.cost_s == pytest.approx(10 / 1 + 20 / 5)
    fast = explain(problem, capacity, best, 1)
    assert fast.with_it is best
    assert fast.without_it is not None
    assert fast.without_it.cost_s == pytest.approx(30 / 2)
    alone = explain(problem, np.array([0, 30, 0]), best, 1)
    assert alone.without_it is None


def test_many_devices_of_few_kinds_are_no_harder_than_few() -> None:
    problem = plain_problem([5.0] * 20 + [3.0] * 20 + [1.0], [7, 9] * 40)
    capacity = np.array([30] * 20 + [40] * 20 + [900])
    found = best_split(problem, capacity)
    assert found is not None
    assert (split.usage(problem, found.ranges) <= capacity).all()
    # three layers fit on a fast device, 23 or 25 bytes; 20 of them hold 60 layers, the rest is near
    assert found.bound_s <= found.cost_s <= 1.01 * found.bound_s


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cost_s": np.zeros((1, 3))}, "cost_s has the shape"),
        ({"nbytes": np.zeros((1, 2, 3), np.int64)}, "nbytes has the shape"),
        ({"fixed_s": np.array([0.0, np.nan])}, "fixed_s has values"),
        ({"hop_s": np.full((3, 3), -1.0)}, "hop_s has values"),
        ({"host": 2}, "host is device 2 of 2"),
        ({"weight": np.inf}, "the weight is inf"),
    ],
)
def test_impossible_problems_are_refused(change: dict[str, object], said: str) -> None:
    problem = plain_problem([1.0, 5.0], [10, 10, 10])
    with pytest.raises(ValueError, match=said):
        replace(problem, **change)  # type: ignore[arg-type]
