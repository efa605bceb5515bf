"""Estimates over replays: what a request would get on each replica, and whether promises hold.

The rule: a promise's probability is the mean over scenarios of output lengths (stratified, so few
suffice) of Phi(ln(limit / estimate) / sigma), sigma being how far estimates with known lengths
stray from what is observed.

Plain functions over numbers and arrays (laid out in arrays.py); kernels.py compiles them unchanged.
`a` is Arrays, `sigmas` (ttft, tpot, e2e).
"""

from __future__ import annotations

from math import erf, exp, isnan, log, sqrt
from typing import Any

from fmedge.sched.arrays import (
    ARRIVAL_INTERVAL,
    BASE_CACHED,
    BASE_NEW,
    BASE_PHASE,
    BASE_ROW,
    BASE_TOKENS,
    CTX_SIZE,
    DECODING,
    E2E_DUE,
    END,
    FIRST,
    FIRST_AT,
    HAS_REST,
    MEDIAN,
    NEVER,
    NUM_EMITTED,
    NUM_HERE,
    NUM_NEW,
    NUM_SCENARIOS,
    NUM_STRATA,
    P_WITH,
    P_WITHOUT,
    PREEMPTED,
    PREFILL_RATE,
    S_END,
    S_FIRST,
    S_START,
    S_TPOT,
    SLOTS,
    SPREAD,
    START,
    STEPPED_AT,
    STRATUM,
    TPOT_LIMIT,
    TTFT_DUE,
    WAITING,
    WANTED,
    WEIGHT,
)
from fmedge.sched.gather import draw_lengths, gather
from fmedge.sched.replay import replay
from fmedge.sched.steptime import step_time

# columns of `assess`; fleet.Column names them
Q, X, REST, TTFT, TTFT_P90, TPOT, E2E, E2E_P90 = 0, 1, 2, 3, 4, 5, 6, 7
P_HOLD, HARM, CACHED, SCENARIOS, P_TTFT, P_TPOT, P_E2E = 8, 9, 10, 11, 12, 13, 14
NUM_COLUMNS = 15

# columns of `outlook`; fleet.OutlookColumn
O_P_HOLD, O_TTFT, O_TTFT_P90, O_E2E, O_E2E_P90, O_TPOT = 0, 1, 2, 3, 4, 5
O_SLACK, O_IS_RUNNING, O_START, O_LEFT = 6, 7, 8, 9
NUM_OUTLOOK_COLUMNS = 10

NUM_REPLAY_COLUMNS = 4  # start, first, end, times preempted
NUM_SPEED_COLUMNS = 4

MAX_BEHIND_S = 60.0
"""A step that began longer ago is not believed to be running still."""

Z90 = 1.2815515655446004
SQRT2 = 1.4142135623730951


def p_within(limit_s: float, estimate_s: float, sigma: float) -> float:
    """P(actual <= limit) where ln(actual / estimate) is normal with deviation sigma."""
    if limit_s >= NEVER:
        return 1.0
    if limit_s <= 0.0:
        return 0.0
    if estimate_s <= 0.0:
        return 1.0
    if sigma <= 0.0:
        return 1.0 if estimate_s <= limit_s else 0.0
    return 0.5 * (1.0 + erf(log(limit_s / estimate_s) / (sigma * SQRT2)))


def p_first(state: Any, row: int, now_s: float, ttft_s: float, sigma: float) -> float:
    """P(the first token is, or was, in time)."""
    first_at = state[row, FIRST_AT]
    if not isnan(first_at):
        return 1.0 if first_at <= state[row, TTFT_DUE] else 0.0
    if state[row, NUM_EMITTED] + state[row, NUM_NEW] > 0:
        return 1.0
    return p_within(state[row, TTFT_DUE] - now_s, ttft_s, sigma)


def has_promise(state: Any, row: int) -> bool:
    return bool(
        state[row, TTFT_DUE] < NEVER
        or state[row, TPOT_LIMIT] < NEVER
        or state[row, E2E_DUE] < NEVER
    )


