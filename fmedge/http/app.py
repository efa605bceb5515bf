"""Routes and middlewares put together; nothing else knows all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from fmedge.http import admin, chat, completions, embeddings, estimate, health, models, tokens
from fmedge.http.auth import auth_middleware
from fmedge.http.connection import Runner
from fmedge.http.context import CURRENT, Context, Current, context_of
from fmedge.http.cors import add_cors_headers, cors_middleware
from fmedge.http.errors import errors_middleware
from fmedge.http.limits import limits_middleware
from fmedge.http.openapi import get_openapi
from fmedge.http.settings import HttpSettings

if TYPE_CHECKING:
    from fmedge.dispatch import Dispatcher
    from fmedge.models.served import ServedModel


def build_app(
    dispatcher: Dispatcher, models_by_name: Mapping[str, ServedModel], settings: HttpSettings
) -> web.Application:
    """The whole endpoint. At least one model is needed; the dispatcher must be started."""
    middlewares: list[Any] = [
        cors_middleware(lambda request: context_of(request).settings.cors_origins),
        errors_middleware,
        auth_middleware(lambda request: context_of(request).keys),
        limits_middleware(lambda request: context_of(request).settings),
    ]
    app = web.Application(middlewares=middlewares, client_max_size=settings.max_body_bytes)
    app[CURRENT] = Current(Context(dispatcher, models_by_name, settings))
    app.on_response_prepare.append(add_cors_headers)
    app.cleanup_ctx.append(_closing)
    router = app.router
    router.add_post("/v1/chat/completions", chat.create_chat_completion)
    router.add_post("/v1/completions", completions.create_completion)
    router.add_post("/v1/embeddings", embeddings.create_embedding)
    router.add_post("/v1/estimate", estimate.post_estimate)
    router.add_get("/v1/models", models.list_models)
    router.add_get("/v1/models/{model:.+}", models.retrieve_model)
    router.add_post("/tokenize", tokens.post_tokenize)
    router.add_post("/detokenize", tokens.post_detokenize)
    router.add_get("/health", health.get_health)
    router.add_get("/v1/health", health.get_health)
    router.add_get("/metrics", health.get_metrics)
    router.add_get("/props", health.get_props)
    router.add_get("/slots", health.get_slots)
    router.add_get("/admin/decisions", admin.get_decisions)
    router.add_get("/admin/workflows", admin.get_workflows)
    router.add_get("/openapi.json", get_openapi)
    return app


async def _closing(app: web.Application) -> AsyncIterator[None]:
    yield
    app[CURRENT].context.close()


def build_runner(app: web.Application) -> Runner:
    """The app ready to be bound, within its settings' limits."""
    current = app[CURRENT]
    return Runner(app, lambda: current.context.settings)
