"""Instances of workflows: one promise for many calls, and what remains of it at each of them.

The rule: an instance begins with the first call of its id, belongs to the API key that made it,
and is over when its last call has ended: the one that says so (is_last), or, `idle_s` after the
last that came. Its deadline is the workflow's promise counted from its first arrival, unless a
call says how much is left. What its calls did is learned once it is over, and only if it came to
its end by itself: not if its last call failed, nor if it fell silent in a workflow whose callers
say which call is the last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import inf, isfinite

from msgspec import Struct

from fmedge.sched import workflow_learning
from fmedge.sched.workflow_call import (
    CallContext,
    CallObserved,
    EndedBy,
    InstanceOutcome,
    InstanceOwnedError,
    TooManyInstancesError,
    UnknownWorkflowError,
    WorkflowError,
)
from fmedge.sched.workflow_learning import (
    MAX_INSTANCE_CALLS,
    MAX_NAME_CHARS,
    FinishedInstance,
    LearnedWorkflow,
)
from fmedge.sched.workflow_report import WorkflowReport, report_on
from fmedge.sched.workflow_rest import NUM_SCENARIOS, Call
from fmedge.types import WorkflowCall, WorkflowSettings

__all__ = [
    "CallContext",
    "CallObserved",
    "InstanceOutcome",
    "InstanceOwnedError",
    "TooManyInstancesError",
    "UnknownWorkflowError",
    "WorkflowError",
    "Workflows",
]

MAX_INSTANCES = 10_000
# Of all open instances; one whose calls were not all remembered is not learned from.
MAX_REMEMBERED_CALLS = 200_000
MAX_OVER_PER_TICK = 256


class _OpenCall(Struct):
    stage: str
    visit: int
    arrived_s: float
    is_last: bool
    instance: _Instance


class _Instance(Struct, eq=False):
    workflow: str
    name: str
    api_key_id: str
    began_s: float
    deadline_s: float
    active_s: float
    num_open: int = 0
    num_begun: int = 0
    is_last_seen: bool = False
    is_cut: bool = False
    visits: dict[str, int] = {}
    calls: list[Call] = []


_InstanceKey = tuple[str, str]


class Workflows:
    """All configured workflows, their open instances and what finished ones taught.

    now_s is monotonic seconds; one that goes back counts as the latest that was seen.
    """

    def __init__(
        self,
        configs: Mapping[str, WorkflowSettings],
        *,
        max_instances: int = MAX_INSTANCES,
        num_scenarios: int = NUM_SCENARIOS,
    ) -> None:
        self._configs = dict(configs)
        self._max_instances = max_instances
        self._num_scenarios = num_scenarios
        self._learned = {name: LearnedWorkflow(num_scenarios) for name in self._configs}
        self._instances: dict[_InstanceKey, _Instance] = {}
        # Those without a call in flight, by workflow and API key, in order of their last end.
        self._idle: dict[tuple[str, str], OrderedDict[str, _Instance]] = {}
        self._open_of_key: dict[str, int] = {}
        self._calls: dict[int, _OpenCall] = {}
        self._num_remembered = 0
        self._latest_s = -inf

    @property
    def num_open_instances(self) -> int:
        """Instances that are not over."""
        return len(self._instances)

    def configure(self, configs: Mapping[str, WorkflowSettings]) -> None:
        """Other settings from now on. What was learned stays, and so do open instances with the
        deadlines they have; workflows that are gone are forgotten."""
        for key in [key for key in self._instances if key[0] not in configs]:
            self._drop(self._instances[key])
        gone = [
            number for number, call in self._calls.items() if call.instance.workflow not in configs
        ]
        for number in gone:
            del self._calls[number]
        self._configs = dict(configs)
        learned = self._learned
        self._learned = {
            name: learned.get(name) or LearnedWorkflow(self._num_scenarios) for name in configs
        }

    def begin(
        self, now_s: float, request_id: int, call: WorkflowCall, api_key_id: str
    ) -> CallContext:
        """A call arrives. WorkflowError (a subclass) when it does not fit; then nothing changed."""
        now_s = self._clock(now_s)
        config = self._config(call.workflow)
        for what, text in (("instance id", call.instance), ("stage", call.stage)):
            if len(text) > MAX_NAME_CHARS:
                raise WorkflowError(
                    f"the workflow's {what} has {len(text)} characters; at most {MAX_NAME_CHARS} "
                    "are taken"
                )
        if not call.deadline_s > 0.0:
            raise WorkflowError(
                f"a workflow's deadline is a time left in seconds, not {call.deadline_s}"
            )
        if request_id in self._calls:
            raise WorkflowError(f"request {request_id} is already a call of a workflow")
        instance = self._instances.get((call.workflow, call.instance))
        if instance is not None and self._is_over(instance, config, now_s):
            self._finish(instance, "idle")
            instance = None
        if instance is None:
            instance = self._open(now_s, call, config, api_key_id)
        elif instance.api_key_id != api_key_id:
            raise InstanceOwnedError(
                f"instance {call.instance!r} of workflow {call.workflow!r} was begun with another "
                "API key. Use the key that began it, or another instance id."
            )
        if isfinite(call.deadline_s):
            instance.deadline_s = now_s + call.deadline_s
        self._unidle(instance)
        visit = instance.visits.get(call.stage, 0) + 1
        if visit > 1 or len(instance.visits) < MAX_INSTANCE_CALLS:
            instance.visits[call.stage] = visit
        instance.num_begun += 1
        instance.num_open += 1
        self._calls[request_id] = _OpenCall(call.stage, visit, now_s, call.is_last, instance)
        rest_model = self._learned[call.workflow].rest
        rest, num_learned = rest_model.nothing, 0
        if not call.is_last:
            rest, num_learned = rest_model.scenarios(call.stage, visit, instance.num_begun)
        return CallContext(
            workflow=call.workflow,
            instance=call.instance,
            stage=call.stage,
            visit=visit,
            began_s=instance.began_s,
            deadline_s=instance.deadline_s,
            rest=rest,
            num_learned=num_learned,
        )

    def end(self, now_s: float, request_id: int, observed: CallObserved) -> InstanceOutcome | None:
        """A call ended. The outcome, when its instance did with it; None for unknown requests."""
        now_s = self._clock(now_s)
        call = self._calls.pop(request_id, None)
        if call is None:
            return None
        instance = call.instance
        took_s = now_s - call.arrived_s
        l_q_s = _within(observed.l_q_s, took_s)
        is_room = self._num_remembered < MAX_REMEMBERED_CALLS
        if is_room and len(instance.calls) < MAX_INSTANCE_CALLS:
            self._num_remembered += 1
            start_s = call.arrived_s - instance.began_s
            instance.calls.append(
                Call(
                    stage=call.stage,
                    visit=call.visit,
                    start_s=start_s,
                    end_s=start_s + took_s,
                    l_q_s=l_q_s,
                    prefill_s=_within(observed.prefill_s, took_s - l_q_s),
                    num_prompt=max(0, observed.num_prompt),
                    num_cached=min(max(0, observed.num_cached), max(0, observed.num_prompt)),
                    num_output=max(0, observed.num_output),
                    finish=observed.finish,
                )
            )
        is_failure = observed.finish in ("cancelled", "error")
        return self._call_over(now_s, call, is_failure=is_failure)

    def abandon(self, now_s: float, request_id: int) -> InstanceOutcome | None:
        """A call was refused, cancelled or failed, and counts for nothing. Its instance goes on;
        unless something follows, it is over without being learned from."""
        now_s = self._clock(now_s)
        call = self._calls.pop(request_id, None)
        if call is None:
            return None
        instance = call.instance
        # The next try is the same visit of the same stage.
        if call.stage in instance.visits:
            instance.visits[call.stage] -= 1
        instance.num_begun -= 1
        if instance.num_begun == 0:
            # Refused at its first call: nothing began, and a retry starts with a fresh deadline.
            self._drop(instance)
            return None
        return self._call_over(now_s, call, is_failure=True)

    def tick(self, now_s: float) -> list[InstanceOutcome]:
        """Instances that have been idle for too long are over; at most MAX_OVER_PER_TICK at once,
        the others at the next tick."""
        now_s = self._clock(now_s)
        over: list[InstanceOutcome] = []
        for (workflow, _), idle in list(self._idle.items()):
            config = self._configs[workflow]
            while idle and len(over) < MAX_OVER_PER_TICK:
                instance = next(iter(idle.values()))
                if not self._is_over(instance, config, now_s):
                    break
                over.append(self._finish(instance, "idle"))
        return over

    def report(self, name: str | None = None) -> list[WorkflowReport]:
        """On one workflow, or on all of them, by name. UnknownWorkflowError."""
        if name is not None:
            self._config(name)
        open_of: dict[str, int] = {}
        for workflow, _ in self._instances:
            open_of[workflow] = open_of.get(workflow, 0) + 1
        return [
            report_on(self._configs[each], self._learned[each], open_of.get(each, 0))
            for each in sorted(self._configs)
            if name in (None, each)
        ]

    def to_bytes(self) -> bytes:
        """What was learned (not the open instances), for from_bytes of the same version."""
        return workflow_learning.to_bytes(self._learned)

    @classmethod
    def from_bytes(
        cls, data: bytes, configs: Mapping[str, WorkflowSettings], **bounds: int
    ) -> Workflows:
        """What to_bytes saved, of the workflows in `configs`; ValueError when it is not that."""
        workflows = cls(configs, **bounds)
        for name, learned in workflow_learning.from_bytes(data, workflows._num_scenarios).items():
            if name in workflows._learned:
                workflows._learned[name] = learned
        return workflows

    def _clock(self, now_s: float) -> float:
        if now_s > self._latest_s:
            self._latest_s = now_s
        return self._latest_s

    def _config(self, name: str) -> WorkflowSettings:
        config = self._configs.get(name)
        if config is not None:
            return config
        near = get_close_matches(name, self._configs, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownWorkflowError(
            f"no workflow {name[:MAX_NAME_CHARS]!r} is configured.{hint} "
            "Workflows are [workflows.NAME] in the configuration."
        )

    def _open(
        self, now_s: float, call: WorkflowCall, config: WorkflowSettings, api_key_id: str
    ) -> _Instance:
        if len(self._instances) >= self._max_instances:
            self._evict()
        instance = _Instance(
            workflow=call.workflow,
            name=call.instance,
            api_key_id=api_key_id,
            began_s=now_s,
            deadline_s=now_s + config.e2e_s,
            active_s=now_s,
        )
        self._instances[call.workflow, call.instance] = instance
        self._open_of_key[api_key_id] = self._open_of_key.get(api_key_id, 0) + 1
        return instance

    def _evict(self) -> None:
        """Ends the instance idle for longest of the API key that has the most, so that one
        caller's flood is that caller's loss."""
        heads: Iterator[tuple[int, float, _Instance]] = (
            (-self._open_of_key[key], instance.active_s, instance)
            for (_, key), idle in self._idle.items()
            if idle
            for instance in (next(iter(idle.values())),)
        )
        chosen = min(heads, key=lambda head: head[:2], default=None)
        if chosen is None:
            raise TooManyInstancesError(
                f"{len(self._instances)} workflow instances have calls in flight, which is the "
                "most at once. Try again when some have ended."
            )
        self._finish(chosen[2], "evicted")

    def _call_over(
        self, now_s: float, call: _OpenCall, *, is_failure: bool
    ) -> InstanceOutcome | None:
        instance = call.instance
        instance.active_s = now_s
        instance.num_open -= 1
        # What came after a failure shows that the instance went on.
        instance.is_cut = is_failure
        instance.is_last_seen = instance.is_last_seen or (call.is_last and not is_failure)
        if instance.num_open > 0:
            return None
        if instance.is_last_seen:
            return self._finish(instance, "last")
        idle = self._idle.setdefault((instance.workflow, instance.api_key_id), OrderedDict())
        idle[instance.name] = instance
        return None

    @staticmethod
    def _is_over(instance: _Instance, config: WorkflowSettings, now_s: float) -> bool:
        return instance.num_open == 0 and now_s - instance.active_s >= config.idle_s

    def _unidle(self, instance: _Instance) -> None:
        key = (instance.workflow, instance.api_key_id)
        idle = self._idle.get(key)
        if idle is not None:
            idle.pop(instance.name, None)
            if not idle:
                del self._idle[key]

    def _drop(self, instance: _Instance) -> None:
        self._unidle(instance)
        if self._instances.pop((instance.workflow, instance.name), None) is not None:
            self._num_remembered -= len(instance.calls)
            left = self._open_of_key[instance.api_key_id] - 1
            if left:
                self._open_of_key[instance.api_key_id] = left
            else:
                del self._open_of_key[instance.api_key_id]

    def _finish(self, instance: _Instance, ended_by: EndedBy) -> InstanceOutcome:
        self._drop(instance)
        calls = tuple(sorted(instance.calls, key=lambda call: call.start_s))
        e2e_s = max((call.end_s for call in calls), default=0.0)
        promise_s = instance.deadline_s - instance.began_s
        if calls and ended_by != "evicted":
            learned = self._learned[instance.workflow]
            is_given_up = learned.says_last and ended_by == "idle"
            is_whole = len(calls) == instance.num_begun and not (instance.is_cut or is_given_up)
            learned.learn(
                FinishedInstance(promise_s, instance.is_cut, is_whole, ended_by == "last", calls)
            )
        held: bool | None = None
        if promise_s < inf and ended_by != "evicted":
            held = not instance.is_cut and e2e_s <= promise_s
        return InstanceOutcome(
            workflow=instance.workflow,
            instance=instance.name,
            api_key_id=instance.api_key_id,
            num_calls=instance.num_begun,
            e2e_s=e2e_s,
            promise_s=promise_s,
            held=held,
            ended_by=ended_by,
        )


def _within(time_s: float, most_s: float) -> float:
    """time_s where it makes sense: on another clock than ours, it may not quite."""
    return min(max(time_s, 0.0), most_s) if isfinite(time_s) else 0.0
