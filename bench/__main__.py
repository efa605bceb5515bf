"""Runs the rows, prints the table, writes it as JSON. Exit status 1 when a row misses."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench import machine, servers
from bench.context import Bench, Outcome, Skipped, allowed_cores
from bench.load import LoadError
from bench.rows import binary, front, health, interference, single, soak, start, startup, throughput
from bench.servers import ServerError

LARGEST_IDLE_LOAD = 0.5

Row = Callable[[Bench], Coroutine[Any, Any, list[Outcome | Skipped]]]


def _lazy(module: str) -> Row:
    """A row whose module loads kernels, which no other row needs in this process."""

    async def run(bench: Bench) -> list[Outcome | Skipped]:
        row: Row = importlib.import_module(module).run
        return await row(bench)

    return run


ROWS: dict[str, Row] = {
    "distinct": throughput.distinct,
    "shared": throughput.shared,
    "interference": interference.run,
    "single": single.run,
    "sampler": _lazy("bench.sampler"),
    "gemm": _lazy("bench.gemm"),
    "estimates": _lazy("bench.sla.estimates"),
    "foreign": _lazy("bench.foreign.row"),
    "attainment": _lazy("bench.sla.attainment"),
    "chains": _lazy("bench.sla.chains"),
    "front": front.run,
    "decisions": _lazy("bench.decisions"),
    "plan-optimal": _lazy("bench.plan.optimal"),
    "plan-memory": _lazy("bench.plan.memory"),
    "plan-speed": _lazy("bench.plan.speed"),
    "plan-split": _lazy("bench.plan.split"),
    "plan-swap": _lazy("bench.plan.swap"),
    "plan-restore": _lazy("bench.plan.restore"),
    "cluster": _lazy("bench.cluster.measured"),
    "cluster-simulated": _lazy("bench.cluster.simulated"),
    "cluster-agents": _lazy("bench.cluster.agents"),
    "cluster-fidelity": _lazy("bench.cluster.fidelity"),
    "cluster-speed": _lazy("bench.cluster.speed"),
    "cluster-regression": _lazy("bench.cluster.regression"),
    "cluster-scaling": _lazy("bench.cluster.scaling"),
    "binary": binary.run,
    "start": start.run,
    "startup": startup.run,
    "health": health.run,
    "soak": soak.run,
}
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures fmedge against its peers and its promises. Peers are binaries named "
        "by FMEDGE_BENCH_LLAMA_SERVER and FMEDGE_BENCH_LLAMA_BENCH; rows without theirs are "
        "skipped.",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all if none")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--full", action="store_true", help="the long rows at full length")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = RESULTS / stamp
    folder.mkdir(exist_ok=True)
    try:
        bench = Bench(
            folder=folder,
            cores=allowed_cores(),
            llama_server=servers.peer("FMEDGE_BENCH_LLAMA_SERVER"),
            llama_bench=servers.peer("FMEDGE_BENCH_LLAMA_BENCH"),
            rounds=options.rounds,
            is_full=options.full,
        )
    except ServerError as error:
        parser.error(str(error))
    busy = os.getloadavg()[0]
    if busy > LARGEST_IDLE_LOAD:
        bench.say(f"load average {busy:.1f}: other programs run here, and llama.cpp's threads wait")
        bench.say("for each other at every operation; expect low and scattered numbers")
    found: list[Outcome | Skipped] = []
    for name in options.rows or ROWS:
        bench.say(f"{name}:")
        try:
            found += uvloop.run(ROWS[name](bench))
        except (TimeoutError, ServerError, LoadError, OSError) as error:
            found.append(Skipped(name, f"failed: {error}"))
    print(table(found))
    document = {
        "machine": machine.describe(bench.cores),
        "rounds": bench.rounds,
        "full": bench.is_full,
        "rows": [
            dataclasses.asdict(item) | ({"met": item.is_met} if isinstance(item, Outcome) else {})
            for item in found
        ],
    }
    path = options.json or folder / "result.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    print(f"\n{path}")
    failed = any(
        item.reason.startswith("failed") if isinstance(item, Skipped) else not item.is_met
        for item in found
    )
    return 1 if failed else 0


def table(found: list[Outcome | Skipped]) -> str:
    """A Markdown table, a line an outcome."""
    lines = ["| row | metric | measured | must be | |", "| --- | --- | --- | --- | --- |"]
    for item in found:
        if isinstance(item, Skipped):
            lines.append(f"| {item.row} | | | | skipped: {item.reason} |")
            continue
        sign = "≥" if item.is_at_least else "≤"
        spread = f" ({min(item.samples):.3g} to {max(item.samples):.3g})" if item.samples else ""
        lines.append(
            f"| {item.row} | {item.metric} | {item.value:.4g} {item.unit}{spread} "
            f"| {sign} {item.target:g} {item.unit} | {'met' if item.is_met else 'MISSED'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
