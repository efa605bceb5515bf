"""What the service manager is told (systemd's sd_notify), and when.

The rule of the watchdog: it is fed by the event loop, and only while each worker that has spoken
was heard within SILENT_S. fmedge itself kills and replaces a worker that is silent for longer
(`WatchSettings.heartbeat_timeout_s`), after which there is nothing silent and the feeding goes on;
so the watchdog's period is to be well above that time, and it acts only where our own cure does
not: when the event loop hangs, or a worker cannot be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from fmedge.config.service import ServiceLink
from fmedge.dispatch import DispatcherStatus, ReplicaLoad

TICK_S = 1.0
FEEDS_A_PERIOD = 4
SILENT_S = 3.0
"""Workers beat once a second."""

STALL_S = 300.0
"""A start or a reload that makes no progress for so long has failed. The slowest step that shows
none is the compiling of kernels, once for each version."""

HOLD_S = 120.0
"""How long connections wait for a server that starts on sockets that were passed to it."""

MAX_REMARK_LENGTH = 300

log = logging.getLogger(__name__)


class Service:
    """One process's link to whoever supervises it; without one, everything here does nothing.
    Never raises: nobody's requests fail because a supervisor does not listen."""

    def __init__(self, link: ServiceLink | None = None) -> None:
        self._link = link or ServiceLink()
        self._phase: Literal["starting", "serving", "stopping"] = "starting"
        self._is_reloading = False
        self._last_text = ""
        self._status: Callable[[], DispatcherStatus] | None = None
        self.remark = ""
        """What the status line ends with until further notice, as that a reload was refused."""

    @property
    def watchdog_s(self) -> float:
        return self._link.watchdog_s

    def ready(self) -> None:
        """The start is over: requests are served."""
        self._phase = "serving"
        self._tell("READY=1", *self._news())

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """While the configuration is read again and carried out. Says nothing during start and
        stop, of which it would be taken for the end."""
        if self._phase == "serving":
            self._is_reloading = True
            now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._tell("RELOADING=1", f"MONOTONIC_USEC={now_us}", *self._news())
        try:
            yield
        finally:
            if self._is_reloading:
                self._is_reloading = False
                if self._phase == "serving":
                    self._tell("READY=1", *self._news())

    def stopping(self, within_s: float) -> None:
        """Asked to stop; it takes no longer than this."""
        self._phase = "stopping"
        self._tell("STOPPING=1", _extend(within_s), *self._news())

    def failed(self, reason: str) -> None:
        """It cannot start, or go on."""
        self._tell(f"STATUS={_line(reason)}")

    async def watch(self, status: Callable[[], DispatcherStatus]) -> None:
        """Says how things go and feeds the watchdog, until cancelled."""
        if not self._link.notify_socket:
            return
        self._status = status
        tick_s = min(TICK_S, self.watchdog_s / FEEDS_A_PERIOD or TICK_S)
        before: Any = None
        while True:
            now = status()
            for line in self._news():
                self._tell(line)
            if self._phase == "starting" or self._is_reloading:
                progress = [_progress(load) for model in now.models for load in model.replicas]
                if progress != before:
                    self._tell(_extend(STALL_S))
                before = progress
            else:
                before = None
            if self.watchdog_s and not silent(now):
                self._tell("WATCHDOG=1")
            await asyncio.sleep(tick_s)

    def _news(self) -> list[str]:
        """The status line, where it is another than before."""
        if self._status is None:
            return []
        text = self._text(self._status())
        is_new, self._last_text = text != self._last_text, text
        return [f"STATUS={_line(text)}"] if is_new else []

    def _text(self, status: DispatcherStatus) -> str:
        if self._phase == "starting":
            text = loading_text(status)
        elif self._phase == "stopping":
            text = f"finishing {_count(status.num_open, 'request')}"
        elif self._is_reloading:
            text = f"reloading; {serving_text(status)}"
        else:
            text = serving_text(status)
        return f"{text}; {self.remark}" if self.remark else text

    def _tell(self, *lines: str) -> None:
        address = self._link.notify_socket
        if not address:
            return
        address = "\0" + address[1:] if address.startswith("@") else address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.debug("the service manager cannot be told %s: %s", lines[0], error)


async def leave_waiting(loaded: asyncio.Task[None], asked: asyncio.Event) -> None:
    """Returns when models are loaded or somebody asked to stop, and meanwhile accepts nothing from
    the sockets that the manager passed: connections wait where it held them before we were
    started, so that the first request starts a service, and a restart refuses none. For HOLD_S at
    most, as clients should learn in the end that a start takes long."""
    stopped = asyncio.create_task(asked.wait())
    await asyncio.wait((loaded, stopped), timeout=HOLD_S, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()


def silent(status: DispatcherStatus) -> list[ReplicaLoad]:
    """Replicas whose worker runs and is not heard of."""
    loads = (load for model in status.models for load in model.replicas)
    return [load for load in loads if load.status.silent_s > SILENT_S]


def loading_text(status: DispatcherStatus) -> str:
    """How far a start has come."""
    wanted = [model for model in status.models if model.replicas]
    waiting = [model for model in wanted if not model.is_ready]
    if not waiting:
        return "starting"
    slowest = min(load.status.load_fraction for model in waiting for load in model.replicas)
    num_ready = len(wanted) - len(waiting)
    return (
        f"loading {len(waiting)} of {_count(len(wanted), 'model')}, {num_ready} ready, the slowest "
        f"is {100 * slowest:.0f} % loaded"
    )


def serving_text(status: DispatcherStatus) -> str:
    """What is being done, and what is not well."""
    num_ready = sum(model.is_ready for model in status.models)
    num_models = len(status.models)
    text = f"serving {_count(status.num_open, 'request')}, {num_ready} of "
    text += f"{_count(num_models, 'model')} in memory"
    for load in silent(status):
        text += f"; {load.status.name} is silent for {load.status.silent_s:.0f} s"
    for model in status.models:
        if model.error:
            text += f"; {model.name}: {model.error}"
        for load in model.replicas:
            if load.status.state in ("restarting", "failed"):
                text += f"; {load.status.name} is {load.status.state}"
    return text


def _progress(load: ReplicaLoad) -> tuple[str, str, float, int]:
    """Memory too: what is mapped is loaded before it is there."""
    status = load.status
    return status.name, status.state, status.load_fraction, status.rss_bytes >> 20


def _extend(timeout_s: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(timeout_s * 1e6)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _line(text: str) -> str:
    """A line of its own, whatever is in it, and no longer than a terminal shows."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_REMARK_LENGTH else text[: MAX_REMARK_LENGTH - 3] + "..."