def rest_of(a: Any, row: int, scenario: int) -> float:
    """l_r in a scenario, drawn apart from the request's length."""
    if a.state[row, HAS_REST] == 0.0:
        return 0.0
    if scenario == MEDIAN:
        middle = NUM_SCENARIOS // 2
        return float(a.rests[row, middle - 1] + a.rests[row, middle]) / 2
    other = (int(a.state[row, STRATUM]) + 1) % NUM_STRATA
    return float(a.rests[row, a.strata[other, scenario]])


def left_of(a: Any, e: int, scenario: int, ctx_size: float) -> int:
    """Tokens that an entry is yet to sample in a scenario, as `replay` has it."""
    left = a.draws[a.ints[BASE_ROW, e], scenario] - int(a.floats[BASE_NEW, e])
    return max(1, min(left, int(ctx_size) - a.ints[BASE_TOKENS, e]))


def tpot_of(a: Any, e: int, left: int, now_s: float) -> float:
    """Seconds per token after the first, of an entry that has been replayed."""
    row = a.ints[BASE_ROW, e]
    emitted = a.state[row, NUM_EMITTED] + a.state[row, NUM_NEW]
    if emitted == 0:
        return (a.floats[END, e] - a.floats[FIRST, e]) / (left - 1) if left > 1 else 0.0
    began_at = a.state[row, FIRST_AT]
    if isnan(began_at):
        return float(a.floats[END, e] / left)
    return float((a.floats[END, e] + now_s - began_at) / (emitted + left - 1))


def p_holds(
    a: Any, e: int, now_s: float, scenario: int, ctx_size: float, sigmas: tuple[float, float, float]
) -> float:
    """P(an entry's promise holds) in the scenario just replayed: the least of its three parts,
    as they go together."""
    row = a.ints[BASE_ROW, e]
    p = p_first(a.state, row, now_s, a.floats[FIRST, e], sigmas[0])
    limit_s = a.state[row, TPOT_LIMIT]
    if limit_s < NEVER:
        tpot_s = tpot_of(a, e, left_of(a, e, scenario, ctx_size), now_s)
        p = min(p, p_within(limit_s, tpot_s, sigmas[1]))
    due_s = a.state[row, E2E_DUE] - now_s - rest_of(a, row, scenario)
    return min(p, p_within(due_s, a.floats[END, e], sigmas[2]))


def quantile_of(values: Any, n: int, u: float) -> float:
    """Of n sorted, equally likely values, each at the middle of its share."""
    at = u * n - 0.5
    if at <= 0:
        return float(values[0])
    i = int(at)
    if i >= n - 1:
        return float(values[n - 1])
    return float(values[i] + (at - i) * (values[i + 1] - values[i]))


def sort_values(values: Any, n: int) -> None:
    for i in range(1, n):
        value = values[i]
        j = i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


def widened_p90(median: float, p90: float, sigma: float) -> float:
    """p90 of lengths' scenarios and residual errors together: their spreads add in squares."""
    if median <= 0.0:
        return p90
    lengths = log(max(p90, median) / median)
    return median * exp(sqrt(lengths * lengths + (Z90 * sigma) ** 2))


def behind(params: Any, now_s: float) -> float:
    """How long ago the replica's running step began; 0 where that is not known."""
    behind_s = now_s - params[STEPPED_AT]
    return float(behind_s) if 0.0 < behind_s < MAX_BEHIND_S else 0.0


def needed_scenarios(a: Any, params: Any, n: int, num_scenarios: int) -> int:
    """1 where scenarios could not differ, since all lengths are known."""
    if num_scenarios == 1 or params[ARRIVAL_INTERVAL] < NEVER:
        return num_scenarios
    for e in range(n):
        row = a.ints[BASE_ROW, e]
        if a.state[row, SPREAD] > 0.0 or a.state[row, HAS_REST] != 0.0:
            return num_scenarios
    return 1


