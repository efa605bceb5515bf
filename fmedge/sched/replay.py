"""What a replica will do with the requests it has, event by event.

The rule: this is the engine's own policy (`sched.steps`) and nothing beside it. Between two events
(a sequence ends, a prefill completes, KV runs out, a request arrives at a free slot) every step is
alike but for K and A, which grow evenly, so n steps take n times the step at their mean: a replay
costs a few operations per event instead of per step.

Plain functions over numbers and arrays (laid out in arrays.py); kernels.py compiles them unchanged.
A replica's requests are "entries", numbered in service order.

Other engines (ReplicaFacts.step_tokens > 0): one token budget a step, shared with decoding, no time
bounds, KV in blocks, and a request that finds no block preempts the youngest (vLLM's scheduler).
"""

from __future__ import annotations

from typing import Any

from fmedge.sched.arrays import (
    ARRIVAL_INTERVAL,
    ARRIVE,
    BASE_LATE,
    BLOCK_TOKENS,
    CACHED,
    CHUNK,
    COMPUTED,
    DECODE_BOUND,
    DECODE_LIST,
    DECODE_RATE,
    DECODE_SLOWDOWN,
    DECODING,
    END,
    END_STEP,
    ENDED,
    FIRST,
    KV_TOKENS,
    LEFT,
    LOST_FROM,
    MAX_ARRIVALS,
    MAX_TOKENS,
    NEVER,
    NUM_KEPT,
    PHASE,
    PREEMPTED,
    PREFILL_BOUND,
    PREFILL_RATE,
    PREFILLING,
    PREFIX_CACHING,
    RESERVE_PROMPT,
    SCHEDULE_AHEAD,
    SLOT_LIST,
    SLOTS,
    START,
    STEP_TOKENS,
    TOKENS,
    WAITING,
    WANTED,
)
from fmedge.sched.entries import (
    begin_decoding,
    begin_replay,
    expect_arrival,
    preempt,
    take_slot,
    youngest,
)
from fmedge.sched.paging import (
    blocks,
    blocks_kept,
    find_again,
    fitting_steps,
    growth_blocks,
    more_blocks,
    num_used_blocks,
    prefill_blocks,
)
from fmedge.sched.placing import KV_MARGIN_TOKENS
from fmedge.sched.steps import TAIL_FACTOR, budget_tokens, chunk_tokens
from fmedge.sched.steptime import step_time

MAX_EVENTS = 1_000_000
"""A bound on one replay's time; what has not ended by then never does."""


def steps_until(first_s: float, second_s: float, wait_s: float, most: int) -> int:
    """Steps, 1 to `most`, after which at least wait_s have passed, where the first takes first_s
    and each one as much longer than the one before as the second does."""
    if wait_s <= first_s:
        return 1
    rise_s = second_s - first_s
    estimate = wait_s / first_s
    if rise_s > 1e-12 * first_s:
        half = first_s - rise_s / 2
        estimate = 2 * wait_s / (half + (half * half + 2 * rise_s * wait_s) ** 0.5)
    if estimate >= most:
        return most
    n = int(estimate)
    if n * first_s + rise_s * (n * (n - 1) / 2) < wait_s:
        n += 1
    return max(1, min(n, most))


