"""Whether `fmedge bench diff` finds steps that take 5 % longer, and stays silent without a change.

Every run is a server of its own, started afresh, that is asked the same prompts at the same times.
The base is three runs, as docs/bench.md advises; each new run stands alone against it, as in CI,
where a change is measured once. Three show the diff what differs from run to run; a single one more
cannot show how much it itself does, so ten of them without a change are asked for, and none may
alarm. They share one base, so an unlucky base would be an alarm many times over. All were measured
in turn: the slow ones last, and each batch side by side on the same machine.

Load is half of a rate that the cards sustain, and nothing is promised: then a request goes where it
ends first, and runs differ by little but their steps. Where promises hold on any replica, routes
depend on trifles, and what they change hides 5 % or shows as far more. 300 calls compare medians; a
p99 would need 500.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.cluster import systems
from bench.cluster.cases import cluster_file
from bench.cluster.emulated import lateness_ms
from bench.context import Bench, Outcome, Skipped
from bench.servers import REPOSITORY, ServerError
from fmedge.config.cluster import load_cluster

ROW = "fmedge bench diff, emulated"
SLOWER = 1.05
NUM_BASE, NUM_REPEATS, NUM_SLOW = 3, 10, 3
SIDE_BY_SIDE = 3
WARMUP_S = 4.0
OPTIONS = (
    "--workload", "poisson:rate=5,requests=300,prompt=150/400,output=32/80",
    "--seed", "1", "--prompt-seed", "1",
)  # fmt: skip
SECTION = "[emulation]\n"


@dataclass(frozen=True)
class Asked:
    """One run: of which cluster file."""

    name: str
    cluster: Path


async def run(bench: Bench) -> list[Outcome | Skipped]:
    usual = cluster_file("control")
    slow = slowed(usual, bench.folder / "control-slow.toml")
    base = [Asked(f"base-{n}", usual) for n in range(NUM_BASE)]
    repeats = [Asked(f"repeat-{n}", usual) for n in range(NUM_REPEATS)]
    slower = [Asked(f"slow-{n}", slow) for n in range(NUM_SLOW)]
    late: list[tuple[float, float]] = []
    for batch in _batches([*base, *repeats, *slower]):
        async with asyncio.TaskGroup() as group:
            playing = [group.create_task(_play(bench, asked)) for asked in batch]
        late += [task.result() for task in playing]
        bench.say(f"  {', '.join(asked.name for asked in batch)} played")
    alarms = [name for one in repeats if (name := await _alarm(bench, base, [one]))]
    found = [name for one in slower if (name := await _alarm(bench, base, [one]))]
    together = await _alarm(bench, base, slower)
    detail: dict[str, Any] = {
        "base_runs": NUM_BASE,
        "new_runs": 1,
        "late_mean_ms": max(mean for mean, _ in late),
        "late_most_ms": max(most for _, most in late),
    }
    return [
        Outcome(ROW, f"false alarms in {NUM_REPEATS} repeats", len(alarms), "alarms", 0, False,
                detail=detail | {"alarms": alarms}),
        Outcome(ROW, f"of {NUM_SLOW} runs with steps {SLOWER - 1:.0%} longer, found", len(found),
                "found", NUM_SLOW, True,
                detail=detail | {"found": found, "all_as_one_side": together}),
    ]  # fmt: skip


def slowed(usual: Path, to: Path) -> Path:
    """The cluster file with all its replicas SLOWER than what anybody is told of them."""
    text = usual.read_text()
    if text.count(SECTION) != 1:
        raise ServerError(f"{usual}: {SECTION.strip()} was expected once")
    names = [
        f"{model.name}/{n}"
        for model in load_cluster(usual).models
        for n in range(model.replicas or 1)
    ]
    slowdown = ", ".join(f'"{name}" = {SLOWER}' for name in names)
    to.write_text(text.replace(SECTION, f"{SECTION}slowdown = {{ {slowdown} }}\n"))
    if load_cluster(to).emulation.slowdown != dict.fromkeys(names, SLOWER):
        raise ServerError(f"{to}: the slow-down was not read as it was written")
    return to


def _batches(asked: list[Asked]) -> list[list[Asked]]:
    return [asked[n : n + SIDE_BY_SIDE] for n in range(0, len(asked), SIDE_BY_SIDE)]


async def _play(bench: Bench, asked: Asked) -> tuple[float, float]:
    """How late the server's steps were announced, on average and at most, in milliseconds."""
    log = bench.folder / f"{asked.name}.log"
    async with systems.serving(asked.cluster, log) as address:
        run = await systems.play(bench, address, OPTIONS, asked.name, WARMUP_S)
    if run.ended:
        raise ServerError(f"{asked.name}: {run.ended}")
    return lateness_ms(log)


async def _alarm(bench: Bench, base: list[Asked], new: list[Asked]) -> str:
    """What `fmedge bench diff` calls worse, "" where it exits with 0."""
    sides = [
        ",".join(str(bench.folder / f"{one.name}.json") for one in side) for side in (base, new)
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fmedge", "bench", "diff", *sides, "--json",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    output, said = await process.communicate()
    name = "+".join(one.name for one in new)
    if process.returncode not in (0, 1) or not output:
        raise ServerError(f"bench diff of {name}: {said.decode(errors='replace').strip()}")
    document = msgspec.json.decode(output)
    (bench.folder / f"diff-{name}.json").write_bytes(output)
    lines = {
        change["metric"]: f"{change['metric']} {100 * (change['ratio'] - 1):+.1f} %"
        for change in document["changes"]
        if change["ratio"] is not None
    }
    bench.say(f"  {name}: {', '.join(lines.values())}")
    worse = [lines[c["metric"]] for c in document["changes"] if c["verdict"] == "worse"]
    if bool(worse) != bool(process.returncode):
        raise ServerError(f"bench diff of {name}: exit {process.returncode}, but worse is {worse}")
    return f"{name}: {', '.join(worse)}" if worse else ""
