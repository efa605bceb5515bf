"""One server-sent-event stream: what is ready together goes out in one write.

A client that stops reading stalls its own stream alone, and is dropped after `write_timeout_s`.
A stream that has nothing to say sends a comment every `ping_interval_s`, so that proxies keep it.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web
from multidict import istr

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"

_encode = msgspec.json.Encoder().encode


def event(body: object) -> bytes:
    """A Struct as one event."""
    return b"data: " + _encode(body) + b"\n\n"


_HEADERS: dict[str, str] = {
    istr("Content-Type"): "text/event-stream; charset=utf-8",
    istr("Cache-Control"): "no-cache",
    istr("X-Accel-Buffering"): "no",
}


class _HeadWithFirstEvent(web.StreamResponse):
    """aiohttp sends a stream's head by itself; with the first event it is one system call less."""

    _send_headers_immediately = False


class EventStream:
    """Writer of one response. `close` must be called, whatever happens."""

    __slots__ = ("_last_write_s", "_loop", "_response", "_timer", "_watch", "_write_began_s")

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._last_write_s = self._loop.time()
        self._write_began_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        request: web.Request,
        headers: dict[str, str],
        *,
        ping_interval_s: float,
        write_timeout_s: float,
    ) -> EventStream:
        """The response's head goes out with the first write; `headers` come on top of a stream's
        own."""
        response = _HeadWithFirstEvent(headers=_HEADERS | headers)
        await response.prepare(request)
        stream = cls(request, response)
        stream._tick(request, ping_interval_s, write_timeout_s)
        return stream

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns."""
        return self._response

    async def write(self, data: bytes) -> None:
        """Whole events. Raises ConnectionResetError when the client is gone."""
        self._write_began_s = self._last_write_s = self._loop.time()
        await self._response.write(data)
        self._write_began_s = 0.0

    def close(self) -> None:
        """Stop the timer; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def end(self, data: bytes) -> None:
        """The last events, and the end of the response, in one write."""
        self._write_began_s = self._last_write_s = self._loop.time()
        await self._response.write_eof(data)
        self.close()

    def _tick(self, request: web.Request, ping_interval_s: float, write_timeout_s: float) -> None:
        now = self._loop.time()
        delay = ping_interval_s
        if self._write_began_s:
            if now - self._write_began_s > write_timeout_s and request.transport is not None:
                request.transport.abort()
                return
            delay = min(ping_interval_s, write_timeout_s)
        elif now - self._last_write_s >= ping_interval_s:
            if self._watch is None or self._watch.done():
                self._watch = self._loop.create_task(self._ping())
        else:
            delay = self._last_write_s + ping_interval_s - now
        self._timer = self._loop.call_later(
            max(delay, 0.001), self._tick, request, ping_interval_s, write_timeout_s
        )

    async def _ping(self) -> None:
        try:
            await self.write(PING)
        except ConnectionError:
            return
