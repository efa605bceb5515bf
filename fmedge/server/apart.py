"""An emulated cluster without a scheduler: each planned replica is an OpenAI-compatible server of
its own, for routers that are not ours to stand in front of.

The rule: an endpoint takes requests in their order and sends none away before its queue is full.
All endpoints live in one process, so that they share one clock and end together.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import ssl
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fmedge.config import Config, unknown_variables
from fmedge.config.cluster import ClusterConfig
from fmedge.errors import ConfigError
from fmedge.server import access, listener, logs
from fmedge.server.emulation import config_of, plan_of
from fmedge.server.lifecycle import raise_file_limit, recording_of
from fmedge.server.plan import ModelPlan, plan_models, serve_model
from fmedge.server.promises import http_settings, workflow_settings
from fmedge.server.provisioner import uses_of
from fmedge.server.stopping import Stop

if TYPE_CHECKING:
    from aiohttp import web

    from fmedge.dispatch import Dispatcher
    from fmedge.dispatch.record import Recorder
    from fmedge.http.settings import HttpSettings
    from fmedge.models.served import ServedModel
    from fmedge.replica.emulated.replica import EmulatedReplica

log = logging.getLogger(__name__)


def run(config: Config, cluster: ClusterConfig) -> int:
    """Serves until told to stop; the exit code. FmedgeError for what cannot start, NoPlanError
    where the cluster cannot hold its models. What clients need to know, one JSON object a line on
    stdout: {"replica", "model", "url", "port"}."""
    logs.set_up(config.server)
    for warning in unknown_variables():
        log.warning("%s", warning)
    if config.server.unix_socket:
        raise ConfigError("--apart has a port for each replica: leave --unix-socket out")
    config = config_of(cluster, config)
    keys = access.read_api_keys(config.server)
    tls = access.tls_context(config.server)
    plans = plan_models(config.models)
    settings = http_settings(config, keys, plans)
    raise_file_limit()
    import uvloop

    with recording_of(config) as recorder:
        return uvloop.run(_Apart(config, cluster, plans, settings, tls, recorder).serve())


class _Apart:
    """One run, on one event loop."""

    def __init__(
        self,
        config: Config,
        cluster: ClusterConfig,
        plans: Sequence[ModelPlan],
        settings: HttpSettings,
        tls: ssl.SSLContext | None,
        recorder: Recorder | None,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._plans = {plan.name: plan for plan in plans}
        self._settings = settings
        self._tls = tls
        self._recorder = recorder
        self._stop = Stop(config.server.drain_timeout_s)
        self._listening: list[listener.Listening] = []
        self._dispatchers: list[Dispatcher] = []
        self._runners: list[web.AppRunner] = []
        self._models: dict[str, ServedModel] = {}

    async def serve(self) -> int:
        self._stop.watch()
        starting = asyncio.create_task(self._start())
        stopped = asyncio.create_task(self._stop.asked.wait())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.asked.is_set():
                await starting
                await stopped
                await self._stop.drain(self._dispatchers)
        finally:
            for task in (starting, stopped):
                task.cancel()
            await asyncio.wait((starting, stopped))
            await self._close(self._stop.close_timeout_s)
        return self._stop.exit_code

    async def _start(self) -> None:
        from fmedge.server.emulated import Emulation

        emulation = Emulation(self._cluster)
        plan, placements = await plan_of(self._cluster, self._config)
        await emulation.prepare(plan)
        self._listen(len(plan.replicas))
        for name, model in self._plans.items():
            own = [replica for replica in plan.replicas if replica.model == name]
            ctx_size = min(replica.ctx_size for replica in own)
            file = own[0].file
            self._models[name] = await asyncio.to_thread(serve_model, model, file, ctx_size)
        await asyncio.to_thread(import_module, "fmedge.http.app")
        replicas = [
            emulation.replica(planned, placements.shape_of(planned), uses_of(plan, planned.name))
            for planned in plan.replicas
        ]
        # Together, as they may take their time to load.
        await asyncio.gather(
            *(
                self._start_one(replica, self._models[replica.model], listening)
                for replica, listening in zip(replicas, self._listening, strict=True)
            )
        )
        # What lives now lives until the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        for replica, listening in zip(replicas, self._listening, strict=True):
            log.info("replica %s is at %s", replica.name, listening.url)
            line = {"replica": replica.name, "model": replica.model, "url": listening.url}
            port = listening.sockets[0].getsockname()[1]
            print(json.dumps({**line, "port": port}), flush=True)
        count = len(replicas)
        sys.stderr.write(f"fmedge: ready: {count} endpoints ({emulation.note})\n")
        sys.stderr.flush()

    def _listen(self, count: int) -> None:
        """Ports from the configured one on; of 0, each a free one."""
        server = self._config.server
        if server.port and server.port + count > 1 << 16:
            raise ConfigError(
                f"{count} replicas need as many ports, and there are none after 65535: choose a "
                "lower --port"
            )
        for number in range(count):
            port = server.port + number if server.port else 0
            self._listening.append(listener.listen(replace(server, port=port)))

    async def _start_one(
        self, replica: EmulatedReplica, model: ServedModel, listening: listener.Listening
    ) -> None:
        from aiohttp import web

        from fmedge.dispatch import Dispatcher
        from fmedge.http.app import build_app, build_runner
        from fmedge.sched.core import CoreSettings
        from fmedge.server import admin
        from fmedge.server.backends import LOAD_TIMEOUT_S

        # Of one replica: first come, first served.
        dispatcher = Dispatcher(
            CoreSettings(max_waiting=self._config.server.max_queued_requests),
            policy="least_outstanding",
            workflows=workflow_settings(self._config),
            recorder=self._recorder,
        )
        self._dispatchers.append(dispatcher)
        dispatcher.add_replica(replica)
        await dispatcher.wait_ready(LOAD_TIMEOUT_S)
        app = build_app(dispatcher, {model.name: model}, self._settings)
        plans = [self._plans[model.name]]
        admin.add_routes(app, dispatcher.status, lambda: plans)
        runner = build_runner(app)
        self._runners.append(runner)
        await runner.setup()
        for sock in listening.sockets:
            site = web.SockSite(runner, sock, ssl_context=self._tls, backlog=listener.BACKLOG)
            await site.start()

    async def _close(self, deadline_s: float) -> None:
        await asyncio.gather(*(_cleaned_up(runner, deadline_s) for runner in self._runners))
        for model in self._models.values():
            model.close()
        await asyncio.gather(*(d.close(deadline_s) for d in self._dispatchers))
        for listening in self._listening:
            listening.close()


async def _cleaned_up(runner: web.AppRunner, deadline_s: float) -> None:
    with contextlib.suppress(TimeoutError):  # clients that read nothing any more
        await asyncio.wait_for(runner.cleanup(), deadline_s)
