"""`python -m bench.ray_serve.overhead`: what Ray Serve costs, with replicas that cost nothing.

The rule: the same client, bytes and replica in every row; the first row has nothing of Ray between
them, and what the others take beyond it is Ray's. CPU time is of the server's processes alone, less
what they use while nothing is asked of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import psutil
import uvloop

from bench import machine
from bench.context import allowed_cores
from bench.ray_serve.server import ray_server, why_absent
from bench.ray_serve.setups import SETUPS
from bench.servers import free_port
from fmedge.cli.bench_client import Client, Load, Target, run_load
from fmedge.cli.bench_connection import Outcome
from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.steptime import StepModel
from fmedge.types import EngineSettings

EMULATOR = "bench.ray_serve.free:FreeEmulator"
NUM_REPLICAS = 4
SLOTS = 8
PROMPT_TOKENS = 512
IDLE_S = 5.0
WARM_UP = 40
NUM_ALONE = 200
NUM_TOGETHER = 400
CONCURRENCY = 8
CHUNKS = 65


@dataclass(frozen=True)
class Overhead:
    """Times in milliseconds, CPU time in milliseconds of one core. alone: one request at a time
    over a kept connection. idle_cores: used while nothing is asked."""

    setup: str
    ttft_p50_ms: float
    ttft_p99_ms: float
    busy_ttft_p50_ms: float
    request_cpu_ms: float
    chunk_cpu_ms: float
    idle_cores: float
    num_failed: int


def specs() -> tuple[ReplicaSpec, ...]:
    """Replicas without a model; their step times count for nothing."""
    engine = EngineSettings(model_path="", ctx_size=4096, slots=SLOTS)
    return tuple(
        ReplicaSpec(name=f"free/{i}", model="free", engine=engine, steps=StepModel(base_s=0.0))
        for i in range(NUM_REPLICAS)
    )


async def measure(setup: str, url: str, pid: int) -> Overhead:
    """`pid`: the server's process; its descendants count too."""
    target = Target.parse(url)
    client = Client(target)
    short = _request(client, 1)
    warm = await run_load(client, [short] * WARM_UP, Load(concurrency=CONCURRENCY))
    before_s, began_s = _cpu_s(pid), time.perf_counter()
    await asyncio.sleep(IDLE_S)
    idle_cores = (_cpu_s(pid) - before_s) / (time.perf_counter() - began_s)
    alone = await run_load(client, [short] * NUM_ALONE, Load(concurrency=1))
    together, short_cpu_s = await _used(client, short, pid, idle_cores)
    streams, long_cpu_s = await _used(client, _request(client, CHUNKS), pid, idle_cores)
    client.close()
    outcomes = [*warm, *alone, *together, *streams]
    ttft_ms = _ttft_ms(alone)
    if not ttft_ms:
        raise RuntimeError(f"{setup}: no answers: {outcomes[0].error} {outcomes[0].detail}")
    return Overhead(
        setup=setup,
        ttft_p50_ms=statistics.median(ttft_ms),
        ttft_p99_ms=statistics.quantiles(ttft_ms, n=100)[98],
        busy_ttft_p50_ms=statistics.median(_ttft_ms(together)),
        request_cpu_ms=short_cpu_s * 1e3,
        chunk_cpu_ms=(long_cpu_s - short_cpu_s) / (CHUNKS - 1) * 1e3,
        idle_cores=idle_cores,
        num_failed=sum(bool(outcome.error) for outcome in outcomes),
    )


async def _used(
    client: Client, request: bytes, pid: int, idle_cores: float
) -> tuple[list[Outcome], float]:
    """The outcomes, and CPU seconds for each request."""
    before_s, began_s = _cpu_s(pid), time.perf_counter()
    outcomes = await run_load(client, [request] * NUM_TOGETHER, Load(concurrency=CONCURRENCY))
    used_s = _cpu_s(pid) - before_s - idle_cores * (time.perf_counter() - began_s)
    return outcomes, used_s / NUM_TOGETHER


def _request(client: Client, num_tokens: int) -> bytes:
    body = {
        "model": "free",
        "prompt": list(range(1000, 1000 + PROMPT_TOKENS)),
        "max_tokens": num_tokens,
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return client.request("/v1/completions", body)


def _ttft_ms(outcomes: list[Outcome]) -> list[float]:
    return [(o.times_s[0] - o.arrival_s) * 1e3 for o in outcomes if not o.error]


def _cpu_s(pid: int) -> float:
    parent = psutil.Process(pid)
    total_s = 0.0
    for process in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total_s += times.user + times.system
    return total_s


@contextlib.asynccontextmanager
async def _bare(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """One free replica behind the ingress alone, in a process of its own."""
    port = free_port()
    log = folder / "bare.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.ray_serve.overhead", "--bare", str(port),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=output,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        if not await asyncio.wait_for(process.stdout.readline(), 30):
            raise RuntimeError(f"the bare server did not start:\n{log.read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _serve_bare(port: int) -> None:
    from bench.ray_serve.ingress import listening
    from bench.ray_serve.service import Service

    service = Service(specs()[0], EMULATOR)
    async with listening(port, "free", service.stream):
        print("ready", flush=True)
        await asyncio.Event().wait()  # until it is terminated


async def _all(setups: list[str]) -> list[Overhead]:
    found = []
    with tempfile.TemporaryDirectory(prefix="fmedge-overhead-") as temporary:
        folder = Path(temporary)
        file = folder / "specs.json"
        file.write_bytes(msgspec.json.encode(specs()))
        async with _bare(folder) as (url, pid):
            found.append(await measure("no Ray", url, pid))
        for setup in setups:
            print(f"{setup} ...", file=sys.stderr, flush=True)
            arguments = ["--emulator", EMULATOR, "--chunk-s", "0"]
            async with ray_server(file, setup, folder, arguments) as server:
                found.append(await measure(setup, server.url, server.pid))
    return found


def table(found: list[Overhead]) -> str:
    """Markdown; what is added to the first row stands beside each TTFT."""
    lines = [
        "| set-up | TTFT p50 alone | p99 alone | added p50 | TTFT p50 of 8 | CPU a request "
        "| CPU a chunk | idle cores | failed |",
        "| --- " * 9 + "|",
    ]
    lines += [
        f"| {row.setup} | {row.ttft_p50_ms:.2f} ms | {row.ttft_p99_ms:.2f} ms "
        f"| {row.ttft_p50_ms - found[0].ttft_p50_ms:.2f} ms | {row.busy_ttft_p50_ms:.2f} ms "
        f"| {row.request_cpu_ms:.2f} ms | {row.chunk_cpu_ms:.3f} ms | {row.idle_cores:.2f} "
        f"| {row.num_failed} |"
        for row in found
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ray_serve.overhead",
        description="What Ray Serve itself costs a request and a chunk, for each set-up.",
    )
    parser.add_argument(
        "setups",
        nargs="*",
        metavar="SETUP",
        help=f"of {', '.join(SETUPS)}; all that do not scale if none",
    )
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        uvloop.run(_serve_bare(options.bare))
        return 0
    if unknown := [name for name in options.setups if name not in SETUPS]:
        parser.error(f"no set-up {unknown[0]!r}; there are {', '.join(SETUPS)}")
    if reason := why_absent():
        parser.error(reason)
    found = uvloop.run(
        _all(options.setups or [name for name, setup in SETUPS.items() if not setup.scales])
    )
    print(table(found))
    if options.json is not None:
        document = {
            "machine": machine.describe(allowed_cores()),
            "rows": [asdict(row) for row in found],
        }
        options.json.write_bytes(
            msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
