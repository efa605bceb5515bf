"""The configuration read anew while the server runs: SIGHUP, one after another.

The rule: all or nothing. Everything that the new configuration names is read, checked, planned and
opened first (exchange.py); only then is anything changed, at once and without a step that can
fail. Else one log line says what is wrong, and all stays as it was.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from fmedge.config import Config, ServerConfig, keep_fixed
from fmedge.errors import ConfigError, FmedgeError
from fmedge.server import access, logs
from fmedge.server.changes import Changes, difference
from fmedge.server.plan import FileStamp, ModelPlan, holds_same_model, plan_models
from fmedge.server.promises import http_settings

if TYPE_CHECKING:
    from fmedge.dispatch import Dispatcher
    from fmedge.http.context import Current
    from fmedge.http.settings import HttpSettings
    from fmedge.models.served import ServedModel
    from fmedge.server.exchange import Exchange
    from fmedge.server.service import Service
    from fmedge.server.stopping import Stop

log = logging.getLogger(__name__)


class Hangup:
    """SIGHUP, from this moment on: what comes during the start is carried out after it. From a
    terminal that was closed it means what it always did: to end, or nothing under nohup."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._had_terminal = _has_terminal()
        self._outlives_terminal = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._came_early = False
        self._on_closed: Callable[[], None] = lambda: None
        signal.signal(signal.SIGHUP, self._note)  # until there is an event loop

    def watch(self, on_closed: Callable[[], None]) -> None:
        """On the event loop. on_closed: called when the terminal is gone."""
        self._on_closed = on_closed
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_signal)
        if self._came_early:
            self._on_signal()

    def _note(self, _: int, __: FrameType | None) -> None:
        self._came_early = True

    def _on_signal(self) -> None:
        if not self._had_terminal or _has_terminal():
            self.asked.set()
            return
        self._had_terminal = False
        if not self._outlives_terminal:
            self._on_closed()


class Served(Struct, kw_only=True):
    """What is in force. models: whose contents change, so that others see those in force too.
    tls_stamps: of the certificate and its key."""

    config: Config
    plans: list[ModelPlan]
    settings: HttpSettings
    models: dict[str, ServedModel]
    tls_stamps: tuple[FileStamp, ...]


class _Read(Struct, kw_only=True):
    """Another configuration and the files that it names. fixed: settings that are not taken, as
    they cannot change. notes: what changed in files, beside `changes`."""

    config: Config
    fixed: tuple[str, ...]
    plans: list[ModelPlan]
    settings: HttpSettings
    tls: ssl.SSLContext | None
    tls_stamps: tuple[FileStamp, ...]
    changes: Changes
    notes: tuple[str, ...]


class Reloader:
    """One server's, on its event loop; `run` as a task while it serves."""

    def __init__(
        self,
        reread: Callable[[], Config],
        served: Served,
        *,
        exchange: Exchange,
        dispatcher: Dispatcher,
        current: Current,
        tls: ssl.SSLContext | None,
        stop: Stop,
        service: Service,
        listens_elsewhere: bool,
    ) -> None:
        """reread: the configuration as it is now, in the file and the environment, under the same
        flags. listens_elsewhere: not where that says, but on sockets that were passed."""
        self._reread = reread
        self.served = served
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._current = current
        self._tls = tls
        self._stop = stop
        self._service = service
        self._unheeded = {"host", "port", "unix_socket"} if listens_elsewhere else set()
        metrics = dispatcher.metrics
        self._count = {
            outcome: metrics.config_reloads.labels(outcome) for outcome in ("applied", "refused")
        }
        self._last_success = metrics.config_last_success
        self._last_success.set(time.time())

    async def run(self, asked: asyncio.Event) -> None:
        """Reads anew whenever that is asked for, and once more if it was meanwhile."""
        while True:
            await asked.wait()
            asked.clear()
            with self._service.reloading():
                await self.reload()

    async def reload(self) -> None:
        """Once. Never raises."""
        log.info("reading the configuration anew")
        try:
            read = await asyncio.to_thread(self._read)
            async with self._exchange.turn():
                served = self.served.models
                prepared = await self._exchange.prepare(
                    read.config, read.plans, read.changes, served
                )
                self._exchange.commit(prepared, served)
                self._take(read, list(prepared.plans), prepared.served)
        except FmedgeError as error:
            self._refused(str(error))
        except Exception as error:
            log.exception("the configuration could not be read anew")
            self._refused(f"internal error: {error}")

    def _read(self) -> _Read:
        """In a thread: all files, the models' headers too. FmedgeError."""
        old = self.served
        config = self._reread()
        server, fixed = keep_fixed(old.config.server, config.server)
        config = replace(config, server=server)
        keys = access.read_api_keys(server)
        tls = access.tls_context(server)
        stamps = stamps_of(server)
        plans = plan_models(config.models, config.replicas, is_narrowed=config.is_narrowed)
        settings = http_settings(config, keys, plans)
        changes = difference((old.config, old.plans), (config, plans), holds_same_model)
        notes = {
            "API keys": settings.api_keys != old.settings.api_keys,
            "TLS certificate": stamps != old.tls_stamps,
        }
        return _Read(
            config=config,
            fixed=tuple(key for key in fixed if key not in self._unheeded),
            plans=plans,
            settings=settings,
            tls=tls,
            tls_stamps=stamps,
            changes=changes,
            notes=tuple(note for note, is_so in notes.items() if is_so),
        )

    def _take(self, read: _Read, plans: list[ModelPlan], models: dict[str, ServedModel]) -> None:
        """All but the models' replicas, which are exchanged."""
        server = read.config.server
        logs.set_up(server)
        if self._tls is not None and read.tls is not None:
            access.renew(self._tls, read.tls)
        self._dispatcher.set_max_waiting(server.max_queued_requests)
        self._dispatcher.forecast.set_workflows(read.settings.workflows)
        self._stop.drain_timeout_s = server.drain_timeout_s
        self._current.change(models, read.settings)
        in_force = self.served.models
        in_force.clear()
        in_force.update(models)
        self.served = Served(
            config=read.config,
            plans=plans,
            settings=read.settings,
            models=in_force,
            tls_stamps=read.tls_stamps,
        )
        changes = replace(read.changes, settings=(*read.changes.settings, *read.notes))
        log.info("the configuration was read anew: %s", changes)
        if read.fixed:
            log.warning(
                "%s: changes when the server is started again; the old value stays in force",
                ", ".join(read.fixed),
            )
        self._service.remark = ""
        self._count["applied"].inc()
        self._last_success.set(time.time())

    def _refused(self, reason: str) -> None:
        log.error("the configuration is not taken, and the old one stays in force: %s", reason)
        self._service.remark = f"the configuration was not read anew: {reason}"
        self._count["refused"].inc()


def stamps_of(server: ServerConfig) -> tuple[FileStamp, ...]:
    """Of the certificate and its key."""
    return tuple(FileStamp.of(path) for path in (server.tls_cert, server.tls_key) if path)


def refuse_all() -> Config:
    """What a server says that cannot be told otherwise."""
    raise ConfigError("an emulated server keeps its configuration: stop it and start another")


def _has_terminal() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False
