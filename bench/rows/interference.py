"""Time between tokens of 8 decoding streams while 2,000-token prompts arrive beside them."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from bench import load
from bench.context import Bench, Outcome, Skipped, interleave, ratio
from bench.servers import Server
from fmedge.cli.bench_client import Client
from fmedge.cli.bench_connection import Outcome as Sent
from fmedge.cli.bench_report import distribution, report

SLOTS = 12
CTX_SIZE = 4096
NUM_STREAMS = 8
NUM_PROMPT_TOKENS = 2000
NUM_ARRIVALS = 8
ARRIVAL_INTERVAL_S = 2.0
SETTLE_S = 1.0


async def run(bench: Bench) -> list[Outcome | Skipped]:
    row = "8 streams while 2,000-token prompts arrive"
    if bench.llama_server is None:
        return [Skipped(row, "FMEDGE_BENCH_LLAMA_SERVER is not set")]
    with bench.both(ctx_size=CTX_SIZE, slots=SLOTS) as (ours, peer):
        rounds = await interleave(bench, ours, peer, _measure)
    return [ratio(row, "p99 time between tokens", rounds, "tbt_p99_ms", at_most=0.5)]


async def _measure(server: Server, number: int) -> dict[str, float]:
    """Streams run for the whole window; arrivals come on a clock, whether or not served."""
    client = Client(server.target, reuses=False)
    streams: list[Sent] = []
    sending = []
    for request in load.requests(server, NUM_STREAMS, 64, CTX_SIZE - 128, 50_000 + number):
        streams.append(Sent(index=len(streams), arrival_s=time.perf_counter()))
        sending.append(asyncio.create_task(client.exchange(request, streams[-1], 300.0)))
    await asyncio.sleep(SETTLE_S)
    start_s = time.perf_counter()
    arriving = []
    for request in load.requests(server, NUM_ARRIVALS, NUM_PROMPT_TOKENS, 8, 60_000 + number):
        arriving.append(asyncio.create_task(load.closed_loop(server, [request], 1, 8)))
        await asyncio.sleep(ARRIVAL_INTERVAL_S)
    arrivals = report([outcome for one in await asyncio.gather(*arriving) for outcome in one])
    end_s = time.perf_counter()
    for task, stream in zip(sending, streams, strict=True):
        if task.done():
            load.check(server, stream)
            raise load.LoadError(f"{server.name}: a stream ended before the window did")
        task.cancel()  # hangs up
    await asyncio.gather(*sending, return_exceptions=True)
    gaps = [
        later - earlier
        for stream in streams
        for earlier, later in pairwise(stream.times_s)
        if start_s <= later <= end_s
    ]
    between_tokens = distribution(gaps)
    assert between_tokens is not None
    assert arrivals.ttft_ms is not None
    return {
        "tbt_p50_ms": between_tokens.p50,
        "tbt_p99_ms": between_tokens.p99,
        "tbt_max_ms": between_tokens.max,
        "ttft_p50_ms": arrivals.ttft_ms.p50,
        "window_s": end_s - start_s,
        "stream_tok/s": len(gaps) / (end_s - start_s),
    }
