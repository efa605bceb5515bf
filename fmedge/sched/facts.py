"""What the fleet is told and what it answers: values, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from math import inf, nan
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.sched import estimate
from fmedge.sched.decision import ReplicaEstimate
from fmedge.sched.steps import StepLimits

Floats = NDArray[np.float64]


class ReplicaFacts(Struct, frozen=True, kw_only=True):
    """What of an engine decides its queue; sizes in tokens.

    limits.max_tokens is the engine's batch size. kv_unified: one pool of kv_tokens cells. For other
    engines only: step_tokens is a step's budget, shared with decoding, 0 for fmedge's own rule;
    block_tokens: KV is given out in blocks of as many; reserve_prompt: a request starts only where
    there are blocks for all it has, not just for its first chunk. prefix_caching: a preempted one
    finds those of its blocks again that nobody took. schedule_ahead: a step is planned when the one
    before it begins, so that what arrives meanwhile waits for the next.
    """

    slots: int
    ctx_size: int
    limits: StepLimits
    kv_unified: bool = False
    kv_tokens: int = 0
    step_tokens: int = 0
    block_tokens: int = 1
    reserve_prompt: bool = True
    prefix_caching: bool = False
    schedule_ahead: bool = False


class Candidate(Struct, kw_only=True):
    """A request as the fleet sees it.

    num_tokens: prompt and what it has emitted, which a replica must have computed. max_new,
    min_new: tokens it may and must still give; equal where the length is known. emitted: tokens
    given already. cdf: float32[NUM_BINS], of all it gives (`LengthDistribution.cdf`), None for
    max_new exactly. order_key: smaller is served first, equals in order of `put`. Due times are
    absolute, tpot_limit_s is not; inf promises nothing. rest: float32[NUM_SCENARIOS], l_r in
    seconds as ascending quantiles, None for 0. weight: of its promise, in harm. num_cached: tokens
    of it that a replica holds, by name or of all. arrival_s: a future arrival, which must come
    last in order. first_s: when its first token came, nan if that is to come or not known.
    """

    request_id: int
    num_tokens: int
    max_new: int
    min_new: int = 0
    emitted: int = 0
    cdf: NDArray[np.float32] | None = None
    order_key: float = 0.0
    ttft_due_s: float = inf
    tpot_limit_s: float = inf
    e2e_due_s: float = inf
    rest: NDArray[np.float32] | None = None
    weight: float = 1.0
    num_cached: Mapping[str, int] | int = 0
    arrival_s: float = -inf
    first_s: float = nan

    def cached_on(self, name: str) -> int:
        held = self.num_cached
        return held if isinstance(held, int) else held.get(name, 0)


class Column(IntEnum):
    """Columns of `Fleet.assess`: medians in seconds unless named otherwise. X is l_x = E2E - Q, and
    REST comes on top. P_HOLD: the least of its parts P_TTFT, P_TPOT, P_E2E in each scenario.
    HARM: expected weight of others' promises that it would break. CACHED in tokens. SCENARIOS:
    how many were replayed."""

    Q = estimate.Q
    X = estimate.X
    REST = estimate.REST
    TTFT = estimate.TTFT
    TTFT_P90 = estimate.TTFT_P90
    TPOT = estimate.TPOT
    E2E = estimate.E2E
    E2E_P90 = estimate.E2E_P90
    P_HOLD = estimate.P_HOLD
    HARM = estimate.HARM
    CACHED = estimate.CACHED
    SCENARIOS = estimate.SCENARIOS
    P_TTFT = estimate.P_TTFT
    P_TPOT = estimate.P_TPOT
    P_E2E = estimate.P_E2E


class OutlookColumn(IntEnum):
    """Columns of `Fleet.outlook`: medians in seconds from now unless named otherwise. TTFT is 0
    once the first token is out. SLACK: the least of limit minus estimate, inf without a promise.
    LEFT: tokens it will yet sample. PREEMPTED: how often it will be preempted."""

    P_HOLD = estimate.O_P_HOLD
    TTFT = estimate.O_TTFT
    TTFT_P90 = estimate.O_TTFT_P90
    E2E = estimate.O_E2E
    E2E_P90 = estimate.O_E2E_P90
    TPOT = estimate.O_TPOT
    SLACK = estimate.O_SLACK
    IS_RUNNING = estimate.O_IS_RUNNING
    START = estimate.O_START
    LEFT = estimate.O_LEFT
    PREEMPTED = estimate.O_PREEMPTED


class SpeedColumn(IntEnum):
    """Columns of `Fleet.speeds`: seconds per token of one more sequence beside those that decode;
    seconds per prefill token; tokens/s of the whole replica with all slots decoding, at the depth
    that its sequences have; share of slots in use."""

    TOKEN_S = 0
    PREFILL_TOKEN_S = 1
    TOKENS_PER_S = 2
    USED = 3


class Risk(NamedTuple):
    """A promise that may not hold where its request is planned or runs."""

    request_id: int
    replica: str
    p_hold: float


class Replay(Struct, frozen=True, kw_only=True):
    """One scenario of one replica, arrays of n in service order, seconds from the time asked about:
    start_s (0: it has started), first_s (0: its first token is out), end_s."""

    request_ids: tuple[int, ...]
    start_s: Floats
    first_s: Floats
    end_s: Floats
    num_preempted: Floats


def replica_estimate(name: str, row: Sequence[float]) -> ReplicaEstimate:
    """A row of `Fleet.assess`, as `.tolist()` gives it, in the form that decisions keep."""
    return ReplicaEstimate(
        replica=name,
        num_cached_tokens=int(row[Column.CACHED]),
        l_q_s=row[Column.Q],
        l_x_s=row[Column.X],
        l_r_s=row[Column.REST],
        ttft_s=row[Column.TTFT],
        ttft_p90_s=row[Column.TTFT_P90],
        tpot_s=row[Column.TPOT],
        e2e_s=row[Column.E2E],
        e2e_p90_s=row[Column.E2E_P90],
        p_hold=row[Column.P_HOLD],
        harm=row[Column.HARM],
    )
