"""What the front learns of finished requests and tells the scheduler of new ones: how long outputs
become, and what remains of workflows. Nothing here decides."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

from fmedge.dispatch.generation import Generation
from fmedge.errors import ConflictError, RequestError, UnavailableError
from fmedge.sched.events import Arrival
from fmedge.sched.lengths import LengthPredictor
from fmedge.sched.workflow_call import (
    CallContext,
    CallObserved,
    InstanceOwnedError,
    TooManyInstancesError,
    WorkflowError,
)
from fmedge.sched.workflow_report import WorkflowReport
from fmedge.sched.workflows import Workflows
from fmedge.types import GenerationRequest, Promise, WorkflowSettings

LENGTHS, WORKFLOWS = LEARNED = ("lengths", "workflows")
"""Names of the state that outlives the server."""


class Forecast:
    """One server's knowledge. Times are time.monotonic()'s."""

    def __init__(self, workflows: Mapping[str, WorkflowSettings]) -> None:
        self._lengths = LengthPredictor()
        self._settings = dict(workflows)
        self._workflows = Workflows(self._settings)

    def set_workflows(self, workflows: Mapping[str, WorkflowSettings]) -> None:
        """Other promises from now on; what was learned stays."""
        self._settings = dict(workflows)
        self._workflows.configure(self._settings)

    def begin(
        self, now_s: float, request_id: int, request: GenerationRequest
    ) -> CallContext | None:
        """Count a call of a workflow in. RequestError for one that is not (ConflictError: not the
        caller's), UnavailableError when no more instances can be open."""
        if request.workflow is None:
            return None
        try:
            return self._workflows.begin(now_s, request_id, request.workflow, request.api_key_id)
        except InstanceOwnedError as error:
            raise ConflictError(str(error), param="x-fmedge-workflow-id", code=error.code) from None
        except TooManyInstancesError as error:
            raise UnavailableError(
                str(error), retry_after_s=5.0, code=error.code, is_overload=True
            ) from None
        except WorkflowError as error:
            raise RequestError(str(error), param="x-fmedge-workflow", code=error.code) from None

    def abandon(self, now_s: float, request_id: int) -> None:
        """A call that `begin` counted was refused, cancelled or failed. Others are ignored."""
        self._workflows.abandon(now_s, request_id)

    def arrival(
        self,
        request_id: int,
        request: GenerationRequest,
        max_tokens: int,
        context: CallContext | None,
    ) -> Arrival:
        """The request as the scheduler sees it, with what is known of its length and its rest."""
        # Only tokens that must come are known: min_tokens matters where it reaches max_tokens.
        min_tokens = min(request.min_tokens, max_tokens)
        if request.ignore_eos and not request.stop_token_ids and request.grammar is None:
            min_tokens = max_tokens
        promise = request.promise
        if context is not None:
            promise = self._promise(promise, request)
        return Arrival(
            request_id=request_id,
            model=request.model,
            num_prompt_tokens=len(request.prompt) // 4,
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            priority=request.priority,
            promise=promise,
            api_key_id=request.api_key_id,
            lengths=self._lengths.predict(_keys(request), max(1, min_tokens), max_tokens),
            prompt=request.prompt if request.cache_prompt else b"",
            cache_key=request.cache_key,
            cache_prompt=request.cache_prompt,
            workflow=request.workflow,
            e2e_due_s=None if context is None else context.deadline_s,
            rest=None if context is None else context.rest,
        )

    def finished(self, now_s: float, generation: Generation, *, is_censored: bool) -> None:
        """A request ended by itself, or (is_censored) at a limit of its own."""
        request, timings = generation.request, generation.timings
        if not request.ignore_eos:
            self._lengths.observe(_keys(request), generation.num_tokens, is_censored)
        if request.workflow is None:
            return
        e2e_s = now_s - generation.arrived_s
        queue_s = 0.0
        if timings is not None:
            queue_s = generation.assigned_s - generation.arrived_s + timings.queue_s
        queue_s = min(max(queue_s, 0.0), e2e_s)
        self._workflows.end(
            now_s,
            generation.request_id,
            CallObserved(
                l_q_s=queue_s,
                l_x_s=e2e_s - queue_s,
                e2e_s=e2e_s,
                prefill_s=nan if timings is None else timings.prefill_s,
                num_prompt=len(request.prompt) // 4,
                num_cached=generation.num_cached_tokens,
                num_output=generation.num_tokens,
                finish="length" if is_censored else "stop",
            ),
        )

    def tick(self, now_s: float) -> None:
        """Instances that have been idle for long are over."""
        self._workflows.tick(now_s)

    def report(self, now_s: float, name: str | None) -> list[WorkflowReport]:
        """On one workflow, or on all. RequestError for an unknown one."""
        self._workflows.tick(now_s)
        try:
            return self._workflows.report(name)
        except WorkflowError as error:
            raise RequestError(str(error), param="name", code=error.code) from None

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

    def _promise(self, promise: Promise, request: GenerationRequest) -> Promise:
        """A call's own promise; its workflow says what to do when it cannot be kept."""
        assert request.workflow is not None
        settings = self._settings[request.workflow.workflow]
        return Promise(
            sla_class=promise.sla_class or settings.name,
            ttft_s=promise.ttft_s,
            tpot_s=promise.tpot_s,
            e2e_s=promise.e2e_s,
            target=settings.target,
            on_miss=settings.on_miss,
            weight=settings.weight,
        )


def _keys(request: GenerationRequest) -> tuple[str, ...]:
    return request.length_keys or (request.model,)
