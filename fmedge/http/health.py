"""What watches the server: /health, /metrics, /props and /slots. None of them waits."""

from __future__ import annotations

from aiohttp import web

from fmedge import __version__
from fmedge.http.context import context_of
from fmedge.http.errors import json_response
from fmedge.http.models import state_of, status_by_name
from fmedge.http.responses import HealthResponse, Props, Slot
from fmedge.metrics import CONTENT_TYPE


async def get_health(request: web.Request) -> web.Response:
    """GET /health: 200 when every model can serve, if only after it was loaded on demand; 503 while
    loading, draining, or failed."""
    context = context_of(request)
    status = context.dispatcher.status()
    by_name = status_by_name(status)
    models = {model.name: state_of(by_name.get(model.name)) for model in context.served}
    on_demand = {model.name for model in status.models if model.can_load and not model.error}
    if status.is_draining:
        overall = "draining"
    elif all(state == "ready" or name in on_demand for name, state in models.items()):
        return json_response(HealthResponse(status="ok", models=models))
    else:
        overall = "failed" if "failed" in models.values() else "loading"
    return json_response(
        HealthResponse(status=overall, models=models),
        status=503,
        headers={"Retry-After": str(max(1, round(context.settings.retry_after_s)))},
    )


async def get_metrics(request: web.Request) -> web.Response:
    """GET /metrics"""
    body = context_of(request).dispatcher.render_metrics()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def get_slots(request: web.Request) -> web.Response:
    """GET /slots: busy slots first, as sequences do not keep a place."""
    context = context_of(request)
    name = request.query.get("model")
    wanted = [context.model(name)] if name is not None else context.served
    by_name = status_by_name(context.dispatcher.status())
    slots: list[Slot] = []
    for model in wanted:
        status = by_name.get(model.name)
        for load in status.replicas if status is not None else ():
            info = load.status.info
            for number in range(info.slots if info is not None else 0):
                slots.append(
                    Slot(
                        id=len(slots),
                        model=model.name,
                        n_ctx=model.ctx_size,
                        is_processing=number < load.num_running,
                    )
                )
    return json_response(slots)


async def get_props(request: web.Request) -> web.Response:
    """GET /props"""
    context = context_of(request)
    model = context.model(request.query.get("model"))
    status = status_by_name(context.dispatcher.status()).get(model.name)
    infos = [load.status.info for load in status.replicas] if status is not None else []
    vocab = model.vocab

    def text(token: int | None) -> str:
        return "" if token is None else vocab.piece(token).decode("utf-8", "replace")

    return json_response(
        Props(
            default_generation_settings={"n_ctx": model.ctx_size},
            total_slots=sum(info.slots for info in infos if info is not None),
            model_alias=model.name,
            model_path=model.metadata.name,
            chat_template=model.template.source,
            bos_token=text(vocab.bos),
            eos_token=text(vocab.eos),
            modalities={"vision": False, "audio": False},
            build_info=f"fmedge {__version__}",
        )
    )
