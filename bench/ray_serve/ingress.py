"""The ingress by handle: an HTTP server in the driver's process that calls the deployment itself.

The rule: bytes go through as they are. Serve's router chooses the replica, in this process; what
is spared is the proxy actor and its passing on of ASGI messages.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle

from bench.ray_serve.wire import error_body, models_body

MAX_BODY_BYTES = 64 << 20


@contextlib.asynccontextmanager
async def listening(handle: DeploymentHandle, model: str, port: int) -> AsyncIterator[None]:
    """Answers on `port` of 127.0.0.1 while the block runs."""
    calls = handle.options(stream=True, method_name="stream")

    async def complete(request: web.Request) -> web.StreamResponse:
        replies = calls.remote(await request.read())
        try:
            try:
                piece = await anext(replies)
            except RayError as error:
                return _error(500, str(error).splitlines()[-1])
            if piece.startswith(b'{"error"'):
                return _answer(piece, status=400)
            if not piece.startswith(b"data:"):
                return _answer(piece)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(piece)
            async for piece in replies:
                await response.write(piece)
            await response.write_eof()
        finally:
            replies.cancel()
        return response

    async def models(request: web.Request) -> web.Response:
        return _answer(models_body(model))

    async def health(request: web.Request) -> web.Response:
        return _answer(b"{}")

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes(
        [
            web.post("/v1/completions", complete),
            web.get("/v1/models", models),
            web.get("/health", health),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


def _answer(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _answer(error_body(message, "server_error"), status)
