"""What the port says while models load: 503 with Retry-After and how far each has come."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from fmedge.dispatch import DispatcherStatus

RETRY_AFTER_S = 1


def loading_app(status: Callable[[], DispatcherStatus]) -> web.Application:
    """Answers every path; the connection is closed after, so that the next request meets the
    real application."""

    async def answer(request: web.Request) -> web.Response:
        progress = {
            model.name: min((r.status.load_fraction for r in model.replicas), default=0.0)
            for model in status().models
        }
        if request.path == "/health":
            body: dict[str, object] = {
                "status": "loading",
                "models": dict.fromkeys(progress, "loading"),
                "load_fraction": progress,
            }
        else:
            message = "The models are still loading: try again in a moment."
            body = {
                "error": {
                    "message": message,
                    "type": "unavailable_error",
                    "param": None,
                    "code": "loading",
                }
            }
        response = web.Response(
            status=503,
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
        response.force_close()
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app
