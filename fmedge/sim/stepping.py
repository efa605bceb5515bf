"""The steps of one engine in virtual time, until something has to be told or decided elsewhere.

The rule: what `replica.loop` does with the same sequences, step by step, each with its own noise:
the policy is `sched.steps`, the time `sched.steptime`. Nothing is estimated or summed in closed
form.

Plain functions over arrays; kernels.py compiles them unchanged. An engine is

    ints: int64[NUM_FIELDS, capacity], capacity >= NUM_TOTALS. Row TOTALS holds the engine's own
        numbers, row ORDER its requests' columns in service order; the others one column a request.
    floats: float64[NUM_FLOATS]: the clock, the limits, samples of steps, the packed step model and
        the noise.
    log: float64[entries, 3]: (time, column, kind) of what happened, for the caller to take out.

A step begun is fixed: what arrives or is cancelled before its end waits for the next.
"""

from __future__ import annotations

from typing import Any

from fmedge.sched.emulation import NUM_FACTORS
from fmedge.sched.placing import KV_MARGIN_TOKENS
from fmedge.sched.steps import budget_tokens, chunk_tokens, learned_rates
from fmedge.sched.steptime import PACKED_SIZE, step_time

# ints: fields. TOKENS: prompt and output so far, COMPUTED those with KV. LEFT: tokens still to be
# sampled, the one that ends it included where IS_STOPPED (that one is not emitted). EMITTED: here.
# PREFILLED: COMPUTED after its last chunk. CHUNK: in the step under way. IS_CANCELLED: goes with it
TOTALS, ORDER, PHASE, TOKENS, COMPUTED, LEFT = 0, 1, 2, 3, 4, 5
IS_STOPPED, EMITTED, PREFILLED, CHUNK, IS_CANCELLED = 6, 7, 8, 9, 10
NUM_FIELDS = 11

FREE, WAITING, ADMITTED, PREFILLING, DECODING = 0, 1, 2, 3, 4

# ints: totals. KV_TOKENS: of the pool, 0 for a stream a slot; KV_USED: cells that hold something;
# KV_FREE: what the policy believes to be free. IS_PLACED: another decides who begins with which KV,
# and HAS_PLACED that it just did. IN_FLIGHT: a step is under way, of P, D and K tokens.
SLOTS, BATCH, KV_TOKENS, IS_PLACED = 0, 1, 2, 3
NUM_PRESENT, NUM_RUNNING, NUM_DECODING, NUM_STEPS = 4, 5, 6, 7
DECODES_ONLY, IS_TOUCHED, IN_FLIGHT, IS_PLANNED = 8, 9, 10, 11
STEP_P, STEP_D, STEP_K, KV_USED, KV_FREE, HAS_PLACED = 12, 13, 14, 15, 16, 17
NUM_LOGGED, NUM_PREFILL_SAMPLES, NUM_DECODE_SAMPLES, NUM_PREEMPTED = 18, 19, 20, 21
NUM_TOTALS = 22

# floats. CLOCK: the last step's end, or the start of the one under way, whose end is END.
# TOLD_*: rates as the last planned step told them. NOTABLE_AT: what a look ahead found.
CLOCK, END, STEP_A, PREFILL_RATE, DECODE_RATE = 0, 1, 2, 3, 4
TOLD_PREFILL_RATE, TOLD_DECODE_RATE, BUSY, NOTABLE_AT = 5, 6, 7, 8
NUM_STATE = 9
MAX_TOKENS, DECODE_BOUND, DECODE_SLOWDOWN, PREFILL_BOUND = 9, 10, 11, 12
SAMPLES = 13
SAMPLE_SIZE = 5
NUM_SAMPLES = 4
PACKED = SAMPLES + 2 * NUM_SAMPLES * SAMPLE_SIZE
FACTORS = PACKED + PACKED_SIZE
NUM_FLOATS = FACTORS + NUM_FACTORS

