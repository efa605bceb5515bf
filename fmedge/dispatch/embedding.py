"""Embeddings: each sequence is a request like any other for the scheduler, and one call has only a
window of them in flight, so that thousands of inputs do not fill the queue for all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from fmedge.replica.protocol import Embedded

MAX_IN_FLIGHT = 32


class Embedding:
    """One sequence to embed; `attempt_id` names it to the replica that has it."""

    __slots__ = ("attempt_id", "future", "model", "replica", "request_id", "tokens")

    def __init__(self, request_id: int, model: str, tokens: bytes) -> None:
        self.request_id = request_id
        self.model = model
        self.tokens = tokens
        self.future: asyncio.Future[Embedded] = asyncio.get_running_loop().create_future()
        self.replica = ""
        self.attempt_id = 0

    def succeed(self, embedded: Embedded) -> None:
        if not self.future.done():
            self.future.set_result(embedded)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.future.cancel()
        if self.future.done() and not self.future.cancelled():
            self.future.exception()  # another one's error is already on its way


async def embed_all(
    tokens: Sequence[bytes],
    begin: Callable[[bytes], Embedding],
    cancel: Callable[[Embedding], None],
) -> list[tuple[bytes, int]]:
    """Every sequence's packed float32 vector and token count, in order; the first failure ends
    all. `begin` submits a sequence, `cancel` takes one back."""
    results: list[tuple[bytes, int]] = []
    in_flight: deque[Embedding] = deque()
    try:
        for sequence in tokens:
            if len(in_flight) >= MAX_IN_FLIGHT:
                results.append(await _first_result(in_flight))
            in_flight.append(begin(sequence))
        while in_flight:
            results.append(await _first_result(in_flight))
    finally:
        for embedding in in_flight:
            cancel(embedding)
    return results


async def _first_result(in_flight: deque[Embedding]) -> tuple[bytes, int]:
    embedded = await in_flight[0].future
    in_flight.popleft()
    return embedded.vector, embedded.num_tokens
