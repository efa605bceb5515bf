"""POST /admin/models/load and /admin/models/unload: what `fmedge load` and `fmedge unload` ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from fmedge.http.decode import BodyDecoder
from fmedge.http.errors import json_response
from fmedge.server.residency import COMMAND_TIMEOUT_S, ModelManager, ModelResidency


class ModelCommand(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """model: name or alias. timeout_s: the longest to wait for it to be done."""

    model: Annotated[str, Meta(min_length=1)]
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = COMMAND_TIMEOUT_S


_decoder = BodyDecoder(ModelCommand)


def add_routes(
    app: web.Application, manager: ModelManager, resolve: Callable[[str], str] = lambda name: name
) -> None:
    """resolve: a model's name from a name or alias; ModelNotFoundError for others."""

    def handler(
        command: Callable[[str, float], Awaitable[ModelResidency]],
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def post(request: web.Request) -> web.StreamResponse:
            body = _decoder.decode(await request.read())
            return json_response(await command(resolve(body.model), body.timeout_s))

        return post

    app.router.add_post("/admin/models/load", handler(manager.load))
    app.router.add_post("/admin/models/unload", handler(manager.unload))
