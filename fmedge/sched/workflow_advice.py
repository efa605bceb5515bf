"""What would help a workflow most, in milliseconds of its end-to-end time.

The rule: a gain is never a share of a sum; it is what the recent instances would have taken, each
replayed with the measure applied: a call starts when the last call that had ended before it has
ended, plus the same tool time. So shortening what runs beside something longer gains nothing.

A measure whose size is the reader's to choose is taken at one half (half the prompt, a model of
twice the speed, half the tool time), so that gains compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from fmedge.sched.workflow_rest import Call

Measure = Literal[
    "cached_prefix",
    "shorter_prompts",
    "shorter_outputs",
    "faster_model",
    "parallel_calls",
    "faster_tools",
    "less_queueing",
]

MAX_ADVICE = 5
MAX_ADVISED_STAGES = 16  # those that take longest are looked at
MIN_SHARE = 0.01  # of the mean end-to-end time; less is not worth saying


class Advice(Struct, frozen=True, kw_only=True):
    """One measure at one stage. gain_ms: mean of the end-to-end time saved per instance.
    num_saved: of the recent instances that missed their promise, those that would have kept it.
    what: the measure in words; how: what the gain was computed from."""

    stage: str
    measure: Measure
    gain_ms: float
    num_saved: int
    what: str
    how: str


class Instance:
    """A finished instance, prepared for replay. gaps_s[i]: tool time before call i; told[i]: how
    many calls, in order of their ends, had ended when call i arrived."""

    __slots__ = ("by_end", "calls", "e2e_s", "gaps_s", "promise_s", "told")

    def __init__(self, calls: Sequence[Call], promise_s: float) -> None:
        self.calls = calls
        self.promise_s = promise_s
        self.by_end = sorted(range(len(calls)), key=lambda i: (calls[i].end_s, i))
        self.e2e_s = calls[self.by_end[-1]].end_s
        self.gaps_s: list[float] = []
        self.told: list[int] = []
        count = 0
        for call in calls:
            while count < len(calls) and calls[self.by_end[count]].end_s <= call.start_s:
                count += 1
            before_s = calls[self.by_end[count - 1]].end_s if count else 0.0
            self.told.append(count)
            self.gaps_s.append(call.start_s - before_s)

    def replay_s(self, change: Change) -> float:
        """End-to-end time with the change."""
        ends = [call.end_s for call in self.calls]
        latest_s, count = 0.0, 0
        starts: list[float] = []
        for i, call in enumerate(self.calls):
            while count < self.told[i]:
                latest_s = max(latest_s, ends[self.by_end[count]])
                count += 1
            gap_s = self.gaps_s[i] - change.tool_saved_s.get(i, 0.0)
            with_call = change.starts_with.get(i)
            start_s = (latest_s if with_call is None else starts[with_call]) + gap_s
            # A call that starts with another one keeps its own tool time, as part of its branch.
            starts.append(start_s)
            took_s = call.end_s - call.start_s - change.saved_s.get(i, 0.0)
            ends[i] = start_s + took_s
        return max(ends)


class Change(Struct):
    """What a measure does to one instance, by index of call: seconds less of the call, seconds
    less of the tool time before it, and the earlier call that it starts together with."""

    saved_s: dict[int, float] = {}
    tool_saved_s: dict[int, float] = {}
    starts_with: dict[int, int] = {}

    @property
    def bound_s(self) -> float:
        """No end-to-end time shrinks by more than the sum of what is saved."""
        return sum(self.saved_s.values()) + sum(self.tool_saved_s.values())


def advise(instances: Sequence[Instance]) -> tuple[Advice, ...]:
    """The measures with the largest gains, best first; at most MAX_ADVICE."""
    if not instances:
        return ()
    took_s: dict[str, float] = {}
    for instance in instances:
        for call, gap_s in zip(instance.calls, instance.gaps_s, strict=True):
            took_s[call.stage] = took_s.get(call.stage, 0.0) + call.end_s - call.start_s + gap_s
    stages = sorted(took_s, key=lambda stage: -took_s[stage])[:MAX_ADVISED_STAGES]
    bounded: list[tuple[float, str, Measure, list[Change]]] = []
    for stage in stages:
        reuse = _reusable_share(instances, stage)
        for measure, apply in _MEASURES.items():
            changes = [apply(instance, stage, reuse) for instance in instances]
            bound_s = sum(_bound_s(*pair) for pair in zip(instances, changes, strict=True))
            bounded.append((bound_s / len(instances), stage, measure, changes))
    bounded.sort(key=lambda each: -each[0])
    least_s = MIN_SHARE * sum(instance.e2e_s for instance in instances) / len(instances)
    found: list[Advice] = []
    for bound_s, stage, measure, changes in bounded:
        if bound_s < least_s:
            break
        if len(found) >= MAX_ADVICE and 1e3 * bound_s <= found[MAX_ADVICE - 1].gain_ms:
            break
        advice = _advice(instances, stage, measure, changes)
        if advice.gain_ms >= 1e3 * least_s:
            found.append(advice)
            found.sort(key=lambda each: -each.gain_ms)
    return tuple(found[:MAX_ADVICE])


def _bound_s(instance: Instance, change: Change) -> float:
    if change.starts_with:
        return instance.e2e_s
    return change.bound_s


def _advice(
    instances: Sequence[Instance], stage: str, measure: Measure, changes: Sequence[Change]
) -> Advice:
    gains_s, num_saved = 0.0, 0
    for instance, change in zip(instances, changes, strict=True):
        changed_s = instance.replay_s(change)
        gains_s += instance.e2e_s - changed_s
        num_saved += changed_s <= instance.promise_s < instance.e2e_s
    calls = [call for instance in instances for call in instance.calls if call.stage == stage]
    return Advice(
        stage=stage,
        measure=measure,
        gain_ms=1e3 * gains_s / len(instances),
        num_saved=num_saved,
        what=_WHAT[measure],
        how=f"{_HOW[measure](calls, changes)}; {len(instances)} recent instances replayed with it",
    )


def _of_stage(instance: Instance, stage: str) -> Iterable[tuple[int, Call]]:
    return ((i, call) for i, call in enumerate(instance.calls) if call.stage == stage)


def _reusable_share(instances: Sequence[Instance], stage: str) -> float:
    """The part of a prompt that the best tenth of a stage's calls found cached."""
    shares = [
        call.num_cached / call.num_prompt
        for instance in instances
        for _, call in _of_stage(instance, stage)
        if call.num_prompt
    ]
    return float(np.quantile(shares, 0.9)) if shares else 0.0


