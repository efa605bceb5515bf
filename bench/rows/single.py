"""One stream's decode speed over HTTP against llama-bench, which has no server around it."""

from __future__ import annotations

import asyncio
import statistics

import msgspec

from bench import load
from bench.context import Bench, Outcome, Skipped
from bench.servers import Server, ServerError
from fmedge.cli.bench_report import report

NUM_TOKENS = 256
NUM_PROMPT_TOKENS = 8


async def run(bench: Bench) -> list[Outcome | Skipped]:
    row = "one stream"
    if bench.llama_bench is None:
        return [Skipped(row, "FMEDGE_BENCH_LLAMA_BENCH is not set")]
    ours: list[float] = []
    theirs: list[float] = []
    with bench.fmedge() as server:
        for number in range(bench.rounds + 1):
            first, second = await _stream(server, number), await _llama_bench(bench)
            label = f"round {number}" if number else "warm-up"
            bench.say(f"  {label}: fmedge {first:.1f} tok/s | llama-bench {second:.1f} tok/s")
            if number:
                ours.append(first)
                theirs.append(second)
    samples = tuple(a / b for a, b in zip(ours, theirs, strict=True))
    detail = {"fmedge": ours, "peer": theirs}
    return [
        Outcome(row, "tokens/s against llama-bench tg", statistics.median(samples), "x", 0.97, True,
                samples, detail)
    ]  # fmt: skip


async def _stream(server: Server, number: int) -> float:
    """Tokens/s between the first and the last token of the response."""
    requests = load.requests(server, 1, NUM_PROMPT_TOKENS, NUM_TOKENS, 70_000 + number)
    result = report(await load.closed_loop(server, requests, 1, NUM_TOKENS))
    assert result.tpot_ms is not None
    return 1000 / result.tpot_ms.mean


async def _llama_bench(bench: Bench) -> float:
    """Its generation speed from an empty context, same model, threads and cores."""
    command = [
        "taskset", "-c", ",".join(map(str, bench.cores)), str(bench.llama_bench),
        "-m", str(bench.model), "-t", str(bench.threads), "-p", "0", "-n", str(NUM_TOKENS),
        "-r", "1", "-o", "json",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    if process.returncode != 0:
        raise ServerError(f"llama-bench failed: {errors[-1000:].decode(errors='replace')}")
    return float(msgspec.json.decode(output)[0]["avg_ts"])
