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
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fmedge.config import Config, state_dir, unknown_variables
from fmedge.errors import FmedgeError, UnavailableError
from fmedge.server import access, listener, logs
from fmedge.server.kv_places import KvPlaces
from fmedge.server.learned import keep, relearn
from fmedge.server.plan import ModelPlan, plan_models
from fmedge.server.promises import http_settings, workflow_settings
from fmedge.server.state import StateStore

if TYPE_CHECKING:
    from aiohttp import web

    from fmedge.dispatch import Dispatcher
    from fmedge.dispatch.replicas import Profiler
    from fmedge.http.settings import HttpSettings
    from fmedge.models.served import ServedModel
    from fmedge.replica.interface import Replica
    from fmedge.sched.profile import StepProfile
    from fmedge.server.backends import Backends
    from fmedge.types import EngineInfo

USUAL_KERNELS_S = 3.0
CLOSE_TIMEOUT_S = 5.0
HURRIED_CLOSE_TIMEOUT_S = 0.5

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

log = logging.getLogger(__name__)


def run(config: Config, *, lifeline_fd: int | None = None) -> int:
    """Serves until told to stop; the exit code. FmedgeError for what cannot start.

    lifeline_fd: a socket that is told b"ready", and whose closing at the other end stops the
    server.
    """
    logs.set_up(config.server)
    for warning in unknown_variables():
        log.warning("%s", warning)
    keys = access.read_api_keys(config.server)
    tls = access.tls_context(config.server)
    sockets = listener.listen(config.server)
    try:
        plans = plan_models(config.models, config.replicas, is_narrowed=config.is_narrowed)
        settings = http_settings(config, keys, plans)
        _raise_file_limit()
        # A server that lives for one command uses what was learned, and leaves it as it is.
        state = StateStore(state_dir(config.server.state_dir), is_writer=lifeline_fd is None)
        import uvloop

        with contextlib.closing(state), KvPlaces(config.server) as kv:
            server = _Server(config, plans, settings, state, kv, tls, sockets, lifeline_fd)
            return uvloop.run(server.serve())
    finally:
        listener.close(sockets, config.server)
        if lifeline_fd is not None and config.server.unix_socket:
            with contextlib.suppress(OSError):  # whoever made the folder may not live to remove it
                Path(config.server.unix_socket).parent.rmdir()


def build_dispatcher(config: Config, profile: Profiler) -> Dispatcher:
    """The one place where the configuration reaches the scheduler. Call it on the event loop."""
    from fmedge.dispatch import Dispatcher
    from fmedge.sched.core import CoreSettings

    server = config.server
    is_estimated = server.policy == "fmedge"
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
    )


async def _load_kernels() -> None:
    """In a thread, because it takes long: they are compiled once, then loaded from a cache."""
    loading = asyncio.ensure_future(asyncio.to_thread(import_module, "fmedge.sched.kernels"))
    done, _ = await asyncio.wait((loading,), timeout=USUAL_KERNELS_S)
    if not done:
        log.info("compiling the scheduler's kernels: about 20 s, once for each version")
    await loading