def assess_one(
    a: Any,
    replica: int,
    now_s: float,
    cached: int,
    sigmas: tuple[float, float, float],
    num_scenarios: int,
    with_harm: bool,
    is_alone: bool,
    skip: int,
    without: int,
    out: Any,
) -> None:
    """The candidate (row 0) on one replica: out[0:NUM_COLUMNS]."""
    n, place = gather(a, replica, now_s, True, is_alone, cached, skip, without)
    params, packed, arrivals = a.params[replica], a.packed[replica], a.arrival_draws[replica]
    ctx_size = params[CTX_SIZE]
    behind_s = 0.0 if is_alone else behind(params, now_s)
    num_scenarios = needed_scenarios(a, params, n, num_scenarios)
    num_harmed = 0
    for e in range(n):
        a.ints[WANTED, e] = 0
        if with_harm and e != place and has_promise(a.state, a.ints[BASE_ROW, e]):
            a.ints[WANTED, e] = 1
            a.floats[P_WITHOUT, e] = a.floats[P_WITH, e] = 0.0
            num_harmed += 1
    a.ints[WANTED, place] = 1

    starts, firsts = a.samples[S_START, 0], a.samples[S_FIRST, 0]
    tpots, ends = a.samples[S_TPOT, 0], a.samples[S_END, 0]
    p_hold = p_ttft = p_tpot = p_e2e = 0.0
    for s in range(num_scenarios):
        scenario = MEDIAN if num_scenarios == 1 else s
        replay(params, packed, arrivals, a.draws, a.ints, a.floats, n, -1, scenario, behind_s)
        starts[s] = max(0.0, a.floats[START, place])
        firsts[s] = a.floats[FIRST, place]
        tpots[s] = tpot_of(a, place, left_of(a, place, scenario, ctx_size), now_s)
        ends[s] = a.floats[END, place]
        first = p_first(a.state, 0, now_s, firsts[s], sigmas[0])
        tpot = p_within(a.state[0, TPOT_LIMIT], tpots[s], sigmas[1])
        due_s = a.state[0, E2E_DUE] - now_s
        if num_scenarios == 1 and a.state[0, HAS_REST] != 0.0:
            # one replay, but what remains after the call is known as a distribution all the same
            e2e = 0.0
            whole = 0.0
            for k in range(NUM_SCENARIOS):
                p = p_within(due_s - a.rests[0, k], ends[s], sigmas[2]) / NUM_SCENARIOS
                e2e += p
                whole += min(p, first / NUM_SCENARIOS, tpot / NUM_SCENARIOS)
        else:
            e2e = p_within(due_s - rest_of(a, 0, scenario), ends[s], sigmas[2])
            whole = min(first, tpot, e2e)
        p_ttft += first / num_scenarios
        p_tpot += tpot / num_scenarios
        p_e2e += e2e / num_scenarios
        p_hold += whole / num_scenarios
        if num_harmed > 0:
            for e in range(n):
                if e != place and a.ints[WANTED, e] != 0:
                    a.floats[P_WITH, e] += p_holds(a, e, now_s, scenario, ctx_size, sigmas)
    harm = 0.0
    if num_harmed > 0:
        a.ints[WANTED, place] = 0
        for s in range(num_scenarios):
            scenario = MEDIAN if num_scenarios == 1 else s
            replay(
                params, packed, arrivals, a.draws, a.ints, a.floats, n, place, scenario, behind_s
            )
            for e in range(n):
                if a.ints[WANTED, e] != 0:
                    a.floats[P_WITHOUT, e] += p_holds(a, e, now_s, scenario, ctx_size, sigmas)
        for e in range(n):
            if a.ints[WANTED, e] != 0:
                lost = (a.floats[P_WITHOUT, e] - a.floats[P_WITH, e]) / num_scenarios
                harm += max(0.0, lost) * a.state[a.ints[BASE_ROW, e], WEIGHT]

    sort_values(starts, num_scenarios)
    sort_values(firsts, num_scenarios)
    sort_values(tpots, num_scenarios)
    sort_values(ends, num_scenarios)
    out[Q] = quantile_of(starts, num_scenarios, 0.5)
    out[TTFT] = quantile_of(firsts, num_scenarios, 0.5)
    out[E2E] = quantile_of(ends, num_scenarios, 0.5)
    out[X] = out[E2E] - out[Q]
    out[REST] = rest_of(a, 0, MEDIAN)
    out[TTFT_P90] = widened_p90(out[TTFT], quantile_of(firsts, num_scenarios, 0.9), sigmas[0])
    out[TPOT] = quantile_of(tpots, num_scenarios, 0.5)
    out[E2E_P90] = widened_p90(out[E2E], quantile_of(ends, num_scenarios, 0.9), sigmas[2])
    out[P_HOLD] = p_hold
    out[HARM] = harm
    out[CACHED] = a.ints[BASE_CACHED, place]
    out[SCENARIOS] = num_scenarios
    out[P_TTFT] = p_ttft
    out[P_TPOT] = p_tpot
    out[P_E2E] = p_e2e


