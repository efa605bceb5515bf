"""A simulated engine as arrays: their layout, and nothing else.

ints: int64[NUM_FIELDS, capacity], capacity >= NUM_TOTALS. Row TOTALS holds the engine's own
    numbers, row ORDER its requests' columns in service order; the others one column a request.
floats: float64[NUM_FLOATS]: the clock, the limits, samples of steps, the packed step model and
    the noise.
log: float64[entries, 3]: (time, column, kind) of what happened, for the caller to take out.
"""

from __future__ import annotations

from fmedge.sched.emulation import NUM_FACTORS
from fmedge.sched.steptime import PACKED_SIZE

# ints: fields. TOKENS: prompt and output so far, COMPUTED those with KV. LEFT: tokens still to be
# sampled, the one that ends it included where IS_STOPPED (that one is not emitted). EMITTED: here.
# PREFILLED: COMPUTED after its last chunk. CHUNK: in the step under way. IS_CANCELLED: goes with
# its end. SEQ_ID: of those that have begun. REQUEST: its id. TOLD_*: what was gathered of it.
TOTALS, ORDER, PHASE, TOKENS, COMPUTED, LEFT = 0, 1, 2, 3, 4, 5
IS_STOPPED, EMITTED, PREFILLED, CHUNK, IS_CANCELLED, SEQ_ID = 6, 7, 8, 9, 10, 11
REQUEST, TOLD_EMITTED, TOLD_PREFILLED = 12, 13, 14
NUM_FIELDS = 15

FREE, WAITING, ADMITTED, PREFILLING, DECODING = 0, 1, 2, 3, 4

# ints: totals. KV_TOKENS: of the pool, 0 for a stream a slot; KV_USED: cells that hold something;
# KV_FREE: what the policy believes to be free. IS_PLACED: another decides who begins with which KV,
# and HAS_PLACED that it just did. IN_FLIGHT: a step is under way, of P, D and K tokens. SEEN_STEPS:
# NUM_STEPS when it was gathered last.
SLOTS, BATCH, KV_TOKENS, IS_PLACED = 0, 1, 2, 3
NUM_PRESENT, NUM_RUNNING, NUM_DECODING, NUM_STEPS = 4, 5, 6, 7
DECODES_ONLY, IS_TOUCHED, IN_FLIGHT, IS_PLANNED = 8, 9, 10, 11
STEP_P, STEP_D, STEP_K, KV_USED, KV_FREE, HAS_PLACED = 12, 13, 14, 15, 16, 17
NUM_LOGGED, NUM_PREEMPTED, SEEN_STEPS = 18, 19, 20
NUM_TOTALS = 21

NEVER = 1e300

# floats. CLOCK: the last step's end, or the start of the one under way, whose end is END.
# TOLD_*: rates as the last planned step told them. NOTABLE_AT: what a look ahead found.
CLOCK, END, STEP_A, PREFILL_RATE, DECODE_RATE = 0, 1, 2, 3, 4
TOLD_PREFILL_RATE, TOLD_DECODE_RATE, BUSY, NOTABLE_AT = 5, 6, 7, 8
NUM_STATE = 9
MAX_TOKENS, DECODE_BOUND, DECODE_SLOWDOWN, PREFILL_BOUND = 9, 10, 11, 12
SAMPLES = 13
SAMPLE_SIZE = 5
MOST_SAMPLED = 8  # the last steps; more than a scheduler's tick has, of steps of 7 ms or more
PACKED = SAMPLES + MOST_SAMPLED * SAMPLE_SIZE
FACTORS = PACKED + PACKED_SIZE
NUM_FLOATS = FACTORS + NUM_FACTORS

# kinds of what is logged, and why `run` came back
HAS_BEGUN, HAS_FIRST, HAS_ENDED, IS_GONE = 0, 1, 2, 3
RESTS, HAS_NOTABLE, LOG_FULL = 0, 1, 2
WANTS_PLACE, WANTS_PREEMPTION, WANTS_ROOM, HAS_LEFT = 3, 4, 5, 6
HAS_LOGGED = 8  # added to it by `run_all`

# gathered: a row a request, and a row a replica
OF_REQUEST, NUM_NEW, NOW_PREFILLED = 0, 1, 2
REPLICA, STEPPED_AT, PREFILL_TOLD, DECODE_TOLD, NUM_ROWS, NUM_FURTHER = 0, 1, 2, 3, 4, 5
NUM_SAMPLED, SAMPLED = 6, 7
HEAD_SIZE = SAMPLED + MOST_SAMPLED * SAMPLE_SIZE
