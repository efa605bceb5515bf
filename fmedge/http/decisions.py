"""Decisions as clients see them: in milliseconds, null where nothing was promised or is known."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from fmedge.sched.decision import Decision, ReplicaEstimate


class OutputTokens(Struct, frozen=True):
    """How long the output is expected to be: median and 90th percentile."""

    p50: int
    p90: int


class PromiseOut(Struct, frozen=True, kw_only=True, rename={"sla_class": "class"}):
    """What was promised; all null is best effort."""

    sla_class: str | None
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


class EstimateOut(Struct, frozen=True, kw_only=True):
    """The request on one replica, from its arrival on: medians unless named p90.

    l_est = l_q (until its prefill starts) + l_x (prefill and decode) + l_r (what remains after);
    e2e = l_q + l_x. p_hold: the probability that the promise holds. harm: how much of other
    requests' promises it would break, by weight.
    """

    replica: str
    cached_tokens: int
    l_est_ms: float | None
    l_q_ms: float | None
    l_x_ms: float | None
    l_r_ms: float | None
    ttft_ms: float | None
    ttft_p90_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    e2e_p90_ms: float | None
    p_hold: float
    harm: float


class Verdict(Struct, frozen=True, kw_only=True):
    """What is done with the request and why. replica: the one chosen, null for none yet.
    retry_after_s: of a refusal, when it would fit; null where waiting does not help."""

    action: Literal["assign", "queue", "best_effort", "refuse"]
    replica: str | None
    reason: str
    retry_after_s: float | None


class EstimateResponse(Struct, frozen=True, kw_only=True):
    """What a request would meet if it came now; of its first sequence, if it asks for several."""

    model: str
    prompt_tokens: int
    output_tokens: OutputTokens
    promise: PromiseOut
    estimates: list[EstimateOut]
    decision: Verdict


class EventOut(Struct, frozen=True):
    """What happened to the request, so long after it came."""

    at_ms: float | None
    what: str
    detail: str


class Observed(Struct, frozen=True, kw_only=True):
    """What was measured. held: whether the promise held; null without one, or while it runs."""

    l_q_ms: float | None
    l_x_ms: float | None
    ttft_ms: float | None
    e2e_ms: float | None
    output_tokens: int
    held: bool | None


class DecisionOut(Struct, frozen=True, kw_only=True):
    """The numbers behind one decision, and what became of the request."""

    request_id: int
    age_s: float
    model: str
    api_key: str
    workflow: str
    instance: str
    stage: str
    prompt_tokens: int
    max_tokens: int
    output_tokens: OutputTokens
    promise: PromiseOut
    estimates: list[EstimateOut]
    decision: Verdict
    events: list[EventOut]
    observed: Observed


class DecisionList(Struct, frozen=True):
    """The latest decisions, newest first."""

    decisions: list[DecisionOut]


def estimate_response(decision: Decision) -> EstimateResponse:
    """A decision that nothing was done about."""
    return EstimateResponse(
        model=decision.model,
        prompt_tokens=decision.num_prompt_tokens,
        output_tokens=OutputTokens(decision.output_p50_tokens, decision.output_p90_tokens),
        promise=_promise_of(decision),
        estimates=[_estimate_out(estimate) for estimate in decision.estimates],
        decision=_verdict_of(decision),
    )


def decision_out(decision: Decision, now_s: float) -> DecisionOut:
    """now_s: on the clock of `Decision.arrived_s`."""
    return DecisionOut(
        request_id=decision.request_id,
        age_s=round(max(0.0, now_s - decision.arrived_s), 3),
        model=decision.model,
        api_key=decision.api_key_id,
        workflow=decision.workflow,
        instance=decision.instance,
        stage=decision.stage,
        prompt_tokens=decision.num_prompt_tokens,
        max_tokens=decision.max_tokens,
        output_tokens=OutputTokens(decision.output_p50_tokens, decision.output_p90_tokens),
        promise=_promise_of(decision),
        estimates=[_estimate_out(estimate) for estimate in decision.estimates],
        decision=_verdict_of(decision),
        events=[EventOut(_ms(e.at_s), e.what, e.detail) for e in tuple(decision.events)],
        observed=Observed(
            l_q_ms=_ms(decision.observed_l_q_s),
            l_x_ms=_ms(decision.observed_l_x_s),
            ttft_ms=_ms(decision.observed_ttft_s),
            e2e_ms=_ms(decision.observed_e2e_s),
            output_tokens=decision.num_output_tokens,
            held=decision.held,
        ),
    )


def _promise_of(decision: Decision) -> PromiseOut:
    return PromiseOut(
        sla_class=decision.sla_class or None,
        ttft_ms=_ms(decision.ttft_limit_s),
        tpot_ms=_ms(decision.tpot_limit_s),
        e2e_ms=_ms(decision.e2e_limit_s),
    )


def _estimate_out(estimate: ReplicaEstimate) -> EstimateOut:
    return EstimateOut(
        replica=estimate.replica,
        cached_tokens=estimate.num_cached_tokens,
        l_est_ms=_ms(estimate.l_q_s + estimate.l_x_s + estimate.l_r_s),
        l_q_ms=_ms(estimate.l_q_s),
        l_x_ms=_ms(estimate.l_x_s),
        l_r_ms=_ms(estimate.l_r_s),
        ttft_ms=_ms(estimate.ttft_s),
        ttft_p90_ms=_ms(estimate.ttft_p90_s),
        tpot_ms=_ms(estimate.tpot_s),
        e2e_ms=_ms(estimate.e2e_s),
        e2e_p90_ms=_ms(estimate.e2e_p90_s),
        p_hold=round(estimate.p_hold, 4),
        harm=round(estimate.harm, 4),
    )


def _verdict_of(decision: Decision) -> Verdict:
    chosen = decision.estimate
    return Verdict(
        action=decision.action,
        replica=None if chosen is None else chosen.replica,
        reason=decision.reason,
        retry_after_s=round(decision.retry_after_s, 3) or None,
    )


def _ms(seconds: float) -> float | None:
    return round(seconds * 1e3, 3) if isfinite(seconds) else None
