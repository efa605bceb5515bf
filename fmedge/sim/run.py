"""A run that was measured or simulated, as it is kept: what was asked, what became of it, and what
is needed to do it again.

The rule: a file stands for itself. Texts of prompts and API keys are not in it; the small files
that it was made from are, and of the large ones their SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fmedge import __version__
from fmedge.sim.outcome import Row
from fmedge.sim.summary import Summary, summarise
from fmedge.sim.workload import Workload

MAX_TEXT_BYTES = 256 << 10
"""Of a file that is kept whole."""

Kind = Literal["measured", "simulated"]


class SourceFile(Struct, frozen=True, kw_only=True):
    """A file that the run was made from; text: "" of one that is too large or no text."""

    path: str
    sha256: str
    text: str = ""


class Run(Struct, frozen=True, kw_only=True):
    """One run.

    label: what reports call it. target: URL of the server; "" of a simulation. policy: that of the
    simulation, or of the server where it is known. cluster: the cluster file, "" where there is
    none. options: what the command was told, without secrets. workload: its calls without their
    prefix blocks; API keys are hashed. asked: digest of what was asked and when, promises left out:
    runs of equal digest can be compared call by call. busy_s, replica_s: by replica, as
    `summarise` takes them. ended: "" or why the run is partial. notes: what a reader of the figures
    must know besides.
    """

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
    files: tuple[SourceFile, ...]
    asked: str
    workload: Workload
    rows: tuple[Row, ...]
    window: tuple[float, float] | None
    busy_s: dict[str, float] | None
    replica_s: dict[str, float] | None
    summary: Summary
    ended: str = ""
    notes: tuple[str, ...] = ()


def make_run(
    workload: Workload,
    rows: Iterable[Row],
    *,
    kind: Kind,
    label: str = "",
    options: Mapping[str, Any] | None = None,
    target: str = "",
    policy: str = "",
    cluster: str = "",
    seed: int = 0,
    paths: Sequence[str | Path] = (),
    started_at: str = "",
    window: tuple[float, float] | None = None,
    busy_s: Mapping[str, float] | None = None,
    replica_s: Mapping[str, float] | None = None,
    ended: str = "",
    notes: Iterable[str] = (),
) -> Run:
    """paths: files that it was made from (cluster, workload, trace); what is not there is left out,
    as specifications need not be files. started_at: ISO 8601, now where it is ""."""
    rows = tuple(rows)
    return Run(
        kind=kind,
        label=label or policy or target,
        fmedge=__version__,
        machine=this_machine(),
        started_at=started_at or now_text(),
        options=dict(options or {}),
        target=target,
        policy=policy,
        cluster=cluster,
        seed=seed,
        files=tuple(_source_file(Path(path)) for path in paths if os.path.isfile(path)),
        asked=digest(workload),
        workload=kept(workload),
        rows=rows,
        window=window,
        busy_s=None if busy_s is None else dict(busy_s),
        replica_s=None if replica_s is None else dict(replica_s),
        summary=summarise(workload, rows, busy_s=busy_s, replica_s=replica_s, window=window),
        ended=ended,
        notes=tuple(notes),
    )


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def this_machine() -> dict[str, str | int]:
    """What it ran on: processor, processors that this process may use, memory, system, Python."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return {
        "cpu": name,
        "num_cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def digest(workload: Workload) -> str:
    """Of arrivals, lengths, prefixes and order: 16 hexadecimal digits."""
    hashed = hashlib.sha256(b"%d" % workload.block_tokens)
    for call in workload.calls:
        hashed.update(
            repr((
                call.at_s, call.num_prompt, call.num_output, call.max_tokens, call.blocks,
                call.after,
            )).encode()
        )  # fmt: skip
    return hashed.hexdigest()[:16]


def kept(workload: Workload) -> Workload:
    """What is written of a workload: no prefix blocks, API keys hashed."""
    hashes: dict[str, str] = {"": ""}
    for call in workload.calls:
        if call.api_key not in hashes:
            hashes[call.api_key] = hashlib.sha256(call.api_key.encode()).hexdigest()[:8]
    calls = tuple(
        msgspec.structs.replace(call, blocks=(), api_key=hashes[call.api_key])
        if call.blocks or call.api_key
        else call
        for call in workload.calls
    )
    return msgspec.structs.replace(workload, calls=calls)


def _source_file(path: Path) -> SourceFile:
    content = path.read_bytes()
    text = ""
    if len(content) <= MAX_TEXT_BYTES:
        with suppress(UnicodeDecodeError):
            text = content.decode()
    return SourceFile(path=str(path), sha256=hashlib.sha256(content).hexdigest(), text=text)
