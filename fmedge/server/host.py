"""The host as this process may use it: processors, cores, NUMA nodes and memory.

The rule: affinity and cgroup limits count, not what the hardware would have.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from fmedge._native.threads import (
    cgroup_cpu_quota,
    cgroup_memory_limit,
    count_cores,
    default_threads,
    host_bytes_free,
)


class NumaNode(Struct, frozen=True, kw_only=True):
    """Of what this process may use; memory in bytes, 0 where it is not told. has_memory: this
    process may take memory there."""

    number: int
    num_cpus: int
    num_cores: int
    memory_total: int
    memory_free: int
    has_memory: bool = True


class HostFacts(Struct, frozen=True, kw_only=True):
    """cpu_quota: processors' worth of time that the cgroup grants, None if all. num_threads: what
    a model should compute with. num_cpus_there: of the machine, whatever this process may use."""

    num_cpus: int
    num_cores: int
    num_cpus_there: int
    cpu_quota: float | None
    num_threads: int
    memory_total: int
    memory_free: int
    memory_limit: int | None
    nodes: tuple[NumaNode, ...]


def host_facts(root: Path = Path("/"), cpus: Iterable[int] | None = None) -> HostFacts:
    """root: where `proc` and `sys` lie. cpus: that this process may run on; None asks."""
    allowed = set(os.sched_getaffinity(0) if cpus is None else cpus)
    nodes = _nodes(root, allowed)
    limit = cgroup_memory_limit(root)
    total, free = _meminfo(root, "MemTotal"), host_bytes_free(root)
    barred = [node for node in nodes if not node.has_memory]
    if barred:  # what lies on the other nodes is out of reach
        total = max(0, total - sum(node.memory_total for node in barred))
        free = max(0, free - sum(node.memory_free for node in barred))
    total = min(total, limit) if limit is not None and total else total or limit or 0
    threads = default_threads(root, allowed)
    return HostFacts(
        num_cpus=len(allowed),
        num_cores=count_cores(allowed, root),
        num_cpus_there=len(_ranges(_read(root / "sys/devices/system/cpu/online"))) or len(allowed),
        cpu_quota=cgroup_cpu_quota(root),
        num_threads=threads,
        memory_total=total,
        memory_free=min(free, total) if total else free,
        memory_limit=limit,
        nodes=nodes,
    )


def _nodes(root: Path, allowed: set[int]) -> tuple[NumaNode, ...]:
    """The nodes on which this process may run or take memory, in order."""
    folder = root / "sys/devices/system/node"
    mems = _ranges(_field(root / "proc/self/status", "Mems_allowed_list"))
    made = []
    for number in sorted(_ranges(_read(folder / "online"))):
        node = folder / f"node{number}"
        cpus = _ranges(_read(node / "cpulist")) & allowed
        has_memory = number in mems or not mems
        made.append(
            NumaNode(
                number=number,
                num_cpus=len(cpus),
                num_cores=count_cores(cpus, root),
                memory_total=_kib(_read(node / "meminfo"), "MemTotal"),
                memory_free=_kib(_read(node / "meminfo"), "MemFree"),
                has_memory=has_memory,
            )
        )
    return tuple(made)


def _meminfo(root: Path, name: str) -> int:
    return _kib(_read(root / "proc/meminfo"), name)


def _kib(text: str, name: str) -> int:
    """Bytes of a line such as "Node 0 MemTotal:  7563468 kB"; 0 for none."""
    for line in text.splitlines():
        words = line.split()
        for word, value in pairwise(words):
            if word == f"{name}:" and value.isdigit():
                return int(value) * 1024
    return 0


def _field(path: Path, name: str) -> str:
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def _ranges(text: str) -> set[int]:
    """The numbers of a kernel's list such as "0-3,8"."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and (last or first).isdigit():
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