def _raise_file_limit() -> None:
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
        sockets: list[socket.socket],
        lifeline_fd: int | None,
    ) -> None:
        self._config = config
        self._plans = plans
        self._settings = settings
        self._state = state
        self._kv = kv
        self._tls = tls
        self._sockets = sockets
        self._lifeline = None if lifeline_fd is None else socket.socket(fileno=lifeline_fd)
        self._models: dict[str, ServedModel] = {}
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._exit_code = EXIT_OK

    async def serve(self) -> int:
        self._watch_for_stop()
        self._state.open()
        backends = self._build_backends()
        dispatcher = build_dispatcher(self._config, backends.profile)
        for name in self._learned():
            relearn(self._state, name, partial(dispatcher.forecast.restore, name))
        is_over = asyncio.Event()
        keeping = asyncio.create_task(keep(self._state, dispatcher.forecast.save, is_over))
        runner: web.AppRunner | None = None
        try:
            loading = await self._show_loading(dispatcher)
            try:
                if not await self._until_loaded(backends, dispatcher):
                    return self._exit_code
                runner = await self._start_http(backends, dispatcher)
            finally:
                await loading.cleanup()
            self._say_ready()
            await self._stop.wait()
            await self._drain(dispatcher)
        finally:
            deadline_s = HURRIED_CLOSE_TIMEOUT_S if self._hurry.is_set() else CLOSE_TIMEOUT_S
            if runner is not None:
                with contextlib.suppress(TimeoutError):  # clients that read nothing any more
                    await asyncio.wait_for(runner.cleanup(), deadline_s)
            for model in self._models.values():
                model.close()
            await backends.close()
            await dispatcher.close(deadline_s)
            is_over.set()
            await keeping
        return self._exit_code

    # --- start ---

    def _build_backends(self) -> Backends:
        from fmedge.server.backends import Backends
        from fmedge.server.profiles import Profiler, ProfileStore

        server = self._config.server
        store = ProfileStore(state_dir(server.state_dir))
        profiler = Profiler(store, is_prior_only=server.profile == "prior")
        return Backends(self._config, self._plans, self._state, profiler, self._kv)

    def _learned(self) -> Sequence[str]:
        from fmedge.dispatch.forecast import LEARNED

        return LEARNED

    async def _show_loading(self, dispatcher: Dispatcher) -> web.AppRunner:
        # In a thread, because it is slow: the workers are told what to load meanwhile.
        loading = await asyncio.to_thread(import_module, "fmedge.server.loading")
        from aiohttp import web

        app = loading.loading_app(dispatcher.status)
        return await self._listen_with(web.AppRunner(app, access_log=None))

    async def _until_loaded(self, backends: Backends, dispatcher: Dispatcher) -> bool:
        """False when told to stop before that."""
        loaded = asyncio.create_task(backends.start(dispatcher))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.to_thread(import_module, "fmedge.http.app")  # while the workers load
            await asyncio.wait((loaded, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                return False
            await loaded
        except UnavailableError as error:
            raise FmedgeError(str(error)) from error
        finally:
            loaded.cancel()
            stopped.cancel()
            await asyncio.wait((loaded, stopped))
        return True

    async def _start_http(self, backends: Backends, dispatcher: Dispatcher) -> web.AppRunner:
        from fmedge.http.app import build_app, build_runner

        self._models = await backends.serve_models(dispatcher)
        app = build_app(dispatcher, self._models, self._settings)
        backends.add_routes(app, dispatcher)
        runner = await self._listen_with(build_runner(app))
        # What lives now lives until the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        return runner

    async def _listen_with(self, runner: web.AppRunner) -> web.AppRunner:
        """Serves on copies of the sockets, which stay open when the runner is done."""
        from aiohttp import web

        await runner.setup()
        for sock in self._sockets:
            copy = sock.dup()
            site = web.SockSite(runner, copy, ssl_context=self._tls, backlog=listener.BACKLOG)
            await site.start()
        return runner

    def _say_ready(self) -> None:
        names = ", ".join(
            plan.name + (f" ({', '.join(plan.aliases)})" if plan.aliases else "")
            for plan in self._plans
        )
        url = listener.url(self._sockets, self._config.server)
        sys.stderr.write(f"fmedge: ready at {url} with {names}\n")
        sys.stderr.flush()
        if self._lifeline is not None:
            with contextlib.suppress(OSError):
                self._lifeline.send(b"ready")

    # --- stop ---

    def _watch_for_stop(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        if self._lifeline is not None:
            self._lifeline.setblocking(False)
            loop.add_reader(self._lifeline.fileno(), self._on_lifeline)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            log.warning("%s again: stopping at once", number.name)
            self._hurry.set()
            return
        if number == signal.SIGINT:
            self._exit_code = EXIT_INTERRUPTED
        log.info("%s: finishing what runs, for %g s at most; a second signal stops at once",
                 number.name, self._config.server.drain_timeout_s)  # fmt: skip
        self._stop.set()

    def _on_lifeline(self) -> None:
        """Nothing is ever sent to us: readable means closed."""
        assert self._lifeline is not None
        asyncio.get_running_loop().remove_reader(self._lifeline.fileno())
        self._lifeline.close()
        self._lifeline = None
        self._stop.set()
        self._hurry.set()

    async def _drain(self, dispatcher: Dispatcher) -> None:
        drained = asyncio.create_task(dispatcher.drain(self._config.server.drain_timeout_s))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not drained.done():
            drained.cancel()
            await dispatcher.drain(0.0)
