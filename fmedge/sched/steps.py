"""Which sequences an engine step runs, and with how many tokens each.

The rule: whatever decodes, decodes in every step; prefill fills what the step budget leaves, in
order of priority and then arrival, so that one step stays within a time bound that follows from
measured rates. Everything here is a pure function of its arguments: the worker, the simulator and
the latency estimate use this one rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

from msgspec import Struct

MIN_PREFILL_TOKENS = 32
"""A smaller chunk pays a whole pass over the weights for little progress."""

UNKNOWN_PREFILL_TOKENS = 128
"""The chunk beside decoding sequences until a prefill has been timed."""

TAIL_FACTOR = 1.25
"""A prompt's rest up to this many chunks goes at once: the extra pass would cost more."""


COPY_BYTES_PER_S = 4e9
"""Between streams in host memory: a careful figure for one core, read and written once."""


class Schedulable(Protocol):
    """What the policy must know of a running sequence."""

    @property
    def handle(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def arrival(self) -> int: ...
    @property
    def num_pending(self) -> int:
        """Tokens whose KV is not computed yet: 1 while decoding, never 0."""
        ...

    @property
    def is_decoding(self) -> bool: ...


class SequenceState(Struct, frozen=True):
    """A plain `Schedulable`, for simulation and tests."""

    handle: int
    num_pending: int
    is_decoding: bool
    priority: int = 0
    arrival: int = 0


class StepLimits(Struct, frozen=True):
    """How long steps may take, and the most tokens one may carry.

    decode_bound_s: a step in which sequences decode shall take no longer than this, or
    `decode_slowdown` times a step without prefill where that is more (a slow model must still
    progress). The bound grows with the prefilling sequences per decoding one, up to
    `prefill_bound_s`, which also bounds a step in which nothing decodes.
    """

    max_tokens: int
    decode_bound_s: float = 0.08
    decode_slowdown: float = 3.0
    prefill_bound_s: float = 1.0


class StepRates(Struct, frozen=True):
    """Measured speeds; 0 is "not measured yet"."""

    prefill_s_per_token: float = 0.0
    decode_s: float = 0.0


class StepPlan(Struct, frozen=True):
    """One step: handles that decode a token each and (handle, tokens) that prefill; or, alone,
    the handle to preempt first because its KV is needed."""

    decode: tuple[int, ...] = ()
    prefill: tuple[tuple[int, int], ...] = ()
    preempt: tuple[int, ...] = ()


def service_order(sequence: Schedulable) -> tuple[int, int]:
    """Sort key: most urgent first, then first come."""
    return (-sequence.priority, sequence.arrival)


def choose_victim(running: Iterable[Schedulable]) -> int | None:
    """The sequence to preempt when KV is full: lowest priority, then youngest.

    The first in service order is never chosen while another exists, so some sequence always runs
    to its end and no two can preempt each other for ever.
    """
    victim = max(running, key=service_order, default=None)
    return None if victim is None else victim.handle


def budget_tokens(
    num_decoding: int,
    num_prefilling: int,
    prefill_s_per_token: float,
    decode_s: float,
    max_tokens: int,
    decode_bound_s: float,
    decode_slowdown: float,
    prefill_bound_s: float,
) -> int:
    """Prefill tokens that a step may carry: `prefill_budget` in scalars.

    The estimator's kernels compile this very function, so it keeps to numbers.
    """
    room = max_tokens - num_decoding
    if num_decoding == 0:
        tokens = room
        if prefill_s_per_token > 0:
            tokens = int(min(prefill_bound_s / prefill_s_per_token, float(room)))
    else:
        bound_s = max(decode_bound_s, decode_slowdown * decode_s)
        bound_s *= max(1.0, num_prefilling / num_decoding)
        bound_s = min(bound_s, max(prefill_bound_s, 2 * decode_s))
        tokens = UNKNOWN_PREFILL_TOKENS
        if prefill_s_per_token > 0:
            tokens = int(min((bound_s - decode_s) / prefill_s_per_token, float(room)))
    return max(0, min(room, max(tokens, MIN_PREFILL_TOKENS)))


def chunk_tokens(pending: int, budget: int, room: int, is_first: bool) -> int:
    """How many of a sequence's pending tokens the next step prefills; 0 none.

    budget, room: prefill tokens, and tokens at all, that the step has left; only the first
    sequence that prefills in a step may exceed the budget, by a rest within TAIL_FACTOR. Compiled
    by the estimator's kernels, as `budget_tokens` is.
    """
    chunk = pending
    if chunk > budget and (not is_first or chunk > budget * TAIL_FACTOR):
        chunk = budget
    return max(0, min(chunk, room))


def prefill_budget(
    rates: StepRates, limits: StepLimits, *, num_decoding: int, num_prefilling: int
) -> int:
    """Prefill tokens that a step may carry (before `max_tokens` is shared with decoding)."""
    return budget_tokens(
        num_decoding,
        num_prefilling,
        rates.prefill_s_per_token,
        rates.decode_s,
        limits.max_tokens,
        limits.decode_bound_s,
        limits.decode_slowdown,
        limits.prefill_bound_s,
    )


def min_copy_tokens(rates: StepRates, copy_bytes: int) -> int:
    """Shortest prefix that is worth copying when a copy moves `copy_bytes`, whatever its length.

    0 bytes: sharing is a matter of metadata, and any token is worth it.
    """
    if copy_bytes == 0:
        return 1
    if rates.prefill_s_per_token == 0:
        return MIN_PREFILL_TOKENS
    copy_s = copy_bytes / COPY_BYTES_PER_S
    return max(MIN_PREFILL_TOKENS // 2, int(copy_s / rates.prefill_s_per_token))


def learned_rates(
    prefill_s: float, decode_s: float, num_prefill_tokens: int, num_decoding: int, step_s: float
) -> tuple[float, float]:
    """`learn_rates` in scalars: seconds a prefill token and a decoding step after one more step.

    The simulator's kernels compile this very function, so it keeps to numbers.
    """
    if num_prefill_tokens == 0:
        return prefill_s, blended(decode_s, step_s) if num_decoding > 0 else decode_s
    if num_prefill_tokens < MIN_PREFILL_TOKENS // 2:
        return prefill_s, decode_s
    if num_decoding == 0 or decode_s == 0:
        return blended(prefill_s, step_s / num_prefill_tokens), decode_s
    if prefill_s == 0:
        rest_s = max(step_s - decode_s, step_s / 4)
        return rest_s / num_prefill_tokens, decode_s
    ratio = step_s / (decode_s + prefill_s * num_prefill_tokens)
    return blended(prefill_s, prefill_s * ratio), blended(decode_s, decode_s * ratio)


def blended(old: float, new: float) -> float:
    """Moving average; one outlier (a page fault, a busy machine) moves it by at most a factor."""
    if old == 0:
        return new
    return 0.75 * old + 0.25 * min(max(new, old / 2), old * 2)


def learn_rates(
    rates: StepRates, *, num_prefill_tokens: int, num_decoding: int, step_s: float
) -> StepRates:
    """Rates after one more timed step.

    A step of both kinds tells only their sum: both rates move by its ratio to what was expected, so
    that a machine that became slow as a whole does not look like prefill that became slow.
    """
    prefill_s, decode_s = learned_rates(
        rates.prefill_s_per_token, rates.decode_s, num_prefill_tokens, num_decoding, step_s
    )
    return StepRates(prefill_s, decode_s)


def plan_step(
    running: Sequence[Schedulable],
    budget: int,
    *,
    max_tokens: int,
    num_free_kv_tokens: int | None = None,
) -> StepPlan:
    """Plan one step over the running sequences.

    budget: prefill tokens (see `prefill_budget`), which only the rest of a prompt may exceed a
    little; max_tokens: what a step can carry at all. num_free_kv_tokens: cells that nothing live
    holds, None where KV cannot run out. Prefill takes only cells that are free. Where decoding
    sequences cannot get theirs, or nothing could run at all, the plan says only whom to preempt:
    plan again once its cells are free.
    """
    ordered = sorted(running, key=service_order)
    decode = tuple(s.handle for s in ordered if s.is_decoding)
    free = num_free_kv_tokens
    if free is not None:
        free -= len(decode)
        if len(ordered) > 1 and (free < 0 or (free == 0 and not decode)):
            return StepPlan(preempt=(ordered[-1].handle,))
        free = max(0, free)
    prefill: list[tuple[int, int]] = []
    room = max_tokens - len(decode)
    for sequence in ordered:
        if sequence.is_decoding:
            continue
        chunk = chunk_tokens(sequence.num_pending, budget, room, not prefill)
        if free is not None:
            chunk = min(chunk, free)
            free -= chunk
        if chunk <= 0:
            break
        budget -= chunk
        room -= chunk
        prefill.append((sequence.handle, chunk))
    return StepPlan(decode=decode, prefill=tuple(prefill))


class PassCosts(Struct, frozen=True):
    """What decoding steps have cost by passes and rows: the sums of a regression that forgets.

    Which of the two is dear depends on device, model and kernels: of a 40M-parameter Q8_0 model on
    one core, a pass cost 2.1 ms and a row 0.4 ms with our matrix kernels, 1.0 and 2.4 ms without.
    """

    passes_passes: float = 0.0
    passes_rows: float = 0.0
    rows_rows: float = 0.0
    passes_one: float = 0.0
    rows_one: float = 0.0


COSTS_FORGETTING = 0.98
MAX_FILLER_GAP = 4


def learn_costs(costs: PassCosts, *, num_passes: int, num_rows: int, step_s: float) -> PassCosts:
    """The sums after one more step that only decoded; relative errors count."""
    if step_s <= 0:
        return costs
    passes, rows, old = num_passes / step_s, num_rows / step_s, COSTS_FORGETTING
    return PassCosts(
        old * costs.passes_passes + passes * passes,
        old * costs.passes_rows + passes * rows,
        old * costs.rows_rows + rows * rows,
        old * costs.passes_one + passes,
        old * costs.rows_one + rows,
    )


def widest_filled_gap(costs: PassCosts, unknown: int) -> int:
    """The most idle streams in a row that are cheaper to run along than a further pass.

    unknown: the answer while steps have been too much alike to tell a pass from a row.
    """
    a, b, c = costs.passes_passes, costs.passes_rows, costs.rows_rows
    determinant = a * c - b * b
    if determinant <= 0.01 * a * c:
        return unknown
    pass_s = (costs.passes_one * c - costs.rows_one * b) / determinant
    row_s = (costs.rows_one * a - costs.passes_one * b) / determinant
    if pass_s <= 0:
        return 0
    if row_s * MAX_FILLER_GAP <= pass_s:
        return MAX_FILLER_GAP
    return int(pass_s / row_s)


def count_passes(ids: Sequence[int]) -> int:
    """Graph passes of a step of one token each with a stream a sequence: runs of consecutive ids.

    ids: ascending.
    """
    return 1 + sum(1 for low, high in pairwise(ids) if high > low + 1)


def choose_fillers(
    active: Sequence[int], num_held: Sequence[int], ctx_size: int, max_gap: int = MAX_FILLER_GAP
) -> list[int]:
    """Idle streams that shall decode a throw-away token beside the active ones.

    With a stream a sequence, one graph pass serves only consecutive ids: each gap costs a pass
    over all weights. Filling a narrow gap with throw-away rows costs a row each instead. A stream
    that holds far more than the active ones would widen everybody's attention, and a full one has
    no room: such a gap stays.

    active: ids that run, ascending. num_held: tokens held by each id, 0 and up.
    """
    longest = 2 * max((num_held[i] for i in active), default=0) + 256
    fillers: list[int] = []
    for low, high in pairwise(active):
        gap = range(low + 1, high)
        if 0 < len(gap) <= max_gap and all(
            num_held[i] < ctx_size and num_held[i] <= longest for i in gap
        ):
            fillers.extend(gap)
    return fillers