def begin_prefills(
    params: Any,
    ints: Any,
    floats: Any,
    num_slotted: int,
    num_decoding: int,
    steps: int,
    budget: int,
    free: int,
    may_begin: bool,
    now_s: float,
    num_total: int,
    allocated: int,
) -> tuple[int, int, int, int]:
    """Let admitted entries begin, in service order, as far as the step's budget and KV reach.

    Gives back the first that prefills (-1: none), how many do, and what those that begin find
    computed: in tokens, and in blocks.
    """
    block_tokens = int(params[BLOCK_TOKENS])
    has_limit = params[KV_TOKENS] > 0.0
    is_foreign = params[STEP_TOKENS] > 0.0
    num_running = num_decoding
    for j in range(num_slotted):
        if ints[PHASE, ints[SLOT_LIST, j]] == PREFILLING:
            num_running += 1
    reserved = 0  # for what runs, in this step
    if is_foreign and has_limit:
        reserved = growth_blocks(ints, num_decoding, steps, 1, block_tokens)
    first, num_prefilling, num_found, num_taken, ahead = -1, 0, 0, 0, 0
    for j in range(num_slotted):
        e = ints[SLOT_LIST, j]
        if ints[PHASE, e] != PREFILLING:
            if ints[NUM_KEPT, e] > 0:
                ints[CACHED, e] = blocks_kept(ints, e, allocated, block_tokens) * block_tokens
            # what cannot begin holds back those admitted after it, but not the prefilling
            may_begin = may_begin and ahead < budget
            if may_begin and has_limit and num_running > 0:
                if is_foreign:
                    need = ints[TOKENS, e]
                    if params[RESERVE_PROMPT] == 0.0:
                        need = min(need, ints[CACHED, e] + budget - ahead)
                    may_begin = blocks(need, block_tokens) <= free - reserved
                else:
                    margin = KV_MARGIN_TOKENS * (num_running + 1)
                    may_begin = ints[TOKENS, e] + margin <= free
            if not may_begin:
                continue
            ints[PHASE, e] = PREFILLING
            ints[COMPUTED, e] = ints[CACHED, e]
            num_running += 1
            if floats[START, e] >= NEVER:
                floats[START, e] = now_s
            num_found += ints[CACHED, e]
            if has_limit:
                found = blocks(ints[CACHED, e], block_tokens)
                num_taken += found
                free -= found
            if ints[NUM_KEPT, e] > 0:
                find_again(ints, e, num_total, block_tokens)
        if first < 0:
            first = e
        num_prefilling += 1
        pending = ints[TOKENS, e] - ints[COMPUTED, e]
        if is_foreign and has_limit:
            chunk = min(pending, max(0, budget - ahead))
            reserved += more_blocks(ints[COMPUTED, e], chunk, block_tokens)
        ahead += pending
    return first, num_prefilling, num_found, num_taken


def plan_chunks(
    params: Any, ints: Any, num_slotted: int, num_decoding: int, budget: int, free: int
) -> tuple[int, int, float]:
    """The next step's chunks, CHUNK of the first prefilling entries: how many, the tokens in all,
    and their attention (A of the step model)."""
    is_foreign = params[STEP_TOKENS] > 0.0
    has_limit = params[KV_TOKENS] > 0.0
    room = int(params[MAX_TOKENS]) - num_decoding
    num_chunks, num_prefill, attention = 0, 0, 0.0
    for j in range(num_slotted):
        e = ints[SLOT_LIST, j]
        if ints[PHASE, e] != PREFILLING:
            continue
        computed = ints[COMPUTED, e]
        if is_foreign:
            chunk = min(ints[TOKENS, e] - computed, budget)
        else:
            chunk = chunk_tokens(ints[TOKENS, e] - computed, budget, room, num_chunks == 0)
            if has_limit:
                chunk = min(chunk, free)
                free -= chunk
        if chunk <= 0:
            break
        budget -= chunk
        room -= chunk
        ints[CHUNK, num_chunks] = chunk
        num_chunks += 1
        num_prefill += chunk
        attention += chunk * (computed + chunk / 2)
    return num_chunks, num_prefill, attention


