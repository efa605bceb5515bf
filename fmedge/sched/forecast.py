"""What is learned of finished requests and told of new ones: how long outputs become, and what
remains of workflows.

The rule: it forecasts and decides nothing; the server's front and the simulator learn by it alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

from msgspec import Struct
from msgspec.structs import replace

from fmedge.sched.events import Arrival
from fmedge.sched.lengths import LengthPredictor
from fmedge.sched.workflow_call import CallContext, CallObserved
from fmedge.sched.workflow_report import WorkflowReport
from fmedge.sched.workflows import Workflows
from fmedge.types import Promise, WorkflowCall, WorkflowSettings

LENGTHS, WORKFLOWS = LEARNED = ("lengths", "workflows")
"""Names of the state that outlives its owner."""


class Ended(Struct, frozen=True, kw_only=True):
    """A request that was answered. Times on the clock of now_s; sizes in tokens.

    is_censored: a limit of its own ended it; is_forced: nothing else could, so that its length
    teaches nothing. queue_s, prefill_s: on the replica that finished it, nan where not known.
    """

    keys: tuple[str, ...]
    num_output: int
    is_censored: bool
    arrived_s: float
    assigned_s: float
    num_prompt: int
    num_cached: int = 0
    queue_s: float = nan
    prefill_s: float = nan
    is_forced: bool = False
    workflow: WorkflowCall | None = None


class Forecaster:
    """One server's knowledge. Times are any one monotonic clock's."""

    def __init__(self, workflows: Mapping[str, WorkflowSettings]) -> None:
        self._lengths = LengthPredictor()
        self._settings = dict(workflows)
        self._workflows = Workflows(self._settings)

    def set_workflows(self, workflows: Mapping[str, WorkflowSettings]) -> None:
        """Other promises from now on; what was learned stays."""
        self._settings = dict(workflows)
        self._workflows.configure(self._settings)

    def begin(
        self, now_s: float, request_id: int, call: WorkflowCall | None, api_key_id: str
    ) -> CallContext | None:
        """Count a call of a workflow in. WorkflowError for one that does not fit."""
        if call is None:
            return None
        return self._workflows.begin(now_s, request_id, call, api_key_id)

    def abandon(self, now_s: float, request_id: int) -> None:
        """A call that `begin` counted was refused, cancelled or failed. Others are ignored."""
        self._workflows.abandon(now_s, request_id)

    def foretell(
        self, arrival: Arrival, keys: tuple[str, ...], context: CallContext | None
    ) -> Arrival:
        """The arrival with what is known of its length and of its rest. keys: of its length, from
        the most particular to the coarsest."""
        lengths = self._lengths.predict(keys, max(1, arrival.min_tokens), arrival.max_tokens)
        if context is None:
            return replace(arrival, lengths=lengths)
        return replace(
            arrival,
            lengths=lengths,
            promise=self._promise(arrival.promise, context.workflow),
            e2e_due_s=context.deadline_s,
            rest=context.rest,
        )

    def finished(self, now_s: float, request_id: int, ended: Ended) -> None:
        """A request ended by itself or at a limit of its own."""
        if not ended.is_forced:
            self._lengths.observe(ended.keys, ended.num_output, ended.is_censored)
        if ended.workflow is None:
            return
        e2e_s = now_s - ended.arrived_s
        queue_s = 0.0
        if ended.queue_s == ended.queue_s:  # known
            queue_s = ended.assigned_s - ended.arrived_s + ended.queue_s
        queue_s = min(max(queue_s, 0.0), e2e_s)
        self._workflows.end(
            now_s,
            request_id,
            CallObserved(
                l_q_s=queue_s,
                l_x_s=e2e_s - queue_s,
                e2e_s=e2e_s,
                prefill_s=ended.prefill_s,
                num_prompt=ended.num_prompt,
                num_cached=ended.num_cached,
                num_output=ended.num_output,
                finish="length" if ended.is_censored else "stop",
            ),
        )

    def tick(self, now_s: float) -> None:
        """Instances that have been idle for long are over."""
        self._workflows.tick(now_s)

    def report(self, now_s: float, name: str | None) -> list[WorkflowReport]:
        """On one workflow, or on all. WorkflowError for an unknown one."""
        self._workflows.tick(now_s)
        return self._workflows.report(name)

    def save(self) -> dict[str, bytes]:
        """By name, for `restore`."""
        return {LENGTHS: self._lengths.to_bytes(), WORKFLOWS: self._workflows.to_bytes()}

    def restore(self, name: str, data: bytes) -> None:
        """What `save` gave once under this name. ValueError for anything else."""
        if name == LENGTHS:
            self._lengths = LengthPredictor.from_bytes(data)
        elif name == WORKFLOWS:
            self._workflows = Workflows.from_bytes(data, self._settings)
        else:
            raise ValueError(f"nothing called {name!r} is learned")

    def _promise(self, promise: Promise, workflow: str) -> Promise:
        """A call's own promise; its workflow says what to do when it cannot be kept."""
        settings = self._settings[workflow]
        return Promise(
            sla_class=promise.sla_class or settings.name,
            ttft_s=promise.ttft_s,
            tpot_s=promise.tpot_s,
            e2e_s=promise.e2e_s,
            target=settings.target,
            on_miss=settings.on_miss,
            weight=settings.weight,
        )


def length_keys(
    model: str, num_prompt: int, *, api_key_id: str, form: str, workflow: WorkflowCall | None
) -> tuple[str, ...]:
    """What a request's output length is learned by, from the most particular to the coarsest.

    form: what shapes the output: "tools", "grammar", or "" for free text. Prompt lengths count by
    powers of two.
    """
    bucket = num_prompt.bit_length()
    keys = (
        f"key {api_key_id} {model} {form} {bucket}",
        f"form {model} {form} {bucket}",
        f"model {model}",
    )
    if workflow is None:
        return keys
    return (f"stage {workflow.workflow}/{workflow.stage}", *keys)
