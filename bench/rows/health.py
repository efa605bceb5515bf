"""/health must answer while every slot decodes, requests wait and long prompts are prefilled."""

from __future__ import annotations

import asyncio
import time

from bench import load
from bench.context import Bench, Outcome, Skipped
from bench.servers import Server
from fmedge.cli.bench_client import Client
from fmedge.cli.bench_report import distribution

NUM_CLIENTS = 32
INTERVAL_S = 0.02
MAX_TOKENS = 64


async def run(bench: Bench) -> list[Outcome | Skipped]:
    duration_s = 30.0 if bench.is_full else 10.0
    with bench.fmedge() as server:
        latencies = await _measure(server, duration_s)
    found = distribution(latencies)
    assert found is not None
    bench.say(f"  {len(latencies)} probes, p99 {found.p99:.1f} ms, longest {found.max:.1f} ms")
    detail = {"p50_ms": found.p50, "max_ms": found.max}
    return [Outcome("/health while saturated", "p99", found.p99, "ms", 50.0, False, (), detail)]


async def _measure(server: Server, duration_s: float) -> list[float]:
    """Seconds from sending to the whole answer, of probes on one connection."""
    end_s = time.perf_counter() + duration_s

    async def saturate(number: int) -> None:
        seed = 80_000 + 1000 * number
        while time.perf_counter() < end_s:
            seed += 1
            num_prompt = 1000 if number % 4 == 0 else 128
            requests = load.requests(server, 1, num_prompt, MAX_TOKENS, seed)
            await load.closed_loop(server, requests, 1, MAX_TOKENS)

    clients = [asyncio.create_task(saturate(number)) for number in range(NUM_CLIENTS)]
    await asyncio.sleep(1.0)
    probe = Client(server.target)
    request = probe.request("/health")
    latencies = []
    while time.perf_counter() < end_s:
        answer = await load.send(server, probe, request)
        latencies.append(answer.end_s - answer.arrival_s)
        await asyncio.sleep(INTERVAL_S)
    probe.close()
    await asyncio.gather(*clients)
    return latencies
