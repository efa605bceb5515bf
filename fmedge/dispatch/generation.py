"""A generation is one consumer's view of one request; only dispatch writes to it.

A consumer is woken once for whatever has come since it last looked, so a slow one costs a list
that max_tokens bounds, and a fast one pays no task or queue per token.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

from msgspec import Struct

from fmedge.errors import FmedgeError
from fmedge.replica.protocol import SequenceTokens
from fmedge.sched.decision import Decision
from fmedge.types import FinishReason, GenerationRequest, StepTimings, TokenLogprobs


class TokenBatch(Struct, frozen=True):
    """New tokens of one generation, in order. `logprobs`, where asked for, has one entry a token.
    `finish` is set on the last batch alone."""

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] | None = None
    finish: FinishReason | None = None


class Generation:
    """The tokens of one request as they come. Iterate it once; leave early with `cancel()`, or
    hold it in an `async with`, which cancels on the way out.

    Iteration raises GenerationFailedError when this request failed on the replicas' side,
    RequestError when a replica found it invalid, UnavailableError when the server shut down.
    A wait for the next batch may be cancelled (a timeout around it): nothing is lost.

    max_tokens: the request's, cut to what the context leaves. num_cached_tokens: known with the
    first token. timings: known with the finish, of the replica that finished it. decision: why it
    is where it is, in numbers.
    """

    def __init__(
        self,
        request_id: int,
        request: GenerationRequest,
        max_tokens: int,
        on_cancel: Callable[[Generation], None],
        on_stop: Callable[[Generation], None],
    ) -> None:
        self.request_id = request_id
        self.request = request
        self.max_tokens = max_tokens
        self.num_cached_tokens = 0
        self.timings: StepTimings | None = None
        self.decision: Decision | None = None
        self._on_cancel = on_cancel
        self._on_stop = on_stop
        self._unread: list[SequenceTokens] = []
        self._waiter: asyncio.Future[None] | None = None
        self._error: FmedgeError | None = None
        self._is_over = False
        # Dispatch's own record of the request; times are time.monotonic().
        self.emitted = array("i")
        self.replica = ""
        self.attempt_id = 0
        self.was_resumed = False
        self.arrived_s = time.monotonic()
        self.assigned_s = 0.0
        self.first_token_s = 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens emitted so far, read or not."""
        return len(self.emitted)

    @property
    def is_over(self) -> bool:
        """Finished, failed or cancelled; unread tokens may be left."""
        return self._is_over

    def cancel(self) -> None:
        """Nobody wants the rest. Iteration ends with finish "cancelled". Idempotent."""
        if not self._is_over:
            self._on_cancel(self)

    def stop(self) -> None:
        """The consumer found the end in the text, a stop string: this request is answered."""
        if not self._is_over:
            self._on_stop(self)

    def __aiter__(self) -> AsyncIterator[TokenBatch]:
        return self

    async def __anext__(self) -> TokenBatch:
        while not self._unread:
            if self._is_over:
                self._end()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        unread, self._unread = self._unread, []
        last = unread[-1]
        if len(unread) == 1:
            return TokenBatch(last.tokens, last.logprobs, last.finish)
        tokens = tuple(token for part in unread for token in part.tokens)
        logprobs = None
        if any(part.logprobs is not None for part in unread):
            logprobs = tuple(entry for part in unread for entry in part.logprobs or ())
        return TokenBatch(tokens, logprobs, last.finish)

    async def __aenter__(self) -> Generation:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.cancel()

    def push(self, part: SequenceTokens) -> None:
        """Dispatch alone: hand over new tokens; with a finish, the last."""
        self.emitted.extend(part.tokens)
        self._unread.append(part)
        if part.finish is not None:
            self._is_over = True
        self._wake()

    def fail(self, error: FmedgeError) -> None:
        """Dispatch alone: end it; iteration raises `error` after the unread tokens."""
        self._is_over = True
        self._error = error
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _end(self) -> NoReturn:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopAsyncIteration
