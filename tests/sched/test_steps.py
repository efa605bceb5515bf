"""The step policy: who runs, how much, and within what time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.steps import (
    MAX_FILLER_GAP,
    MIN_PREFILL_TOKENS,
    PassCosts,
    SequenceState,
    StepLimits,
    StepRates,
    choose_fillers,
    choose_victim,
    chunk_tokens,
    count_passes,
    learn_costs,
    learn_rates,
    min_copy_tokens,
    plan_step,
    prefill_budget,
    widest_filled_gap,
)

LIMITS = StepLimits(max_tokens=2048)
RATES = StepRates(prefill_s_per_token=0.0005, decode_s=0.01)


def decoding(handle: int, priority: int = 0) -> SequenceState:
    return SequenceState(handle, 1, is_decoding=True, priority=priority, arrival=handle)


def prefilling(handle: int, num_pending: int, priority: int = 0) -> SequenceState:
    return SequenceState(handle, num_pending, is_decoding=False, priority=priority, arrival=handle)


states = st.lists(
    st.builds(
        lambda pending, is_decoding, priority: (
            1 if is_decoding else pending,
            is_decoding,
            priority,
        ),
        st.integers(1, 500),
        st.booleans(),
        st.integers(-1, 1),
    ),
    max_size=8,
)


@given(states, st.integers(1, 600), st.one_of(st.none(), st.integers(0, 800)))
def test_a_plan_keeps_its_bounds_and_never_stalls(
    raw: list[tuple[int, bool, int]], budget: int, free: int | None
) -> None:
    running = [SequenceState(i, n, d, p, i) for i, (n, d, p) in enumerate(raw)]
    plan = plan_step(running, budget, max_tokens=700, num_free_kv_tokens=free)
    by_handle = {s.handle: s for s in running}
    if plan.preempt:
        assert not plan.decode
        assert not plan.prefill
        assert plan.preempt == (choose_victim(running),)
        assert len(running) > 1
        return
    assert set(plan.decode) == {s.handle for s in running if s.is_decoding}
    assert all(0 < n <= by_handle[h].num_pending for h, n in plan.prefill)
    num_prefill = sum(n for _, n in plan.prefill)
    assert num_prefill <= budget * 1.25
    assert len(plan.decode) + num_prefill <= 700
    if free is not None and len(running) > 1:
        assert len(plan.decode) + num_prefill <= free
    if running and (free is None or free > 0):
        assert plan.decode or plan.prefill


def test_prefill_goes_by_priority_then_arrival() -> None:
    running = [prefilling(0, 50), prefilling(1, 50, priority=1), prefilling(2, 50), decoding(3)]
    plan = plan_step(running, 80, max_tokens=2048)
    assert plan.decode == (3,)
    assert plan.prefill == ((1, 50), (0, 30))


def test_the_rest_of_a_prompt_goes_along_rather_than_in_a_step_of_its_own() -> None:
    assert plan_step([prefilling(0, 120)], 100, max_tokens=2048).prefill == ((0, 120),)
    assert plan_step([prefilling(0, 126)], 100, max_tokens=2048).prefill == ((0, 100),)
    assert plan_step([prefilling(0, 120)], 100, max_tokens=100).prefill == ((0, 100),)


@pytest.mark.parametrize("num_decoding", [1, 8])
def test_prefill_beside_decoding_is_bounded_in_time(num_decoding: int) -> None:
    tokens = prefill_budget(RATES, LIMITS, num_decoding=num_decoding, num_prefilling=1)
    assert RATES.decode_s + tokens * RATES.prefill_s_per_token <= LIMITS.decode_bound_s
    assert tokens > 100


def test_many_prompts_beside_few_decoding_get_more() -> None:
    few = prefill_budget(RATES, LIMITS, num_decoding=1, num_prefilling=1)
    many = prefill_budget(RATES, LIMITS, num_decoding=1, num_prefilling=7)
    assert many > 5 * few
    most = prefill_budget(RATES, LIMITS, num_decoding=1, num_prefilling=1000)
    assert most * RATES.prefill_s_per_token <= LIMITS.prefill_bound_s


def test_a_slow_model_still_progresses_and_stays_bounded() -> None:
    slow = StepRates(prefill_s_per_token=0.05, decode_s=0.4)
    assert prefill_budget(slow, LIMITS, num_decoding=4, num_prefilling=1) == MIN_PREFILL_TOKENS
    assert prefill_budget(slow, LIMITS, num_decoding=0, num_prefilling=1) == MIN_PREFILL_TOKENS


def test_nothing_decoding_takes_the_whole_batch() -> None:
    assert prefill_budget(StepRates(), LIMITS, num_decoding=0, num_prefilling=3) == 2048


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 8)), max_size=30))
def test_rates_are_learned_from_exact_steps(steps: list[tuple[int, int]]) -> None:
    rates = StepRates()
    for prefill, decode in [(0, 8), (256, 0), *steps]:
        step_s = prefill * 0.0005 + (0.01 if decode else 0.0)
        rates = learn_rates(rates, num_prefill_tokens=prefill, num_decoding=decode, step_s=step_s)
    assert rates.prefill_s_per_token == pytest.approx(0.0005)
    assert rates.decode_s == pytest.approx(0.01)


def test_a_machine_that_slows_down_does_not_look_like_slow_prefill() -> None:
    rates = RATES
    for _ in range(30):
        rates = learn_rates(rates, num_prefill_tokens=100, num_decoding=8, step_s=3 * 0.06)
    assert rates.prefill_s_per_token == pytest.approx(0.0015, rel=0.05)
    assert rates.decode_s == pytest.approx(0.03, rel=0.05)


def test_the_victim_is_the_least_urgent_then_the_youngest() -> None:
    assert choose_victim([decoding(0), decoding(1), decoding(2, priority=1)]) == 1
    assert choose_victim([decoding(0, priority=-1), decoding(1)]) == 0
    assert choose_victim([]) is None


def test_copying_pays_only_beyond_its_own_cost() -> None:
    assert min_copy_tokens(RATES, 0) == 1
    assert min_copy_tokens(RATES, 400_000_000) == 200
    assert min_copy_tokens(StepRates(), 1 << 20) == MIN_PREFILL_TOKENS


@pytest.mark.parametrize(
    ("active", "held", "fillers"),
    [
        ([0, 1, 2], [9, 9, 9], []),
        ([0, 2], [9, 0, 9], [1]),
        ([1, 3, 5], [5, 9, 0, 9, 7, 9], [2, 4]),
        ([0, 7], [9, 0, 0, 0, 0, 0, 0, 9], []),  # too wide: a pass is cheaper
        ([0, 2], [9, 100, 9], []),  # full: no room
        ([0, 2], [9, 99, 9], [1]),
        ([4], [0, 0, 0, 0, 9], []),
    ],
)
def test_narrow_gaps_between_streams_are_filled(
    active: list[int], held: list[int], fillers: list[int]
) -> None:
    assert choose_fillers(active, held, ctx_size=100) == fillers


def test_a_stream_that_holds_far_more_stays_out() -> None:
    assert choose_fillers([0, 2], [10, 4000, 10], ctx_size=8192) == []


@given(st.integers(1, 3000), st.integers(-50, 2000), st.integers(-5, 2048), st.booleans())
def test_a_chunk_is_within_budget_but_for_a_first_ones_short_rest(
    pending: int, budget: int, room: int, is_first: bool
) -> None:
    chunk = chunk_tokens(pending, budget, room, is_first)
    assert 0 <= chunk <= min(pending, max(room, 0))
    if chunk > max(0, budget):
        assert is_first
        assert chunk == min(pending, room)
        assert pending <= 1.25 * budget
    if 0 < pending <= min(budget, room):
        assert chunk == pending


def test_passes_are_runs_of_consecutive_ids() -> None:
    assert [count_passes(ids) for ids in ([3], [0, 1, 2], [0, 2], [0, 1, 4, 6, 7])] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("pass_s", "row_s", "gap"),
    [(0.0021, 0.0004, MAX_FILLER_GAP), (0.001, 0.0024, 0), (0.002, 0.0009, 2), (0.1, 0.0, 4)],
)
def test_what_a_pass_and_a_row_cost_is_told_from_steps_of_many_kinds(
    pass_s: float, row_s: float, gap: int
) -> None:
    costs = PassCosts()
    for i in range(60):
        passes, rows = 1 + i % 3, 1 + i % 3 + i % 5
        noise = 1 + 0.1 * (-1) ** i
        step_s = noise * (passes * pass_s + rows * row_s)
        costs = learn_costs(costs, num_passes=passes, num_rows=rows, step_s=step_s)
    assert widest_filled_gap(costs, unknown=0) == gap


def test_steps_that_are_all_alike_tell_nothing_of_gaps() -> None:
    costs = PassCosts()
    assert widest_filled_gap(costs, unknown=3) == 3
    for _ in range(50):
        costs = learn_costs(costs, num_passes=1, num_rows=1, step_s=0.002)
    assert widest_filled_gap(costs, unknown=3) == 3
    assert learn_costs(costs, num_passes=1, num_rows=1, step_s=0.0) == costs
