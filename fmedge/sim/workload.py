"""What is asked of a server, call by call: the same for the simulator and for `fmedge bench`.

The rule: a workload is complete. Lengths, prefixes, promises and what waits for what are in it, so
whoever plays it draws nothing.
"""

from __future__ import annotations

from msgspec import Struct

from fmedge.types import BEST_EFFORT, Promise, WorkflowSettings


class Call(Struct, frozen=True, kw_only=True):
    """One request.

    at_s: when it arrives, from the start; of a call that comes `after` others, seconds that pass
    between the last of their ends and its arrival (tool time). after: places in the workload of the
    calls that it waits for, all before its own; it is never sent if one of them failed.
    num_prompt, num_output: tokens; num_output is what it will give. max_tokens: what its client
    allows, 0 where it says nothing. blocks: ids of its prompt's leading blocks of
    `Workload.block_tokens` tokens each, the last perhaps cut off by the prompt's end; equal leading
    ids are an equal prefix. What the blocks do not cover of a prompt is its own. kind: what output
    lengths may be learned by.
    workflow, instance, stage: of the task that it is a call of, "" of none; is_last: the client
    says that the task ends with it.
    """

    at_s: float
    num_prompt: int
    num_output: int
    max_tokens: int = 0
    blocks: tuple[int, ...] = ()
    model: str = ""
    promise: Promise = BEST_EFFORT
    api_key: str = ""
    priority: int = 0
    kind: str = ""
    workflow: str = ""
    instance: str = ""
    stage: str = ""
    after: tuple[int, ...] = ()
    is_last: bool = False


class Workload(Struct, frozen=True, kw_only=True):
    """source: where it is from, with all that is needed to make it again. calls: those that arrive
    by themselves in order of at_s, each before those that wait for it. workflows: what is promised
    of tasks, by name."""

    source: str
    calls: tuple[Call, ...]
    workflows: dict[str, WorkflowSettings] = {}
    block_tokens: int = 0
