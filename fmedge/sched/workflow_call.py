"""What passes between a workflow's calls and those who keep its instances; why a call may not fit.

The rule: whatever is wrong with a call is a WorkflowError, whose text is for the caller.
"""

from __future__ import annotations

from math import nan
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.types import FinishReason

EndedBy = Literal["last", "idle", "evicted"]


class WorkflowError(ValueError):
    """A call does not fit; the message says why and what to do. code: for machines."""

    code = "invalid_workflow_call"


class UnknownWorkflowError(WorkflowError):
    """No workflow of that name is configured."""

    code = "unknown_workflow"


class InstanceOwnedError(WorkflowError):
    """The instance was begun with another API key."""

    code = "workflow_instance_owned"


class TooManyInstancesError(WorkflowError):
    """All instances that may be open at once have calls in flight."""

    code = "too_many_workflow_instances"


class CallContext(Struct, frozen=True, kw_only=True):
    """What a call's instance means for it.

    deadline_s: of the whole instance, on the clock of now_s; inf without one. rest: what remains
    after this call (l_r), float32[NUM_SCENARIOS] seconds, ascending, equally likely; zeros for a
    call that says it is the last, and while nothing is known. num_learned: how many past calls it
    rests on.
    """

    workflow: str
    instance: str
    stage: str
    visit: int
    began_s: float
    deadline_s: float
    rest: NDArray[np.float32]
    num_learned: int


class CallObserved(Struct, frozen=True, kw_only=True):
    """What a call took, in seconds and tokens. num_prompt counts the cached ones too.

    prefill_s: the part of l_x_s that went into the prompt, nan where that is not known: then there
    is no advice on prompts and outputs.
    """

    l_q_s: float
    l_x_s: float
    e2e_s: float
    num_prompt: int
    num_cached: int
    num_output: int
    finish: FinishReason
    prefill_s: float = nan


class InstanceOutcome(Struct, frozen=True, kw_only=True):
    """An instance that is over. held: whether its deadline was met, None without one.
    ended_by: "last" its own word, "idle" nothing came for idle_s, "evicted" others needed room."""

    workflow: str
    instance: str
    api_key_id: str
    num_calls: int
    e2e_s: float
    promise_s: float
    held: bool | None
    ended_by: EndedBy
