"""Threads and memory by affinity, topology and cgroup, on made-up machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fmedge._native.threads import cgroup_cpu_quota, default_threads, host_bytes_free


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def machine(root: Path, cores: list[tuple[int, int]]) -> None:
    """One CPU for each (package, core)."""
    for cpu, (package, core) in enumerate(cores):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(topology / "physical_package_id", str(package))
        write(topology / "core_id", str(core))


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    cpus = set(range(8))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus)
    return cpus


def test_hyperthreads_count_once_and_packages_apart(tmp_path: Path, affinity: set[int]) -> None:
    machine(tmp_path, [(0, 0), (0, 1), (0, 0), (0, 1), (1, 0), (1, 1), (1, 0), (1, 1)])
    assert default_threads(tmp_path) == 4
    affinity -= {0, 2, 4}
    assert default_threads(tmp_path) == 3


def test_without_topology_each_cpu_counts(tmp_path: Path, affinity: set[int]) -> None:
    assert default_threads(tmp_path) == 8


def test_the_tightest_quota_on_the_way_up_counts(tmp_path: Path, affinity: set[int]) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/user/app")
    write(tmp_path / "sys/fs/cgroup/user/app/cpu.max", "max 100000")
    write(tmp_path / "sys/fs/cgroup/user/cpu.max", "350000 100000")
    assert cgroup_cpu_quota(tmp_path) == 3.5
    assert default_threads(tmp_path) == 3
    write(tmp_path / "sys/fs/cgroup/user/app/cpu.max", "50000 100000")
    assert default_threads(tmp_path) == 1


def test_version_1_quotas_count_and_minus_one_is_none(tmp_path: Path, affinity: set[int]) -> None:
    write(tmp_path / "proc/self/cgroup", "4:cpu,cpuacct:/app\n3:memory:/app")
    folder = tmp_path / "sys/fs/cgroup/cpu/app"
    write(folder / "cpu.cfs_quota_us", "-1")
    write(folder / "cpu.cfs_period_us", "100000")
    assert cgroup_cpu_quota(tmp_path) is None
    write(folder / "cpu.cfs_quota_us", "200000")
    assert default_threads(tmp_path) == 2


def test_free_memory_is_the_kernels_or_the_cgroups(tmp_path: Path) -> None:
    assert host_bytes_free(tmp_path) == 0
    write(tmp_path / "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4096 kB")
    assert host_bytes_free(tmp_path) == 4096 << 10
    write(tmp_path / "proc/self/cgroup", "0::/app")
    folder = tmp_path / "sys/fs/cgroup/app"
    write(folder / "memory.max", str(3 << 20))
    write(folder / "memory.current", str(2 << 20))
    write(folder / "memory.stat", f"anon 5\ninactive_file {1 << 19}")
    assert host_bytes_free(tmp_path) == (1 << 20) + (1 << 19)
    write(folder / "memory.max", "max")
    assert host_bytes_free(tmp_path) == 4096 << 10


def test_this_machine_has_threads_and_memory() -> None:
    assert 1 <= default_threads() <= (os.cpu_count() or 1)
    assert host_bytes_free() > 0
