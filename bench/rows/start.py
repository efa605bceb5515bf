"""How long `fmedge run` takes for one answer of the embedded model, start included: with nothing
known of the machine but compiled kernels, and once more."""

from __future__ import annotations

import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.context import Bench, Outcome, Skipped
from bench.servers import REPOSITORY, ServerError

QUESTION = "What is the capital of France?"
TIMEOUT_S = 120.0


async def run(bench: Bench) -> list[Outcome | Skipped]:
    cold, warm = [], []
    for _ in range(bench.rounds):
        with tempfile.TemporaryDirectory(prefix="fmedge-bench-") as folder:
            cold.append(_ask(bench, Path(folder)))
            warm.append(_ask(bench, Path(folder)))
    found: list[Outcome | Skipped] = []
    for name, times, target_s in (("cold", cold, 3.0), ("warm", warm, 2.0)):
        for number, metric in enumerate(("first token", "last token", "exit")):
            samples = tuple(one[number] for one in times)
            listed = ", ".join(f"{value:.2f} s" for value in samples)
            bench.say(f"  {name}, to {metric}: {listed}")
            found.append(
                Outcome(f"fmedge run, {name}", f"to {metric}", statistics.median(samples), "s",
                        target_s, False, samples)
            )  # fmt: skip
    return found


def _ask(bench: Bench, state: Path) -> tuple[float, float, float]:
    """Seconds from the command to its first bytes, its last ones and its end."""
    command = [
        sys.executable, "-m", "fmedge", "run", "--model", "embedded", QUESTION,
    ]  # fmt: skip
    env = {**os.environ, "XDG_STATE_HOME": str(state), "FMEDGE_PORT": "0"}
    start_s = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, bench.cores),
    )  # fmt: skip
    assert process.stdout is not None
    seen = []
    with process, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.perf_counter() - start_s < TIMEOUT_S:
            if selector.select(1.0):
                if not os.read(process.stdout.fileno(), 1 << 16):
                    break
                seen.append(time.perf_counter() - start_s)
        else:
            process.kill()
    if process.returncode != 0 or not seen:
        raise ServerError(f"fmedge run ended with status {process.returncode}")
    return seen[0], seen[-1], time.perf_counter() - start_s
