"""What remains of a workflow after a call (l_r), learned from finished instances.

The rule: what remains is the time from the call's end to the instance's end along the critical
path, without the time that calls on it waited for a replica: tool time and l_x. Waiting (l_q) is
the router's to spend, so it is never learned as if it were work.

The critical path is followed back from the call that ended last: what a call waited for is the
call that ended last before it arrived, and the time between them is tool time. So branches, loops
and parallel calls need no declaration: what an instance did is what is learned.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.types import FinishReason

NUM_SCENARIOS = 16
MAX_VISITS = 16  # of one stage that are told apart; later ones count as this one
MAX_NODES = 2048
SAMPLES_PER_NODE = 256
ENOUGH_SAMPLES = 16  # of a visit; until then its stage's others count as COARSE_SAMPLES
COARSE_SAMPLES = 2.0

Work = Literal["l_q", "l_x", "tool"]


class Call(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A finished call. start_s and end_s from its instance's first arrival on; l_q_s is the part
    of that before its prefill began, prefill_s what the prefill took (0 where not known)."""

    stage: str
    visit: int
    start_s: float
    end_s: float
    l_q_s: float
    prefill_s: float
    num_prompt: int
    num_cached: int
    num_output: int
    finish: FinishReason

    @property
    def l_x_s(self) -> float:
        """All that was not waiting."""
        return self.end_s - self.start_s - self.l_q_s


class Segment(Struct, frozen=True):
    """A stretch of the critical path. call: index of the call that it is part of; for tool time
    the call before it, -1 for what came before the first."""

    start_s: float
    end_s: float
    work: Work
    call: int


def critical_path(calls: Sequence[Call]) -> list[Segment]:
    """From the instance's begin to its end without gaps, in order of time; calls: at least one."""
    by_end = sorted(range(len(calls)), key=lambda i: calls[i].end_s)
    ends = [calls[i].end_s for i in by_end]
    path: list[Segment] = []
    at = len(by_end) - 1
    while True:
        index = by_end[at]
        call = calls[index]
        started_s = min(call.start_s + call.l_q_s, call.end_s)
        path.append(Segment(started_s, call.end_s, "l_x", index))
        if started_s > call.start_s:
            path.append(Segment(call.start_s, started_s, "l_q", index))
        # Strictly earlier in this order, so that calls of no duration cannot go in circles.
        before = min(bisect_right(ends, call.start_s), at) - 1
        if before < 0:
            if call.start_s > 0.0:
                path.append(Segment(0.0, call.start_s, "tool", -1))
            break
        if call.start_s > ends[before]:
            path.append(Segment(ends[before], call.start_s, "tool", by_end[before]))
        at = before
    path.reverse()
    return path


def rests_s(calls: Sequence[Call]) -> list[float]:
    """For each call, what remained after its end: tool time and l_x on the critical path."""
    path = critical_path(calls)
    starts = [segment.start_s for segment in path]
    after = [0.0] * (len(path) + 1)
    for i in range(len(path) - 1, -1, -1):
        segment = path[i]
        took_s = 0.0 if segment.work == "l_q" else segment.end_s - segment.start_s
        after[i] = after[i + 1] + took_s
    found = []
    for call in calls:
        i = max(0, bisect_right(starts, call.end_s) - 1)
        segment = path[i]
        passed_s = 0.0
        if segment.work != "l_q":
            passed_s = min(call.end_s, segment.end_s) - segment.start_s
        found.append(max(0.0, after[i] - passed_s))
    return found


class _Node:
    """The last SAMPLES_PER_NODE rests of one key."""

    __slots__ = ("cached", "cached_at", "count", "samples")

    def __init__(self) -> None:
        self.samples = np.zeros(SAMPLES_PER_NODE, np.float32)
        self.count = 0
        self.cached: NDArray[np.float32] | None = None
        self.cached_at = (0, 0)

    def add(self, rest_s: float) -> None:
        self.samples[self.count % SAMPLES_PER_NODE] = rest_s
        self.count += 1

    def known(self) -> NDArray[np.float32]:
        return self.samples[: min(self.count, SAMPLES_PER_NODE)]


_Key = tuple[str, str, int]


class RestModel:
    """What remains, of one workflow, by stage and visit; else by stage, by how many calls an
    instance has made, by nothing, whichever is known first."""

    def __init__(self, num_scenarios: int = NUM_SCENARIOS) -> None:
        self._nodes: dict[_Key, _Node] = {}
        self._at = (np.arange(num_scenarios) + 0.5) / num_scenarios
        self.nothing = np.zeros(num_scenarios, np.float32)
        self.nothing.flags.writeable = False

    def __len__(self) -> int:
        return len(self._nodes)

    def learn(self, calls: Sequence[Call]) -> None:
        """One instance that came to its end; calls in order of arrival."""
        for ordinal, (call, rest_s) in enumerate(zip(calls, rests_s(calls), strict=True), start=1):
            for key in _keys(call.stage, call.visit, ordinal):
                node = self._nodes.pop(key, None)
                if node is None:
                    node = _Node()
                    while len(self._nodes) >= MAX_NODES:
                        del self._nodes[next(iter(self._nodes))]
                self._nodes[key] = node
                node.add(rest_s)

    def scenarios(self, stage: str, visit: int, ordinal: int) -> tuple[NDArray[np.float32], int]:
        """(rests, how many instances they rest on) after a call of `stage` for the visit-th time,
        the ordinal-th call of its instance.

        rests: float32[num_scenarios] seconds, ascending and equally likely, read-only; zeros while
        nothing is known.
        """
        keys = _keys(stage, visit, ordinal)
        own = next((node for key in keys if (node := self._nodes.get(key))), None)
        if own is None:
            return self.nothing, 0
        # A visit seen a few times only is told apart by degrees from its stage's other visits.
        by_stage = self._nodes.get(("stage", stage, 0))
        coarse = by_stage if own is not by_stage and own.count < ENOUGH_SAMPLES else None
        version = (own.count, 0 if coarse is None else coarse.count)
        if own.cached is None or own.cached_at != version:
            own.cached = self._mixed(own, coarse)
            own.cached_at = version
        return own.cached, min(own.count, SAMPLES_PER_NODE)

    def _mixed(self, own: _Node, coarse: _Node | None) -> NDArray[np.float32]:
        samples = own.known()
        weights = np.ones(len(samples))
        if coarse is not None:
            more = coarse.known()
            weights = np.concatenate((weights, np.full(len(more), COARSE_SAMPLES / len(more))))
            samples = np.concatenate((samples, more))
        order = np.argsort(samples)
        reached = np.cumsum(weights[order])
        middle = (reached - weights[order] / 2) / reached[-1]
        rests = np.interp(self._at, middle, samples[order]).astype(np.float32)
        rests.flags.writeable = False
        return rests


def _keys(stage: str, visit: int, ordinal: int) -> tuple[_Key, _Key, _Key, _Key]:
    return (
        ("visit", stage, min(visit, MAX_VISITS)),
        ("stage", stage, 0),
        ("ordinal", "", min(ordinal, MAX_VISITS)),
        ("all", "", 0),
    )
