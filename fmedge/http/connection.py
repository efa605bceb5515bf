"""Connections: bounded in number and in how long they may go without a whole request; what they
carry that is no HTTP is answered as JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from fmedge.http.errors import json_response
from fmedge.http.responses import ErrorBody, ErrorResponse
from fmedge.http.settings import HttpSettings

ACCEPTED_S = 0.2
"""Whoever has connected sends a request within this time, if it was in a hurry to."""

log = logging.getLogger("fmedge.http.connection")


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what could not be parsed. It is the client's fault: a line, no traceback."""
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        reason = (message or str(exc)).strip().partition("\n")[0].rstrip(":. ")
        log.info("%s sent what is not valid HTTP: %s", request.remote, reason)
        body = ErrorBody(
            f"The request is not valid HTTP: {reason}.", "invalid_request_error", None,
            "malformed_request",
        )  # fmt: skip
        response = json_response(ErrorResponse(body), status=status)
        response.force_close()
        return response


class _Refused(asyncio.Protocol):
    """A connection too many, closed before it costs anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Runner(web.AppRunner):
    """An app whose connections are `Connection`s, at most `max_connections` at a time.

    aiohttp's keep-alive timer runs from a connection's start, and from the end of each response,
    until the whole head of the next request has come: a head that trickles in does not hold it up.
    """

    def __init__(self, app: web.Application, settings: Callable[[], HttpSettings]) -> None:
        """settings: those of connections that come now."""
        # Of a request whose client is gone the handler is cancelled.
        super().__init__(app, handler_cancellation=True, access_log=None)
        self._settings = settings

    async def stop_accepting(self) -> None:
        """Take no further connection. Requests on those that there are still count for a moment;
        then idle ones are closed, and others as soon as they are answered."""
        for site in list(self.sites):
            await site.stop()
        await asyncio.sleep(ACCEPTED_S)
        server = super().server
        if server is not None:
            server.pre_shutdown()

    @property
    def server(self) -> web.Server | None:
        """What makes a protocol for each connection that a site accepts."""
        server = super().server
        if server is None:
            return None
        loop = asyncio.get_running_loop()

        def connect() -> asyncio.Protocol:
            settings = self._settings()
            if len(server.connections) >= settings.max_connections:
                log.warning("%d connections are open: one more is refused",
                            settings.max_connections)  # fmt: skip
                return _Refused()
            options: dict[str, Any] = {
                "logger": log,
                "access_log": None,
                "keepalive_timeout": settings.keepalive_timeout_s,
                "max_line_size": settings.max_header_bytes,
                "max_field_size": settings.max_header_bytes,
                "max_headers": settings.max_headers,
            }
            return Connection(server, loop=loop, **options)

        return cast("web.Server", connect)
