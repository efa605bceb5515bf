"""What the server itself costs: an engine that is free, the front alone on one core.

The rate counts events, not tokens: where the front falls behind it merges tokens into one event,
and those would be cheap to count.
"""

from __future__ import annotations

import os
import statistics
import sys

import psutil

from bench import load, servers
from bench.context import Bench, Outcome, Skipped
from bench.servers import Server
from fmedge.cli.bench_client import Client
from fmedge.cli.bench_report import report

SLOTS = 96
CTX_SIZE = 1024
MAX_TOKENS = 500
NUM_STREAMS = 192
NUM_PROBES = 300
QUESTION = "How does a server find out what each token costs it? " * 8


async def run(bench: Bench) -> list[Outcome | Skipped]:
    if len(bench.cores) < 2:
        return [Skipped("front alone", "needs two cores: one for the front, one for the rest")]
    port = servers.free_port()
    command = [
        sys.executable, "-m", "bench.null_serve",
        *servers.fmedge_command(bench.model, port, ctx_size=CTX_SIZE, slots=SLOTS, threads=1)[4:],
    ]  # fmt: skip
    mine = os.sched_getaffinity(0)
    front_core, other_core = bench.cores
    with servers.running("fmedge", command, port, bench.folder / "front.log") as server:
        front, *workers = server.processes()
        front.cpu_affinity([front_core])
        for worker in workers:
            worker.cpu_affinity([other_core])
        os.sched_setaffinity(0, {other_core})
        try:
            return await _measure(bench, server, front)
        finally:
            os.sched_setaffinity(0, mine)


async def _measure(bench: Bench, server: Server, front: psutil.Process) -> list[Outcome | Skipped]:
    rates, loads, merged, ttfts = [], [], [], []
    for number in range(bench.rounds + 1):
        before_s = _cpu_s(front)
        requests = load.requests(server, NUM_STREAMS, 32, MAX_TOKENS, 100_000 + number)
        outcomes = await load.closed_loop(server, requests, SLOTS, MAX_TOKENS)
        busy_s = _cpu_s(front) - before_s
        wall_s = report(outcomes).duration_s
        ttft_ms = await _probe_ttft_ms(server)
        num_events = sum(len(outcome.times_s) for outcome in outcomes)
        rate, share = num_events / wall_s, busy_s / wall_s
        tokens_an_event = NUM_STREAMS * MAX_TOKENS / num_events
        bench.say(
            f"  round {number}: {rate:,.0f} events/s of {tokens_an_event:.2f} tokens, front busy "
            f"{100 * share:.0f} %, TTFT p50 {ttft_ms:.2f} ms"
        )
        if number:
            rates.append(rate)
            loads.append(share)
            merged.append(tokens_an_event)
            ttfts.append(ttft_ms)
    row = "front alone, one core"
    detail = {"front_cpu_share": loads, "tokens_per_event": merged}
    return [
        Outcome(row, "streamed tokens/s, an event each", statistics.median(rates), "/s", 10_000,
                True, tuple(rates), detail),
        Outcome(row, "added TTFT p50 (chat)", statistics.median(ttfts), "ms", 1.0, False,
                tuple(ttfts)),
    ]  # fmt: skip


async def _probe_ttft_ms(server: Server) -> float:
    """Median TTFT of chat requests that come one after the other on one connection."""
    body = {
        "model": server.model_name,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 1,
        "stream": True,
    }
    client = Client(server.target)
    request = client.request("/v1/chat/completions", body)
    found = report([await load.send(server, client, request) for _ in range(NUM_PROBES)])
    client.close()
    assert found.ttft_ms is not None
    return found.ttft_ms.p50


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
