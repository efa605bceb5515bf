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
    NUM_SAMPLES,
    NUM_SCENARIOS,
    NUM_STRATA,
    NUM_TOKENS,
    P_WITH,
    P_WITHOUT,
    PHASE_NOW,
    PREEMPTED,
    PREFILL_RATE,
    REQUEST_ID,
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

# columns of `outlook`; fleet.OutlookColumn
O_P_HOLD, O_TTFT, O_TTFT_P90, O_E2E, O_E2E_P90, O_TPOT = 0, 1, 2, 3, 4, 5
O_SLACK, O_IS_RUNNING, O_START, O_LEFT, O_PREEMPTED = 6, 7, 8, 9, 10

# kinds of `run`
ASSESS, ALONE, OUTLOOK, SPEEDS, RISKS, FIRST_ENOUGH = 0, 1, 2, 3, 4, 5

# columns of `risks`
R_REQUEST_ID, R_REPLICA, R_P_HOLD = 0, 1, 2

LEAST_LOSS = 1e-3
"""Harm to one promise that is not looked for."""

LIKELY_ENOUGH = 0.98
"""A promise that holds so probably at likely lengths is not looked at in several scenarios of
them, where only what is at risk is asked for."""

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
    # ln(x) is further from 0 than 2 (x - 1) / (x + 1): a tail of 3e-7 needs no logarithm
    log_at_least = 2.0 * (limit_s - estimate_s) / (limit_s + estimate_s)
    if log_at_least >= 5.0 * sigma:
        return 1.0
    if log_at_least <= -5.0 * sigma:
        return 0.0
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


def rest_of(state: Any, rests: Any, strata: Any, row: int, scenario: int) -> float:
    """l_r in a scenario, drawn apart from the request's length."""
    if state[row, HAS_REST] == 0.0:
        return 0.0
    if scenario == MEDIAN:
        middle = NUM_SCENARIOS // 2
        return float(rests[row, middle - 1] + rests[row, middle]) / 2
    other = (int(state[row, STRATUM]) + 1) % NUM_STRATA
    return float(rests[row, strata[other, scenario]])


def left_of(ints: Any, floats: Any, draws: Any, e: int, scenario: int, ctx_size: float) -> int:
    """Tokens that an entry is yet to sample in a scenario, as `replay` has it."""
    left = int(draws[ints[BASE_ROW, e], scenario] - floats[BASE_NEW, e])
    return max(1, min(left, int(ctx_size - ints[BASE_TOKENS, e])))


def tpot_of(state: Any, row: int, first_s: float, end_s: float, left: int, now_s: float) -> float:
    """Seconds per token after the first, of a request that samples `left` more until end_s."""
    emitted = state[row, NUM_EMITTED] + state[row, NUM_NEW]
    if emitted == 0:
        return (end_s - first_s) / (left - 1) if left > 1 else 0.0
    began_at = state[row, FIRST_AT]
    if isnan(began_at):
        return end_s / left
    return float((end_s + now_s - began_at) / (emitted + left - 1))


def p_end(
    state: Any,
    rests: Any,
    strata: Any,
    row: int,
    now_s: float,
    e2e_s: float,
    most: float,
    scenario: int,
    sigma: float,
) -> float:
    """P(it ends in time, with what remains after it), at most `most`. In the median scenario what
    remains is taken as the distribution that it is."""
    due_s = state[row, E2E_DUE] - now_s
    if due_s >= NEVER:
        return most
    if scenario != MEDIAN or state[row, HAS_REST] == 0.0:
        rest_s = rest_of(state, rests, strata, row, scenario)
        return min(most, p_within(due_s - rest_s, e2e_s, sigma))
    p = 0.0
    for k in range(NUM_SCENARIOS):
        p += min(most, p_within(due_s - rests[row, k], e2e_s, sigma))
    return p / NUM_SCENARIOS


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


def needed_scenarios(state: Any, ints: Any, params: Any, n: int, num_scenarios: int) -> int:
    """1 where scenarios could not differ, since all lengths are known."""
    if num_scenarios == 1 or params[ARRIVAL_INTERVAL] < NEVER:
        return num_scenarios
    for e in range(n):
        row = ints[BASE_ROW, e]
        if state[row, SPREAD] > 0.0 or state[row, HAS_REST] != 0.0:
            return num_scenarios
    return 1


