"""Memory of front and worker over thousands of requests in a row."""

from __future__ import annotations

import asyncio

import psutil

from bench import load
from bench.context import Bench, Outcome, Skipped
from bench.servers import Server
from fmedge.cli.bench_client import Client
from tests import synthetic

CONCURRENCY = 8
NUM_PROMPTS = 500
MAX_TOKENS = 8
NUM_TOKEN_IDS = 400


async def run(bench: Bench) -> list[Outcome | Skipped]:
    num_requests = 10_000 if bench.is_full else 2_000
    num_warm_up = num_requests // 5
    with bench.fmedge(synthetic.cached("tiny"), ctx_size=512, slots=8) as server:
        await _requests(server, num_warm_up, 0)
        before = await _memory(server)
        await _requests(server, num_requests, num_warm_up)
        after = await _memory(server)
    names = ("front", "worker")
    outcomes: list[Outcome | Skipped] = []
    for name, earlier, later in zip(names, before, after, strict=False):
        growth = 100.0 * (later - earlier) / earlier
        bench.say(f"  {name}: {earlier / 2**20:.1f} MiB, then {later / 2**20:.1f} MiB")
        outcomes.append(
            Outcome(f"{num_requests:,} requests in a row", f"growth of the {name}'s memory",
                    growth, "%", 5.0, False, (), {"before": earlier, "after": later})
        )  # fmt: skip
    return outcomes


async def _memory(server: Server) -> list[int]:
    """Resident bytes of the front and then of each worker, once nothing runs."""
    await asyncio.sleep(1.0)
    return [process.memory_info().rss for process in server.processes() if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    return bool(process.status() != psutil.STATUS_ZOMBIE)


async def _requests(server: Server, num_requests: int, first: int) -> None:
    """Every kind of request that leaves something behind: streams, whole answers, hang-ups."""
    requests = []
    client = Client(server.target)
    for number in range(first, first + num_requests):
        same = number % NUM_PROMPTS
        if number % 3 == 0:
            messages = [{"role": "user", "content": f"Tell me about {same:b} {same:o} {same:x}"}]
            body = {"model": server.model_name, "messages": messages, "max_tokens": MAX_TOKENS}
            requests.append(client.request("/v1/chat/completions", body))
        else:
            requests += load.requests(
                server, 1, 16 + number % 200, MAX_TOKENS, same + 90_000, token_low=0,
                token_high=NUM_TOKEN_IDS,
            )  # fmt: skip
    await load.closed_loop(server, requests, CONCURRENCY)
