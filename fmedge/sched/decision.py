"""What the scheduler decided for a request and why, in numbers; made once, then only added to.

l_est = l_x + l_q + l_r (Zhang et al., arXiv 2411.09580): l_q until the prefill starts, l_x of
prefill and decode, l_r of what remains after (the network, a cold load, the rest of a workflow).
All times are seconds from the decision on.
"""

from __future__ import annotations

from math import inf, nan
from typing import Literal

from msgspec import Struct

Action = Literal["assign", "queue", "best_effort", "refuse"]


class ReplicaEstimate(Struct, frozen=True, kw_only=True):
    """A request on one replica: medians unless named p90.

    e2e_s = l_q + l_x of this call; l_r comes on top. p_hold: the probability that the promise
    holds; 1 without one. harm: expected weight of other requests' promises that it would break.
    """

    replica: str
    num_cached_tokens: int = 0
    l_q_s: float = 0.0
    l_x_s: float = 0.0
    l_r_s: float = 0.0
    ttft_s: float = 0.0
    ttft_p90_s: float = 0.0
    tpot_s: float = 0.0
    e2e_s: float = 0.0
    e2e_p90_s: float = 0.0
    p_hold: float = 1.0
    harm: float = 0.0


class DecisionEvent(Struct, frozen=True):
    """What became of a request after its decision: `what` is "assigned", "moved", "withdrawn",
    "demoted", "first_token", "finished", "cancelled" or "failed"; at_s from the arrival on."""

    at_s: float
    what: str
    detail: str = ""


class Decision(Struct, kw_only=True):
    """One request's decision. `chosen` is an index into `estimates`, -1 for none.

    retry_after_s: of a refusal. observed_*: nan until known; held: whether the promise held, None
    until known or without one.
    """

    request_id: int
    model: str
    sla_class: str = ""
    api_key_id: str = ""
    arrived_s: float = 0.0
    num_prompt_tokens: int = 0
    max_tokens: int = 0
    output_p50_tokens: int = 0
    output_p90_tokens: int = 0
    ttft_limit_s: float = inf
    tpot_limit_s: float = inf
    e2e_limit_s: float = inf
    workflow: str = ""
    instance: str = ""
    stage: str = ""
    action: Action = "assign"
    reason: str = ""
    retry_after_s: float = 0.0
    chosen: int = -1
    estimates: tuple[ReplicaEstimate, ...] = ()
    events: list[DecisionEvent] = []
    observed_ttft_s: float = nan
    observed_l_q_s: float = nan
    observed_l_x_s: float = nan
    observed_e2e_s: float = nan
    num_output_tokens: int = 0
    held: bool | None = None

    @property
    def estimate(self) -> ReplicaEstimate | None:
        """Of the chosen replica."""
        return None if self.chosen < 0 else self.estimates[self.chosen]
