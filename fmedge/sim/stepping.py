"""The steps of one engine in virtual time, until something has to be told or decided elsewhere.

The rule: what `replica.loop` does with the same sequences, step by step, each with its own noise:
the policy is `sched.steps`, the time `sched.steptime`. Nothing is estimated or summed in closed
form. A step begun is fixed: what arrives or is cancelled before its end waits for the next.

Plain functions over arrays (laid out in layout.py); kernels.py compiles them unchanged.
"""

from __future__ import annotations

from typing import Any

from fmedge.sched.emulation import NUM_FACTORS
from fmedge.sched.steps import learned_rates
from fmedge.sched.steptime import step_time
from fmedge.sim import layout as at
from fmedge.sim.queueing import admit, note, plan, send_back, take_out


def sample_step(ints: Any, floats: Any, step_s: float) -> None:
    """Keep the figures of the step that was counted last."""
    totals = ints[at.TOTALS]
    start = at.SAMPLES + (totals[at.NUM_STEPS] - 1) % at.MOST_SAMPLED * at.SAMPLE_SIZE
    floats[start] = totals[at.STEP_P]
    floats[start + 1] = totals[at.STEP_D]
    floats[start + 2] = totals[at.STEP_K]
    floats[start + 3] = floats[at.STEP_A]
    floats[start + 4] = step_s


def begin(ints: Any, floats: Any) -> None:
    """The step of the figures set is under way."""
    totals = ints[at.TOTALS]
    step_s = step_time(
        floats[at.PACKED : at.FACTORS],
        totals[at.STEP_P],
        totals[at.STEP_D],
        totals[at.STEP_K],
        floats[at.STEP_A],
    )
    step_s *= floats[at.FACTORS + totals[at.NUM_STEPS] % NUM_FACTORS]
    floats[at.END] = floats[at.CLOCK] + step_s
    totals[at.IN_FLIGHT] = 1


def end_step(ints: Any, floats: Any, is_peek: bool) -> None:
    """The step under way has taken its time: count it and learn from it."""
    totals = ints[at.TOTALS]
    step_s = floats[at.END] - floats[at.CLOCK]
    floats[at.CLOCK] = floats[at.END]
    floats[at.BUSY] += step_s
    totals[at.IN_FLIGHT] = 0
    totals[at.NUM_STEPS] += 1
    totals[at.KV_USED] += totals[at.STEP_P] + totals[at.STEP_D]
    prefill_rate, decode_rate = floats[at.PREFILL_RATE], floats[at.DECODE_RATE]
    if totals[at.IS_PLANNED] != 0:
        prefill_rate, decode_rate = learned_rates(
            prefill_rate, decode_rate, totals[at.STEP_P], totals[at.STEP_D], step_s
        )
        floats[at.TOLD_PREFILL_RATE] = prefill_rate
        floats[at.TOLD_DECODE_RATE] = decode_rate
    elif totals[at.NUM_STEPS] & 15 == 0:
        prefill_rate, decode_rate = learned_rates(prefill_rate, decode_rate, 0, 1, step_s)
    floats[at.PREFILL_RATE], floats[at.DECODE_RATE] = prefill_rate, decode_rate
    if not is_peek:
        sample_step(ints, floats, step_s)


