"""The cluster files that rows write for themselves, and what they read in logs."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import pytest

from bench.cluster.cases import cluster_file
from bench.cluster.emulated import lateness_ms
from bench.cluster.regression import SLOWER, slowed
from bench.cluster.scaling import LOAD_GB_S, PHASES, WORKLOAD, growing
from bench.servers import ServerError
from fmedge.config.cluster import load_cluster
from fmedge.sim.load import load_workload
from fmedge.sim.workload import Workload


def test_only_the_slowdown_differs(tmp_path: Path) -> None:
    usual = load_cluster(cluster_file("control"))
    slow = load_cluster(slowed(cluster_file("control"), tmp_path / "slow.toml"))
    assert slow.emulation.slowdown == {f"chat/{n}": SLOWER for n in range(4)}
    assert slow.emulation.sigma == usual.emulation.sigma
    assert slow.models[0].figures == usual.models[0].figures
    assert [d.kind for d in slow.devices] == [d.kind for d in usual.devices]


def test_a_cluster_without_noise_cannot_be_slowed(tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text(cluster_file("control").read_text().partition("[emulation]")[0])
    with pytest.raises(ServerError, match=r"\[emulation\]"):
        slowed(bare, tmp_path / "slow.toml")


def test_the_growing_cluster_leaves_the_number_of_replicas_open(tmp_path: Path) -> None:
    usual = load_cluster(cluster_file("control"))
    grows = load_cluster(growing(tmp_path))
    assert (usual.models[0].replicas, grows.models[0].replicas) == (4, None)
    assert grows.emulation.load_gb_s == LOAD_GB_S
    quiet = load_workload(str(WORKLOAD), seed=1)
    assert grows.demand[0].rate_per_s == pytest.approx(_rate_per_s(quiet, "quiet"), rel=0.5)


def test_the_rush_is_where_the_phases_say() -> None:
    workload = load_workload(str(WORKLOAD), seed=1)
    rush = _rate_per_s(workload, "rush")
    assert rush > 5 * _rate_per_s(workload, "quiet")
    assert rush > 5 * _rate_per_s(workload, "quiet again")
    assert max(call.at_s for call in workload.calls) < PHASES["quiet again"][1]


def test_lateness_is_that_of_the_worst_replica(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        "replica a/0: 10 emulated steps, announced 0.8 ms late on average, 43.1 ms at most\n"
        "replica a/1: 66 emulated steps, announced 1.5 ms late on average, 8.9 ms at most\n"
    )
    assert lateness_ms(log) == (1.5, 43.1)
    log.write_text("")
    assert all(map(isnan, lateness_ms(log)))


def _rate_per_s(workload: Workload, phase: str) -> float:
    start_s, end_s = PHASES[phase]
    return sum(start_s <= c.at_s < end_s for c in workload.calls) / (end_s - start_s)
