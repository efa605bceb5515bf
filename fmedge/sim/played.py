"""One call while it is played: what the front holds of a request, in virtual time.

The rule: it follows dispatch's Generation. Lengths and prompts are the workload's; what a call
gives is nobody else's.
"""

from __future__ import annotations

from math import nan

import numpy as np

from fmedge.sched.forecast import Ended, length_keys
from fmedge.sim.outcome import Row, Status
from fmedge.sim.workload import Call
from fmedge.types import WorkflowCall


class Played:
    """Times are the world's clock's. num_given: tokens that it will give in all. is_cut: max_tokens
    ends it, not the model. num_emitted: given when it was last taken off a replica."""

    __slots__ = (
        "arrived_s",
        "assigned_s",
        "call",
        "first_s",
        "index",
        "is_cut",
        "keys",
        "max_tokens",
        "num_cached",
        "num_emitted",
        "num_given",
        "num_submits",
        "prompt",
        "replica",
        "workflow",
    )

    def __init__(self, index: int, call: Call, model: str, room: int, now_s: float) -> None:
        """room: tokens that the context leaves behind its prompt."""
        self.index = index
        self.call = call
        self.arrived_s = now_s
        self.assigned_s = nan
        self.first_s = nan
        self.max_tokens = min(call.max_tokens or room, room)
        self.num_given = min(call.num_output, self.max_tokens)
        self.is_cut = call.num_output >= self.max_tokens
        self.num_emitted = 0
        self.num_cached = 0
        self.num_submits = 0
        self.replica = ""
        self.prompt = b""
        self.workflow: WorkflowCall | None = None
        if call.workflow:
            self.workflow = WorkflowCall(
                workflow=call.workflow,
                instance=call.instance,
                stage=call.stage,
                is_last=call.is_last,
            )
        self.keys = length_keys(
            model,
            call.num_prompt,
            api_key_id=call.api_key,
            form=call.kind,
            workflow=self.workflow,
        )

    def output(self) -> bytes:
        """What it gave, packed int32: tokens that are in no prompt."""
        return np.full(self.num_given, -1 - self.index, dtype="<i4").tobytes()

    def ended(self, queue_s: float, prefill_s: float) -> Ended:
        """For what is learned of it. The times are those of the replica that finished it."""
        return Ended(
            keys=self.keys,
            num_output=self.num_given,
            is_censored=self.is_cut,
            arrived_s=self.arrived_s,
            assigned_s=self.assigned_s,
            num_prompt=self.call.num_prompt,
            num_cached=self.num_cached,
            queue_s=queue_s,
            prefill_s=prefill_s,
            workflow=self.workflow,
        )

    def row(self, now_s: float, status: Status, replica: str = "") -> Row:
        """num_tokens is 0 of what came to no end."""
        is_ok = status == "ok"
        return Row(
            call=self.index,
            at_s=self.arrived_s,
            status=status,
            ttft_s=self.first_s - self.arrived_s,
            e2e_s=now_s - self.arrived_s if is_ok else nan,
            num_tokens=self.num_given if is_ok else 0,
            num_cached=self.num_cached,
            replica=replica,
        )
