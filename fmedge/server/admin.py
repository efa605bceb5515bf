"""GET /admin/status: what `fmedge ps` shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web
from msgspec import Struct

from fmedge import __version__
from fmedge.dispatch import DispatcherStatus
from fmedge.server.plan import ModelPlan
from fmedge.server.provisioner import ProvisionerStatus
from fmedge.server.residency import ModelResidency


class ReplicaFacts(Struct, frozen=True, kw_only=True):
    """Which file a replica of the model holds."""

    name: str
    path: str
    quant: str
    file_bytes: int


class ModelFacts(Struct, frozen=True, kw_only=True):
    """What does not change while a model is served."""

    name: str
    aliases: tuple[str, ...]
    path: str
    architecture: str
    quant: str
    num_params: int
    file_bytes: int
    replicas: list[ReplicaFacts]


class AdminStatus(Struct, frozen=True, kw_only=True):
    """The server, its models and their replicas. residency: what is in memory, where and why;
    empty where models are loaded once and stay. provisioner: the plan in force, None where the
    configuration decides."""

    version: str
    pid: int
    uptime_s: float
    models: list[ModelFacts]
    load: DispatcherStatus
    residency: list[ModelResidency] = []
    provisioner: ProvisionerStatus | None = None


def _facts(plan: ModelPlan) -> ModelFacts:
    return ModelFacts(
        name=plan.name,
        aliases=plan.aliases,
        path=plan.engine.model_path,
        architecture=plan.metadata.architecture,
        quant=plan.metadata.quant,
        num_params=plan.metadata.num_params,
        file_bytes=plan.metadata.file_bytes,
        replicas=[
            ReplicaFacts(
                name=replica.name,
                path=replica.engine.model_path,
                quant=replica.metadata.quant,
                file_bytes=replica.metadata.file_bytes,
            )
            for replica in plan.replicas
        ],
    )


def add_routes(
    app: web.Application,
    status: Callable[[], DispatcherStatus],
    plans: Callable[[], Sequence[ModelPlan]],
    residency: Callable[[], list[ModelResidency]] = list,
    provisioner: Callable[[], ProvisionerStatus | None] = lambda: None,
) -> None:
    """All of them are asked when somebody asks."""
    started_s = time.monotonic()

    def facts() -> list[ModelFacts]:
        return [_facts(plan) for plan in plans()]

    async def get_status(_: web.Request) -> web.Response:
        body = AdminStatus(
            version=__version__,
            pid=os.getpid(),
            uptime_s=time.monotonic() - started_s,
            models=facts(),
            load=status(),
            residency=residency(),
            provisioner=provisioner(),
        )
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    app.router.add_get("/admin/status", get_status)