def _cached_prefix(instance: Instance, stage: str, reuse: float) -> Change:
    change = Change()
    for i, call in _of_stage(instance, stage):
        uncached = call.num_prompt - call.num_cached
        if uncached <= 1:
            continue
        # What the best calls of the stage found, or an earlier call of this instance that the
        # prompt is long enough to continue; the last token is always computed.
        earlier = (instance.calls[j] for j in instance.by_end[: instance.told[i]])
        lengths = (each.num_prompt + each.num_output for each in earlier)
        held = max((n for n in lengths if n <= call.num_prompt), default=0)
        could = min(max(held, int(reuse * call.num_prompt)), call.num_prompt - 1)
        if could > call.num_cached:
            change.saved_s[i] = call.prefill_s * (could - call.num_cached) / uncached
    return change


def _shorter_prompts(instance: Instance, stage: str, reuse: float) -> Change:
    return Change({i: call.prefill_s / 2 for i, call in _of_stage(instance, stage)})


def _shorter_outputs(instance: Instance, stage: str, reuse: float) -> Change:
    return Change(
        {
            i: (call.l_x_s - call.prefill_s) / 2
            for i, call in _of_stage(instance, stage)
            if call.prefill_s > 0.0
        }
    )


def _faster_model(instance: Instance, stage: str, reuse: float) -> Change:
    return Change({i: call.l_x_s / 2 for i, call in _of_stage(instance, stage)})


def _less_queueing(instance: Instance, stage: str, reuse: float) -> Change:
    return Change({i: call.l_q_s for i, call in _of_stage(instance, stage)})


