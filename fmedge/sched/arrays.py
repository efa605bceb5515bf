"""The fleet's state as arrays: their layout, and nothing else.

With R replicas, N requests a replica at most, Q request rows (row 0 is the candidate), M entries
that a replay can have, S = NUM_SCENARIOS. All times are seconds, all sizes tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

NUM_SCENARIOS = 16
MEDIAN = NUM_SCENARIOS
"""The scenario in which every request has its median length."""

NUM_STRATA = 256
NUM_ARRIVAL_DRAWS = 64
MAX_ARRIVALS = 256
"""Anticipated arrivals that one replay takes into account."""

NEVER = 1e30

# params: a replica. KV_TOKENS 0: a stream a slot. STEPPED_AT: when the running step began.
SLOTS, CTX_SIZE, KV_TOKENS, MAX_TOKENS = 0, 1, 2, 3
DECODE_BOUND, DECODE_SLOWDOWN, PREFILL_BOUND = 4, 5, 6
PREFILL_RATE, DECODE_RATE, STEPPED_AT = 7, 8, 9
ARRIVAL_INTERVAL, ARRIVAL_PROMPT = 10, 11
STEP_TOKENS, BLOCK_TOKENS, RESERVE_PROMPT = 12, 13, 14
NUM_HERE = 15
PREFIX_CACHING, SCHEDULE_AHEAD = 16, 17
NUM_PARAMS = 18

# state: a request. NUM_TOKENS, MAX_NEW, MIN_NEW and NUM_EMITTED are as of `put`, NUM_NEW since.
ORDER, SERIAL, REQUEST_ID, PUT_AT, ARRIVAL_AT, FIRST_AT = 0, 1, 2, 3, 4, 5
NUM_TOKENS, NUM_NEW, NUM_COMPUTED, PHASE_NOW, NUM_CACHED = 6, 7, 8, 9, 10
MAX_NEW, MIN_NEW, NUM_EMITTED = 11, 12, 13
TTFT_DUE, TPOT_LIMIT, E2E_DUE, WEIGHT = 14, 15, 16, 17
DRAWN_UNTIL, SPREAD, STRATUM, HAS_CDF, HAS_REST = 18, 19, 20, 21, 22
NUM_FIELDS = 24

WAITING, PREFILLING, DECODING, ADMITTED, ENDED = 0, 1, 2, 3, 4

# ints: an entry. BASE_* are gathered once per estimate, the others are a replay's own.
BASE_ROW, BASE_TOKENS, BASE_COMPUTED, BASE_PHASE, BASE_CACHED, BASE_LATE = 0, 1, 2, 3, 4, 5
WANTED = 6
TOKENS, COMPUTED, PHASE, LEFT, END_STEP, CACHED = 7, 8, 9, 10, 11, 12
SLOT_LIST, DECODE_LIST, CHUNK, PREEMPTED = 13, 14, 15, 16
NUM_KEPT, LOST_FROM = 17, 18
NUM_INTS = 19

# floats: an entry. Times from now; BASE_NEW: tokens since `put`.
START, FIRST, END, ARRIVE, BASE_NEW, P_WITHOUT, P_WITH = 0, 1, 2, 3, 4, 5, 6
NUM_FLOATS = 7

# samples: an entry's results by scenario
S_START, S_FIRST, S_TPOT, S_END = 0, 1, 2, 3
NUM_SAMPLES = 4

# totals of `replay`
NOW, STEPS, DECODE_KV, PREFILL_KV, NUM_DECODING, NUM_SLOTTED = 0, 1, 2, 3, 4, 5


class Arrays(NamedTuple):
    """Everything that the kernels read and write, C-contiguous.

    params: float64[R, NUM_PARAMS]. packed: float64[R, PACKED_SIZE]. arrival_draws:
    int32[R, NUM_ARRIVAL_DRAWS]. members: int32[R, N], rows in service order. state:
    float64[Q, NUM_FIELDS]. draws: int32[Q, S + 1], tokens to sample counted from `put`; the last
    is the median. cdfs: float32[Q, NUM_BINS]. rests: float32[Q, S]. strata: uint8[NUM_STRATA, S].
    ints: int64[NUM_INTS, M]. floats: float64[NUM_FLOATS, M]. samples: float64[NUM_SAMPLES, M, S].
    """

    params: Any
    packed: Any
    arrival_draws: Any
    members: Any
    state: Any
    draws: Any
    cdfs: Any
    rests: Any
    strata: Any
    ints: Any
    floats: Any
    samples: Any
