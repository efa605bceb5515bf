"""The replay of paged engines against its oracle, which goes step by step and block by block."""

import random

import numpy as np
import pytest

from fmedge.sched.fleet import Candidate, Fleet, ReplicaFacts
from fmedge.sched.steps import StepLimits
from fmedge.sched.steptime import Curve, StepModel, step_time
from tests.sched.naive_paged import Limits, NaivePagedReplay, Request

BLOCK_TOKENS = 16
MODEL = StepModel(
    base_s=0.01,
    prefill_base_s=0.001,
    tokens=Curve((0.0, 64.0, 512.0), (0.0, 0.001, 0.04)),
    kv_s=4e-7,
    attention_s=5e-9,
)

Arrival = tuple[float, int, int]


def arrivals(seed: int, per_s: float, num: int = 60) -> list[Arrival]:
    rng = random.Random(seed)
    found, at_s = [], 0.0
    for _ in range(num):
        at_s += rng.expovariate(per_s)
        found.append((at_s, rng.randint(5, 900), rng.randint(1, 300)))
    return found


def oracle(limits: Limits, given: list[Arrival]) -> tuple[list[Request], int]:
    packed = MODEL.packed()
    naive = NaivePagedReplay(limits, lambda *step: step_time(packed, *step))
    return naive.run(given), naive.num_steps


def replayed(limits: Limits, given: list[Arrival]) -> list[Request]:
    fleet = Fleet()
    facts = ReplicaFacts(
        slots=limits.max_sequences,
        ctx_size=10_000,
        limits=StepLimits(max_tokens=limits.step_tokens),
        kv_unified=True,
        kv_tokens=limits.num_blocks * limits.block_tokens,
        step_tokens=limits.step_tokens,
        block_tokens=limits.block_tokens,
        reserve_prompt=limits.reserve_prompt,
        prefix_caching=limits.prefix_caching,
        schedule_ahead=limits.schedule_ahead,
    )
    fleet.add_replica("engine", facts, MODEL.packed())
    for i, (arrival_s, num_prompt, num_output) in enumerate(given):
        candidate = Candidate(
            request_id=i, num_tokens=num_prompt, max_new=num_output, min_new=num_output,
            order_key=float(i), arrival_s=arrival_s,
        )  # fmt: skip
        fleet.put("engine", candidate)
    found = fleet.replay(0.0, "engine")
    rows = zip(given, found.start_s, found.first_s, found.end_s, found.num_preempted, strict=True)
    return [
        Request(*arrival, scheduled_s=start, first_s=first, end_s=end, num_preemptions=int(num))
        for arrival, start, first, end, num in rows
    ]


def errors(limits: Limits, given: list[Arrival]) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Relative errors of TTFT and end to end, and how often each of the two preempts."""
    wanted, _ = oracle(limits, given)
    got = replayed(limits, given)
    pairs = list(zip(wanted, got, strict=True))
    ttft = [(b.first_s - a.first_s) / (a.first_s - a.arrival_s) for a, b in pairs]
    e2e = [(b.end_s - a.end_s) / (a.end_s - a.arrival_s) for a, b in pairs]
    nums = [sum(request.num_preemptions for request in each) for each in (wanted, got)]
    return np.abs(ttft), np.abs(e2e), nums[0], nums[1]


@pytest.mark.parametrize("prefix_caching", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_short_of_kv(seed: int, prefix_caching: bool) -> None:
    limits = Limits(256, 64, 150, BLOCK_TOKENS, prefix_caching=prefix_caching)
    ttft, e2e, num_wanted, num_got = errors(limits, arrivals(seed, 6.0))
    assert num_got == num_wanted > 3
    assert ttft.max() < 2e-3
    assert e2e.max() < 2e-3


@pytest.mark.parametrize("seed", range(3))
def test_planning_ahead_short_of_kv(seed: int) -> None:
    """The replay gives blocks back a step sooner than such an engine does."""
    limits = Limits(256, 64, 150, BLOCK_TOKENS, schedule_ahead=True)
    ttft, e2e, num_wanted, num_got = errors(limits, arrivals(seed, 6.0))
    assert num_wanted > 3
    assert abs(num_got - num_wanted) <= 0.25 * num_wanted
    assert np.median(ttft) < 0.02
    assert np.median(e2e) < 0.02


@pytest.mark.parametrize("per_s", [0.3, 1.5])
@pytest.mark.parametrize("schedule_ahead", [False, True])
def test_when_a_request_arrives_counts_under_light_load(schedule_ahead: bool, per_s: float) -> None:
    limits = Limits(256, 64, 5_000, BLOCK_TOKENS, schedule_ahead=schedule_ahead)
    ttft, e2e, *_ = errors(limits, arrivals(7, per_s))
    assert ttft.max() < 1e-3
    assert e2e.max() < 1e-3


def test_an_engine_that_plans_ahead_answers_a_step_later() -> None:
    given = arrivals(7, 1.5)
    soon, later = (
        replayed(Limits(256, 64, 5_000, BLOCK_TOKENS, schedule_ahead=ahead), given)
        for ahead in (False, True)
    )
    waits = [b.first_s - a.first_s for a, b in zip(soon, later, strict=True)]
    assert np.median(waits) > 0.005


def test_what_a_preempted_request_finds_again_is_not_computed_again() -> None:
    given = arrivals(1, 6.0)
    without, having = (
        max(r.end_s for r in replayed(Limits(256, 64, 150, BLOCK_TOKENS, prefix_caching=c), given))
        for c in (False, True)
    )
    assert having < without


def test_a_slot_limit_and_prompts_longer_than_a_step() -> None:
    given = [(0.0, 2_000, 20), (0.0, 100, 20), (0.1, 700, 1), (0.2, 30, 5)]
    limits = Limits(256, 2, 5_000, BLOCK_TOKENS)
    ttft, e2e, *_ = errors(limits, given)
    assert ttft.max() < 0.01
    assert e2e.max() < 0.01
    third = replayed(limits, given)[2]
    assert third.scheduled_s >= min(r.end_s for r in replayed(limits, given)[:2])


def test_a_chunk_that_fits_is_not_a_prompt_that_fits() -> None:
    """The first 256 of the second one's tokens find room, but not all of its 1,500."""
    given = [(0.0, 1_000, 100), (0.05, 1_500, 10)]
    starts = []
    for reserve_prompt in (True, False):
        limits = Limits(256, 8, 150, BLOCK_TOKENS, reserve_prompt=reserve_prompt)
        wanted, _ = oracle(limits, given)
        got = replayed(limits, given)
        assert got[1].scheduled_s == pytest.approx(wanted[1].scheduled_s, rel=0.01)
        starts.append(got[1].scheduled_s)
    assert starts[0] > 2 * starts[1]
