"""The host's processors, nodes and memory under affinity and cgroup limits."""

from __future__ import annotations

import os
from pathlib import Path

from fmedge.server.host import host_facts

MIB = 1 << 20


def machine(
    root: Path, *, num_nodes: int = 2, num_cores: int = 4, mems: str = "0-1", limit: str = "max"
) -> Path:
    """Two threads a core, `num_cores` cores a node, 1000 MiB a node of which 400 are free."""
    num_cpus = num_nodes * num_cores * 2
    files = {
        "sys/devices/system/cpu/online": f"0-{num_cpus - 1}",
        "sys/devices/system/node/online": f"0-{num_nodes - 1}" if num_nodes > 1 else "0",
        "proc/meminfo": f"MemTotal: {num_nodes * 1000 * 1024} kB\n"
        f"MemAvailable: {num_nodes * 400 * 1024} kB",
        "proc/self/status": f"Name:\tx\nMems_allowed_list:\t{mems}\n",
        "proc/self/cgroup": "0::/box\n",
        "sys/fs/cgroup/box/memory.max": limit,
        "sys/fs/cgroup/box/memory.current": str(100 * MIB),
        "sys/fs/cgroup/box/memory.stat": f"inactive_file {40 * MIB}",
        "sys/fs/cgroup/box/cpu.max": "300000 100000",
    }
    for cpu in range(num_cpus):
        core = cpu % (num_cpus // 2)
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{folder}/core_id"] = str(core % num_cores)
        files[f"{folder}/physical_package_id"] = str(core // num_cores)
    for node in range(num_nodes):
        first, second = node * num_cores, num_cpus // 2 + node * num_cores
        folder = f"sys/devices/system/node/node{node}"
        files[f"{folder}/cpulist"] = (
            f"{first}-{first + num_cores - 1},{second}-{second + num_cores - 1}"
        )
        files[f"{folder}/meminfo"] = (
            f"Node {node} MemTotal:  {1000 * 1024} kB\nNode {node} MemFree:  {300 * 1024} kB"
        )
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_everything_allowed(tmp_path: Path) -> None:
    facts = host_facts(machine(tmp_path), range(16))
    assert (facts.num_cpus, facts.num_cores, facts.num_cpus_there) == (16, 8, 16)
    assert (facts.cpu_quota, facts.num_threads) == (3.0, 3)
    assert (facts.memory_total, facts.memory_free) == (2000 * MIB, 800 * MIB)
    assert facts.memory_limit is None
    assert [(n.number, n.num_cpus, n.num_cores) for n in facts.nodes] == [(0, 8, 4), (1, 8, 4)]
    assert [(n.memory_total, n.memory_free) for n in facts.nodes] == [(1000 * MIB, 300 * MIB)] * 2


def test_affinity_to_some_cores(tmp_path: Path) -> None:
    facts = host_facts(machine(tmp_path), [0, 1, 8, 4])  # 0 and 8 are one core's threads
    assert (facts.num_cpus, facts.num_cores, facts.num_threads) == (4, 3, 3)
    assert [(n.num_cpus, n.num_cores) for n in facts.nodes] == [(3, 2), (1, 1)]
    assert host_facts(machine(tmp_path), [0, 8]).num_threads == 1


def test_cgroup_memory(tmp_path: Path) -> None:
    facts = host_facts(machine(tmp_path, limit=str(500 * MIB)), range(16))
    assert (facts.memory_total, facts.memory_limit) == (500 * MIB, 500 * MIB)
    assert facts.memory_free == (500 - 100 + 40) * MIB


def test_memory_of_other_nodes_is_out_of_reach(tmp_path: Path) -> None:
    facts = host_facts(machine(tmp_path, mems="1"), range(16))
    assert [n.has_memory for n in facts.nodes] == [False, True]
    assert (facts.memory_total, facts.memory_free) == (1000 * MIB, 500 * MIB)


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    facts = host_facts(tmp_path, [3, 5])
    assert (facts.num_cpus, facts.num_cores, facts.num_cpus_there) == (2, 2, 2)
    assert (facts.memory_total, facts.memory_free, facts.nodes) == (0, 0, ())


def test_this_machine() -> None:
    facts = host_facts()
    assert facts.num_cpus == len(os.sched_getaffinity(0))
    assert 1 <= facts.num_threads <= facts.num_cores <= facts.num_cpus <= facts.num_cpus_there
    assert 0 < facts.memory_free <= facts.memory_total