def sweep(
    a: Any,
    replica: int,
    now_s: float,
    n: int,
    absent: int,
    behind_s: float,
    sigmas: tuple[float, float, float],
    num_scenarios: int,
    only_scenario: int,
    into: int,
) -> None:
    """Replay entries in all scenarios, but for the absent one; only_scenario: where there is but
    one. Of each wanted entry: samples, and in floats[into] the probability that its promise
    holds."""
    params, packed, arrivals = a.params[replica], a.packed[replica], a.arrival_draws[replica]
    ints, floats, samples = a.ints, a.floats, a.samples
    state, draws = a.state, a.draws
    ctx_size = params[CTX_SIZE]
    for e in range(n):
        floats[into, e] = 0.0
    for s in range(num_scenarios):
        scenario = only_scenario if num_scenarios == 1 else s
        replay(params, packed, arrivals, draws, ints, floats, n, absent, scenario, behind_s)
        for e in range(n):
            if ints[WANTED, e] == 0 or e == absent:
                continue
            row = ints[BASE_ROW, e]
            first_s, end_s = floats[FIRST, e], floats[END, e]
            left = left_of(ints, floats, draws, e, scenario, ctx_size)
            tpot_s = tpot_of(state, row, first_s, end_s, left, now_s)
            samples[S_START, e, s] = max(0.0, floats[START, e])
            samples[S_FIRST, e, s] = first_s
            samples[S_TPOT, e, s] = tpot_s
            samples[S_END, e, s] = end_s
            # the promise holds as its three parts go together: the least of them
            p = p_first(state, row, now_s, first_s, sigmas[0])
            p = min(p, p_within(state[row, TPOT_LIMIT], tpot_s, sigmas[1]))
            p = p_end(state, a.rests, a.strata, row, now_s, end_s, p, scenario, sigmas[2])
            floats[into, e] += p / num_scenarios


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
    """The candidate (row 0) on one replica: its columns in `out`."""
    n, place = gather(a, replica, now_s, True, is_alone, cached, skip, without)
    params, ints, floats = a.params[replica], a.ints, a.floats
    behind_s = 0.0 if is_alone else behind(params, now_s)
    k = needed_scenarios(a.state, a.ints, params, n, num_scenarios)
    num_harmed = 0
    if with_harm:
        for e in range(n):
            if e != place and has_promise(a.state, ints[BASE_ROW, e]):
                ints[WANTED, e] = 1
                num_harmed += 1
    ints[WANTED, place] = 1
    absent = -1
    into = P_WITH
    harm = 0.0
    while True:  # replay stands in one place, so that it is compiled once
        sweep(a, replica, now_s, n, absent, behind_s, sigmas, k, MEDIAN, into)
        if num_harmed == 0 or absent >= 0:
            break
        absent = place
        into = P_WITHOUT
        ints[WANTED, place] = 0
        num_harmed = 0
        for e in range(n):  # what holds with it as well as can be has lost nothing
            if ints[WANTED, e] != 0 and floats[P_WITH, e] > 1.0 - LEAST_LOSS:
                ints[WANTED, e] = 0
            num_harmed += ints[WANTED, e]
        if num_harmed == 0:
            break
    if num_harmed > 0:
        for e in range(n):
            if ints[WANTED, e] != 0:
                lost = floats[P_WITHOUT, e] - floats[P_WITH, e]
                harm += max(0.0, lost) * a.state[ints[BASE_ROW, e], WEIGHT]

    starts, firsts = a.samples[S_START, place], a.samples[S_FIRST, place]
    tpots, ends = a.samples[S_TPOT, place], a.samples[S_END, place]
    p_ttft = p_tpot = p_e2e = 0.0
    for s in range(k):
        scenario = MEDIAN if k == 1 else s
        p_ttft += p_first(a.state, 0, now_s, firsts[s], sigmas[0])
        p_tpot += p_within(a.state[0, TPOT_LIMIT], tpots[s], sigmas[1])
        p_e2e += p_end(a.state, a.rests, a.strata, 0, now_s, ends[s], 1.0, scenario, sigmas[2])
    for which in range(NUM_SAMPLES):
        sort_values(a.samples[which, place], k)
    out[Q] = quantile_of(starts, k, 0.5)
    out[TTFT] = quantile_of(firsts, k, 0.5)
    out[E2E] = quantile_of(ends, k, 0.5)
    out[X] = out[E2E] - out[Q]
    out[REST] = rest_of(a.state, a.rests, a.strata, 0, MEDIAN)
    out[TTFT_P90] = widened_p90(out[TTFT], quantile_of(firsts, k, 0.9), sigmas[0])
    out[TPOT] = quantile_of(tpots, k, 0.5)
    out[E2E_P90] = widened_p90(out[E2E], quantile_of(ends, k, 0.9), sigmas[2])
    out[P_HOLD] = floats[P_WITH, place]
    out[HARM] = harm
    out[CACHED] = ints[BASE_CACHED, place]
    out[SCENARIOS] = k
    out[P_TTFT] = p_ttft / k
    out[P_TPOT] = p_tpot / k
    out[P_E2E] = p_e2e / k


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
    most_full: int,
    ends: bool,
    out: Any,
) -> int:
    """The candidate on each of `replicas` (int64[n]) with cached[i] (int64[n]) of its tokens held
    there: out float64[n, P_E2E + 1]. Once a replica reaches stop_at, or most_full have had them,
    the others get one scenario and no harm, or, where it `ends`, are not looked at. How many
    were."""
    draw_lengths(a.state, a.cdfs, a.draws, a.strata, 0)
    is_enough = False
    for i in range(len(replicas)):
        is_enough = is_enough or i >= most_full
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
        is_enough = is_enough or out[i, P_HOLD] - out[i, HARM] >= stop_at
        if is_enough and ends:
            return i + 1
    return len(replicas)


