"""An emulated replica for code that has no dispatcher: tokens of one request, as they come.

The rule: a request's first token comes at once and its last ones with its end; in between they may
come in chunks, so that what carries them need not pay for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import count

from fmedge.errors import GenerationFailedError, ReplicaLostError, RequestError, UnavailableError
from fmedge.replica.emulated.replica import EmulatedReplica
from fmedge.replica.interface import Replica
from fmedge.replica.protocol import Embedded, Failed, Step, Submit
from fmedge.sched.emulation import ReplicaSpec
from fmedge.types import EngineInfo, SamplingParams, Vocab


class Emulator:
    """One replica and its requests, on one event loop. It loads with the first request."""

    def __init__(
        self,
        spec: ReplicaSpec,
        vocab: Vocab,
        *,
        load_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.replica = EmulatedReplica(spec, vocab, load_s=load_s, clock=clock)
        self._clock = clock
        self._ids = count(1)
        self._streams: dict[int, _Stream] = {}
        self._changed = asyncio.Event()
        self._is_started = False
        self._lost = ""

    @property
    def num_open(self) -> int:
        """Requests that have not ended."""
        return len(self._streams)

    async def ready(self) -> None:
        """Load, if that was not done before. ReplicaLostError if it never will be ready."""
        if not self._is_started and not self._lost:
            self._is_started = True
            self.replica.start(self)
        await self._changed.wait()
        if self._lost:
            raise ReplicaLostError(f"Replica {self.replica.name} {self._lost}.")

    async def generate(
        self, tokens: bytes, max_tokens: int, seed: int, *, chunk_s: float = 0.0
    ) -> AsyncIterator[list[int]]:
        """New tokens of a prompt (packed int32), in lists. chunk_s: seconds between lists at
        least, but for the first token and the end. Ending the iteration cancels the request.

        RequestError for a prompt that cannot be, UnavailableError where too much waits,
        ReplicaLostError when it is closed.
        """
        await self.ready()
        request_id = next(self._ids)
        stream = self._streams[request_id] = _Stream(chunk_s)
        try:
            self.replica.submit(
                Submit(
                    request_id=request_id,
                    tokens=tokens,
                    num_prompt_tokens=len(tokens) // 4,
                    max_tokens=max_tokens,
                    sampling=SamplingParams(seed=seed),
                )
            )
            is_over = False
            while not is_over:
                await stream.changed.wait()
                stream.changed.clear()
                if stream.error is not None:
                    raise stream.error
                is_over = stream.is_over
                new, stream.tokens = stream.tokens, []
                if new:
                    yield new
        finally:
            del self._streams[request_id]
            if not stream.is_over:
                self.replica.cancel((request_id,))

    async def close(self) -> None:
        """End it; open requests get ReplicaLostError."""
        await self.replica.close()
        self._lose("was closed")

    # the replica's listener

    def on_ready(self, replica: Replica, info: EngineInfo) -> None:
        self._changed.set()

    def on_step(self, replica: Replica, step: Step) -> None:
        now_s = self._clock()
        for part in step.sequences:
            stream = self._streams.get(part.request_id)
            if stream is not None:
                stream.add(part.tokens, part.finish is not None, now_s)

    def on_embedded(self, replica: Replica, embedded: Embedded) -> None:
        """Nothing is ever embedded."""

    def on_failed(self, replica: Replica, failed: Failed) -> None:
        stream = self._streams.get(failed.request_id)
        if stream is not None:
            stream.fail(_error_of(failed))

    def on_lost(self, replica: Replica, reason: str, *, crashed: bool) -> None:
        self._lose(reason)

    def on_gone(self, replica: Replica, reason: str) -> None:
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._changed.set()
        for stream in self._streams.values():
            stream.fail(ReplicaLostError(f"Replica {self.replica.name} {self._lost}."))


class _Stream:
    """Tokens of one request that nobody has taken yet."""

    __slots__ = ("_chunk_s", "_due_s", "changed", "error", "is_over", "tokens")

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s
        self._due_s = 0.0
        self.tokens: list[int] = []
        self.changed = asyncio.Event()
        self.is_over = False
        self.error: Exception | None = None

    def add(self, tokens: tuple[int, ...], is_end: bool, now_s: float) -> None:
        self.tokens += tokens
        self.is_over = is_end
        if is_end or now_s >= self._due_s:
            self._due_s = now_s + self._chunk_s
            self.changed.set()

    def fail(self, error: Exception) -> None:
        if not self.is_over:
            self.is_over, self.error = True, error
            self.changed.set()


def _error_of(failed: Failed) -> Exception:
    match failed.code:
        case "invalid":
            return RequestError(failed.message)
        case "overloaded":
            return UnavailableError(
                failed.message, retry_after_s=1.0, code="overloaded", is_overload=True
            )
    return GenerationFailedError(failed.message)
