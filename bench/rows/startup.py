"""How long until a warm machine's server answers /health, and until --help is on the screen."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from bench.context import Bench, Outcome, Skipped
from bench.servers import REPOSITORY


async def run(bench: Bench) -> list[Outcome | Skipped]:
    row = "warm start, small model"
    starts = []
    for number in range(bench.rounds + 1):
        start_s = time.perf_counter()
        with bench.fmedge(bench.small_model):
            took_s = time.perf_counter() - start_s
        if number:
            starts.append(took_s)
    bench.say(f"  to /health 200: {', '.join(f'{value:.2f} s' for value in starts)}")
    helps = []
    for _ in range(2 * bench.rounds):
        start_s = time.perf_counter()
        subprocess.run(  # noqa: ASYNC221 - nothing else runs
            [sys.executable, "-m", "fmedge", "--help"],
            cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True, timeout=30,
        )  # fmt: skip
        helps.append(time.perf_counter() - start_s)
    bench.say(f"  --help: {', '.join(f'{value:.3f} s' for value in helps)}")
    return [
        Outcome(row, "to first 200 from /health", statistics.median(starts), "s", 2.0, False,
                tuple(starts)),
        Outcome("fmedge --help", "wall time", statistics.median(helps), "s", 0.3, False,
                tuple(helps)),
    ]  # fmt: skip