def replay(
    params: Any,
    packed: Any,
    arrival_draws: Any,
    draws: Any,
    ints: Any,
    floats: Any,
    num_entries: int,
    absent: int,
    scenario: int,
    behind_s: float,
) -> int:
    """Run until every wanted entry has ended; START, FIRST and END say when (NEVER: not reached).

    behind_s: how long ago the running step began, 0 for none. Gives back the number of events.
    """
    begin_replay(params, draws, ints, floats, num_entries, absent, scenario)
    slots = int(params[SLOTS])
    max_tokens = int(params[MAX_TOKENS])
    kv_blocks = int(params[KV_TOKENS]) // int(params[BLOCK_TOKENS])
    block_tokens = int(params[BLOCK_TOKENS])
    step_tokens = int(params[STEP_TOKENS])
    is_foreign = step_tokens > 0
    tail = 1.0 if is_foreign else TAIL_FACTOR
    interval_s = params[ARRIVAL_INTERVAL]
    most_entries = min(ints.shape[1], num_entries + MAX_ARRIVALS)
    if interval_s >= NEVER:
        most_entries = num_entries

    is_ahead = params[SCHEDULE_AHEAD] != 0.0
    t = 0.0
    seen_s = 0.0  # up to when arrivals are known to the next step
    allocated = 0  # blocks so far, where they are counted
    steps = 0  # that the decoding have taken since the replay began
    decode_kv = 0  # K: tokens held by the decoding
    prefill_kv = 0  # by the prefilling
    num_decoding = 0
    num_slotted = 0  # not decoding, but in a slot: admitted or prefilling
    num_wanted = 0
    for e in range(num_entries):
        phase = ints[PHASE, e]
        if ints[WANTED, e] != 0 and phase != ENDED:
            num_wanted += 1
        if phase == DECODING:
            decode_kv += ints[COMPUTED, e]
            begin_decoding(ints, e, num_decoding, 0, ints[LEFT, e])
            num_decoding += 1
        elif phase == PREFILLING:
            prefill_kv += ints[COMPUTED, e]
            ints[SLOT_LIST, num_slotted] = e
            num_slotted += 1

    is_running_step = behind_s > 0.0 and num_decoding + num_slotted > 0
    if is_running_step:
        t = -behind_s
    num_total = num_entries  # with the anticipated arrivals so far
    head = 0  # nothing before it waits
    may_admit = True
    num_events = 0
    while num_wanted > 0 and num_events < MAX_EVENTS:
        num_events += 1

        # slots
        next_arrival_s = NEVER
        e = head
        while num_decoding + num_slotted < slots:
            if e == num_total:
                if num_total == most_entries:
                    break
                k = num_total - num_entries
                expect_arrival(params, arrival_draws, ints, floats, e, k, scenario)
                num_total += 1
            if ints[PHASE, e] != WAITING or (is_running_step and ints[BASE_LATE, e] != 0):
                e += 1
                continue
            if not is_ahead:
                seen_s = t
            if floats[ARRIVE, e] > seen_s:
                next_arrival_s = floats[ARRIVE, e]
                break
            take_slot(ints, e, num_slotted)
            num_slotted += 1
            e += 1
        while head < num_total and ints[PHASE, head] != WAITING:
            head += 1
        if num_decoding + num_slotted == 0:
            if is_running_step:
                is_running_step = False
                t = max(t, 0.0)
                continue
            if next_arrival_s >= NEVER:
                break
            t = max(t, next_arrival_s)
            seen_s = t
            continue

        # KV that is free, once what decodes has taken its share of the next step
        free = 0
        used = 0
        if kv_blocks > 0:
            used = decode_kv + prefill_kv
            if block_tokens > 1:
                used = num_used_blocks(ints, num_decoding, num_slotted, steps, block_tokens)
            free = kv_blocks - used

        # beginning to prefill
        budget = 0
        first = -1
        num_prefilling = 0
        if num_slotted > 0:
            if is_foreign:
                budget = max(0, step_tokens - num_decoding)
            else:
                budget = budget_tokens(
                    num_decoding,
                    num_slotted,
                    params[PREFILL_RATE],
                    params[DECODE_RATE],
                    max_tokens,
                    params[DECODE_BOUND],
                    params[DECODE_SLOWDOWN],
                    params[PREFILL_BOUND],
                )
            first, num_prefilling, num_found, num_taken = begin_prefills(
                params,
                ints,
                floats,
                num_slotted,
                num_decoding,
                steps,
                budget,
                free,
                may_admit or not is_foreign,
                seen_s if is_ahead else t,
                num_total,
                allocated,
            )
            prefill_kv += num_found
            free -= num_taken

        # whom KV has no room for
        must_preempt = False
        num_running = num_decoding + num_prefilling
        if kv_blocks > 0:
            free -= growth_blocks(ints, num_decoding, steps, 1, block_tokens)
            must_preempt = free < 0 or (free == 0 and num_decoding == 0 and not is_foreign)
            if is_foreign and not must_preempt and first >= 0:
                must_preempt = prefill_blocks(ints, num_slotted, budget, block_tokens) > free
        if must_preempt:
            victim = youngest(ints, num_decoding, num_slotted)
            was_decoding = ints[PHASE, victim] == DECODING
            computed = preempt(ints, victim, num_decoding, num_slotted, steps)
            if was_decoding:
                num_decoding -= 1
                decode_kv -= computed
            else:
                num_slotted -= 1
                prefill_kv -= computed
            if params[PREFIX_CACHING] != 0.0:
                ints[NUM_KEPT, victim] = computed // block_tokens
                is_partial = 1 if computed % block_tokens > 0 else 0
                ints[LOST_FROM, victim] = allocated + kv_blocks - used + is_partial
            if num_running == 1:  # alone, and still too large: the engine cuts it off here
                ints[PREEMPTED, victim] -= 1
                ints[PHASE, victim] = ENDED
                floats[END, victim] = t
                floats[FIRST, victim] = min(floats[FIRST, victim], t)
                num_wanted -= ints[WANTED, victim]
            else:
                head = min(head, victim)
                may_admit = not is_foreign
            continue

        # how many steps alike follow
        num_steps = 1
        if num_decoding > 0:
            num_steps = ints[END_STEP, ints[DECODE_LIST, num_decoding - 1]] - steps
        num_prefill = 0
        attention = 0.0
        num_chunks = 0
        is_bulk = False
        if first >= 0:
            pending = ints[TOKENS, first] - ints[COMPUTED, first]
            if (
                pending > budget * tail
                and budget > 0
                and (is_foreign or max_tokens - num_decoding >= budget)
                and (kv_blocks == 0 or is_foreign or free >= budget)
            ):
                is_bulk = True
                num_prefill = budget
                num_chunks = 1
                ints[CHUNK, 0] = budget
                n = int((pending - budget * tail) / budget)
                if pending - n * budget > budget * tail:
                    n += 1
                num_steps = n if num_decoding == 0 else min(n, num_steps)
            else:
                num_steps = 1
                num_chunks, num_prefill, attention = plan_chunks(
                    params, ints, num_slotted, num_decoding, budget, free
                )
        if is_running_step or not may_admit:
            num_steps = 1
        may_admit = True
        if kv_blocks > 0 and num_steps > 1:
            # `free` has the first step's cells taken off already, but not its prefill's
            whole = free + growth_blocks(ints, num_decoding, steps, 1, block_tokens)
            num_steps = fitting_steps(
                ints, num_decoding, steps, first, num_prefill, whole, num_steps, block_tokens
            )

        # the steps: as each takes longer than the one before by the same, their mean tells the sum
        half = (num_steps - 1) / 2
        past = 0
        if is_bulk:
            past = ints[COMPUTED, first]
            attention = num_prefill * (past + num_prefill * half + num_prefill / 2)
        step_s = step_time(
            packed, num_prefill, num_decoding, decode_kv + num_decoding * half, attention
        )
        seen_s = t
        if num_steps > 1 and (is_ahead or t + num_steps * step_s > next_arrival_s):
            attention = num_prefill * (past + num_prefill / 2)
            first_s = step_time(packed, num_prefill, num_decoding, decode_kv, attention)
            rise_s = (step_s - first_s) / half
            wait_s = next_arrival_s - t
            num_steps = steps_until(first_s, first_s + rise_s, wait_s, num_steps)
            step_s = first_s + rise_s * (num_steps - 1) / 2
            if is_ahead:  # the next step is planned when the last of these begins
                seen_s += (num_steps - 1) * (first_s + rise_s * (num_steps - 2) / 2)
        if is_foreign and kv_blocks > 0:
            allocated += growth_blocks(ints, num_decoding, steps, num_steps, block_tokens)
        t += num_steps * step_s
        if is_running_step:
            is_running_step = False
            t = max(t, 0.0)
        steps += num_steps
        decode_kv += num_decoding * num_steps
        while num_decoding > 0:
            e = ints[DECODE_LIST, num_decoding - 1]
            if ints[END_STEP, e] > steps:
                break
            num_decoding -= 1
            decode_kv -= ints[COMPUTED, e] + steps
            ints[PHASE, e] = ENDED
            floats[END, e] = t
            num_wanted -= ints[WANTED, e]
        if num_chunks > 0:
            kept = 0
            j_chunk = 0
            for j in range(num_slotted):
                e = ints[SLOT_LIST, j]
                if j_chunk < num_chunks and ints[PHASE, e] == PREFILLING:
                    chunk = ints[CHUNK, j_chunk] * num_steps
                    j_chunk += 1
                    allocated += more_blocks(ints[COMPUTED, e], chunk, block_tokens)
                    ints[COMPUTED, e] += chunk
                    prefill_kv += chunk
                    if ints[COMPUTED, e] >= ints[TOKENS, e]:
                        prefill_kv -= ints[COMPUTED, e]
                        if floats[FIRST, e] >= NEVER:
                            floats[FIRST, e] = t
                        if ints[LEFT, e] <= 1:
                            ints[PHASE, e] = ENDED
                            floats[END, e] = t
                            num_wanted -= ints[WANTED, e]
                        else:
                            decode_kv += ints[COMPUTED, e]
                            begin_decoding(ints, e, num_decoding, steps, ints[LEFT, e] - 1)
                            num_decoding += 1
                        continue
                ints[SLOT_LIST, kept] = e
                kept += 1
            num_slotted = kept
    return num_events
