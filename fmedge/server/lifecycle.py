"""Start and stop of a server, in order.

What can be wrong without loading anything is found first: keys, TLS, the port, the model files.
Then the workers start; while they load, /health says so. The front opens a model's tokenizer only
after a worker has loaded that file, so that a hostile one costs a worker and not the front.
Stopping: drain with the port still open, then close the streams, then the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fmedge.config import EMBEDDED, Config, state_dir, unknown_variables
from fmedge.config.service import take_service
from fmedge.errors import FmedgeError, UnavailableError
from fmedge.server import access, listener, logs, reload
from fmedge.server.kv_places import KvPlaces
from fmedge.server.learned import keep, relearn
from fmedge.server.plan import ModelPlan, plan_models
from fmedge.server.promises import http_settings, workflow_settings
from fmedge.server.service import Service, leave_waiting
from fmedge.server.state import StateStore
from fmedge.server.stopping import Stop, end_early

if TYPE_CHECKING:
    from aiohttp import web

    from fmedge.config.cluster import ClusterConfig
    from fmedge.dispatch import Dispatcher
    from fmedge.dispatch.record import Recorder
    from fmedge.dispatch.replicas import Profiler
    from fmedge.http.connection import Runner
    from fmedge.http.settings import HttpSettings
    from fmedge.models.served import ServedModel
    from fmedge.replica.interface import Replica
    from fmedge.sched.profile import StepProfile
    from fmedge.sched.provision.device import Device
    from fmedge.server.backends import Backends
    from fmedge.server.emulated import Emulation
    from fmedge.server.exchange import Exchange
    from fmedge.types import EngineInfo

USUAL_KERNELS_S = 3.0
log = logging.getLogger(__name__)


def run(
    config: Config,
    *,
    lifeline_fd: int | None = None,
    cluster: ClusterConfig | None = None,
    reread: Callable[[], Config] | None = None,
) -> int:
    """Serves until told to stop; the exit code. FmedgeError for what cannot start.

    lifeline_fd: a socket that is told b"ready", and whose closing at the other end stops the
    server. cluster: what is emulated instead of this machine, with the models that it holds; of it
    nothing is kept that was learned. reread: the configuration as it is when SIGHUP comes; without
    it that signal ends the server.
    """
    end_early()
    hangup = None if reread is None else reload.Hangup()
    logs.set_up(config.server)
    link = take_service()
    # A server that lives for one command is that command's, and not the service manager's.
    service = Service(link if lifeline_fd is None else None)
    try:
        return _run(config, lifeline_fd, cluster, service, link.fds, reread, hangup)
    except FmedgeError as error:
        service.failed(str(error))
        raise


def _run(
    config: Config,
    lifeline_fd: int | None,
    cluster: ClusterConfig | None,
    service: Service,
    passed: Sequence[tuple[int, str]],
    reread: Callable[[], Config] | None,
    hangup: reload.Hangup | None,
) -> int:
    for warning in unknown_variables():
        log.warning("%s", warning)
    emulation: Emulation | None = None
    if cluster is not None:
        from fmedge.server.emulated import Emulation
        from fmedge.server.emulation import config_of

        emulation = Emulation(cluster)
        config = config_of(cluster, config)
    keys = access.read_api_keys(config.server)
    tls = access.tls_context(config.server)
    listening = listener.listen(config.server, passed)
    try:
        plans = plan_models(config.models, config.replicas, is_narrowed=config.is_narrowed)
        if lifeline_fd is not None:
            from fmedge.server.for_one import for_one

            config = for_one(config, plans)
        settings = http_settings(config, keys, plans)
        raise_file_limit()
        # A server that lives for one command uses what was learned, and leaves it as it is.
        is_writer = lifeline_fd is None and emulation is None
        folder = None if emulation is not None else state_dir(config.server.state_dir)
        state = StateStore(folder, is_writer=is_writer)
        import uvloop

        recording = recording_of(config) if lifeline_fd is None else contextlib.nullcontext()
        with contextlib.closing(state), KvPlaces(config.server) as kv, recording as recorder:
            server = _Server(
                config, plans, settings, state, kv, tls, listening, lifeline_fd, emulation,
                recorder, service, reread, hangup,
            )  # fmt: skip
            return uvloop.run(server.serve())
    finally:
        listening.close()
        if lifeline_fd is not None and config.server.unix_socket:
            with contextlib.suppress(OSError):  # whoever made the folder may not live to remove it
                Path(config.server.unix_socket).parent.rmdir()


def recording_of(config: Config) -> AbstractContextManager[Recorder | None]:
    """The log of requests that the configuration asks for, if it does."""
    if not config.server.record:
        return contextlib.nullcontext()
    from fmedge.server.recording import Recording

    return Recording(Path(config.server.record), workflow_settings(config))


def build_dispatcher(
    config: Config, profile: Profiler, recorder: Recorder | None = None
) -> Dispatcher:
    """The one place where the configuration reaches the scheduler. Call it on the event loop."""
    from fmedge.dispatch import Dispatcher
    from fmedge.sched.core import ESTIMATING, CoreSettings

    server = config.server
    is_estimated = server.policy in ESTIMATING
    kernels = asyncio.create_task(_load_kernels()) if is_estimated else None

    async def loaded(replica: Replica, info: EngineInfo) -> StepProfile | None:
        if kernels is not None:
            await asyncio.shield(kernels)
        return await profile(replica, info)

    return Dispatcher(
        CoreSettings(max_waiting=server.max_queued_requests),
        policy=server.policy,
        profiler=loaded,
        workflows=workflow_settings(config),
        recorder=recorder,
    )


async def _load_kernels() -> None:
    """In a thread, because it takes long: they are compiled once, then loaded from a cache."""
    loading = asyncio.ensure_future(asyncio.to_thread(import_module, "fmedge.sched.kernels"))
    done, _ = await asyncio.wait((loading,), timeout=USUAL_KERNELS_S)
    if not done:
        log.info("compiling the scheduler's kernels: about 20 s, once for each version")
    await loading


def raise_file_limit() -> None:
    """Each connection is a file; the usual soft limit of 1024 is for programs that use select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Server:
    """One run of a server, on one event loop."""

    def __init__(
        self,
        config: Config,
        plans: list[ModelPlan],
        settings: HttpSettings,
        state: StateStore,
        kv: KvPlaces,
        tls: ssl.SSLContext | None,
        listening: listener.Listening,
        lifeline_fd: int | None,
        emulation: Emulation | None,
        recorder: Recorder | None,
        service: Service,
        reread: Callable[[], Config] | None,
        hangup: reload.Hangup | None,
    ) -> None:
        self._config = config
        self._plans = plans
        self._settings = settings
        self._state = state
        self._kv = kv
        self._tls = tls
        self._listening = listening
        self._service = service
        self._stop = Stop(config.server.drain_timeout_s, lifeline_fd, service.stopping)
        self._is_brief = lifeline_fd is not None
        """It lives for one command."""
        self._models: dict[str, ServedModel] = {}
        self._emulation = emulation
        self._recorder = recorder
        self._reread = reread
        self._hangup = hangup

    async def serve(self) -> int:
        self._stop.watch()
        if self._hangup is not None:
            self._hangup.watch(lambda: self._stop.now("the terminal was closed"))
        self._state.open()
        looking = self._begin_to_look()
        try:
            return await self._serve(looking)
        finally:
            if looking is not None:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _serve(self, looking: asyncio.Task[Sequence[Device]] | None) -> int:
        # In a thread, because it takes long: the children that look at devices answer meanwhile.
        await asyncio.to_thread(import_module, "fmedge.server.backends")
        from fmedge.server.exchange import Exchange

        backends = self._build_backends(looking)
        dispatcher = build_dispatcher(self._config, backends.profile, self._recorder)
        for name in self._learned():
            relearn(self._state, name, partial(dispatcher.forecast.restore, name))
        if self._state.is_writer:
            kept = dispatcher.metrics.state_kept.labels(str(self._state.folder or ""))
            kept.set_function(lambda: self._state.is_kept)
        is_over = asyncio.Event()
        keeping = asyncio.create_task(keep(self._state, dispatcher.forecast.save, is_over))
        runner: Runner | None = None
        reloading: asyncio.Task[None] | None = None
        exchange = Exchange(backends, dispatcher)
        telling = asyncio.create_task(self._service.watch(dispatcher.status))
        try:
            starting = asyncio.create_task(backends.start(dispatcher))
            loading: web.AppRunner | None = None
            try:
                if self._listening.is_passed:
                    await leave_waiting(starting, self._stop.asked)
                if not starting.done():
                    loading = await self._show_loading(dispatcher)
                if not await self._until_loaded(starting):
                    return self._stop.exit_code
                runner = await self._start_http(backends, dispatcher)
            finally:
                starting.cancel()
                await asyncio.wait((starting,))
                if loading is not None:
                    await loading.cleanup()
            self._say_ready()
            reloading = self._watch_configuration(exchange, dispatcher, runner)
            await self._stop.asked.wait()
            await _end(reloading)
            if self._listening.is_passed:  # who comes now is served by who comes after us
                await runner.stop_accepting()
            await self._stop.drain([dispatcher])
        finally:
            deadline_s = self._stop.close_timeout_s
            if runner is not None:
                with contextlib.suppress(TimeoutError):  # clients that read nothing any more
                    await asyncio.wait_for(runner.cleanup(), deadline_s)
            await _end(reloading)
            for model in self._models.values():
                model.close()
            await exchange.close()
            await backends.close()
            await dispatcher.close(deadline_s)
            is_over.set()
            await keeping
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        return self._stop.exit_code

    # --- start ---

    def _begin_to_look(self) -> asyncio.Task[Sequence[Device]] | None:
        """At the devices, which takes a process or two; None where nothing here is planned for."""
        if self._emulation is not None or self._config.server.placement == "manual":
            return None
        from fmedge.server.devices import gather

        # A server that lives for one command has no time to measure.
        folder = state_dir(self._config.server.state_dir)
        return asyncio.create_task(
            gather(servers=self._config.rpc, folder=folder, may_measure=not self._is_brief)
        )

    def _build_backends(self, looking: asyncio.Task[Sequence[Device]] | None) -> Backends:
        from fmedge.server.backends import Backends
        from fmedge.server.profiles import Profiler, ProfileStore

        server = self._config.server
        emulation = self._emulation
        store = ProfileStore(self._state.folder)
        reckon = None if emulation is None else emulation.reckoned
        profiler = Profiler(store, is_prior_only=server.profile == "prior", reckon=reckon)
        return Backends(
            self._config, self._plans, self._state, profiler, self._kv, emulation, looking
        )

    def _learned(self) -> Sequence[str]:
        from fmedge.dispatch.forecast import LEARNED

        return LEARNED

    async def _show_loading(self, dispatcher: Dispatcher) -> web.AppRunner:
        # In a thread, because it is slow: the workers are told what to load meanwhile.
        loading = await asyncio.to_thread(import_module, "fmedge.server.loading")
        from aiohttp import web

        app = loading.loading_app(dispatcher.status)
        return await self._listen_with(web.AppRunner(app, access_log=None))

    async def _until_loaded(self, loaded: asyncio.Task[None]) -> bool:
        """False when told to stop before that."""
        stopped = asyncio.create_task(self._stop.asked.wait())
        try:
            await asyncio.to_thread(import_module, "fmedge.http.app")  # while the workers load
            await asyncio.wait((loaded, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.asked.is_set():
                return False
            await loaded
        except UnavailableError as error:
            raise FmedgeError(str(error)) from error
        finally:
            stopped.cancel()
            await asyncio.wait((stopped,))
        return True

    async def _start_http(self, backends: Backends, dispatcher: Dispatcher) -> Runner:
        from fmedge.http.app import build_app, build_runner

        self._models = await backends.serve_models(dispatcher)
        app = build_app(dispatcher, self._models, self._settings)
        backends.add_routes(app, dispatcher)
        runner = build_runner(app)
        await self._listen_with(runner)
        if not self._is_brief:
            # What lives now lives until the end: the collector need not look at it again.
            gc.collect()
            gc.freeze()
        return runner

    def _watch_configuration(
        self, exchange: Exchange, dispatcher: Dispatcher, runner: Runner
    ) -> asyncio.Task[None] | None:
        if self._reread is None or self._hangup is None:
            return None
        from fmedge.http.context import CURRENT

        served = reload.Served(
            config=self._config,
            plans=self._plans,
            settings=self._settings,
            models=self._models,
            tls_stamps=reload.stamps_of(self._config.server),
        )
        reloader = reload.Reloader(
            self._reread,
            served,
            exchange=exchange,
            dispatcher=dispatcher,
            current=runner.app[CURRENT],
            tls=self._tls,
            stop=self._stop,
            service=self._service,
            listens_elsewhere=self._listening.is_passed,
        )
        return asyncio.create_task(reloader.run(self._hangup.asked), name="reload")

    async def _listen_with(self, runner: web.AppRunner) -> web.AppRunner:
        """Serves on copies of the sockets, which stay open when the runner is done."""
        from aiohttp import web

        await runner.setup()
        for sock in self._listening.sockets:
            copy = sock.dup()
            site = web.SockSite(runner, copy, ssl_context=self._tls, backlog=listener.BACKLOG)
            await site.start()
        return runner

    def _say_ready(self) -> None:
        names = ", ".join(
            plan.name + (f" ({', '.join(plan.aliases)})" if plan.aliases else "")
            for plan in self._plans
        )
        url = self._listening.url
        note = "" if self._emulation is None else f" ({self._emulation.note})"
        sys.stderr.write(f"fmedge: ready at {url} with {names}{note}\n{self._banner()}")
        sys.stderr.flush()
        self._stop.say_ready()
        self._service.ready()

    def _banner(self) -> str:
        """What users of the model that is part of fmedge should know; not where somebody wants
        warnings alone, as `fmedge run` does of the server that it starts."""
        from fmedge.models.embedded import demonstration

        models = zip(self._plans, self._config.models, strict=True)
        names = [plan.name for plan, model in models if model.model == EMBEDDED]
        is_wanted = self._emulation is None and log.isEnabledFor(logging.INFO)
        return demonstration(names[0], "fmedge serve --model") if names and is_wanted else ""


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
