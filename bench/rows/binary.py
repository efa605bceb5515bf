"""The single binary: its size, and how long until its server is ready, when it has to unpack itself
first and when it has done so before."""

from __future__ import annotations

import os
import platform
import re
import selectors
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.context import Bench, Outcome, Skipped
from bench.servers import REPOSITORY, ServerError
from fmedge import __version__

BINARY = REPOSITORY / "dist" / f"fmedge-{__version__}-linux-{platform.machine()}"
ROW = "fmedge as one file"
READY = re.compile(rb"http://[\w.\[\]:]+:\d+")
TIMEOUT_S = 120.0


async def run(bench: Bench) -> list[Outcome | Skipped]:
    if not BINARY.is_file():
        return [Skipped(ROW, f"{BINARY.relative_to(REPOSITORY)} is not there: make binary")]
    cold, warm = [], []
    for _ in range(bench.rounds):
        # Not under /tmp: the launcher runs nothing from where others may write.
        with tempfile.TemporaryDirectory(dir=bench.folder) as home:
            cold.append(_start(bench, home))
            warm.append(_start(bench, home))
    found: list[Outcome | Skipped] = [
        Outcome(ROW, "size", BINARY.stat().st_size / 1e6, "MB", 200.0, False)
    ]
    for name, samples, target_s in (("cold", cold, 8.0), ("warm", warm, 3.0)):
        bench.say(f"  {name}, to ready: {', '.join(f'{value:.2f} s' for value in samples)}")
        median = statistics.median(samples)
        found.append(
            Outcome(ROW, f"{name} start to ready", median, "s", target_s, False, tuple(samples))
        )
    return found


def _start(bench: Bench, home: str) -> float:
    """Seconds from the command to the line that says where it answers."""
    env = {"HOME": home, "PATH": os.environ.get("PATH", os.defpath)}
    start_s = time.perf_counter()
    process = subprocess.Popen(
        [BINARY, "serve", "--port", "0"], env=env, cwd=Path(home), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, bench.cores),
    )  # fmt: skip
    assert process.stdout is not None
    said = b""
    with process, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while not READY.search(said):
                if time.perf_counter() - start_s > TIMEOUT_S:
                    raise ServerError(f"{BINARY.name} is not ready after {TIMEOUT_S:.0f} s")
                if selector.select(1.0):
                    data = os.read(process.stdout.fileno(), 1 << 16)
                    said += data
                    if not data:
                        raise ServerError(f"{BINARY.name} ended: {said.decode(errors='replace')}")
            return time.perf_counter() - start_s
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT_S)
