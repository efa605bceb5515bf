"""Which requests of a simulated engine run, and with how many tokens each.

The rule: `replica.loop`'s order of things. The decisions are `sched.steps`'; what is here walks the
arrays (laid out in layout.py) in service order and writes down what was decided.

Plain functions; kernels.py compiles them unchanged.
"""

from __future__ import annotations

from typing import Any

from fmedge.sched.placing import KV_MARGIN_TOKENS
from fmedge.sched.steps import budget_tokens, chunk_tokens
from fmedge.sim import layout as at


def note(ints: Any, floats: Any, log: Any, column: int, kind: int) -> None:
    totals = ints[at.TOTALS]
    n = totals[at.NUM_LOGGED]
    log[n, 0] = floats[at.CLOCK]
    log[n, 1] = column
    log[n, 2] = kind
    totals[at.NUM_LOGGED] = n + 1


def put(
    ints: Any,
    request_id: int,
    column: int,
    place: int,
    num_tokens: int,
    num_left: int,
    is_stopped: int,
) -> None:
    """A request waits, at this place of the service order."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    for i in range(totals[at.NUM_PRESENT], place, -1):
        order[i] = order[i - 1]
    order[place] = column
    totals[at.NUM_PRESENT] += 1
    totals[at.IS_TOUCHED] = 1
    ints[at.PHASE :, column] = 0
    ints[at.PHASE, column] = at.WAITING
    ints[at.REQUEST, column] = request_id
    ints[at.TOKENS, column] = num_tokens
    ints[at.LEFT, column] = num_left
    ints[at.IS_STOPPED, column] = is_stopped


def take_out(ints: Any, column: int) -> None:
    """A request leaves the engine, between steps; its cells are free unless others place KV."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    kept = 0
    for i in range(totals[at.NUM_PRESENT]):
        if order[i] != column:
            order[kept] = order[i]
            kept += 1
    totals[at.NUM_PRESENT] = kept
    phase = ints[at.PHASE, column]
    if phase != at.WAITING:
        totals[at.NUM_RUNNING] -= 1
    if phase == at.DECODING:
        totals[at.NUM_DECODING] -= 1
    if totals[at.IS_PLACED] == 0:
        totals[at.KV_USED] -= ints[at.COMPUTED, column]
    ints[at.PHASE, column] = at.FREE
    totals[at.DECODES_ONLY] = 0


def send_back(ints: Any, column: int) -> None:
    """A running request loses its KV and waits in its old place."""
    totals = ints[at.TOTALS]
    totals[at.NUM_RUNNING] -= 1
    if ints[at.PHASE, column] == at.DECODING:
        totals[at.NUM_DECODING] -= 1
    if totals[at.IS_PLACED] == 0:
        totals[at.KV_USED] -= ints[at.COMPUTED, column]
    ints[at.PHASE, column] = at.WAITING
    ints[at.COMPUTED, column] = 0
    ints[at.CHUNK, column] = 0
    totals[at.NUM_PREEMPTED] += 1
    totals[at.DECODES_ONLY] = 0


