"""An HTTP server around a function from a request's body to the pieces of its answer.

The rule: bytes go through as they are. Around a Serve handle it is an ingress: Serve's router
chooses the replica in this process, and what is spared is the proxy actor and its passing on of
ASGI messages.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from aiohttp import web

from bench.ray_serve.wire import error_body, models_body

MAX_BODY_BYTES = 64 << 20

Pieces = Callable[[bytes], AsyncGenerator[bytes, None]]


@contextlib.asynccontextmanager
async def listening(port: int, model: str, pieces_of: Pieces) -> AsyncIterator[None]:
    """Answers on `port` of 127.0.0.1 while the block runs. A first piece that is an error's
    document becomes a 400, an exception before it a 500; after it the connection breaks off."""

    async def complete(request: web.Request) -> web.StreamResponse:
        async with contextlib.aclosing(pieces_of(await request.read())) as pieces:
            try:
                piece = await anext(pieces)
            except Exception as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                return _answer(error_body(lines[-1], "server_error"), 500)
            if not piece.startswith(b"data:"):
                return _answer(piece, 400 if piece.startswith(b'{"error"') else 200)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(piece)
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
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
