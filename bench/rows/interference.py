"""Time between tokens of 8 decoding streams while 2,000-token prompts arrive beside them."""

from __future__ import annotations

import asyncio
import time

from bench import client, load
from bench.client import Connection, ProtocolError
from bench.context import Bench, Outcome, Skipped, interleave, ratio
from bench.servers import Server

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
    return [ratio(row, "p99 time between tokens", rounds, "tbt_p99_s", at_most=0.5)]


async def _measure(server: Server, number: int) -> dict[str, float]:
    """Streams run for the whole window; arrivals come on a clock, whether or not served."""
    streams = [await Connection.open(server.host, server.port) for _ in range(NUM_STREAMS)]
    prompts = load.random_prompts(NUM_STREAMS, 64, 50_000 + number)
    long = CTX_SIZE - 128
    sending = [
        asyncio.create_task(stream.send(load.completion(server, prompt, long, seed)))
        for seed, (stream, prompt) in enumerate(zip(streams, prompts, strict=True))
    ]
    await asyncio.sleep(SETTLE_S)
    start_s = time.perf_counter()
    arriving = []
    for prompt in load.random_prompts(NUM_ARRIVALS, NUM_PROMPT_TOKENS, 60_000 + number):
        request = load.completion(server, prompt, 8, number)
        arriving.append(asyncio.create_task(load.closed_loop(server, [request], 1, 8)))
        await asyncio.sleep(ARRIVAL_INTERVAL_S)
    arrivals = [reply for result in await asyncio.gather(*arriving) for reply in result.replies]
    end_s = time.perf_counter()
    if any(task.done() for task in sending):
        raise ProtocolError(f"{server.name}: a stream ended before the window did")
    partial = [client.parse(raw) for stream in streams if (raw := stream.close()) is not None]
    await asyncio.gather(*sending, return_exceptions=True)
    gaps = [
        later - earlier
        for reply in partial
        for earlier, later in zip(reply.text_s, reply.text_s[1:], strict=False)
        if start_s <= later <= end_s
    ]
    return {
        "tbt_p50_s": load.percentile(gaps, 0.5),
        "tbt_p99_s": load.percentile(gaps, 0.99),
        "tbt_max_s": max(gaps),
        "ttft_p50_s": load.percentile([reply.ttft_s for reply in arrivals], 0.5),
        "window_s": end_s - start_s,
        "stream_tok/s": len(gaps) / (end_s - start_s),
    }
