"""What finished instances of one workflow taught, kept in bounded memory.

The rule: the recent instances are the only truth. What remains of a workflow and the report follow
from them, so they are what is saved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf, isfinite

import msgspec
from msgspec import Struct

from fmedge.sched.workflow_rest import NUM_SCENARIOS, Call, RestModel

MAX_RECENT_CALLS = 4096
MAX_INSTANCE_CALLS = 256
MAX_NAME_CHARS = 256
SAID_LAST_WEIGHT = 0.1
_VERSION = 1


class FinishedInstance(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One run of a workflow. promise_s: from its begin; inf without one. is_cut: its last call was
    refused, cancelled or failed. is_whole: it came to its end by itself and all its calls are
    here; else it says nothing of what remains. said_last: its caller said which call was the
    last. calls: in order of arrival, at least one."""

    promise_s: float
    is_cut: bool
    is_whole: bool
    said_last: bool
    calls: tuple[Call, ...]

    @property
    def e2e_s(self) -> float:
        """From the first arrival to the last end."""
        return max(call.end_s for call in self.calls)

    @property
    def is_missed(self) -> bool:
        """It ended late, or was cut with a promise to keep."""
        return self.promise_s < inf and (self.is_cut or self.e2e_s > self.promise_s)


class LearnedWorkflow:
    """Of one workflow: its recent instances, and what follows from them."""

    def __init__(self, num_scenarios: int = NUM_SCENARIOS) -> None:
        self.rest = RestModel(num_scenarios)
        self.recent: deque[FinishedInstance] = deque()
        self.num_instances = 0
        self.num_missed = 0
        self._num_calls = 0
        self._said_last = 0.0

    @property
    def says_last(self) -> bool:
        """Callers of this workflow say which call is the last, so that an instance which falls
        silent without it was given up."""
        return self._said_last > 0.5

    def learn(self, instance: FinishedInstance) -> None:
        """An instance is over."""
        self.num_instances += 1
        self.num_missed += instance.is_missed
        self._keep(instance)

    def _keep(self, instance: FinishedInstance) -> None:
        self.recent.append(instance)
        self._num_calls += len(instance.calls)
        self._said_last += SAID_LAST_WEIGHT * (instance.said_last - self._said_last)
        while self._num_calls > MAX_RECENT_CALLS:
            self._num_calls -= len(self.recent.popleft().calls)
        if instance.is_whole:
            self.rest.learn(instance.calls)


class _StoredWorkflow(Struct, array_like=True, forbid_unknown_fields=True):
    name: str
    num_instances: int
    num_missed: int
    recent: list[FinishedInstance]


class _Stored(Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    workflows: list[_StoredWorkflow]


def to_bytes(learned: Mapping[str, LearnedWorkflow]) -> bytes:
    """What was learned of each workflow, for from_bytes of the same version."""
    workflows = [
        _StoredWorkflow(name, each.num_instances, each.num_missed, list(each.recent))
        for name, each in learned.items()
    ]
    return msgspec.msgpack.encode(_Stored(_VERSION, workflows))


def from_bytes(data: bytes, num_scenarios: int = NUM_SCENARIOS) -> dict[str, LearnedWorkflow]:
    """What to_bytes saved, by workflow; ValueError when `data` is not that."""
    try:
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"learned workflows cannot be read: {error}") from None
    if stored.version != _VERSION:
        raise ValueError(f"learned workflows are of version {stored.version}, not {_VERSION}")
    found: dict[str, LearnedWorkflow] = {}
    for each in stored.workflows:
        learned = LearnedWorkflow(num_scenarios)
        for instance in each.recent:
            _check(instance)
            learned._keep(instance)
        if not 0 <= each.num_missed <= each.num_instances:
            raise ValueError("learned workflows hold impossible counts")
        learned.num_instances = each.num_instances
        learned.num_missed = each.num_missed
        found[each.name] = learned
    return found


def _check(instance: FinishedInstance) -> None:
    calls: Sequence[Call] = instance.calls
    if not 1 <= len(calls) <= MAX_INSTANCE_CALLS or not instance.promise_s > 0.0:
        raise ValueError("learned workflows hold an impossible instance")
    for call in calls:
        times = (call.start_s, call.end_s, call.l_q_s, call.prefill_s)
        counts = (call.num_prompt, call.num_cached, call.num_output)
        is_possible = (
            all(isfinite(time) and time >= 0.0 for time in times)
            and call.start_s <= call.end_s
            and all(0 <= count < 1 << 40 for count in counts)
            and call.num_cached <= call.num_prompt
            and call.visit >= 1
            and len(call.stage) <= MAX_NAME_CHARS
        )
        if not is_possible:
            raise ValueError("learned workflows hold an impossible call")
    if any(second.start_s < first.start_s for first, second in pairwise(calls)):
        raise ValueError("learned workflows hold calls out of order")
