"""/v1/models: what is served, in OpenAI's shape with llama-server's `meta`.

An alias is a model of its own here, as clients look for the id that they are going to send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from fmedge.http.context import Context, context_of
from fmedge.http.errors import json_response
from fmedge.http.responses import ModelCard, ModelList, ModelMeta

if TYPE_CHECKING:
    from fmedge.dispatch import DispatcherStatus, ModelStatus
    from fmedge.models.served import ServedModel


def state_of(status: ModelStatus | None) -> str:
    """ready, loading, unloaded where a request would have it loaded, or failed when no replica will
    come back."""
    if status is None:
        return "loading"
    if status.is_ready:
        return "ready"
    if status.error:
        return "failed"
    if status.can_load and not status.replicas:
        return "unloaded"
    states = {load.status.state for load in status.replicas}
    return "failed" if states and states <= {"failed", "closed", "stopped"} else "loading"


def status_by_name(status: DispatcherStatus) -> dict[str, ModelStatus]:
    """Each model's status."""
    return {model.name: model for model in status.models}


def _card(name: str, model: ServedModel, context: Context, status: ModelStatus | None) -> ModelCard:
    metadata = model.metadata
    return ModelCard(
        id=name,
        root=model.name,
        created=model.created or context.started,
        aliases=list(model.aliases),
        status=state_of(status),
        meta=ModelMeta(
            n_ctx=model.ctx_size,
            n_vocab=model.vocab.num_tokens,
            n_ctx_train=metadata.ctx_train,
            n_embd=metadata.num_embd,
            n_params=metadata.num_params,
            size=metadata.file_bytes,
        ),
    )


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models"""
    context = context_of(request)
    by_name = status_by_name(context.dispatcher.status())
    cards = [
        _card(name, model, context, by_name.get(model.name))
        for model in context.served
        for name in (model.name, *model.aliases)
    ]
    return json_response(ModelList(data=cards))


async def retrieve_model(request: web.Request) -> web.Response:
    """GET /v1/models/{model}"""
    context = context_of(request)
    name = request.match_info["model"]
    model = context.model(name)
    by_name = status_by_name(context.dispatcher.status())
    return json_response(_card(name, model, context, by_name.get(model.name)))