def complete(ints: Any, floats: Any, log: Any, is_peek: bool) -> tuple[int, int]:
    """End the step under way: how many first tokens and ends it brought, and how many left."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    end_step(ints, floats, is_peek)
    num_notable, num_left = 0, 0
    for i in range(totals[at.NUM_PRESENT]):
        column = order[i]
        is_told = ints[at.IS_CANCELLED, column] == 0
        is_sampled = ints[at.PHASE, column] == at.DECODING
        if is_sampled:
            ints[at.COMPUTED, column] += 1
        elif ints[at.CHUNK, column] > 0:
            ints[at.COMPUTED, column] += ints[at.CHUNK, column]
            ints[at.PREFILLED, column] = ints[at.COMPUTED, column]
            ints[at.CHUNK, column] = 0
            is_sampled = ints[at.COMPUTED, column] == ints[at.TOKENS, column]
            if is_sampled:
                ints[at.PHASE, column] = at.DECODING
                totals[at.NUM_DECODING] += 1
        if is_sampled:
            ints[at.LEFT, column] -= 1
            if ints[at.LEFT, column] > 0 or ints[at.IS_STOPPED, column] == 0:
                ints[at.TOKENS, column] += 1
                ints[at.EMITTED, column] += 1
                if ints[at.EMITTED, column] == 1 and is_told:
                    num_notable += 1
                    if not is_peek:
                        note(ints, floats, log, column, at.HAS_FIRST)
        if ints[at.LEFT, column] == 0 or not is_told:
            num_left += 1
            num_notable += 1 if is_told else 0
    has_dropped = False
    i = totals[at.NUM_PRESENT] - 1
    while num_left > 0 and i >= 0:
        column = order[i]
        if ints[at.LEFT, column] == 0 or ints[at.IS_CANCELLED, column] != 0:
            has_dropped = has_dropped or ints[at.LEFT, column] > 0
            if not is_peek:
                kind = at.HAS_ENDED if ints[at.IS_CANCELLED, column] == 0 else at.IS_GONE
                note(ints, floats, log, column, kind)
            take_out(ints, column)
        i -= 1
    if totals[at.IS_PLANNED] != 0 and not has_dropped:
        num_running = totals[at.NUM_RUNNING]
        is_full = num_running == totals[at.SLOTS] or num_running == totals[at.NUM_PRESENT]
        is_decoding = num_running == totals[at.NUM_DECODING]
        totals[at.DECODES_ONLY] = 1 if is_decoding and is_full else 0
    return num_notable, num_left


def run_decoding(ints: Any, floats: Any, until_s: float, is_peek: bool) -> None:
    """Steps in which all that is done is to decode, up to the one in which a sequence ends; that
    one, or the first that ends after until_s, is under way then."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    num_decoding = totals[at.NUM_DECODING]
    most = 1 << 40
    num_kv = 0
    for i in range(totals[at.NUM_PRESENT]):
        column = order[i]
        if ints[at.PHASE, column] == at.DECODING:
            most = min(most, ints[at.LEFT, column])
            num_kv += ints[at.COMPUTED, column]
    if totals[at.KV_TOKENS] > 0:
        most = min(most, (totals[at.KV_TOKENS] - totals[at.KV_USED]) // num_decoding)
    totals[at.IS_PLANNED] = 0
    totals[at.STEP_P] = 0
    totals[at.STEP_D] = num_decoding
    floats[at.STEP_A] = 0.0
    n = 0
    while n < most and floats[at.CLOCK] < until_s:
        totals[at.STEP_K] = num_kv + n * num_decoding
        begin(ints, floats)
        if n == most - 1 or floats[at.END] > until_s:
            break
        end_step(ints, floats, is_peek)
        n += 1
    if n > 0:
        for i in range(totals[at.NUM_PRESENT]):
            column = order[i]
            if ints[at.PHASE, column] == at.DECODING:
                ints[at.COMPUTED, column] += n
                ints[at.TOKENS, column] += n
                ints[at.EMITTED, column] += n
                ints[at.LEFT, column] -= n


def make_room(ints: Any, floats: Any, log: Any, is_peek: bool) -> bool:
    """The pool has no cells for the step: the last in service order goes back to wait; one that
    runs alone ends, which is True then."""
    totals, order = ints[at.TOTALS], ints[at.ORDER]
    num_begun, last = 0, -1
    for i in range(totals[at.NUM_PRESENT]):
        if ints[at.PHASE, order[i]] >= at.PREFILLING:
            num_begun += 1
            last = order[i]
    if num_begun > 1:
        send_back(ints, last)
        return False
    if not is_peek:
        note(ints, floats, log, last, at.HAS_ENDED)
    take_out(ints, last)
    return True


def run(ints: Any, floats: Any, log: Any, until_s: float, is_peek: bool) -> int:
    """Run every step that begins before until_s, and end those that end by then.

    is_peek: only look ahead (on a copy of ints; NUM_STATE floats change), and come back at the
    first token or end, at NOTABLE_AT. Gives back why it came back: RESTS: no more is to be done;
    HAS_NOTABLE; LOG_FULL; and where another places KV, before the next step WANTS_PLACE (of those
    admitted), WANTS_PREEMPTION or WANTS_ROOM, and HAS_LEFT after one in which any left.
    """
    totals = ints[at.TOTALS]
    is_placed = totals[at.IS_PLACED] != 0
    while True:
        if totals[at.IN_FLIGHT] != 0:
            if floats[at.END] > until_s:
                return at.RESTS
            num_notable, num_left = complete(ints, floats, log, is_peek)
            if is_peek and (num_notable > 0 or (is_placed and num_left > 0)):
                floats[at.NOTABLE_AT] = floats[at.CLOCK]
                return at.HAS_NOTABLE
            if is_placed and num_left > 0:
                return at.HAS_LEFT
            continue
        if totals[at.IS_TOUCHED] != 0:
            totals[at.IS_TOUCHED] = 0
            totals[at.DECODES_ONLY] = 0
        if totals[at.NUM_PRESENT] == 0 or floats[at.CLOCK] >= until_s:
            return at.RESTS
        if totals[at.NUM_LOGGED] + 3 * totals[at.SLOTS] + 2 > log.shape[0]:
            return at.LOG_FULL
        num_tokens = totals[at.NUM_DECODING]
        is_planned = totals[at.DECODES_ONLY] == 0 or num_tokens == 0
        if is_planned:
            if admit(ints, floats, log, is_peek) != 0:
                return at.WANTS_PLACE
            num_tokens = plan(ints, floats)
        if num_tokens < 0:
            if is_placed:
                return at.WANTS_PREEMPTION
            send_back(ints, -1 - num_tokens)
            continue
        free = totals[at.KV_TOKENS] - totals[at.KV_USED]
        if num_tokens == 0 or (totals[at.KV_TOKENS] > 0 and num_tokens > free):
            if is_placed:
                return at.WANTS_ROOM
            if make_room(ints, floats, log, is_peek) and is_peek:
                return at.WANTS_ROOM
        elif is_planned:
            begin(ints, floats)
        else:
            run_decoding(ints, floats, until_s, is_peek)


def look_ahead(ints: Any, ahead: Any, floats: Any, log: Any, state: Any) -> tuple[int, float]:
    """What `run` would next come back with that is notable, and when; nothing is changed. ahead:
    like ints, and state: float64[NUM_STATE], to work on."""
    ahead[:, :] = ints
    state[:] = floats[: at.NUM_STATE]
    code = run(ahead, floats, log, at.NEVER, True)
    at_s = floats[at.NOTABLE_AT] if code == at.HAS_NOTABLE else floats[at.CLOCK]
    floats[: at.NUM_STATE] = state
    return code, at_s
