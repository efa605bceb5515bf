"""32 requests of 128 + 64 tokens at concurrency 8, and the same with a shared prefix."""

from __future__ import annotations

from bench import load
from bench.context import Bench, Outcome, Skipped, interleave, ratio
from bench.servers import Server
from fmedge.cli.bench_report import report

NUM_REQUESTS = 32
CONCURRENCY = 8
MAX_TOKENS = 64


async def distinct(bench: Bench) -> list[Outcome | Skipped]:
    row = "distinct prompts, 32 x (128 + 64)"
    if bench.llama_server is None:
        return [Skipped(row, "FMEDGE_BENCH_LLAMA_SERVER is not set")]
    with bench.both() as (ours, peer):
        rounds = await interleave(bench, ours, peer, lambda s, n: _run(s, n, 128, 0))
    return [ratio(row, "output tokens/s", rounds, "tok/s", at_least=1.15)]


async def shared(bench: Bench) -> list[Outcome | Skipped]:
    row = "480 of 512 prompt tokens shared"
    if bench.llama_server is None:
        return [Skipped(row, "FMEDGE_BENCH_LLAMA_SERVER is not set")]
    with bench.both() as (ours, peer):
        rounds = await interleave(bench, ours, peer, lambda s, n: _run(s, n, 512, 480))
    return [
        ratio(row, "output tokens/s", rounds, "tok/s", at_least=1.8),
        ratio(row, "TTFT p95", rounds, "ttft_p95_ms", at_most=0.4),
    ]


async def _run(server: Server, number: int, num_prompt: int, num_shared: int) -> dict[str, float]:
    """One load with prompts that no earlier round had."""
    requests = load.requests(
        server, NUM_REQUESTS, num_prompt, MAX_TOKENS, 1000 * num_shared + number,
        shared_prefix_tokens=num_shared,
    )  # fmt: skip
    result = report(await load.closed_loop(server, requests, CONCURRENCY, MAX_TOKENS))
    assert result.ttft_ms is not None
    return {
        "tok/s": result.output_tokens_per_s,
        "ttft_p50_ms": result.ttft_ms.p50,
        "ttft_p95_ms": result.ttft_ms.p95,
        "cached": result.num_cached_tokens,
    }
