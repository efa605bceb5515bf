"""Routes and middlewares put together; nothing else knows all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from fmedge.http import admin, chat, completions, embeddings, estimate, health, models, tokens
from fmedge.http.auth import KeyRing, auth_middleware
from fmedge.http.connection import Runner
from fmedge.http.context import CONTEXT, Context
from fmedge.http.cors import add_cors_headers, cors_middleware
from fmedge.http.errors import errors_middleware
from fmedge.http.limits import limits_middleware
from fmedge.http.openapi import openapi_handler
from fmedge.http.settings import HttpSettings

if TYPE_CHECKING:
    from fmedge.dispatch import Dispatcher
    from fmedge.models.served import ServedModel


def build_app(
    dispatcher: Dispatcher, models_by_name: Mapping[str, ServedModel], settings: HttpSettings
) -> web.Application:
    """The whole endpoint. At least one model is needed; the dispatcher must be started."""
    ring = KeyRing(settings.api_keys)
    middlewares: list[Any] = []
    if settings.cors_origins:
        middlewares.append(cors_middleware(settings.cors_origins))
    middlewares.append(errors_middleware)
    if ring:
        middlewares.append(auth_middleware(ring))
    middlewares.append(limits_middleware(settings.max_concurrent_requests, settings.retry_after_s))
    app = web.Application(middlewares=middlewares, client_max_size=settings.max_body_bytes)
    context = Context(dispatcher, models_by_name, settings)
    app[CONTEXT] = context
    if settings.cors_origins:
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
    router.add_get("/openapi.json", openapi_handler(needs_key=bool(ring)))
    return app


async def _closing(app: web.Application) -> AsyncIterator[None]:
    yield
    app[CONTEXT].close()


def build_runner(app: web.Application) -> web.AppRunner:
    """The app ready to be bound, within its settings' limits."""
    return Runner(app, app[CONTEXT].settings)