def admit(ints: Any, floats: Any, log: Any, is_peek: bool) -> int:
    """Fill the slots, and let those begin that KV and the step's budget reach. Gives back whether
    another has to place them first (1) or not (0)."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    num_admitted = 0
    for i in range(totals[at.NUM_PRESENT]):
        column = order[i]
        if ints[at.PHASE, column] == at.WAITING and totals[at.NUM_RUNNING] < totals[at.SLOTS]:
            ints[at.PHASE, column] = at.ADMITTED
            totals[at.NUM_RUNNING] += 1
        if ints[at.PHASE, column] == at.ADMITTED:
            num_admitted += 1
    is_placed = totals[at.IS_PLACED] != 0
    if is_placed and totals[at.HAS_PLACED] != 0:
        totals[at.HAS_PLACED] = 0
        return 0
    if num_admitted == 0:
        return 1 if is_placed and totals[at.KV_TOKENS] > 0 else 0
    num_begun = totals[at.NUM_RUNNING] - num_admitted
    budget = budget_of(ints, floats)
    ahead = 0
    for i in range(totals[at.NUM_PRESENT]):
        column = order[i]
        if ints[at.PHASE, column] == at.PREFILLING:
            ahead += ints[at.TOKENS, column] - ints[at.COMPUTED, column]
        elif ints[at.PHASE, column] == at.ADMITTED:
            if ahead >= budget:
                break
            if is_placed:
                return 1
            if totals[at.KV_TOKENS] > 0 and num_begun > 0:
                need = ints[at.TOKENS, column] + KV_MARGIN_TOKENS * (num_begun + 1)
                if need > totals[at.KV_TOKENS] - totals[at.KV_USED]:
                    break
            ints[at.SEQ_ID, column] = lowest_id(ints)
            ints[at.PHASE, column] = at.PREFILLING
            if not is_peek:
                note(ints, floats, log, column, at.HAS_BEGUN)
            ahead += ints[at.TOKENS, column]
            num_begun += 1
    return 1 if is_placed and totals[at.KV_TOKENS] > 0 else 0


def lowest_id(ints: Any) -> int:
    """The lowest sequence id under which none runs."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    seq_id, i = 0, 0
    while i < totals[at.NUM_PRESENT]:
        column = order[i]
        i += 1
        if ints[at.PHASE, column] >= at.PREFILLING and ints[at.SEQ_ID, column] == seq_id:
            seq_id += 1
            i = 0
    return seq_id


def budget_of(ints: Any, floats: Any) -> int:
    totals = ints[at.TOTALS]
    num_decoding = totals[at.NUM_DECODING]
    tokens: int = budget_tokens(
        num_decoding,
        totals[at.NUM_RUNNING] - num_decoding,
        floats[at.PREFILL_RATE],
        floats[at.DECODE_RATE],
        int(floats[at.MAX_TOKENS]),
        floats[at.DECODE_BOUND],
        floats[at.DECODE_SLOWDOWN],
        floats[at.PREFILL_BOUND],
    )
    return tokens


def plan(ints: Any, floats: Any) -> int:
    """Set the next step's figures, as `sched.steps.plan_step` does: tokens in it, 0 if nothing can
    run, or -1 - the column that must give up its KV first."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    num_decoding = totals[at.NUM_DECODING]
    has_pool = totals[at.KV_TOKENS] > 0
    free = (
        totals[at.KV_TOKENS] - totals[at.KV_USED]
        if totals[at.IS_PLACED] == 0
        else totals[at.KV_FREE]
    )
    num_begun, last, num_kv = 0, -1, 0
    for i in range(totals[at.NUM_PRESENT]):
        column = order[i]
        if ints[at.PHASE, column] >= at.PREFILLING:
            num_begun += 1
            last = column
        if ints[at.PHASE, column] == at.DECODING:
            num_kv += ints[at.COMPUTED, column]
    if has_pool:
        free -= num_decoding
        if num_begun > 1 and (free < 0 or (free == 0 and num_decoding == 0)):
            return -1 - last
        free = max(0, free)
    budget = budget_of(ints, floats)
    room = totals[at.BATCH] - num_decoding
    num_prefill, attention, is_over = 0, 0.0, False
    for i in range(totals[at.NUM_PRESENT]):
        column = order[i]
        if ints[at.PHASE, column] != at.PREFILLING:
            continue
        computed = ints[at.COMPUTED, column]
        ints[at.CHUNK, column] = 0
        if is_over:
            continue
        chunk = chunk_tokens(ints[at.TOKENS, column] - computed, budget, room, num_prefill == 0)
        if has_pool:
            chunk = min(chunk, free)
            free -= chunk
        if chunk <= 0:
            is_over = True
            continue
        ints[at.CHUNK, column] = chunk
        budget -= chunk
        room -= chunk
        num_prefill += chunk
        attention += chunk * (computed + chunk / 2)
    totals[at.IS_PLANNED] = 1
    totals[at.STEP_P], totals[at.STEP_D], totals[at.STEP_K] = num_prefill, num_decoding, num_kv
    floats[at.STEP_A] = attention
    num_tokens: int = num_prefill + num_decoding
    return num_tokens
