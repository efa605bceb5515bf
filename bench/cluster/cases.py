"""Which clusters are asked what: each workload as the options that `fmedge simulate` and `fmedge
bench` take.

The rule: promises are written here once, for all systems and before anything is measured. A trace
that is not at hand is replaced by one line of the same kind, and the case says so.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmedge.cli.workload_options import add_workload, read_workload
from fmedge.sim.workload import Workload

HERE = Path(__file__).resolve().parent
DATA = "FMEDGE_BENCH_DATA"
CLUSTERS = ("rack", "workstation", "control")
LONGEST = 7000
"""Tokens of prompt and answer together: what fits into every replica's context."""

CHAT = ("--sla", "ttft_ms=3000,tpot_ms=100,target=0.95")
MIXED = (
    "--sla", "chat:ttft_ms=2000,tpot_ms=100,target=0.95,share=0.6",
    "--sla", "batch:e2e_ms=120000,target=0.95",
)  # fmt: skip
"""People who read along, and work that only has to be done in two minutes."""

MIXED_SLOW = (
    "--sla", "chat:ttft_ms=3000,tpot_ms=100,target=0.95,share=0.6",
    "--sla", "batch:e2e_ms=120000,target=0.95",
)  # fmt: skip
"""The same for a cluster none of whose cards prefills the longest prompts within two seconds."""


def cluster_file(name: str) -> Path:
    return HERE / "clusters" / f"{name}.toml"


@dataclass(frozen=True)
class Case:
    """One workload on one cluster. arguments: but for --rate and --requests. first_per_s: a rate at
    which to begin to look for the highest."""

    cluster: str
    workload: str
    arguments: tuple[str, ...]
    first_per_s: float
    source: str

    @property
    def name(self) -> str:
        return f"{self.cluster}, {self.workload}"

    def options(self, rate_per_s: float, num_requests: int) -> list[str]:
        return [*self.arguments, "--rate", f"{rate_per_s:.6g}", "--requests", str(num_requests)]

    def load(self, rate_per_s: float, num_requests: int) -> Workload:
        parser = argparse.ArgumentParser()
        add_workload(parser)
        parser.add_argument("--rate", type=float)
        parser.add_argument("--requests", type=int)
        parser.add_argument("--seed", type=int, default=0)
        return read_workload(parser.parse_args(self.options(rate_per_s, num_requests)))


def all_cases(clusters: Sequence[str] = CLUSTERS) -> list[Case]:
    found = []
    for cluster in clusters:
        mixed = MIXED_SLOW if cluster == "control" else MIXED
        first = {"rack": 5.0, "workstation": 2.0, "control": 2.5}[cluster]
        conversation = _trace(
            "azure_llm_2023_conv.csv", 1000, "poisson:rate=4,prompt=900/4000,output=150/500"
        )
        code = _trace(
            "azure_llm_2023_code.csv", 1000, "poisson:rate=4,prompt=1500/7000,output=10/60"
        )
        prefixes = _trace(
            "mooncake_conversation.jsonl", 0,
            "poisson:rate=4,prompt=600/2500,output=80/300,prefix=800,prefixes=60,turns=3/8,think=5/30",
            "--scale", "0.2",
        )  # fmt: skip
        found += [
            _case(cluster, "conversation", conversation, CHAT, first),
            _case(cluster, "conversation, two classes", conversation, mixed, first),
            _case(cluster, "code, two classes", code, mixed, first / 3),
            _case(cluster, "prefixes", prefixes, mixed, first / 2),
            _case(cluster, "agents", _file("agents"), (), first),
            _case(cluster, "burst", _file("burst"), (), first),
        ]
    return found


def case(cluster: str, workload: str) -> Case:
    return next(c for c in all_cases((cluster,)) if c.workload == workload)


def _case(
    cluster: str, name: str, source: tuple[str, ...], slas: tuple[str, ...], first: float
) -> Case:
    return Case(
        cluster, name, ("--workload", *source, "--longest", str(LONGEST), *slas), first,
        Path(source[0]).name,
    )  # fmt: skip


def _trace(name: str, skip: int, otherwise: str, *more: str) -> tuple[str, ...]:
    """The trace where it is at hand, else a line in its place."""
    folder = os.environ.get(DATA)
    path = Path(folder, "traces", name) if folder else None
    if path is not None and path.is_file():
        return (str(path), "--skip", str(skip), *more)
    return (otherwise,)


def _file(name: str) -> tuple[str, ...]:
    return (str(HERE / "workloads" / f"{name}.toml"),)
