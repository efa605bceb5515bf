"""Load shapes on one server, each returning what every request saw."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import client
from bench.client import Connection, Reply
from bench.servers import Server

FIRST_TOKEN = 300  # random prompts use token ids from here: text, no byte or control tokens
LAST_TOKEN = 30_000


def random_prompts(
    num_prompts: int, num_tokens: int, seed: int, num_shared: int = 0
) -> list[list[int]]:
    """Prompts of random tokens; the first num_shared are the same in all."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(FIRST_TOKEN, LAST_TOKEN, num_shared).tolist()
    return [
        shared + rng.integers(FIRST_TOKEN, LAST_TOKEN, num_tokens - num_shared).tolist()
        for _ in range(num_prompts)
    ]


def completion(
    server: Server, prompt: list[int], max_tokens: int, seed: int, **fields: Any
) -> bytes:
    """A streaming /v1/completions request as every row sends it."""
    body = {
        "model": server.model_name,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0.8,
        "ignore_eos": True,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    return client.post(server.host, server.port, "/v1/completions", body)


@dataclass(frozen=True)
class LoadResult:
    """All replies of a run and its wall time."""

    replies: tuple[Reply, ...]
    wall_s: float

    @property
    def output_tokens_per_s(self) -> float:
        return sum(reply.num_tokens for reply in self.replies) / self.wall_s

    def ttft_s(self, quantile: float) -> float:
        return percentile([reply.ttft_s for reply in self.replies], quantile)


def percentile(values: Sequence[float], quantile: float) -> float:
    """The smallest value with at least that share of the values at or below it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]


async def closed_loop(
    server: Server, requests: Sequence[bytes], concurrency: int, max_tokens: int | None = None
) -> LoadResult:
    """`concurrency` clients, each sending its next request when the last has ended.

    Every request has a connection of its own: llama-server closes one after a stream.
    max_tokens: every reply must have exactly that many tokens, or the run is not worth a number.
    """
    waiting = iter(requests)
    raw = []

    async def work() -> None:
        for request in waiting:
            connection = await Connection.open(server.host, server.port)
            try:
                raw.append(await connection.send(request))
            finally:
                connection.close()

    start_s = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    wall_s = time.perf_counter() - start_s
    replies = tuple(client.parse(reply) for reply in raw)
    for reply in replies:
        if reply.status != 200 or (max_tokens is not None and reply.num_tokens != max_tokens):
            raise client.ProtocolError(
                f"{server.name}: status {reply.status}, {reply.num_tokens} tokens where "
                f"{max_tokens} were asked: {reply.body[:300]!r}"
            )
    return LoadResult(replies, wall_s)


async def fetch(server: Server, path: str, timeout_s: float = 10.0) -> Reply:
    """GET over a connection of its own."""
    connection = await Connection.open(server.host, server.port)
    try:
        return client.parse(
            await connection.send(client.get(server.host, server.port, path), timeout_s)
        )
    finally:
        connection.close()
