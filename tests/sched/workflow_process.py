"""A synthetic workflow with a branch, a loop, tool time and parallel calls, and its event-driven
run against Workflows. Slow and plain: what it calls remaining is the truth of tests."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from msgspec import Struct

from fmedge.sched.workflows import CallContext, CallObserved, InstanceOutcome, Workflows
from fmedge.types import WorkflowCall


class PlannedCall(Struct):
    """start_s and end_s from the instance's begin; end_s - start_s = l_q_s + l_x_s."""

    stage: str
    start_s: float
    l_q_s: float
    l_x_s: float
    num_prompt: int = 1000
    num_cached: int = 0
    num_output: int = 100
    prefill_s: float = 0.0

    @property
    def end_s(self) -> float:
        return self.start_s + self.l_q_s + self.l_x_s


def agent(rng: np.random.Generator, queueing_s: float) -> list[PlannedCall]:
    """plan; in 6 of 10 cases rounds of three parallel searches and a check, until it is content;
    then the answer. Everything lognormal; `queueing_s` scales l_q alone."""
    now_s = 0.0
    calls: list[PlannedCall] = []

    def call(stage: str, at_s: float, l_q_s: float, l_x_s: float) -> float:
        calls.append(PlannedCall(stage, at_s, l_q_s, l_x_s))
        return calls[-1].end_s

    def time_s(median_s: float, spread: float) -> float:
        return float(median_s * rng.lognormal(0.0, spread))

    now_s = call("plan", now_s, queueing_s * time_s(1.0, 0.5), time_s(2.0, 0.3))
    if rng.random() < 0.6:
        while True:
            now_s += time_s(0.7, 0.6)
            l_q_s = queueing_s * time_s(1.0, 0.5)
            now_s = max(call("search", now_s, l_q_s, time_s(1.5, 0.4)) for _ in range(3))
            now_s += time_s(0.3, 0.3)
            now_s = call("check", now_s, queueing_s * time_s(1.0, 0.5), time_s(0.5, 0.3))
            if rng.random() < 0.7:
                break
    now_s += time_s(0.2, 0.3)
    call("answer", now_s, queueing_s * time_s(1.0, 0.5), time_s(4.0, 0.5))
    return calls


def run_instances(
    workflows: Workflows,
    plans: list[list[PlannedCall]],
    *,
    workflow: str = "agent",
    spacing_s: float = 1.0,
    api_key_id: str = "key",
    says_last: bool = True,
    on_begin: Callable[[int, PlannedCall, CallContext], None] | None = None,
) -> tuple[float, list[InstanceOutcome]]:
    """Instances that overlap in time; (when the last call ended, outcomes)."""
    events: list[tuple[float, int, int, int]] = []
    for i, plan in enumerate(plans):
        for j, call in enumerate(plan):
            events.append((i * spacing_s + call.start_s, 1, i, j))
            events.append((i * spacing_s + call.end_s, 0, i, j))
    heapq.heapify(events)
    outcomes: list[InstanceOutcome] = []
    now_s = 0.0
    while events:
        now_s, is_begin, i, j = heapq.heappop(events)
        call, number = plans[i][j], i * 1000 + j
        if is_begin:
            context = workflows.begin(
                now_s,
                number,
                WorkflowCall(
                    workflow=workflow,
                    instance=f"run {i}",
                    stage=call.stage,
                    is_last=says_last and j == len(plans[i]) - 1,
                ),
                api_key_id,
            )
            if on_begin is not None:
                on_begin(i, call, context)
            continue
        outcome = workflows.end(
            now_s,
            number,
            CallObserved(
                l_q_s=call.l_q_s,
                l_x_s=call.l_x_s,
                e2e_s=call.l_q_s + call.l_x_s,
                num_prompt=call.num_prompt,
                num_cached=call.num_cached,
                num_output=call.num_output,
                finish="stop",
                prefill_s=call.prefill_s,
            ),
        )
        if outcome is not None:
            outcomes.append(outcome)
    return now_s, outcomes
