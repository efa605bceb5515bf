"""The forecast (sched/forecast.py) in the terms of requests and generations, its complaints as the
errors that clients get. Nothing here decides."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

from fmedge.dispatch.generation import Generation
from fmedge.errors import ConflictError, RequestError, UnavailableError
from fmedge.sched.events import Arrival
from fmedge.sched.forecast import LEARNED, Ended, Forecaster
from fmedge.sched.workflow_call import (
    CallContext,
    InstanceOwnedError,
    TooManyInstancesError,
    WorkflowError,
)
from fmedge.sched.workflow_report import WorkflowReport
from fmedge.types import GenerationRequest, WorkflowSettings

__all__ = ["LEARNED", "Forecast"]


class Forecast:
    """One server's knowledge. Times are time.monotonic()'s."""

    def __init__(self, workflows: Mapping[str, WorkflowSettings]) -> None:
        self._forecaster = Forecaster(workflows)
        self.set_workflows = self._forecaster.set_workflows
        self.abandon = self._forecaster.abandon
        self.tick = self._forecaster.tick
        self.save = self._forecaster.save
        self.restore = self._forecaster.restore

    def begin(
        self, now_s: float, request_id: int, request: GenerationRequest
    ) -> CallContext | None:
        """Count a call of a workflow in. RequestError for one that is not (ConflictError: not the
        caller's), UnavailableError when no more instances can be open."""
        try:
            return self._forecaster.begin(now_s, request_id, request.workflow, request.api_key_id)
        except InstanceOwnedError as error:
            raise ConflictError(str(error), param="x-fmedge-workflow-id", code=error.code) from None
        except TooManyInstancesError as error:
            raise UnavailableError(
                str(error), retry_after_s=5.0, code=error.code, is_overload=True
            ) from None
        except WorkflowError as error:
            raise RequestError(str(error), param="x-fmedge-workflow", code=error.code) from None

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
        arrival = Arrival(
            request_id=request_id,
            model=request.model,
            num_prompt_tokens=len(request.prompt) // 4,
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            priority=request.priority,
            promise=request.promise,
            api_key_id=request.api_key_id,
            prompt=request.prompt if request.cache_prompt else b"",
            cache_key=request.cache_key,
            cache_prompt=request.cache_prompt,
            workflow=request.workflow,
        )
        return self._forecaster.foretell(arrival, _keys(request), context)

    def finished(self, now_s: float, generation: Generation, *, is_censored: bool) -> None:
        """A request ended by itself, or (is_censored) at a limit of its own."""
        request, timings = generation.request, generation.timings
        self._forecaster.finished(
            now_s,
            generation.request_id,
            Ended(
                keys=_keys(request),
                num_output=generation.num_tokens,
                is_censored=is_censored,
                is_forced=request.ignore_eos,
                arrived_s=generation.arrived_s,
                assigned_s=generation.assigned_s,
                num_prompt=len(request.prompt) // 4,
                num_cached=generation.num_cached_tokens,
                queue_s=nan if timings is None else timings.queue_s,
                prefill_s=nan if timings is None else timings.prefill_s,
                workflow=request.workflow,
            ),
        )

    def report(self, now_s: float, name: str | None) -> list[WorkflowReport]:
        """On one workflow, or on all. RequestError for an unknown one."""
        try:
            return self._forecaster.report(now_s, name)
        except WorkflowError as error:
            raise RequestError(str(error), param="name", code=error.code) from None


def _keys(request: GenerationRequest) -> tuple[str, ...]:
    return request.length_keys or (request.model,)
