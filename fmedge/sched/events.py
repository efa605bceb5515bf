"""What the scheduler core is told and what it answers: plain values, no behaviour."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from fmedge.types import BEST_EFFORT, Promise, WorkflowCall

if TYPE_CHECKING:
    import numpy as np

    from fmedge.sched.lengths import LengthDistribution

RefusalCode = Literal[
    "model_not_found", "loading", "draining", "overloaded", "model_failed", "sla_unattainable"
]


ABLATIONS = frozenset({"queue", "rectify"})
"""queue: what a replica has to do already is in no estimate, as if each request came to an idle one
(l_q = 0). rectify: what is at risk is not looked at again as time passes."""


class CoreSettings(Struct, frozen=True, kw_only=True):
    """max_waiting: most requests of one model that wait at the front, 0 for none: what no replica
    has room for is refused. max_crashes: crashes that a request may see before it fails as their
    plausible cause. max_total_crashes: a request that saw as many stays a suspect for good,
    whatever progress it makes between them.

    best_effort_wait_s: best effort that has waited so long is served next. max_withdrawals: how
    often a running request may be taken off its replica for another's sake. max_waste: the share of
    a replica's time that may go into prefilling again what was withdrawn. min_p_admit: a promise
    that holds with less than this share of its target's probability is refused where its class
    refuses: what is admitted holds (in simulated overload 92 % of it, and 83 % at half of this).
    min_p_hold: the same where it becomes best effort, which is worth trying longer. max_harm: the
    weight of others' promises that one more best-effort request may put at risk. seed: of the
    policies that draw lots. baseline_capacity: the requests that another policy than fmedge's gives
    a replica at a time, as a multiple of its slots; inf keeps none at the front. without: parts of
    fmedge's policy that are left out, to see what they are worth (`ABLATIONS`).
    """

    max_waiting: int = 512
    max_crashes: int = 3
    max_total_crashes: int = 6
    best_effort_wait_s: float = 60.0
    max_withdrawals: int = 3
    max_waste: float = 0.1
    min_p_admit: float = 0.6
    min_p_hold: float = 0.3
    max_harm: float = 0.25
    seed: int = 0
    baseline_capacity: float = 2.0
    without: frozenset[str] = frozenset()


class Arrival(Struct, frozen=True):
    """A request as the core sees it; `max_tokens` is 0 for an embedding.

    lengths: the predicted distribution of its output, None where nothing is known. prompt: packed
    int32 tokens, for what replicas hold of it already; b"" leaves that out. e2e_due_s: when the
    instance of the workflow that it belongs to must be complete, on the core's clock; None of
    none. rest: scenarios of what the workflow still needs after this call, float32[S], seconds.
    """

    request_id: int
    model: str
    num_prompt_tokens: int
    max_tokens: int
    priority: int = 0
    min_tokens: int = 0
    promise: Promise = BEST_EFFORT
    api_key_id: str = ""
    lengths: LengthDistribution | None = None
    prompt: bytes = b""
    cache_key: str = ""
    cache_prompt: bool = True
    workflow: WorkflowCall | None = None
    e2e_due_s: float | None = None
    rest: np.ndarray | None = None


class StepFacts(Struct, frozen=True):
    """What one engine step tells the scheduler: sequences whose prefill advanced as (request_id,
    num_computed), and the policy's own rates where the step was a planned one (zeros if not)."""

    prefilled: tuple[tuple[int, int], ...] = ()
    prefill_s_per_token: float = 0.0
    decode_s: float = 0.0


class Observed(Struct, frozen=True, kw_only=True):
    """What a request turned out to need, in seconds; nan is "not known". link_s: getting to the
    replica and its first token back. tokens: what it emitted, packed int32, so that the mirror of
    its replica's KV holds them too."""

    ttft_s: float = nan
    l_q_s: float = nan
    l_x_s: float = nan
    e2e_s: float = nan
    link_s: float = nan
    num_output_tokens: int = -1
    tokens: bytes = b""


class Assign(Struct, frozen=True):
    """Submit this request to this replica now. engine_priority: places it in the replica's own
    order as the front's order is (higher is more urgent)."""

    request_id: int
    replica: str
    engine_priority: int = 0


class Withdraw(Struct, frozen=True):
    """Take this request off this replica and keep its tokens: it waits again at the front."""

    request_id: int
    replica: str


class Refuse(Struct, frozen=True):
    """An arrival is not taken. retry_after_s: when to try again, 0 where that cannot help."""

    request_id: int
    code: RefusalCode
    message: str
    retry_after_s: float


class Fail(Struct, frozen=True):
    """A request that had been taken can never finish. retry_after_s: its model cannot be loaded
    and is tried again then; 0: the fault is its own."""

    request_id: int
    message: str
    retry_after_s: float = 0.0


class CancelOn(Struct, frozen=True):
    """Tell this replica to drop the request."""

    request_id: int
    replica: str


Effect = Assign | Withdraw | Refuse | Fail | CancelOn
