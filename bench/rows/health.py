"""/health must answer while every slot decodes, requests wait and long prompts are prefilled."""

from __future__ import annotations

import asyncio
import time

from bench import client, load
from bench.client import Connection
from bench.context import Bench, Outcome, Skipped
from bench.servers import Server

NUM_CLIENTS = 32
INTERVAL_S = 0.02
MAX_TOKENS = 64


async def run(bench: Bench) -> list[Outcome | Skipped]:
    duration_s = 30.0 if bench.is_full else 10.0
    with bench.fmedge() as server:
        latencies = await _measure(server, duration_s)
    p99_ms, max_ms = 1e3 * load.percentile(latencies, 0.99), 1e3 * max(latencies)
    bench.say(f"  {len(latencies)} probes, p99 {p99_ms:.1f} ms, longest {max_ms:.1f} ms")
    detail = {"p50_ms": 1e3 * load.percentile(latencies, 0.5), "max_ms": max_ms}
    return [Outcome("/health while saturated", "p99", p99_ms, "ms", 50.0, False, (), detail)]


async def _measure(server: Server, duration_s: float) -> list[float]:
    """Seconds from sending to the whole answer, of probes on one connection."""
    end_s = time.perf_counter() + duration_s

    async def saturate(number: int) -> None:
        seed = 80_000 + 1000 * number
        while time.perf_counter() < end_s:
            seed += 1
            (prompt,) = load.random_prompts(1, 1000 if number % 4 == 0 else 128, seed)
            request = load.completion(server, prompt, MAX_TOKENS, seed)
            await load.closed_loop(server, [request], 1, MAX_TOKENS)

    clients = [asyncio.create_task(saturate(number)) for number in range(NUM_CLIENTS)]
    await asyncio.sleep(1.0)
    probe = await Connection.open(server.host, server.port)
    request = client.get(server.host, server.port, "/health")
    latencies = []
    while time.perf_counter() < end_s:
        start_s = time.perf_counter()
        reply = client.parse(await probe.send(request, 10.0))
        latencies.append(time.perf_counter() - start_s)
        if reply.status != 200:
            raise client.ProtocolError(f"/health answered {reply.status}")
        await asyncio.sleep(INTERVAL_S)
    probe.close()
    await asyncio.gather(*clients)
    return latencies
