"""A log of what a server was asked for, without texts: `fmedge serve --record` writes it, a
workload is read from it.

The rule: a call of a task waits, when it is played again, for those of its task that had ended when
it came; anything else arrives when it did.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fmedge.config.demand import MAX_TOKENS
from fmedge.errors import ConfigError
from fmedge.sim.infinity import with_infinities
from fmedge.sim.lines import bad_json, lines
from fmedge.sim.parts import MAX_CALLS, Part, Task
from fmedge.sim.workload import Call
from fmedge.types import BEST_EFFORT, Promise, WorkflowSettings

FORMAT = 1
BLOCK_TOKENS = 64
HASH_CHARS = 8
"""Of a prompt's block in `Logged.blocks`: 48 bits in URL-safe base 64."""

ANSWERED = ("stop", "length")

Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
Seconds = Annotated[float, Meta(ge=0, le=1e10)]
OnMiss = Literal["refuse", "best_effort"]
Limit = Annotated[float, Meta(gt=0)] | None


class Workflow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """WorkflowSettings, whose inf JSON has no word for."""

    e2e_s: Limit = None
    target: float = 0.9
    on_miss: OnMiss = "best_effort"
    weight: float = 1.0
    idle_s: float = 300.0


class Header(Struct, frozen=True, kw_only=True):
    """The first line of each server's run: its format, and what it promises of workflows."""

    fmedge_log: int
    version: str
    started_unix_s: float
    block_tokens: int = BLOCK_TOKENS
    workflows: dict[str, Workflow] = {}


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A Promise, whose inf JSON has no word for."""

    sla_class: str = ""
    ttft_s: Limit = None
    tpot_s: Limit = None
    e2e_s: Limit = None
    target: float = 0.9
    on_miss: OnMiss = "best_effort"
    weight: float = 1.0


class Logged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. at_unix_s: when it came; ttft_s, e2e_s: from then, None where it never came
    to that. outcome: "stop", "length", "cancelled", or the code of the error that it was answered
    with. api_key: a hash that says which requests are of one key in this run of the server. blocks:
    HASH_CHARS for each whole block of BLOCK_TOKENS tokens of the prompt, equal where the prompt is
    up to there."""

    at_unix_s: Seconds
    outcome: str
    model: str
    num_prompt: Tokens
    num_output: Tokens = 0
    num_cached: Tokens = 0
    max_tokens: Tokens = 0
    ttft_s: Seconds | None = None
    e2e_s: Seconds | None = None
    replica: str = ""
    kind: str = ""
    sla: Terms | None = None
    api_key: str = ""
    priority: int = 0
    workflow: str = ""
    instance: str = ""
    stage: str = ""
    is_last: bool = False
    blocks: str = ""


def is_recorded(first: bytes) -> bool:
    """Whether a file with this first line is such a log."""
    try:
        return "fmedge_log" in msgspec.json.decode(first)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return False


def recorded(path: Path) -> Part:
    """ConfigError with the line of what is none of its format. A last line without an end, as a
    crash leaves it, does not count."""
    headers, found = _read(path)
    logged = sorted(found, key=lambda one: one.at_unix_s)
    workflows = {
        name: _settings(name, workflow)
        for header in headers
        for name, workflow in header.workflows.items()
    }
    for one in logged:
        if one.workflow:
            workflows.setdefault(one.workflow, WorkflowSettings(name=one.workflow))
    return Part(
        tasks=iter(_tasks(logged)),
        block_tokens=BLOCK_TOKENS,
        workflows=workflows,
    )


