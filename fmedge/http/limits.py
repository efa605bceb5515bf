"""Bounds on what clients may hold: requests at once, body bytes, and time to send a body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from fmedge.errors import UnavailableError
from fmedge.http.errors import BodyTimeoutError, Handler, TooLargeError
from fmedge.http.settings import HttpSettings

# Cheap, and needed most when everything else is refused.
UNLIMITED_PATHS = frozenset({"/health", "/v1/health", "/metrics"})


def limits_middleware(limits: Callable[[web.Request], HttpSettings]) -> object:
    """Middleware that refuses with 503 what would be one request too many. limits: as they are
    now."""
    running = 0

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal running
        if request.path in UNLIMITED_PATHS:
            return await handler(request)
        settings = limits(request)
        if running >= settings.max_concurrent_requests:
            raise UnavailableError(
                f"{settings.max_concurrent_requests} requests are in progress, which is this "
                "server's limit. Try again later.",
                retry_after_s=settings.retry_after_s,
                code="too_many_requests",
            )
        running += 1
        try:
            return await handler(request)
        finally:
            running -= 1

    return middleware


async def read_body(request: web.Request, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. A declared length over the limit is refused before a byte is read."""
    if (request.content_length or 0) > max_bytes:
        raise TooLargeError(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise BodyTimeoutError(
            f"The request body did not arrive within {timeout_s:g} s.", code="request_timeout"
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise TooLargeError(max_bytes) from None