def assess(
    a: Any,
    replicas: Any,
    cached: Any,
    now_s: float,
    sigmas: tuple[float, float, float],
    num_scenarios: int,
    with_harm: bool,
    is_alone: bool,
    skip: int,
    without: int,
    stop_at: float,
    out: Any,
) -> None:
    """The candidate on each of `replicas` (int64[n]) with cached[i] (int64[n]) of its tokens held
    there: out float64[n, NUM_COLUMNS]. Once a replica reaches stop_at, the others get one scenario
    and no harm."""
    draw_lengths(a, 0)
    is_enough = False
    for i in range(len(replicas)):
        assess_one(
            a,
            replicas[i],
            now_s,
            cached[i],
            sigmas,
            1 if is_enough else num_scenarios,
            with_harm and not is_enough,
            is_alone,
            skip,
            without,
            out[i],
        )
        if out[i, P_HOLD] - out[i, HARM] >= stop_at:
            is_enough = True


def outlook(
    a: Any,
    replica: int,
    now_s: float,
    sigmas: tuple[float, float, float],
    num_scenarios: int,
    without: int,
    rows: Any,
    out: Any,
) -> int:
    """Every request of a replica: rows int64[n], out float64[n, NUM_OUTLOOK_COLUMNS]; how many."""
    n, _ = gather(a, replica, now_s, False, False, 0, -1, without)
    params, packed, arrivals = a.params[replica], a.packed[replica], a.arrival_draws[replica]
    ctx_size = params[CTX_SIZE]
    num_scenarios = needed_scenarios(a, params, n, num_scenarios)
    for e in range(n):
        a.ints[WANTED, e] = 1
        rows[e] = a.ints[BASE_ROW, e]
        out[e, O_P_HOLD] = 0.0
    for s in range(num_scenarios):
        scenario = MEDIAN if num_scenarios == 1 else s
        replay(
            params,
            packed,
            arrivals,
            a.draws,
            a.ints,
            a.floats,
            n,
            -1,
            scenario,
            behind(params, now_s),
        )
        for e in range(n):
            a.samples[S_START, e, s] = max(0.0, a.floats[START, e])
            a.samples[S_FIRST, e, s] = a.floats[FIRST, e]
            a.samples[S_END, e, s] = a.floats[END, e]
            left = left_of(a, e, scenario, ctx_size)
            a.samples[S_TPOT, e, s] = tpot_of(a, e, left, now_s)
            p = p_holds(a, e, now_s, scenario, ctx_size, sigmas)
            out[e, O_P_HOLD] += p / num_scenarios
    for e in range(n):
        row = rows[e]
        for k in range(4):
            sort_values(a.samples[k, e], num_scenarios)
        ttft_s = quantile_of(a.samples[S_FIRST, e], num_scenarios, 0.5)
        tpot_s = quantile_of(a.samples[S_TPOT, e], num_scenarios, 0.5)
        e2e_s = quantile_of(a.samples[S_END, e], num_scenarios, 0.5)
        ttft_p90 = quantile_of(a.samples[S_FIRST, e], num_scenarios, 0.9)
        e2e_p90 = quantile_of(a.samples[S_END, e], num_scenarios, 0.9)
        out[e, O_START] = quantile_of(a.samples[S_START, e], num_scenarios, 0.5)
        out[e, O_TTFT] = ttft_s
        out[e, O_TTFT_P90] = widened_p90(ttft_s, ttft_p90, sigmas[0])
        out[e, O_E2E] = e2e_s
        out[e, O_E2E_P90] = widened_p90(e2e_s, e2e_p90, sigmas[2])
        out[e, O_TPOT] = tpot_s
        out[e, O_IS_RUNNING] = 0.0 if a.ints[BASE_PHASE, e] == WAITING else 1.0
        out[e, O_LEFT] = left_of(a, e, MEDIAN, ctx_size)
        slack_s = a.state[row, E2E_DUE] - now_s - rest_of(a, row, MEDIAN) - e2e_s
        if a.state[row, NUM_EMITTED] + a.state[row, NUM_NEW] > 0:
            out[e, O_TTFT] = out[e, O_TTFT_P90] = 0.0
        else:
            slack_s = min(slack_s, a.state[row, TTFT_DUE] - now_s - ttft_s)
        if a.state[row, TPOT_LIMIT] < NEVER:
            left = left_of(a, e, MEDIAN, ctx_size)
            slack_s = min(slack_s, (a.state[row, TPOT_LIMIT] - tpot_s) * left)
        out[e, O_SLACK] = slack_s
    return n