# kinds of what is logged, and why `run` came back
HAS_FIRST, HAS_ENDED, IS_GONE = 0, 1, 2
RESTS, HAS_NOTABLE, LOG_FULL = 0, 1, 2
WANTS_PLACE, WANTS_PREEMPTION, WANTS_ROOM, HAS_LEFT = 3, 4, 5, 6


def put(
    ints: Any, column: int, place: int, num_tokens: int, num_left: int, is_stopped: int
) -> None:
    """A request waits, at this place of the service order."""
    totals, order = ints[TOTALS], ints[ORDER]
    for i in range(totals[NUM_PRESENT], place, -1):
        order[i] = order[i - 1]
    order[place] = column
    totals[NUM_PRESENT] += 1
    totals[IS_TOUCHED] = 1
    ints[PHASE:, column] = 0
    ints[PHASE, column] = WAITING
    ints[TOKENS, column] = num_tokens
    ints[LEFT, column] = num_left
    ints[IS_STOPPED, column] = is_stopped


def take_out(ints: Any, column: int) -> None:
    """A request leaves the engine, between steps; its cells are free unless others place KV."""
    totals, order = ints[TOTALS], ints[ORDER]
    kept = 0
    for i in range(totals[NUM_PRESENT]):
        if order[i] != column:
            order[kept] = order[i]
            kept += 1
    totals[NUM_PRESENT] = kept
    phase = ints[PHASE, column]
    if phase != WAITING:
        totals[NUM_RUNNING] -= 1
    if phase == DECODING:
        totals[NUM_DECODING] -= 1
    if totals[IS_PLACED] == 0:
        totals[KV_USED] -= ints[COMPUTED, column]
    ints[PHASE, column] = FREE
    totals[DECODES_ONLY] = 0


def send_back(ints: Any, column: int) -> None:
    """A running request loses its KV and waits in its old place."""
    totals = ints[TOTALS]
    totals[NUM_RUNNING] -= 1
    if ints[PHASE, column] == DECODING:
        totals[NUM_DECODING] -= 1
    if totals[IS_PLACED] == 0:
        totals[KV_USED] -= ints[COMPUTED, column]
    ints[PHASE, column] = WAITING
    ints[COMPUTED, column] = 0
    ints[CHUNK, column] = 0
    totals[NUM_PREEMPTED] += 1
    totals[DECODES_ONLY] = 0


def note(ints: Any, floats: Any, log: Any, column: int, kind: int) -> None:
    totals = ints[TOTALS]
    n = totals[NUM_LOGGED]
    log[n, 0] = floats[CLOCK]
    log[n, 1] = column
    log[n, 2] = kind
    totals[NUM_LOGGED] = n + 1


def sample_step(ints: Any, floats: Any, step_s: float) -> None:
    """Keep a step's figures: the last few of those that prefilled, and of those that did not."""
    totals = ints[TOTALS]
    counter = NUM_PREFILL_SAMPLES if totals[STEP_P] > 0 else NUM_DECODE_SAMPLES
    i = totals[counter] % NUM_SAMPLES
    if counter == NUM_DECODE_SAMPLES:
        i += NUM_SAMPLES
    totals[counter] += 1
    start = SAMPLES + i * SAMPLE_SIZE
    floats[start] = totals[STEP_P]
    floats[start + 1] = totals[STEP_D]
    floats[start + 2] = totals[STEP_K]
    floats[start + 3] = floats[STEP_A]
    floats[start + 4] = step_s


def begin(ints: Any, floats: Any) -> None:
    """The step of the figures set is under way."""
    totals = ints[TOTALS]
    step_s = step_time(
        floats[PACKED:FACTORS],
        totals[STEP_P],
        totals[STEP_D],
        totals[STEP_K],
        floats[STEP_A],
    )
    step_s *= floats[FACTORS + totals[NUM_STEPS] % NUM_FACTORS]
    floats[END] = floats[CLOCK] + step_s
    totals[IN_FLIGHT] = 1