def _faster_tools(instance: Instance, stage: str, reuse: float) -> Change:
    """Tool time belongs to the call whose end it followed."""
    saved: dict[int, float] = {}
    for i, gap_s in enumerate(instance.gaps_s):
        count = instance.told[i]
        if count and instance.calls[instance.by_end[count - 1]].stage == stage:
            saved[i] = gap_s / 2
    return Change(tool_saved_s=saved)


def _parallel_calls(instance: Instance, stage: str, reuse: float) -> Change:
    """Calls of one stage in a row, none of whose prompts is long enough to hold the one before
    with its output: they do not seem to build on each other."""
    change = Change()
    first = -1
    for i, call in enumerate(instance.calls):
        if call.stage != stage:
            first = -1
            continue
        if first >= 0:
            before = instance.calls[i - 1]
            follows = call.start_s >= before.end_s
            if follows and call.num_prompt < before.num_prompt + before.num_output:
                change.starts_with[i] = first
                continue
        first = i
    return change


_Apply = Callable[[Instance, str, float], Change]
_MEASURES: dict[Measure, _Apply] = {
    "cached_prefix": _cached_prefix,
    "shorter_prompts": _shorter_prompts,
    "shorter_outputs": _shorter_outputs,
    "faster_model": _faster_model,
    "parallel_calls": _parallel_calls,
    "faster_tools": _faster_tools,
    "less_queueing": _less_queueing,
}

_WHAT: dict[Measure, str] = {
    "cached_prefix": "keep the common part of its prompts first and unchanged, so that it is "
    "found cached",
    "shorter_prompts": "halve its prompts",
    "shorter_outputs": "halve its outputs",
    "faster_model": "run it on a model or replica twice as fast",
    "parallel_calls": "make its calls at the same time, if they do not need each other's output",
    "faster_tools": "halve the time between this call's end and the next call",
    "less_queueing": "let it start at once (more replicas or slots, or a tighter promise)",
}


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def _how_prefix(calls: Sequence[Call], changes: Sequence[Change]) -> str:
    saved = [s for change in changes for s in change.saved_s.values()]
    return (
        f"{_mean(c.num_cached for c in calls):.0f} of {_mean(c.num_prompt for c in calls):.0f} "
        f"prompt tokens were cached; with what its best calls found, or what an earlier call of "
        f"the instance left, {1e3 * _mean(saved):.0f} ms less prefill in {len(saved)} calls"
    )


def _how_prompts(calls: Sequence[Call], changes: Sequence[Change]) -> str:
    return (
        f"prefill took {1e3 * _mean(c.prefill_s for c in calls):.0f} ms a call for "
        f"{_mean(c.num_prompt - c.num_cached for c in calls):.0f} uncached tokens"
    )


def _how_outputs(calls: Sequence[Call], changes: Sequence[Change]) -> str:
    return (
        f"decoding took {1e3 * _mean(c.l_x_s - c.prefill_s for c in calls):.0f} ms a call for "
        f"{_mean(c.num_output for c in calls):.0f} tokens"
    )


def _how_model(calls: Sequence[Call], changes: Sequence[Change]) -> str:
    return f"l_x was {1e3 * _mean(c.l_x_s for c in calls):.0f} ms a call"


def _how_parallel(calls: Sequence[Call], changes: Sequence[Change]) -> str:
    moved = sum(len(change.starts_with) for change in changes)
    return (
        f"{moved} of {len(calls)} calls followed one of the same stage with a prompt too short to "
        "continue it; a larger batch's slower steps are not counted"
    )


def _how_tools(calls: Sequence[Call], changes: Sequence[Change]) -> str:
    saved = [s for change in changes for s in change.tool_saved_s.values()]
    return f"{2e3 * _mean(saved):.0f} ms passed on average before the next call"


def _how_queueing(calls: Sequence[Call], changes: Sequence[Change]) -> str:
    return f"l_q was {1e3 * _mean(c.l_q_s for c in calls):.0f} ms a call"


_How = Callable[[Sequence[Call], Sequence[Change]], str]
_HOW: dict[Measure, _How] = {
    "cached_prefix": _how_prefix,
    "shorter_prompts": _how_prompts,
    "shorter_outputs": _how_outputs,
    "faster_model": _how_model,
    "parallel_calls": _how_parallel,
    "faster_tools": _how_tools,
    "less_queueing": _how_queueing,
}
