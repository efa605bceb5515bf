"""Every decision is kept with the numbers behind it, the last 2,000 of them, newest last."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from fmedge.sched.decision import Decision, DecisionEvent, ReplicaEstimate
from fmedge.sched.events import Arrival, Observed, Refuse
from fmedge.sched.requests import Request

MAX_DECISIONS = 2000
MAX_EVENTS = 64


class Records:
    """By request id, bounded."""

    def __init__(self, max_decisions: int = MAX_DECISIONS) -> None:
        self._decisions: OrderedDict[int, Decision] = OrderedDict()
        self._pending: dict[int, Callable[[], tuple[ReplicaEstimate, ...]]] = {}
        self._max_decisions = max_decisions

    def begin(self, now_s: float, request: Request) -> Decision:
        """A request's decision, without its estimates yet."""
        decision = request.decision = _decision(now_s, request.arrival)
        lengths = request.arrival.lengths
        if lengths is not None and not request.is_embedding:
            decision.output_p50_tokens = request.num_expected
            decision.output_p90_tokens = lengths.quantile(0.9)
        decision.reason = "least outstanding work: no estimates are made of this"
        self._keep(decision)
        return decision

    def refused(self, now_s: float, arrival: Arrival, refusal: Refuse) -> Decision:
        """A request that was never taken."""
        decision = _decision(now_s, arrival)
        decision.action = "refuse"
        decision.reason = refusal.message
        decision.retry_after_s = refusal.retry_after_s
        self._keep(decision)
        return decision

    def settle(self, request: Request) -> None:
        """An arrival was dealt with: it went to a replica or it waits."""
        decision = request.decision
        if decision is not None and decision.action == "assign" and request.replica is None:
            decision.action = "queue"

    def event(self, now_s: float, request: Request, what: str, detail: str = "") -> None:
        """What became of it."""
        decision = request.decision
        if decision is not None and len(decision.events) < MAX_EVENTS:
            decision.events.append(DecisionEvent(now_s - request.arrived_s, what, detail))

    def finish(self, now_s: float, request: Request, observed: Observed | None) -> None:
        """It is complete: what it took, and whether its promise held."""
        decision = request.decision
        if decision is None:
            return
        self.event(now_s, request, "finished")
        e2e_s = now_s - request.arrived_s
        ttft_s = request.first_token_s - request.arrived_s
        num_tokens = request.num_emitted
        if observed is not None:
            e2e_s = e2e_s if math.isnan(observed.e2e_s) else observed.e2e_s
            ttft_s = ttft_s if math.isnan(observed.ttft_s) else observed.ttft_s
            if observed.num_output_tokens >= 0:
                num_tokens = observed.num_output_tokens
        l_q_s = request.started_s - request.arrived_s
        if observed is not None and not math.isnan(observed.l_q_s):
            l_q_s = observed.l_q_s
        l_x_s = e2e_s - l_q_s
        if observed is not None and not math.isnan(observed.l_x_s):
            l_x_s = observed.l_x_s
        decision.observed_e2e_s = e2e_s
        decision.observed_ttft_s = ttft_s
        decision.observed_l_q_s = l_q_s
        decision.observed_l_x_s = l_x_s
        decision.num_output_tokens = num_tokens
        decision.held = _held(decision, num_tokens)

    def explain(
        self, decision: Decision, estimates: Callable[[], tuple[ReplicaEstimate, ...]]
    ) -> None:
        """What it was decided by; asked for when somebody reads the decision, since the request
        itself need not wait for it."""
        self._pending[decision.request_id] = estimates

    def get(self, request_id: int) -> Decision | None:
        decision = self._decisions.get(request_id)
        return None if decision is None else self._complete(decision)

    def latest(self, limit: int) -> list[Decision]:
        newest = list(islice(reversed(self._decisions.values()), max(0, limit)))
        return [self._complete(decision) for decision in newest]

    def recent(self) -> list[Decision]:
        """All that are kept, newest first, without estimates that nobody asked for yet."""
        return list(reversed(self._decisions.values()))

    def _complete(self, decision: Decision) -> Decision:
        estimates = self._pending.pop(decision.request_id, None)
        if estimates is not None:
            decision.estimates = estimates()
        return decision

    def _keep(self, decision: Decision) -> None:
        self._decisions[decision.request_id] = decision
        if len(self._decisions) > self._max_decisions:
            request_id, _ = self._decisions.popitem(last=False)
            self._pending.pop(request_id, None)


def _decision(now_s: float, arrival: Arrival) -> Decision:
    promise, call = arrival.promise, arrival.workflow
    e2e_s = promise.e2e_s
    if arrival.e2e_due_s is not None:
        e2e_s = min(e2e_s, arrival.e2e_due_s - now_s)
    decision = Decision(
        request_id=arrival.request_id,
        model=arrival.model,
        sla_class=promise.sla_class,
        api_key_id=arrival.api_key_id,
        arrived_s=now_s,
        num_prompt_tokens=arrival.num_prompt_tokens,
        max_tokens=arrival.max_tokens,
        ttft_limit_s=promise.ttft_s,
        tpot_limit_s=promise.tpot_s,
        e2e_limit_s=e2e_s,
    )
    if call is not None:
        decision.workflow, decision.instance, decision.stage = (
            call.workflow,
            call.instance,
            call.stage,
        )
    return decision


def _held(decision: Decision, num_tokens: int) -> bool | None:
    """Whether each part of the promise held; None where nothing was promised or is known."""
    limits = (decision.ttft_limit_s, decision.tpot_limit_s, decision.e2e_limit_s)
    if min(limits) == math.inf:
        return None
    ttft_s, e2e_s = decision.observed_ttft_s, decision.observed_e2e_s
    tpot_s = (e2e_s - ttft_s) / (num_tokens - 1) if num_tokens > 1 else 0.0
    for limit_s, took_s in zip(limits, (ttft_s, tpot_s, e2e_s), strict=True):
        if limit_s < math.inf and not took_s <= limit_s:
            return False
    return True