def end_step(ints: Any, floats: Any, is_peek: bool) -> None:
    """The step under way has taken its time: count it and learn from it."""
    totals = ints[TOTALS]
    step_s = floats[END] - floats[CLOCK]
    floats[CLOCK] = floats[END]
    floats[BUSY] += step_s
    totals[IN_FLIGHT] = 0
    totals[NUM_STEPS] += 1
    totals[KV_USED] += totals[STEP_P] + totals[STEP_D]
    if totals[IS_PLANNED] != 0:
        floats[PREFILL_RATE], floats[DECODE_RATE] = learned_rates(
            floats[PREFILL_RATE], floats[DECODE_RATE], totals[STEP_P], totals[STEP_D], step_s
        )
        floats[TOLD_PREFILL_RATE] = floats[PREFILL_RATE]
        floats[TOLD_DECODE_RATE] = floats[DECODE_RATE]
    elif totals[NUM_STEPS] & 15 == 0:
        floats[PREFILL_RATE], floats[DECODE_RATE] = learned_rates(
            floats[PREFILL_RATE], floats[DECODE_RATE], 0, 1, step_s
        )
    if not is_peek:
        sample_step(ints, floats, step_s)


def complete(ints: Any, floats: Any, log: Any, is_peek: bool) -> tuple[int, int]:
    """End the step under way: how many first tokens and ends it brought, and how many left."""
    totals, order = ints[TOTALS], ints[ORDER]
    end_step(ints, floats, is_peek)
    num_notable, num_left = 0, 0
    for i in range(totals[NUM_PRESENT]):
        column = order[i]
        is_told = ints[IS_CANCELLED, column] == 0
        is_sampled = ints[PHASE, column] == DECODING
        if is_sampled:
            ints[COMPUTED, column] += 1
        elif ints[CHUNK, column] > 0:
            ints[COMPUTED, column] += ints[CHUNK, column]
            ints[PREFILLED, column] = ints[COMPUTED, column]
            ints[CHUNK, column] = 0
            is_sampled = ints[COMPUTED, column] == ints[TOKENS, column]
            if is_sampled:
                ints[PHASE, column] = DECODING
                totals[NUM_DECODING] += 1
        if is_sampled:
            ints[LEFT, column] -= 1
            if ints[LEFT, column] > 0 or ints[IS_STOPPED, column] == 0:
                ints[TOKENS, column] += 1
                ints[EMITTED, column] += 1
                if ints[EMITTED, column] == 1 and is_told:
                    num_notable += 1
                    if not is_peek:
                        note(ints, floats, log, column, HAS_FIRST)
        if ints[LEFT, column] == 0 or not is_told:
            num_left += 1
            num_notable += 1 if is_told else 0
    i = totals[NUM_PRESENT] - 1
    while num_left > 0 and i >= 0:
        column = order[i]
        if ints[LEFT, column] == 0 or ints[IS_CANCELLED, column] != 0:
            if not is_peek:
                kind = HAS_ENDED if ints[IS_CANCELLED, column] == 0 else IS_GONE
                note(ints, floats, log, column, kind)
            take_out(ints, column)
        i -= 1
    if totals[IS_PLANNED] != 0:
        num_running = totals[NUM_RUNNING]
        is_full = num_running == totals[SLOTS] or num_running == totals[NUM_PRESENT]
        is_decoding = num_running == totals[NUM_DECODING]
        totals[DECODES_ONLY] = 1 if is_decoding and is_full else 0
    return num_notable, num_left


