"""A workload file: [[stream]] and [[workflow]] blocks, and the [sla.NAME] classes that they name.

The rule: a block that means nothing, or two things, is refused here with its place, so that drawing
calls from it cannot fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from fmedge.config.blocks import blocks, own_classes, read_sections
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
from fmedge.config.tasks import TaskConfig, task
from fmedge.config.values import convert, typed
from fmedge.errors import ConfigError
from fmedge.types import Promise

Number = Annotated[int, Meta(ge=1, le=1_000_000)]

_SECTIONS = ("stream", "workflow", "sla")


class Prefixes(Struct, frozen=True, kw_only=True):
    """Prompts that begin alike, as those with one system prompt do. tokens: of each such
    beginning, on top of the prompt's own. share: of the requests that have one. number: how many
    there are; zipf: the k-th of them comes in proportion to k ** -zipf."""

    tokens: Size
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    number: Number = 1
    zipf: Annotated[float, Meta(ge=0, le=10)] = 1.0


class StreamConfig(Struct, frozen=True, kw_only=True):
    """One [[stream]] of requests that are drawn. turns: calls of a conversation, each of which
    carries on the one before it; think_s: before each but the first. max_tokens 0: the client says
    nothing. requests: so many conversations at most, None all."""

    where: str
    arrivals: Arrivals
    prompt_tokens: Quantiles
    output_tokens: Quantiles
    sender: Sender = Sender()
    requests: int | None = None
    max_tokens: int = 0
    prefix: Prefixes | None = None
    turns: Quantiles | None = None
    think_s: Quantiles | None = None


class TraceConfig(Struct, frozen=True, kw_only=True):
    """One [[stream]] that was recorded in the file `trace`: `requests` of it (None all) after the
    first `skip`, at its own rate unless rate_per_s says another, from start_s
    on, for duration_s seconds. sender: None leaves what the recording says."""

    where: str
    trace: str
    skip: int = 0
    requests: int | None = None
    rate_per_s: float | None = None
    start_s: float = 0.0
    duration_s: float = inf
    sender: Sender | None = None


class WorkloadConfig(Struct, frozen=True, kw_only=True):
    """A whole workload file."""

    path: str
    streams: tuple[StreamConfig | TraceConfig, ...]
    tasks: tuple[TaskConfig, ...]


_OF_TRACE: dict[str, Any] = {
    "trace": Text,
    "skip": Annotated[int, Meta(ge=0, le=1 << 31)],
    "requests": Number,
    **{key: ARRIVAL_KEYS[key] for key in ("rate_per_s", "start_s", "duration_s")},
}
_DRAWN: dict[str, Any] = {
    **ARRIVAL_KEYS,
    "requests": Number,
    "prompt_tokens": Any,
    "output_tokens": Any,
    "max_tokens": Size,
    "prefix": dict[str, Any],
    "turns": Any,
    "think_s": Any,
}
_SPREADS = {
    "prompt_tokens": "TOKENS",
    "output_tokens": "TOKENS",
    "turns": "CALLS",
    "think_s": "SECONDS",
}
_PREFIXES = dict.fromkeys(Prefixes.__struct_fields__, Any)


def load_workload_file(
    file: str | Path, known_classes: Mapping[str, Promise] | None = None
) -> WorkloadConfig:
    """What `file` describes. known_classes: the server's, by name; the file's own come before
    them. ConfigError names file, block and key."""
    path = Path(expanduser(file))
    table = read_sections(path, "workload file", _SECTIONS)
    own = own_classes(table, path)
    promises = {**(known_classes or {}), **{name: sla.promise(name) for name, sla in own.items()}}
    streams = tuple(
        _trace(block, f"{path}: [[stream]] number {number}", path, promises)
        if "trace" in block
        else stream(block, f"{path}: [[stream]] number {number}", promises)
        for number, block in enumerate(blocks(table, "stream", path), 1)
    )
    tasks = tuple(
        task(block, f"{path}: [[workflow]] number {number}", promises)
        for number, block in enumerate(blocks(table, "workflow", path), 1)
    )
    if not streams and not tasks:
        raise ConfigError(
            f"{path}: describes no request: write a [[stream]] or a [[workflow]] for each kind"
        )
    names = [found.settings.name for found in tasks]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: two [[workflow]] blocks are called {name!r}: rename one")
    return WorkloadConfig(path=str(path), streams=streams, tasks=tasks)


def stream(block: Mapping[str, Any], where: str, promises: Mapping[str, Promise]) -> StreamConfig:
    """Requests that are drawn; promises: the classes that `sla` may name. ConfigError with its
    place."""
    values = typed(block, {**SENDER_KEYS, **_DRAWN}, where, MEANT)
    for key in ("prompt_tokens", "output_tokens"):
        if key not in values:
            raise ConfigError(f"{where}: needs {key}, such as {{ p50 = 512, p95 = 2048 }}")
    if "think_s" in values and "turns" not in values:
        raise ConfigError(
            f"{where}: think_s without turns: there is no second turn to think before"
        )
    spreads = {
        key: spread(values[key], f"{where}: {key}", unit)
        for key, unit in _SPREADS.items()
        if key in values
    }
    return StreamConfig(
        where=where,
        arrivals=arrivals(values, where),
        sender=sender(values, where, promises),
        requests=values.get("requests"),
        max_tokens=values.get("max_tokens", 0),
        prefix=_prefixes(values["prefix"], f"{where}: prefix") if "prefix" in values else None,
        **spreads,
    )


def _prefixes(table: dict[str, Any], where: str) -> Prefixes:
    typed(table, _PREFIXES, where, {})
    if "tokens" not in table:
        raise ConfigError(f"{where}: needs tokens = how many each is")
    found: Prefixes = convert(table, Prefixes, where)
    return found


def _trace(
    block: Mapping[str, Any], where: str, path: Path, promises: Mapping[str, Promise]
) -> TraceConfig:
    for key in block:
        if key in _DRAWN and key not in _OF_TRACE:
            raise ConfigError(f"{where}: {key} beside trace, which has its own: drop one of them")
    values = typed(block, {**SENDER_KEYS, **_OF_TRACE}, where, MEANT)
    made = {key: values[key] for key in _OF_TRACE if key in values}
    made["trace"] = str(path.parent / expanduser(values["trace"]))
    is_sent = any(key in values for key in SENDER_KEYS)
    return TraceConfig(
        where=where, sender=sender(values, where, promises) if is_sent else None, **made
    )