def outlook(
    a: Any,
    replica: int,
    now_s: float,
    sigmas: tuple[float, float, float],
    num_scenarios: int,
    only_scenario: int,
    without: int,
    rows: Any,
    out: Any,
) -> int:
    """Every request of a replica: rows int64[n], out float64[n, O_PREEMPTED + 1]; how many."""
    n, _ = gather(a, replica, now_s, False, False, 0, -1, without)
    params, state, samples = a.params[replica], a.state, a.samples
    behind_s = behind(params, now_s)
    k = needed_scenarios(a.state, a.ints, params, n, num_scenarios)
    for e in range(n):
        a.ints[WANTED, e] = 1
    sweep(a, replica, now_s, n, -1, behind_s, sigmas, k, only_scenario, P_WITH)
    for e in range(n):
        row = a.ints[BASE_ROW, e]
        rows[e] = row
        for which in range(NUM_SAMPLES):
            sort_values(samples[which, e], k)
        ttft_s = quantile_of(samples[S_FIRST, e], k, 0.5)
        tpot_s = quantile_of(samples[S_TPOT, e], k, 0.5)
        e2e_s = quantile_of(samples[S_END, e], k, 0.5)
        ttft_p90 = quantile_of(samples[S_FIRST, e], k, 0.9)
        left = left_of(a.ints, a.floats, a.draws, e, MEDIAN, params[CTX_SIZE])
        slack_s = (
            state[row, E2E_DUE] - now_s - rest_of(state, a.rests, a.strata, row, MEDIAN) - e2e_s
        )
        if state[row, TPOT_LIMIT] < NEVER:
            slack_s = min(slack_s, (state[row, TPOT_LIMIT] - tpot_s) * left)
        if state[row, NUM_EMITTED] + state[row, NUM_NEW] > 0:
            ttft_s = ttft_p90 = 0.0
        else:
            slack_s = min(slack_s, state[row, TTFT_DUE] - now_s - ttft_s)
        out[e, O_P_HOLD] = a.floats[P_WITH, e]
        out[e, O_TTFT] = ttft_s
        out[e, O_TTFT_P90] = widened_p90(ttft_s, ttft_p90, sigmas[0])
        out[e, O_E2E] = e2e_s
        out[e, O_E2E_P90] = widened_p90(e2e_s, quantile_of(samples[S_END, e], k, 0.9), sigmas[2])
        out[e, O_TPOT] = tpot_s
        out[e, O_SLACK] = slack_s
        out[e, O_IS_RUNNING] = 0.0 if a.ints[BASE_PHASE, e] == WAITING else 1.0
        out[e, O_START] = quantile_of(samples[S_START, e], k, 0.5)
        out[e, O_LEFT] = left
        out[e, O_PREEMPTED] = a.ints[PREEMPTED, e]
    return n


