"""What a replay does to single entries: slots, decoding, preemption, arrival.

The rule: the decoding entries stand in DECODE_LIST by the step each ends at, last first, all others
that have a slot in SLOT_LIST in service order; an entry is in one of them, or waits, or has ended.

Plain functions over numbers and arrays (laid out in arrays.py); kernels.py compiles them unchanged.
"""

from __future__ import annotations

from typing import Any

from fmedge.sched.arrays import (
    ADMITTED,
    ARRIVAL_INTERVAL,
    ARRIVAL_PROMPT,
    ARRIVE,
    BASE_CACHED,
    BASE_COMPUTED,
    BASE_LATE,
    BASE_NEW,
    BASE_PHASE,
    BASE_ROW,
    BASE_TOKENS,
    CACHED,
    COMPUTED,
    CTX_SIZE,
    DECODE_LIST,
    DECODING,
    END,
    END_STEP,
    ENDED,
    FIRST,
    LEFT,
    NEVER,
    NUM_ARRIVAL_DRAWS,
    NUM_KEPT,
    PHASE,
    PREEMPTED,
    PREFILLING,
    SLOT_LIST,
    START,
    TOKENS,
    WAITING,
    WANTED,
)


def begin_replay(
    params: Any,
    draws: Any,
    ints: Any,
    floats: Any,
    num_entries: int,
    absent: int,
    scenario: int,
) -> None:
    """Copy the gathered entries and give each the output that it has in this scenario. absent: an
    entry that is left out, -1 for none."""
    ctx_size = int(params[CTX_SIZE])
    for e in range(num_entries):
        row = ints[BASE_ROW, e]
        tokens = ints[BASE_TOKENS, e]
        left = draws[row, scenario] - int(floats[BASE_NEW, e])
        ints[LEFT, e] = max(1, min(left, ctx_size - tokens))
        ints[TOKENS, e] = tokens
        ints[COMPUTED, e] = ints[BASE_COMPUTED, e]
        ints[PHASE, e] = ENDED if e == absent else ints[BASE_PHASE, e]
        ints[CACHED, e] = ints[BASE_CACHED, e]
        ints[PREEMPTED, e] = 0
        ints[NUM_KEPT, e] = 0
        floats[START, e] = NEVER if ints[BASE_PHASE, e] == WAITING else 0.0
        floats[FIRST, e] = 0.0 if ints[BASE_PHASE, e] == DECODING else NEVER
        floats[END, e] = NEVER


def begin_decoding(ints: Any, e: int, num_decoding: int, steps: int, left: int) -> None:
    """Put an entry on the list of the decoding, which is in falling order of the step each ends
    at. A decoding entry's COMPUTED is counted from step 0 of this replay: minus `steps`."""
    end_step = steps + left
    ints[PHASE, e] = DECODING
    ints[COMPUTED, e] -= steps
    ints[END_STEP, e] = end_step
    j = num_decoding
    while j > 0 and ints[END_STEP, ints[DECODE_LIST, j - 1]] < end_step:
        ints[DECODE_LIST, j] = ints[DECODE_LIST, j - 1]
        j -= 1
    ints[DECODE_LIST, j] = e


def take_slot(ints: Any, e: int, num_slotted: int) -> None:
    """Admit an entry: it has a slot now, and its place in service order among the others."""
    ints[PHASE, e] = ADMITTED
    j = num_slotted
    while j > 0 and ints[SLOT_LIST, j - 1] > e:
        ints[SLOT_LIST, j] = ints[SLOT_LIST, j - 1]
        j -= 1
    ints[SLOT_LIST, j] = e


def leave_list(ints: Any, which: int, count: int, e: int) -> None:
    """Take an entry off SLOT_LIST or DECODE_LIST."""
    j = 0
    while ints[which, j] != e:
        j += 1
    while j < count - 1:
        ints[which, j] = ints[which, j + 1]
        j += 1


def arrival_after(k: int, interval_s: float) -> float:
    """When anticipated arrival number k comes."""
    return (k + 1) * interval_s


def expect_arrival(
    params: Any, arrival_draws: Any, ints: Any, floats: Any, e: int, k: int, scenario: int
) -> None:
    """Make entry e the anticipated arrival number k."""
    for field in (COMPUTED, CACHED, WANTED, PREEMPTED, NUM_KEPT, BASE_LATE):
        ints[field, e] = 0
    ints[PHASE, e] = WAITING
    ints[TOKENS, e] = int(params[ARRIVAL_PROMPT])
    # steps through the table that is coprime to its size, begun elsewhere in each scenario
    ints[LEFT, e] = arrival_draws[(k * 37 + scenario * 11) % NUM_ARRIVAL_DRAWS]
    floats[START, e] = floats[FIRST, e] = floats[END, e] = NEVER
    floats[ARRIVE, e] = arrival_after(k, params[ARRIVAL_INTERVAL])


def youngest(ints: Any, num_decoding: int, num_slotted: int) -> int:
    """The last in service order of those that hold KV: whom preemption takes."""
    victim = -1
    for j in range(num_decoding):
        victim = max(victim, ints[DECODE_LIST, j])
    for j in range(num_slotted):
        if ints[PHASE, ints[SLOT_LIST, j]] == PREFILLING:
            victim = max(victim, ints[SLOT_LIST, j])
    return victim


def preempt(ints: Any, e: int, num_decoding: int, num_slotted: int, steps: int) -> int:
    """Off its list and back to waiting, with nothing computed; how many tokens it had computed."""
    computed = int(ints[COMPUTED, e])
    if ints[PHASE, e] == DECODING:
        leave_list(ints, DECODE_LIST, num_decoding, e)
        computed += steps
        ints[TOKENS, e] = computed + 1
        ints[LEFT, e] = ints[END_STEP, e] - steps
    else:
        leave_list(ints, SLOT_LIST, num_slotted, e)
    ints[PHASE, e] = WAITING
    ints[COMPUTED, e] = 0
    ints[CACHED, e] = 0
    ints[PREEMPTED, e] += 1
    return computed
