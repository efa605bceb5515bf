"""How many threads a model should compute with here: what hardware and container really allow."""

from __future__ import annotations

import os
from pathlib import Path


def default_threads(root: Path = Path("/"), cpus: set[int] | None = None) -> int:
    """Physical cores that this process may run on, cut to its cgroup's CPU quota; at least 1.

    root: where `sys` and `proc` lie. cpus: that it may run on; None asks.
    """
    cores = count_cores(os.sched_getaffinity(0) if cpus is None else cpus, root)
    quota = cgroup_cpu_quota(root)
    return max(1, cores if quota is None else min(cores, int(quota)))


def count_cores(cpus: set[int], root: Path = Path("/")) -> int:
    """Physical cores that these CPUs are threads of."""
    cores: set[tuple[str, str]] = set()
    for cpu in cpus:
        topology = root / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
        package = _read(topology / "physical_package_id")
        core = _read(topology / "core_id")
        # Without a topology (some virtual machines) each CPU counts as a core.
        cores.add((package, core) if package and core else ("cpu", str(cpu)))
    return len(cores)


def cgroup_cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that this process's cgroup grants; None if unlimited."""
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        fields = _read(folder / "cpu.max").split()
        if not fields:
            fields = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit() and int(fields[1]):
            quotas.append(int(fields[0]) / int(fields[1]))
    return min(quotas, default=None)


def host_bytes_free(root: Path = Path("/")) -> int:
    """Bytes of the host's memory that this process can still get; 0 if that cannot be read."""
    bounds = [
        int(line.split()[1]) * 1024
        for line in _read(root / "proc/meminfo").splitlines()
        if line.startswith("MemAvailable:")
    ]
    for folder in _cgroup_folders(root, "memory"):
        limit = _memory_limit(folder)
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        if limit.isdigit() and used.isdigit():
            bounds.append(max(0, int(limit) - int(used) + _reclaimable(folder)))
    return min(bounds, default=0)


def cgroup_memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that this process's cgroup may take; None if unlimited."""
    limits = [_memory_limit(folder) for folder in _cgroup_folders(root, "memory")]
    # Version 1 says "unlimited" with the largest number of pages.
    return min((int(x) for x in limits if x.isdigit() and int(x) < 1 << 60), default=None)


def _memory_limit(folder: Path) -> str:
    return _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")


def _reclaimable(folder: Path) -> int:
    """File cache that the kernel would drop first."""
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """This process's cgroup and its parents, for version 2 and for version 1's controller."""
    base = root / "sys/fs/cgroup"
    folders = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0":
            mount = base
        elif controller in controllers.split(","):
            mount = base / controller
        else:
            continue
        folder = mount / name.lstrip("/")
        while True:
            folders.append(folder)
            if folder in (mount, base) or mount not in folder.parents:
                break
            folder = folder.parent
    return folders


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