def risks(
    a: Any,
    replicas: Any,
    now_s: float,
    sigmas: tuple[float, float, float],
    num_scenarios: int,
    least: float,
    out: Any,
) -> int:
    """Promises that hold with less than `least` on these replicas, one after the other in service
    order: out float64[at least as many as requests, R_P_HOLD + 1]; how many."""
    ints, floats, state = a.ints, a.floats, a.state
    count = 0
    for i in range(len(replicas)):
        replica = replicas[i]
        n, _ = gather(a, replica, now_s, False, False, 0, -1, -1)
        num_wanted = 0
        for e in range(n):
            if has_promise(state, ints[BASE_ROW, e]):
                ints[WANTED, e] = 1
                num_wanted += 1
        if num_wanted == 0:
            continue
        behind_s = behind(a.params[replica], now_s)
        k = 1
        while True:  # likely lengths first: the sweep stands in one place, as in `assess_one`
            sweep(a, replica, now_s, n, -1, behind_s, sigmas, k, MEDIAN, P_WITH)
            lowest = 1.0
            for e in range(n):
                if ints[WANTED, e] != 0:
                    lowest = min(lowest, floats[P_WITH, e])
            if k == num_scenarios or lowest >= LIKELY_ENOUGH:
                break
            if needed_scenarios(state, ints, a.params[replica], n, num_scenarios) == 1:
                break
            k = num_scenarios
        for e in range(n):
            if ints[WANTED, e] != 0 and floats[P_WITH, e] < least:
                out[count, R_REQUEST_ID] = state[ints[BASE_ROW, e], REQUEST_ID]
                out[count, R_REPLICA] = i
                out[count, R_P_HOLD] = floats[P_WITH, e]
                count += 1
    return count


def speeds(a: Any, replicas: Any, out: Any) -> None:
    """How fast replicas are as they are loaded: out float64[n, 4] of seconds per
    token of one more sequence, seconds per prefill token, tokens/s with all slots decoding at the
    depth that there is, and the share of slots in use."""
    for i in range(len(replicas)):
        replica = replicas[i]
        params, packed, state = a.params[replica], a.packed[replica], a.state
        num_decoding = 0
        num_running = 0
        num_kv = 0.0
        for j in range(int(params[NUM_HERE])):
            row = a.members[replica, j]
            if state[row, PHASE_NOW] == DECODING:
                num_decoding += 1
                num_kv += state[row, NUM_TOKENS] + state[row, NUM_NEW]
            if state[row, PHASE_NOW] != WAITING:
                num_running += 1
        slots = params[SLOTS]
        depth = num_kv / num_decoding if num_decoding > 0 else min(512.0, params[CTX_SIZE] / 2)
        batch = min(num_decoding + 1.0, slots)
        out[i, 0] = step_time(packed, 0.0, batch, batch * depth, 0.0)
        out[i, 1] = params[PREFILL_RATE]
        out[i, 2] = slots / max(1e-12, step_time(packed, 0.0, slots, slots * depth, 0.0))
        out[i, 3] = min(1.0, num_running / slots) if params[NUM_HERE] > 0 else 0.0


def run(
    a: Any,
    kind: int,
    replicas: Any,
    cached: Any,
    now_s: float,
    sigmas: tuple[float, float, float],
    num_scenarios: int,
    only_scenario: int,
    with_harm: bool,
    skip: int,
    without: int,
    stop_at: float,
    most_full: int,
    rows: Any,
    out: Any,
) -> int:
    """One entrance for all kinds of estimate, so that what they share is compiled once."""
    if kind == OUTLOOK:
        return outlook(
            a, replicas[0], now_s, sigmas, num_scenarios, only_scenario, without, rows, out
        )
    if kind == RISKS:
        return risks(a, replicas, now_s, sigmas, num_scenarios, stop_at, out)
    if kind == SPEEDS:
        speeds(a, replicas, out)
        return 0
    return assess(
        a,
        replicas,
        cached,
        now_s,
        sigmas,
        num_scenarios,
        with_harm,
        kind == ALONE,
        skip,
        without,
        stop_at,
        most_full,
        kind == FIRST_ENOUGH,
        out,
    )
