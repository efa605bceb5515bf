"""Memory that models may take, and the limits that this process is under."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.config import Config
from fmedge.server.host import HostFacts, host_facts
from fmedge.server.kv_places import SHARED_MEMORY

GIB = 1 << 30
_SWAP_SHARE = 0.5
_HUGE_SHARE = 0.1
_SPARE_FILES = 256
"""Beside connections: models, workers, logs."""


def check_memory(config: Config, model_bytes: int, root: Path = Path("/")) -> Iterator[Finding]:
    """model_bytes: of the largest configured model's files; 0 where none is here."""
    facts = host_facts(root)
    info = _meminfo(root)
    text = f"{facts.memory_free / GIB:.1f} of {facts.memory_total / GIB:.1f} GiB free"
    machine = info.get("MemTotal", 0)
    if facts.memory_limit is not None and facts.memory_limit < machine:
        text += f"; the cgroup allows {facts.memory_limit / GIB:.1f} of {machine / GIB:.1f} GiB"
    yield _of_processors(facts)
    if not facts.memory_total:
        yield warning("memory", "the kernel does not tell how much there is", "mount /proc")
    elif model_bytes > facts.memory_total:
        yield warning(
            "memory",
            f"{text}; the largest model's files have {model_bytes / GIB:.1f} GiB",
            "unless most of it fits GPUs: take a smaller quantisation or raise the cgroup's limit; "
            "see fmedge plan --explain",
        )
    elif model_bytes > facts.memory_free:
        yield warning(
            "memory", f"{text}; the largest model's files have {model_bytes / GIB:.1f} GiB",
            "stop what takes the memory, or see fmedge plan --explain",
        )  # fmt: skip
    else:
        yield ok("memory", text)
    yield from _check_swap(info)
    yield from _check_huge_pages(info)
    if _read(root / "proc/sys/vm/overcommit_memory") == "2":
        yield warning(
            "memory", "vm.overcommit_memory is 2: address space that is only reserved counts",
            "models may fail to load: sysctl vm.overcommit_memory=0, or mmap = false",
        )  # fmt: skip


def _of_processors(facts: HostFacts) -> Finding:
    """What of them this process may use."""
    text = f"{facts.num_cpus} of {facts.num_cpus_there} CPUs, {facts.num_cores} core(s)"
    quota = facts.cpu_quota
    if quota is not None and quota < 1:
        return warning(
            "threads", f"{text}; the cgroup grants {quota:g} CPUs' time",
            "models stand still most of the time: grant a whole one (docker run --cpus, CPUQuota=)",
        )  # fmt: skip
    granted = "" if quota is None else f"; the cgroup grants {quota:g} CPUs' time"
    return ok("threads", f"models compute with {facts.num_threads}: {text}{granted}")


def _check_swap(info: dict[str, int]) -> Iterator[Finding]:
    total, free = info.get("SwapTotal", 0), info.get("SwapFree", 0)
    if not total:
        yield ok("swap", "none: where memory ends, the kernel ends a process")
    elif total - free > _SWAP_SHARE * total:
        yield warning(
            "swap", f"{(total - free) / GIB:.1f} of {total / GIB:.1f} GiB are in use",
            "models that are swapped out are slow: free memory, or set mlock = true",
        )  # fmt: skip
    else:
        yield ok("swap", f"{(total - free) / GIB:.1f} of {total / GIB:.1f} GiB in use")


def _check_huge_pages(info: dict[str, int]) -> Iterator[Finding]:
    reserved = info.get("HugePages_Free", 0) * info.get("Hugepagesize", 0)
    if reserved > _HUGE_SHARE * info.get("MemTotal", 0):
        yield warning(
            "memory", f"{reserved / GIB:.1f} GiB are reserved for huge pages that nobody uses",
            "llama.cpp takes none of them: sysctl vm.nr_hugepages=0",
        )  # fmt: skip


def check_limits(
    config: Config,
    model_bytes: int,
    *,
    limits: dict[int, tuple[int, int]] | None = None,
    shared_bytes: int | None = None,
) -> Iterator[Finding]:
    """limits: soft and hard, by resource's constants; shared_bytes: free in /dev/shm; None asks."""
    names = (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_AS)
    found = {name: resource.getrlimit(name) for name in names} if limits is None else limits
    _, files = found[resource.RLIMIT_NOFILE]  # the server raises the soft one
    wanted = config.server.max_connections + _SPARE_FILES
    if files != resource.RLIM_INFINITY and files < wanted:
        yield warning(
            "open files", f"at most {files}, for max_connections = {config.server.max_connections}",
            f"ulimit -Hn {wanted} (a systemd unit: LimitNOFILE={wanted}), or a smaller "
            "max_connections",
        )  # fmt: skip
    else:
        number = "any number" if files == resource.RLIM_INFINITY else f"{files}"
        yield ok("open files", f"{number}, for max_connections = {config.server.max_connections}")
    if any(model.engine.mlock for model in config.models):
        yield _of_mlock(found[resource.RLIMIT_MEMLOCK][1], model_bytes)
    space = found[resource.RLIMIT_AS][0]
    if space != resource.RLIM_INFINITY:
        yield warning(
            "address space", f"limited to {space / GIB:.1f} GiB",
            "mapped models count in full: ulimit -v unlimited",
        )  # fmt: skip
    yield from _check_shared(config, shared_bytes)


def _of_mlock(limit: int, model_bytes: int) -> Finding:
    if limit != resource.RLIM_INFINITY and limit < max(model_bytes, 1):
        return error(
            "locked memory",
            f"mlock = true, but at most {limit / (1 << 20):.0f} MiB may be locked, and the largest "
            f"model has {model_bytes / (1 << 20):.0f} MiB",
            "ulimit -Hl unlimited (a systemd unit: LimitMEMLOCK=infinity), or mlock = false",
        )
    return ok("locked memory", "mlock = true, and the limit allows it")


def _check_shared(config: Config, free: int | None) -> Iterator[Finding]:
    """Where conversations that left the KV cache lie, unless they have a folder on disk."""
    import shutil

    server = config.server
    if not server.kv_store_mib or server.kv_disk_mib:
        return
    if free is None:
        if not SHARED_MEMORY.is_dir():
            return  # they stay in the workers' own memory
        free = shutil.disk_usage(SHARED_MEMORY).free
    wanted = server.kv_store_mib << 20
    if free < wanted:
        yield warning(
            "shared memory",
            f"{free >> 20} MiB free in {SHARED_MEMORY}, for kv_store_mib = {server.kv_store_mib} a "
            "replica",
            "in a container: --shm-size 1g; else a smaller kv_store_mib",
        )


def _meminfo(root: Path) -> dict[str, int]:
    """Bytes; of HugePages_*, pages."""
    found = {}
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
