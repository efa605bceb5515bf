"""[[workflow]] blocks of a workload file: tasks of several calls, stage by stage.

The rule: a stage waits for stages above it alone, so that no task can wait for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fmedge.config.demand import Quantiles
from fmedge.config.drawn import (
    ARRIVAL_KEYS,
    MEANT,
    SENDER_KEYS,
    Arrivals,
    Sender,
    Size,
    Text,
    arrivals,
    sender,
    spread,
)
from fmedge.config.promises import WorkflowConfig, check_name, check_workflow
from fmedge.config.values import convert, one_of, typed
from fmedge.errors import ConfigError
from fmedge.types import Promise, WorkflowSettings

MAX_CALLS = 256
"""Of one stage."""

Calls = Annotated[int, Meta(ge=1, le=MAX_CALLS)]

_PROMISE_KEYS = {field.name: field.type for field in msgspec.structs.fields(WorkflowConfig)}
_KEYS: dict[str, Any] = {
    "name": Text,
    "stage": Any,
    "prefix_tokens": Size,
    "context_tokens": Any,
    "requests": Annotated[int, Meta(ge=1, le=1_000_000)],
    **SENDER_KEYS,
    **ARRIVAL_KEYS,
    **_PROMISE_KEYS,
}
_STAGE_KEYS: dict[str, Any] = {
    "name": Text,
    "after": tuple[Text, ...],
    "calls": Any,
    "share": Annotated[float, Meta(gt=0, le=1)],
    "prompt_tokens": Any,
    "output_tokens": Any,
    "tool_s": Any,
    "max_tokens": Size,
}


class StageConfig(Struct, frozen=True, kw_only=True):
    """One [[workflow.stage]]. after: stages that it waits for, the one above it unless told; ()
    begins with the task. calls: so many at once, drawn evenly between the two. share: of the tasks
    that have it; what waits for it in others waits for what it would have waited for. tool_s: from
    the end of what it waits for to its calls."""

    name: str
    after: tuple[str, ...]
    prompt_tokens: Quantiles
    output_tokens: Quantiles
    calls: tuple[int, int] = (1, 1)
    share: float = 1.0
    tool_s: Quantiles | None = None
    max_tokens: int = 0


class TaskConfig(Struct, frozen=True, kw_only=True):
    """One [[workflow]]. arrivals: of its tasks. Each call's prompt begins with prefix_tokens that
    all tasks share and context_tokens that its own task's calls share; the stage's prompt tokens
    come on top. requests: so many tasks at most, None all."""

    where: str
    settings: WorkflowSettings
    arrivals: Arrivals
    stages: tuple[StageConfig, ...]
    sender: Sender = Sender()
    prefix_tokens: int = 0
    context_tokens: Quantiles | None = None
    requests: int | None = None


def task(block: Mapping[str, Any], where: str, promises: Mapping[str, Promise]) -> TaskConfig:
    """promises: the classes that `sla` may name. ConfigError with its place."""
    values = typed(block, _KEYS, where, MEANT)
    if "name" not in values:
        raise ConfigError(f'{where}: needs name = "NAME"')
    check_name(values["name"], f"{where}: name")
    promise = {key: values[key] for key in _PROMISE_KEYS if key in values}
    workflow = WorkflowConfig(**promise)
    check_workflow(workflow, promise, where)
    context = values.get("context_tokens")
    return TaskConfig(
        where=where,
        settings=workflow.settings(values["name"]),
        arrivals=arrivals(values, where),
        stages=_stages(block, where),
        sender=sender(values, where, promises),
        prefix_tokens=values.get("prefix_tokens", 0),
        context_tokens=None if context is None else spread(context, f"{where}: context_tokens"),
        requests=values.get("requests"),
    )


def _stages(block: Mapping[str, Any], where: str) -> tuple[StageConfig, ...]:
    found = block.get("stage")
    if not found:
        raise ConfigError(f"{where}: has no stage: write a [[workflow.stage]] for each")
    if not isinstance(found, list) or not all(isinstance(stage, dict) for stage in found):
        raise ConfigError(
            f"{where}: stages are a list of tables: write [[workflow.stage]] for each"
        )
    stages: dict[str, StageConfig] = {}
    for number, values in enumerate(found, 1):
        stage = _stage(values, f"{where}: [[workflow.stage]] number {number}", list(stages))
        if stage.name in stages:
            raise ConfigError(f"{where}: two stages are called {stage.name!r}: rename one")
        stages[stage.name] = stage
    return tuple(stages.values())


def _stage(block: Mapping[str, Any], where: str, above: list[str]) -> StageConfig:
    values = typed(block, _STAGE_KEYS, where, MEANT)
    for key in ("name", "prompt_tokens", "output_tokens"):
        if key not in values:
            raise ConfigError(f"{where}: needs {key}")
    after = values.get("after", tuple(above[-1:]))
    for name in after:
        if name not in above:
            hint = one_of(name, above) if above else ""
            raise ConfigError(f"{where}: after: no stage above it is called {name!r}{hint}")
    tool = values.get("tool_s", 0)
    if tool != 0 and not after:
        raise ConfigError(
            f"{where}: tool_s of a stage that waits for none: it begins with the task"
        )
    return StageConfig(
        name=values["name"],
        after=tuple(dict.fromkeys(after)),
        prompt_tokens=spread(values["prompt_tokens"], f"{where}: prompt_tokens"),
        output_tokens=spread(values["output_tokens"], f"{where}: output_tokens"),
        calls=_calls(values.get("calls", 1), f"{where}: calls"),
        share=values.get("share", 1.0),
        tool_s=None if tool == 0 else spread(tool, f"{where}: tool_s", "SECONDS"),
        max_tokens=values.get("max_tokens", 0),
    )


def _calls(value: Any, where: str) -> tuple[int, int]:
    if isinstance(value, list):
        least, most = convert(value, tuple[Calls, Calls], where)
        if most < least:
            raise ConfigError(f"{where}: expected [LEAST, MOST], got {value!r}")
        return least, most
    number = convert(value, Calls, where)
    return number, number
