"""How a workflow keeps its promise, stage by stage, from its recent instances.

The rule: times that add up to the promise are those on the critical path; what ran beside it costs
nothing and is not counted in a stage's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from msgspec import Struct

from fmedge.sched.workflow_advice import Advice, Instance, advise
from fmedge.sched.workflow_learning import FinishedInstance, LearnedWorkflow
from fmedge.sched.workflow_rest import Call, critical_path
from fmedge.types import WorkflowSettings

MAX_STAGES = 64
MAX_REPLAYED_CALLS = 2048
OTHER_STAGES = "(other)"


class StageReport(Struct, frozen=True, kw_only=True):
    """One stage over the recent instances; "" is calls that name none.

    Tokens are means of a call; l_q, l_x and tool times are the median and p90 of a call; tool time
    is from its end to the next call's arrival, where that waited for it. critical_ms: mean
    milliseconds of an instance's critical path spent in the stage (waiting, running, tool time
    after it). share: that of the promise, or of the mean end-to-end time without a promise.
    num_missed: of the instances that missed the promise, those in which this stage exceeded its
    own median by most.
    """

    stage: str
    num_calls: int
    calls_per_instance: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    l_q_ms: float
    l_q_p90_ms: float
    l_x_ms: float
    l_x_p90_ms: float
    tool_ms: float
    tool_p90_ms: float
    critical_ms: float
    share: float
    num_missed: int


class WorkflowReport(Struct, frozen=True, kw_only=True):
    """One workflow. num_instances and num_missed count all that are over, the rest is of the
    num_recent that are remembered. promise_ms: of the configuration, None without one.
    attainment: the part of the recent instances with a deadline that met it, None without any."""

    workflow: str
    promise_ms: float | None
    target: float
    num_instances: int
    num_missed: int
    num_open: int
    num_recent: int
    attainment: float | None
    e2e_ms: float
    e2e_p90_ms: float
    stages: tuple[StageReport, ...]
    advice: tuple[Advice, ...]


def report_on(
    settings: WorkflowSettings, learned: LearnedWorkflow, num_open: int
) -> WorkflowReport:
    """The report on one workflow; num_open: its instances that are not over."""
    recent = list(learned.recent)
    e2e_s = [instance.e2e_s for instance in recent]
    promised = [instance.is_missed for instance in recent if instance.promise_s < inf]
    return WorkflowReport(
        workflow=settings.name,
        promise_ms=1e3 * settings.e2e_s if settings.e2e_s < inf else None,
        target=settings.target,
        num_instances=learned.num_instances,
        num_missed=learned.num_missed,
        num_open=num_open,
        num_recent=len(recent),
        attainment=1.0 - sum(promised) / len(promised) if promised else None,
        e2e_ms=_ms(e2e_s, 0.5),
        e2e_p90_ms=_ms(e2e_s, 0.9),
        stages=_stages(recent, settings.e2e_s),
        advice=advise(_replayable(recent)),
    )


class _Tally:
    """What one stage gathers while the instances are gone through."""

    def __init__(self, num_instances: int) -> None:
        self.calls: list[Call] = []
        self.tool_s: list[float] = []
        self.critical_s = np.zeros(num_instances)
        self.num_missed = 0


def _stages(recent: Sequence[FinishedInstance], promise_s: float) -> tuple[StageReport, ...]:
    if not recent:
        return ()
    counts: dict[str, int] = {}
    for instance in recent:
        for call in instance.calls:
            counts[call.stage] = counts.get(call.stage, 0) + 1
    kept = sorted(counts, key=lambda stage: -counts[stage])
    if len(kept) > MAX_STAGES:
        kept = [*kept[: MAX_STAGES - 1], OTHER_STAGES]
    tallies = {stage: _Tally(len(recent)) for stage in kept}
    for index, instance in enumerate(recent):
        for call in instance.calls:
            _of(tallies, call.stage).calls.append(call)
        for segment in critical_path(instance.calls):
            took_s = segment.end_s - segment.start_s
            # What came before the first call of all is laid to that call.
            tally = _of(tallies, instance.calls[max(segment.call, 0)].stage)
            tally.critical_s[index] += took_s
            if segment.work == "tool" and segment.call >= 0:
                tally.tool_s.append(took_s)
    excess = np.array([each.critical_s - np.median(each.critical_s) for each in tallies.values()])
    by_place = list(tallies.values())
    for index, instance in enumerate(recent):
        if instance.is_missed:
            by_place[int(np.argmax(excess[:, index]))].num_missed += 1
    whole_s = promise_s
    if promise_s == inf:
        whole_s = sum(instance.e2e_s for instance in recent) / len(recent)
    reports = [_stage(stage, tally, len(recent), whole_s) for stage, tally in tallies.items()]
    return tuple(sorted(reports, key=lambda each: -each.critical_ms))


def _of(tallies: dict[str, _Tally], stage: str) -> _Tally:
    found = tallies.get(stage)
    return tallies[OTHER_STAGES] if found is None else found


def _stage(stage: str, tally: _Tally, num_instances: int, whole_s: float) -> StageReport:
    calls = tally.calls
    l_q_s = [call.l_q_s for call in calls]
    l_x_s = [call.l_x_s for call in calls]
    critical_s = float(tally.critical_s.mean())
    return StageReport(
        stage=stage,
        num_calls=len(calls),
        calls_per_instance=len(calls) / num_instances,
        prompt_tokens=sum(call.num_prompt for call in calls) / len(calls),
        cached_tokens=sum(call.num_cached for call in calls) / len(calls),
        output_tokens=sum(call.num_output for call in calls) / len(calls),
        l_q_ms=_ms(l_q_s, 0.5),
        l_q_p90_ms=_ms(l_q_s, 0.9),
        l_x_ms=_ms(l_x_s, 0.5),
        l_x_p90_ms=_ms(l_x_s, 0.9),
        tool_ms=_ms(tally.tool_s, 0.5),
        tool_p90_ms=_ms(tally.tool_s, 0.9),
        critical_ms=1e3 * critical_s,
        share=critical_s / whole_s if whole_s > 0.0 else 0.0,
        num_missed=tally.num_missed,
    )


def _ms(times_s: Sequence[float], u: float) -> float:
    return 1e3 * float(np.quantile(times_s, u)) if times_s else 0.0


def _replayable(recent: Sequence[FinishedInstance]) -> list[Instance]:
    """The latest whole ones, of a number of calls that a report can replay in tens of ms."""
    found: list[Instance] = []
    num_calls = 0
    for instance in reversed(recent):
        if not instance.is_whole:
            continue
        num_calls += len(instance.calls)
        if num_calls > MAX_REPLAYED_CALLS and found:
            break
        found.append(Instance(instance.calls, instance.promise_s))
    return found