def run_decoding(ints: Any, floats: Any, until_s: float, is_peek: bool) -> None:
    """Steps in which all that is done is to decode, up to the one in which a sequence ends; that
    one, or the first that ends after until_s, is under way then."""
    totals, order = ints[TOTALS], ints[ORDER]
    num_decoding = totals[NUM_DECODING]
    most = 1 << 40
    num_kv = 0
    for i in range(totals[NUM_PRESENT]):
        column = order[i]
        if ints[PHASE, column] == DECODING:
            most = min(most, ints[LEFT, column])
            num_kv += ints[COMPUTED, column]
    if totals[KV_TOKENS] > 0:
        most = min(most, (totals[KV_TOKENS] - totals[KV_USED]) // num_decoding)
    totals[IS_PLANNED] = 0
    totals[STEP_P] = 0
    totals[STEP_D] = num_decoding
    floats[STEP_A] = 0.0
    n = 0
    while n < most and floats[CLOCK] < until_s:
        totals[STEP_K] = num_kv + n * num_decoding
        begin(ints, floats)
        if n == most - 1 or floats[END] > until_s:
            break
        end_step(ints, floats, is_peek)
        n += 1
    if n > 0:
        for i in range(totals[NUM_PRESENT]):
            column = order[i]
            if ints[PHASE, column] == DECODING:
                ints[COMPUTED, column] += n
                ints[TOKENS, column] += n
                ints[EMITTED, column] += n
                ints[LEFT, column] -= n


def admit(ints: Any, floats: Any) -> int:
    """Fill the slots, and let those begin that KV and the step's budget reach. Gives back whether
    another has to place them first (1) or not (0)."""
    totals, order = ints[TOTALS], ints[ORDER]
    num_admitted = 0
    for i in range(totals[NUM_PRESENT]):
        column = order[i]
        if ints[PHASE, column] == WAITING and totals[NUM_RUNNING] < totals[SLOTS]:
            ints[PHASE, column] = ADMITTED
            totals[NUM_RUNNING] += 1
        if ints[PHASE, column] == ADMITTED:
            num_admitted += 1
    is_placed = totals[IS_PLACED] != 0
    if is_placed and totals[HAS_PLACED] != 0:
        totals[HAS_PLACED] = 0
        return 0
    if num_admitted == 0:
        return 1 if is_placed and totals[KV_TOKENS] > 0 else 0
    num_begun = totals[NUM_RUNNING] - num_admitted
    budget = budget_of(ints, floats)
    ahead = 0
    for i in range(totals[NUM_PRESENT]):
        column = order[i]
        if ints[PHASE, column] == PREFILLING:
            ahead += ints[TOKENS, column] - ints[COMPUTED, column]
        elif ints[PHASE, column] == ADMITTED:
            if ahead >= budget:
                break
            if is_placed:
                return 1
            if totals[KV_TOKENS] > 0 and num_begun > 0:
                need = ints[TOKENS, column] + KV_MARGIN_TOKENS * (num_begun + 1)
                if need > totals[KV_TOKENS] - totals[KV_USED]:
                    break
            ints[PHASE, column] = PREFILLING
            ahead += ints[TOKENS, column]
            num_begun += 1
    return 1 if is_placed and totals[KV_TOKENS] > 0 else 0


def budget_of(ints: Any, floats: Any) -> int:
    totals = ints[TOTALS]
    num_decoding = totals[NUM_DECODING]
    return budget_tokens(
        num_decoding,
        totals[NUM_RUNNING] - num_decoding,
        floats[PREFILL_RATE],
        floats[DECODE_RATE],
        int(floats[MAX_TOKENS]),
        floats[DECODE_BOUND],
        floats[DECODE_SLOWDOWN],
        floats[PREFILL_BOUND],
    )


def plan(ints: Any, floats: Any) -> int:
    """Set the next step's figures, as `sched.steps.plan_step` does: tokens in it, 0 if nothing can
    run, or -1 - the column that must give up its KV first."""
    totals, order = ints[TOTALS], ints[ORDER]
    num_decoding = totals[NUM_DECODING]
    has_pool = totals[KV_TOKENS] > 0
    free = totals[KV_TOKENS] - totals[KV_USED] if totals[IS_PLACED] == 0 else totals[KV_FREE]
    num_begun, last, num_kv = 0, -1, 0
    for i in range(totals[NUM_PRESENT]):
        column = order[i]
        if ints[PHASE, column] >= PREFILLING:
            num_begun += 1
            last = column
        if ints[PHASE, column] == DECODING:
            num_kv += ints[COMPUTED, column]
    if has_pool:
        free -= num_decoding
        if num_begun > 1 and (free < 0 or (free == 0 and num_decoding == 0)):
            return -1 - last
        free = max(0, free)
    budget = budget_of(ints, floats)
    room = totals[BATCH] - num_decoding
    num_prefill, attention, is_over = 0, 0.0, False
    for i in range(totals[NUM_PRESENT]):
        column = order[i]
        if ints[PHASE, column] != PREFILLING:
            continue
        computed = ints[COMPUTED, column]
        ints[CHUNK, column] = 0
        if is_over:
            continue
        chunk = chunk_tokens(ints[TOKENS, column] - computed, budget, room, num_prefill == 0)
        if has_pool:
            chunk = min(chunk, free)
            free -= chunk
        if chunk <= 0:
            is_over = True
            continue
        ints[CHUNK, column] = chunk
        budget -= chunk
        room -= chunk
        num_prefill += chunk
        attention += chunk * (computed + chunk / 2)
    totals[IS_PLANNED] = 1
    totals[STEP_P], totals[STEP_D], totals[STEP_K] = num_prefill, num_decoding, num_kv
    floats[STEP_A] = attention
    return num_prefill + num_decoding


def make_room(ints: Any, floats: Any, log: Any, is_peek: bool) -> bool:
    """The pool has no cells for the step: the last in service order goes back to wait; one that
    runs alone ends, which is True then."""
    totals, order = ints[TOTALS], ints[ORDER]
    num_begun, last = 0, -1
    for i in range(totals[NUM_PRESENT]):
        if ints[PHASE, order[i]] >= PREFILLING:
            num_begun += 1
            last = order[i]
    if num_begun > 1:
        send_back(ints, last)
        return False
    if not is_peek:
        note(ints, floats, log, last, HAS_ENDED)
    take_out(ints, last)
    return True


def run(ints: Any, floats: Any, log: Any, until_s: float, is_peek: bool) -> int:
    """Run every step that begins before until_s, and end those that end by then.

    is_peek: only look ahead (on a copy of ints; NUM_STATE floats change), and come back at the
    first token or end, at NOTABLE_AT. Gives back why it came back: RESTS: no more is to be done;
    HAS_NOTABLE; LOG_FULL; and where another places KV, before the next step WANTS_PLACE (of those
    admitted), WANTS_PREEMPTION or WANTS_ROOM, and HAS_LEFT after one in which any left.
    """
    totals = ints[TOTALS]
    is_placed = totals[IS_PLACED] != 0
    while True:
        if totals[IN_FLIGHT] != 0:
            if floats[END] > until_s:
                return RESTS
            num_notable, num_left = complete(ints, floats, log, is_peek)
            if is_peek and (num_notable > 0 or (is_placed and num_left > 0)):
                floats[NOTABLE_AT] = floats[CLOCK]
                return HAS_NOTABLE
            if is_placed and num_left > 0:
                return HAS_LEFT
            continue
        if totals[IS_TOUCHED] != 0:
            totals[IS_TOUCHED] = 0
            totals[DECODES_ONLY] = 0
        if totals[NUM_PRESENT] == 0 or floats[CLOCK] >= until_s:
            return RESTS
        if totals[NUM_LOGGED] + 2 * totals[SLOTS] + 2 > log.shape[0]:
            return LOG_FULL
        num_tokens = totals[NUM_DECODING]
        is_planned = totals[DECODES_ONLY] == 0 or num_tokens == 0
        if is_planned:
            if admit(ints, floats) != 0:
                return WANTS_PLACE
            num_tokens = plan(ints, floats)
        if num_tokens < 0:
            if is_placed:
                return WANTS_PREEMPTION
            send_back(ints, -1 - num_tokens)
            continue
        free = totals[KV_TOKENS] - totals[KV_USED]
        if num_tokens == 0 or (totals[KV_TOKENS] > 0 and num_tokens > free):
            if is_placed:
                return WANTS_ROOM
            if make_room(ints, floats, log, is_peek) and is_peek:
                return WANTS_ROOM
        elif is_planned:
            begin(ints, floats)
        else:
            run_decoding(ints, floats, until_s, is_peek)
