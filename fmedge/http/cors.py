"""CORS, off unless origins are given: then exactly those origins may call from a browser."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from fmedge.http.errors import Handler
from fmedge.http.estimate_headers import DESCRIPTIONS
from fmedge.http.promises import HEADERS

_ORIGIN = web.RequestKey("allowed_origin", str)
_METHODS = "GET, POST, OPTIONS"
_HEADERS = ", ".join(("Authorization", "Content-Type", "x-api-key", *HEADERS))
_EXPOSED = ", ".join(("Retry-After", *DESCRIPTIONS))
_MAX_AGE_S = "600"


def cors_middleware(allowed: Callable[[web.Request], tuple[str, ...]]) -> object:
    """Middleware that answers preflights and marks responses for the allowed origins, as they are
    now."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        sent = request.headers.get("Origin")
        if sent is None:
            return await handler(request)
        origins = allowed(request)
        any_origin = "*" in origins
        origin = "*" if any_origin else sent if sent in origins else None
        if origin is None:
            return await handler(request)
        # On the request, so that a stream's headers, sent from inside its handler, carry it too.
        request[_ORIGIN] = origin
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            asked = request.headers.get("Access-Control-Request-Headers", _HEADERS)
            headers = {
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": asked if any_origin else _HEADERS,
                "Access-Control-Max-Age": _MAX_AGE_S,
            }
            return web.Response(status=204, headers=headers)
        return await handler(request)

    return middleware


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """on_response_prepare signal."""
    origin = request.get(_ORIGIN)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        response.headers.add("Vary", "Origin")