def _read(path: Path) -> tuple[list[Header], list[Logged]]:
    headers: list[Header] = []
    found: list[Logged] = []
    header, request = msgspec.json.Decoder(Header), msgspec.json.Decoder(Logged)
    for number, line in lines(path):
        if not line.endswith(b"\n"):
            break
        try:
            if not headers or line.startswith(b'{"fmedge_log"'):
                headers.append(header.decode(line))
            else:
                found.append(request.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise bad_json(path, number, error) from error
        if headers[-1].fmedge_log != FORMAT or headers[-1].block_tokens != BLOCK_TOKENS:
            raise ConfigError(f"{path}: line {number}: another version of fmedge wrote it")
        if len(found) > MAX_CALLS:
            raise ConfigError(f"{path}: line {number}: more than {MAX_CALLS} requests")
    return headers, found


def _tasks(logged: list[Logged]) -> list[Task]:
    """By the time of their first calls."""
    first_s = logged[0].at_unix_s if logged else 0.0
    ids: dict[str, int] = {}
    tasks: dict[object, list[tuple[Logged, Call]]] = {}
    for number, one in enumerate(_completed(logged)):
        of_task = (one.api_key, one.workflow, one.instance) if one.workflow else number
        call = _call(one, one.at_unix_s - first_s, ids)
        tasks.setdefault(of_task, []).append((one, call))
    return [_linked(task) if len(task) > 1 else [task[0][1]] for task in tasks.values()]


def _completed(logged: list[Logged]) -> Iterator[Logged]:
    """Of a call that was refused or failed nobody knows what it would have given: what the answered
    call of its model before it gave, or the first after it. So with the prompt of one that was
    refused unread; it is left out where no call of its model was answered."""
    known: dict[str, Logged] = {}
    for one in reversed(logged):
        if one.outcome in ANSWERED:
            known[one.model] = one
    for one in logged:
        if one.outcome in ANSWERED:
            known[one.model] = one
        like = known.get(one.model)
        if one.num_prompt == 0:
            if like is None:
                continue
            one = msgspec.structs.replace(one, num_prompt=like.num_prompt)
        if one.outcome not in (*ANSWERED, "cancelled"):
            num_output = one.max_tokens if like is None else like.num_output
            num_output = min(num_output, one.max_tokens or num_output)
            one = msgspec.structs.replace(one, num_output=num_output)
        yield one


def _call(one: Logged, at_s: float, ids: dict[str, int]) -> Call:
    ends = range(HASH_CHARS, len(one.blocks) + 1, HASH_CHARS)
    blocks = tuple(ids.setdefault(one.blocks[end - HASH_CHARS : end], len(ids)) for end in ends)
    return Call(
        at_s=at_s,
        num_prompt=max(1, one.num_prompt),
        num_output=max(1, one.num_output),
        max_tokens=one.max_tokens,
        blocks=blocks,
        model=one.model,
        promise=BEST_EFFORT if one.sla is None else _promise(one.sla),
        api_key=one.api_key,
        priority=one.priority,
        kind=one.kind,
        workflow=one.workflow,
        instance=one.instance,
        stage=one.stage,
        is_last=one.is_last,
    )


def _linked(task: list[tuple[Logged, Call]]) -> Task:
    """What came after others had ended waits for the last of them."""
    running: list[tuple[float, int]] = []
    ended: dict[int, float] = {}  # those that nothing which has ended waited for
    calls: Task = []
    for number, (one, call) in enumerate(task):
        now_s = one.at_unix_s
        while running and running[0][0] <= now_s:
            end_s, other = heapq.heappop(running)
            for before in calls[other].after:
                ended.pop(before, None)
            ended[other] = end_s
        if ended:
            tool_s = now_s - max(ended.values())
            call = msgspec.structs.replace(call, at_s=tool_s, after=tuple(sorted(ended)))
        calls.append(call)
        if one.outcome in ANSWERED:
            heapq.heappush(running, (now_s + (one.e2e_s or 0.0), number))
    return calls


def _promise(terms: Terms) -> Promise:
    return Promise(**with_infinities(terms))


def _settings(name: str, workflow: Workflow) -> WorkflowSettings:
    return WorkflowSettings(name=name, **with_infinities(workflow))
