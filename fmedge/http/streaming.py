"""Runs the generations of one request together: into a stream, or until all are complete.

Whatever ends a request early (an error in one choice, a client that is gone) cancels all of its
generations. An error before the first token is a plain HTTP error; after it, an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from fmedge.errors import GenerationFailedError
from fmedge.http.context import Context
from fmedge.http.errors import error_event
from fmedge.http.estimate_headers import REPLICA, estimate_headers
from fmedge.http.output import Output
from fmedge.http.sse import DONE, PING, EventStream
from fmedge.types import GenerationRequest

if TYPE_CHECKING:
    from fmedge.dispatch import Generation, TokenBatch

# How long the response's head waits for the first token, so that an early failure has a status.
_HEAD_WAIT_S = 5.0


class Choice(Protocol):
    """One generation on its way into a response."""

    output: Output

    def opening(self) -> bytes:
        """Events before any token, b"" if none."""
        ...

    def events(self, batch: TokenBatch) -> bytes:
        """A batch as events, b"" if it has nothing to show yet."""
        ...

    def take(self, batch: TokenBatch) -> None:
        """Keep a batch for the response in one piece."""
        ...


async def submit_all(context: Context, requests: Sequence[GenerationRequest]) -> list[Generation]:
    """All or none: when one is refused, those before it are cancelled."""
    generations: list[Generation] = []
    try:
        for request in requests:
            generations.append(await context.dispatcher.submit(request))  # noqa: PERF401
    except BaseException:
        for generation in generations:
            generation.cancel()
        raise
    return generations


async def complete(choices: Sequence[Choice]) -> None:
    """Run every choice to its end."""
    try:
        if len(choices) == 1:
            await _consume(choices[0])
        else:
            await _together([_consume(choice) for choice in choices])
    finally:
        _cancel(choices)


async def stream(
    request: web.Request,
    context: Context,
    choices: Sequence[Choice],
    ending: Callable[[], bytes],
) -> web.StreamResponse:
    """The choices as server-sent events, then `ending()` and [DONE]."""
    settings = context.settings
    generation = choices[0].output.generation
    headers = estimate_headers(generation)
    events: EventStream | None = None
    iterators = [aiter(choice.output.generation) for choice in choices]
    first = asyncio.ensure_future(_next(iterators[0]))
    try:
        await asyncio.wait({first}, timeout=min(settings.ping_interval_s, _HEAD_WAIT_S))
        if first.done():
            first.result()
        if generation.replica:
            headers[REPLICA] = generation.replica  # it may have moved since
        events = await EventStream.open(
            request,
            headers,
            ping_interval_s=settings.ping_interval_s,
            write_timeout_s=settings.write_timeout_s,
        )
        try:
            if not first.done():
                await events.write(PING)
            if len(choices) == 1:
                await _pump(events, choices[0], iterators[0], first, ending)
            else:
                pumps = [_pump(events, choices[0], iterators[0], first, None)]
                pumps += [
                    _pump(events, choice, iterator, None, None)
                    for choice, iterator in zip(choices[1:], iterators[1:], strict=True)
                ]
                await _together(pumps)
                await events.end(ending() + DONE)
        except ConnectionError:
            pass  # the client is gone; `finally` cancels what it asked for
        except Exception as error:
            await events.end(b"data: " + error_event(error) + b"\n\n")
        return events.response
    finally:
        first.cancel()
        _cancel(choices)
        if events is not None:
            events.close()


async def _pump(
    events: EventStream,
    choice: Choice,
    iterator: AsyncIterator[TokenBatch],
    first: asyncio.Future[TokenBatch] | None,
    ending: Callable[[], bytes] | None,
) -> None:
    """One choice into the stream; `ending` closes the stream in the same write as the last."""
    output = choice.output
    batch = await (first if first is not None else _next(iterator))
    data = choice.opening() + choice.events(batch)
    while output.finish is None:
        if data:
            await events.write(data)
        batch = await _next(iterator)
        data = choice.events(batch)
    if ending is not None:
        await events.end(data + ending() + DONE)
    elif data:
        await events.write(data)


async def _consume(choice: Choice) -> None:
    iterator = aiter(choice.output.generation)
    while choice.output.finish is None:
        choice.take(await _next(iterator))


async def _next(iterator: AsyncIterator[TokenBatch]) -> TokenBatch:
    try:
        return await anext(iterator)
    except StopAsyncIteration:
        raise GenerationFailedError("The generation ended without saying why.") from None


async def _together(work: Sequence[Coroutine[None, None, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _cancel(choices: Sequence[Choice]) -> None:
    for choice in choices:
        choice.output.generation.cancel()
