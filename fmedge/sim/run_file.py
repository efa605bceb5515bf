"""Runs as files: one JSON object each.

The rule: what is written is read again as it was, and a file is whole or not there. JSON has no
infinity and nothing that is not a number: both are null there, and what a null means is its
place's.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from math import inf, nan
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from fmedge.errors import ConfigError
from fmedge.sim.infinity import with_infinities, with_nulls
from fmedge.sim.outcome import Row, Status
from fmedge.sim.run import Kind, Run, SourceFile
from fmedge.sim.summary import Summary
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise, WorkflowSettings

FORMAT = 1


class _Promise(Struct, frozen=True, kw_only=True):
    sla_class: str
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    target: float
    on_miss: Literal["refuse", "best_effort"]
    weight: float


class _Workflow(Struct, frozen=True, kw_only=True):
    name: str
    e2e_s: float | None
    target: float
    on_miss: Literal["refuse", "best_effort"]
    weight: float
    idle_s: float


class _Call(Struct, frozen=True, array_like=True):
    """promise: its place among the written promises."""

    at_s: float
    num_prompt: int
    num_output: int
    max_tokens: int
    promise: int
    model: str
    api_key: str
    priority: int
    kind: str
    workflow: str
    instance: str
    stage: str
    after: tuple[int, ...]
    is_last: bool


class _Row(Struct, frozen=True, array_like=True):
    call: int
    at_s: float | None
    status: Status
    ttft_s: float | None
    e2e_s: float | None
    num_tokens: int
    num_cached: int
    replica: str


class _Written(Struct, frozen=True, kw_only=True):
    format: int
    kind: Kind
    label: str
    fmedge: str
    machine: dict[str, str | int]
    started_at: str
    options: dict[str, Any]
    target: str
    policy: str
    cluster: str
    seed: int
    ended: str
    notes: tuple[str, ...] = ()
    summary: Summary
    asked: str
    source: str
    window: tuple[float, float | None] | None
    busy_s: dict[str, float] | None
    replica_s: dict[str, float] | None
    files: tuple[SourceFile, ...]
    block_tokens: int
    workflows: dict[str, _Workflow]
    promises: tuple[_Promise, ...]
    calls: tuple[_Call, ...]
    rows: tuple[_Row, ...]


class _Head(Struct):
    format: int = 0


_SAME = ("kind", "label", "fmedge", "machine", "started_at", "options", "target", "policy",
         "cluster", "seed", "ended", "notes", "summary", "asked", "busy_s", "replica_s",
         "files")  # fmt: skip
_OF_CALL = ("model", "api_key", "priority", "kind", "workflow", "instance", "stage", "after",
            "is_last")  # fmt: skip


def run_json(run: Run) -> bytes:
    """One JSON object; `read_run` reads it."""
    promises = list(dict.fromkeys(call.promise for call in run.workload.calls))
    place = {promise: n for n, promise in enumerate(promises)}
    window = run.window
    made = _Written(
        format=FORMAT,
        source=run.workload.source,
        window=None if window is None else (window[0], _finite(window[1])),
        block_tokens=run.workload.block_tokens,
        workflows={
            name: _Workflow(**with_nulls(workflow))
            for name, workflow in run.workload.workflows.items()
        },
        promises=tuple(_Promise(**with_nulls(promise)) for promise in promises),
        calls=tuple(
            _Call(
                call.at_s, call.num_prompt, call.num_output, call.max_tokens, place[call.promise],
                *(getattr(call, field) for field in _OF_CALL),
            )
            for call in run.workload.calls
        ),
        rows=tuple(
            _Row(
                row.call, _finite(row.at_s), row.status, _finite(row.ttft_s), _finite(row.e2e_s),
                row.num_tokens, row.num_cached, row.replica,
            )
            for row in run.rows
        ),
        **{field: getattr(run, field) for field in _SAME},
    )  # fmt: skip
    return msgspec.json.encode(made, enc_hook=_plain)


def parse_run(content: bytes, name: str) -> Run:
    """ConfigError, which begins with `name`, for what is no run or one of another format."""
    try:
        head = msgspec.json.decode(content, type=_Head)
        if head.format != FORMAT:
            was = f"of format {head.format}" if head.format else "no run of fmedge bench"
            raise ConfigError(f"{name}: {was}; this fmedge reads format {FORMAT}")
        read = msgspec.json.decode(content, type=_Written)
        return _held(read)
    except (msgspec.DecodeError, IndexError) as error:
        raise ConfigError(f"{name}: no run of fmedge bench or simulate: {error}") from error


def _held(written: _Written) -> Run:
    promises = [Promise(**with_infinities(promise)) for promise in written.promises]
    window = written.window
    workload = Workload(
        source=written.source,
        block_tokens=written.block_tokens,
        workflows={
            name: WorkflowSettings(**with_infinities(workflow))
            for name, workflow in written.workflows.items()
        },
        calls=tuple(
            Call(
                at_s=call.at_s,
                num_prompt=call.num_prompt,
                num_output=call.num_output,
                max_tokens=call.max_tokens,
                promise=promises[call.promise],
                **{field: getattr(call, field) for field in _OF_CALL},
            )
            for call in written.calls
        ),
    )
    return Run(
        workload=workload,
        rows=tuple(
            Row(
                call=row.call, at_s=_number(row.at_s), status=row.status,
                ttft_s=_number(row.ttft_s), e2e_s=_number(row.e2e_s), num_tokens=row.num_tokens,
                num_cached=row.num_cached, replica=row.replica,
            )
            for row in written.rows
        ),
        window=None if window is None else (window[0], inf if window[1] is None else window[1]),
        **{field: getattr(written, field) for field in _SAME},
    )  # fmt: skip


def _plain(value: object) -> object:
    """Of numpy's numbers, which a simulation's figures may be."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} in a run")


def _finite(value: float) -> float | None:
    return value if -inf < value < inf else None


def _number(value: float | None) -> float:
    return nan if value is None else value


def read_run(path: str | Path) -> Run:
    """ConfigError for what is no run; OSError for what cannot be read."""
    return parse_run(Path(path).read_bytes(), str(path))


def write_run(run: Run, path: str | Path) -> None:
    """Whole or not at all."""
    write_whole(run_json(run) + b"\n", path)


def write_whole(content: bytes, path: str | Path) -> None:
    """Writes a file whole or not at all."""
    target = Path(path)
    fd, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.absolute().parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        os.chmod(beside, 0o644)
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
