"""From the fleet's state to one replica's entries, and the draws of output lengths.

The rule: lengths are drawn given what a request has produced, and drawn anew only once it has
produced as much as the shortest draw: until then they still are what the distribution says.

Plain functions over numbers and arrays (laid out in arrays.py); kernels.py compiles them unchanged.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from fmedge.sched.arrays import (
    ARRIVAL_AT,
    ARRIVE,
    BASE_CACHED,
    BASE_COMPUTED,
    BASE_LATE,
    BASE_NEW,
    BASE_PHASE,
    BASE_ROW,
    BASE_TOKENS,
    DECODING,
    DRAWN_UNTIL,
    HAS_CDF,
    MAX_NEW,
    MEDIAN,
    MIN_NEW,
    NUM_ARRIVAL_DRAWS,
    NUM_CACHED,
    NUM_COMPUTED,
    NUM_EMITTED,
    NUM_HERE,
    NUM_NEW,
    NUM_SCENARIOS,
    NUM_TOKENS,
    ORDER,
    PHASE_NOW,
    PREFILLING,
    PUT_AT,
    SERIAL,
    SPREAD,
    STEPPED_AT,
    STRATUM,
    WAITING,
    WANTED,
)
from fmedge.sched.lengths import length_quantile


def draw_lengths(state: Any, cdfs: Any, draws: Any, strata: Any, row: int) -> None:
    """Draw a request's lengths anew.

    A request that ends before its limit samples one token more: the one that says so.
    """
    new = int(state[row, NUM_NEW])
    emitted = int(state[row, NUM_EMITTED]) + new
    most = max(1, int(state[row, MAX_NEW]) - new)
    least = min(most, int(state[row, MIN_NEW]) - new)
    known = float(emitted) if least <= 0 else 0.0
    stratum = int(state[row, STRATUM])
    shortest, longest = 1 << 30, 0
    for s in range(NUM_SCENARIOS + 1):
        left = most
        if least < most and state[row, HAS_CDF] != 0.0:
            u = 0.5 if s == MEDIAN else (strata[stratum, s] + 0.5) / NUM_SCENARIOS
            length = ceil(length_quantile(cdfs[row], u, known) - 1e-6)
            left = max(1, least, length - emitted)
            left = left + 1 if left < most else most
        draws[row, s] = new + left
        shortest, longest = min(shortest, left), max(longest, left)
    state[row, DRAWN_UNTIL] = new + shortest
    state[row, SPREAD] = longest - shortest


def draw_arrivals(a: Any, replica: int, cdf: Any, max_new: int, is_exact: bool) -> None:
    """Lengths of anticipated arrivals: quantiles in an order that mixes short and long."""
    for k in range(NUM_ARRIVAL_DRAWS):
        left = max_new
        if not is_exact:
            u = ((k * 27) % NUM_ARRIVAL_DRAWS + 0.5) / NUM_ARRIVAL_DRAWS
            length = ceil(length_quantile(cdf, u, 0.0) - 1e-6)
            left = min(max(1, length) + 1, max_new)
        a.arrival_draws[replica, k] = left


def add_member(a: Any, replica: int, row: int) -> None:
    """Put a row into its place in the service order of a replica, after its equals."""
    count = int(a.params[replica, NUM_HERE])
    key, serial = a.state[row, ORDER], a.state[row, SERIAL]
    j = count
    while j > 0:
        other = a.members[replica, j - 1]
        if a.state[other, ORDER] < key:
            break
        if a.state[other, ORDER] == key and a.state[other, SERIAL] < serial:
            break
        a.members[replica, j] = other
        j -= 1
    a.members[replica, j] = row
    a.params[replica, NUM_HERE] = count + 1


def drop_member(a: Any, replica: int, row: int) -> None:
    """Take a row out of a replica's order."""
    count = int(a.params[replica, NUM_HERE])
    j = 0
    while a.members[replica, j] != row:
        j += 1
    while j < count - 1:
        a.members[replica, j] = a.members[replica, j + 1]
        j += 1
    a.params[replica, NUM_HERE] = count - 1


def gather_one(
    state: Any,
    ints: Any,
    floats: Any,
    e: int,
    row: int,
    cached: int,
    stepped_at: float,
    now_s: float,
) -> None:
    """Make one request entry e."""
    new = int(state[row, NUM_NEW])
    tokens = int(state[row, NUM_TOKENS]) + new
    phase = int(state[row, PHASE_NOW])
    computed = 0
    if phase == DECODING:
        computed = tokens - 1
    elif phase == PREFILLING:
        computed = max(0, min(int(state[row, NUM_COMPUTED]), tokens - 1))
    ints[BASE_ROW, e] = row
    ints[BASE_TOKENS, e] = tokens
    ints[BASE_PHASE, e] = phase
    ints[BASE_COMPUTED, e] = computed
    ints[BASE_CACHED, e] = max(0, min(cached, tokens - 1))
    ints[WANTED, e] = 0
    ints[BASE_LATE, e] = 1 if row == 0 or state[row, PUT_AT] > stepped_at else 0
    floats[ARRIVE, e] = state[row, ARRIVAL_AT] - now_s
    floats[BASE_NEW, e] = new


def gather(
    a: Any,
    replica: int,
    now_s: float,
    has_candidate: bool,
    is_alone: bool,
    cached: int,
    skip: int,
    without: int,
) -> tuple[int, int]:
    """A replica's requests, and the candidate (row 0) in its place among them, as entries: how
    many, and the candidate's number (-1: none). Rows `skip` and `without` are left out, and all
    that is there where it is_alone."""
    state, ints, floats, members = a.state, a.ints, a.floats, a.members
    stepped_at = a.params[replica, STEPPED_AT]
    count = 0 if is_alone else int(a.params[replica, NUM_HERE])
    n, place, is_freed = 0, -1, False
    for j in range(count):
        row = members[replica, j]
        if row in (skip, without):
            is_freed = is_freed or (row == without and int(state[row, PHASE_NOW]) != WAITING)
            continue
        if has_candidate and place < 0 and state[row, ORDER] > state[0, ORDER]:
            place = n
            gather_one(state, ints, floats, n, 0, cached, stepped_at, now_s)
            n += 1
        if state[row, NUM_NEW] >= state[row, DRAWN_UNTIL]:
            draw_lengths(state, a.cdfs, a.draws, a.strata, row)
        gather_one(state, ints, floats, n, row, int(state[row, NUM_CACHED]), stepped_at, now_s)
        n += 1
    if has_candidate and place < 0:
        place = n
        gather_one(state, ints, floats, n, 0, cached, stepped_at, now_s)
        n += 1
    if is_freed:
        # The step that runs has it still: its slot is free for what waits only after that.
        for e in range(n):
            if ints[BASE_PHASE, e] == WAITING:
                ints[BASE_LATE, e] = 1
    return n, place