def replay_one(a: Any, replica: int, now_s: float, scenario: int, rows: Any, out: Any) -> int:
    """One scenario of a replica: rows int64[n], out float64[n, 4] (start, first, end, times
    preempted); how many."""
    n, _ = gather(a, replica, now_s, False, False, 0, -1, -1)
    params = a.params[replica]
    for e in range(n):
        a.ints[WANTED, e] = 1
        rows[e] = a.ints[BASE_ROW, e]
    replay(
        params,
        a.packed[replica],
        a.arrival_draws[replica],
        a.draws,
        a.ints,
        a.floats,
        n,
        -1,
        scenario,
        behind(params, now_s),
    )
    for e in range(n):
        out[e, 0] = a.floats[START, e]
        out[e, 1] = a.floats[FIRST, e]
        out[e, 2] = a.floats[END, e]
        out[e, 3] = a.ints[PREEMPTED, e]
    return n


def speeds(a: Any, replicas: Any, out: Any) -> None:
    """How fast replicas are as they are loaded: out float64[n, NUM_SPEED_COLUMNS] of seconds per
    token of one more sequence, seconds per prefill token, tokens/s with all slots decoding at the
    depth that there is, and the share of slots in use."""
    for i in range(len(replicas)):
        replica = replicas[i]
        n, _ = gather(a, replica, 0.0, False, False, 0, -1, -1)
        params, packed = a.params[replica], a.packed[replica]
        num_decoding = 0
        num_running = 0
        num_kv = 0
        for e in range(n):
            if a.ints[BASE_PHASE, e] == DECODING:
                num_decoding += 1
                num_kv += a.ints[BASE_TOKENS, e]
            if a.ints[BASE_PHASE, e] != WAITING:
                num_running += 1
        slots = params[SLOTS]
        depth = num_kv / num_decoding if num_decoding > 0 else min(512.0, params[CTX_SIZE] / 2)
        batch = min(num_decoding + 1.0, slots)
        out[i, 0] = step_time(packed, 0.0, batch, batch * depth, 0.0)
        out[i, 1] = params[PREFILL_RATE]
        out[i, 2] = slots / max(1e-12, step_time(packed, 0.0, slots, slots * depth, 0.0))
        out[i, 3] = min(1.0, num_running / slots) if params[NUM_HERE] > 0 else 0.0
