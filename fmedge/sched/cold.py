"""A model that no replica holds now: its requests wait, and l_r is the time until one is expected
to serve.

A promise that cannot hold even so is refused or given up, as its class says. What was refused for
that still counts as demand, or a model that everybody is refused for would never be loaded.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from msgspec import Struct

from fmedge.sched.admission import whole_seconds
from fmedge.sched.decision import Decision, ReplicaEstimate
from fmedge.sched.events import Arrival, Refuse
from fmedge.sched.requests import ModelState, Request

MAX_TURNED_AWAY = 64
"""Refusals remembered as demand, for each model."""

Floor = tuple[float, float, float]


class Cold:
    """Of one model whose replicas come and go. load_s: from a decision to load it until it serves,
    whatever must be unloaded before included. ready_s: when the one that is loading is expected,
    on the core's clock; nan while none is."""

    __slots__ = ("floor", "load_s", "num_arrived", "ready_s", "retry_after_s", "turned_away")

    def __init__(self, load_s: float) -> None:
        self.load_s = load_s
        self.ready_s = math.nan
        self.retry_after_s = 0.0
        self.num_arrived = 0
        self.turned_away: deque[tuple[float, float]] = deque(maxlen=MAX_TURNED_AWAY)
        self.floor: Floor = (0.0, 0.0, 0.0)
        """The model's when it was last ready: the least that comes on top of the load."""

    def wait_s(self, now_s: float) -> float:
        """Until a replica is expected to serve."""
        return self.load_s if math.isnan(self.ready_s) else max(0.0, self.ready_s - now_s)


class OpenWork(Struct, frozen=True, kw_only=True):
    """What is wanted of one model now. waiting: (arrived_s, weight) of each request at the front;
    refused: of those that were refused because it is not loaded. running_weight: of what its
    replicas hold. num_arrived: ever."""

    waiting: tuple[tuple[float, float], ...] = ()
    refused: tuple[tuple[float, float], ...] = ()
    num_running: int = 0
    running_weight: float = 0.0
    num_arrived: int = 0


class ColdVerdict(Struct, frozen=True, kw_only=True):
    """What becomes of an arrival at a model without a ready replica."""

    action: Literal["queue", "best_effort", "refuse"]
    reason: str
    estimate: ReplicaEstimate
    retry_after_s: float

    def write(self, decision: Decision) -> None:
        decision.action = self.action
        decision.reason = self.reason
        decision.retry_after_s = self.retry_after_s if self.action == "refuse" else 0.0
        decision.estimates = (self.estimate,)

    def refusal(self, arrival: Arrival) -> Refuse:
        return Refuse(arrival.request_id, "sla_unattainable", self.reason, self.retry_after_s)


def judge_cold(now_s: float, request: Request, model: ModelState) -> ColdVerdict | None:
    """None where a replica is ready, or none is ever to come but those that are there."""
    cold = model.cold
    if cold is None or model.ready():
        return None
    wait_s = cold.wait_s(now_s)
    arrival, promise = request.arrival, request.promise
    first_s, prefill_s, tpot_s = cold.floor
    first_s += prefill_s * arrival.num_prompt_tokens
    l_x_s = first_s + tpot_s * max(0, request.num_expected - 1)
    least_ttft_s, least_e2e_s = wait_s + first_s, wait_s + l_x_s
    holds = least_ttft_s <= promise.ttft_s and now_s + least_e2e_s <= request.e2e_due_s
    estimate = ReplicaEstimate(
        replica=model.name,
        l_x_s=l_x_s,
        l_r_s=wait_s,
        ttft_s=least_ttft_s,
        tpot_s=tpot_s,
        e2e_s=l_x_s,
        p_hold=1.0 if holds else 0.0,
    )
    progress = "is loading" if not math.isnan(cold.ready_s) else "is not loaded"
    state = f"{model.name} {progress}: it is expected to serve in {wait_s:.1f} s"
    if holds:
        return ColdVerdict(action="queue", reason=state, estimate=estimate, retry_after_s=0.0)
    refuses = promise.on_miss == "refuse"
    return ColdVerdict(
        action="refuse" if refuses else "best_effort",
        reason=f"{state}, too late for what is promised",
        estimate=estimate,
        retry_after_s=whole_seconds(wait_s),
    )


def open_work(model: ModelState) -> OpenWork:
    """All that waits or runs. Weights are the classes'."""
    running = [r for replica in model.replicas.values() for r in replica.requests.values()]
    return OpenWork(
        waiting=tuple((r.arrived_s, r.arrival.promise.weight) for r in model.waiting),
        refused=() if model.cold is None else tuple(model.cold.turned_away),
        num_running=len(running),
        running_weight=sum(r.arrival.promise.weight for r in running),
        num_arrived=0 if model.cold is None else model.cold.num_arrived,
    )
