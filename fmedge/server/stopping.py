"""Being told to stop: once lets what runs finish, twice stops at once. A lifeline that closes at
its other end is as good as two signals."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmedge.dispatch import Dispatcher

CLOSE_TIMEOUT_S = 5.0
HURRIED_CLOSE_TIMEOUT_S = 0.5
END_TIMEOUT_S = 30.0
"""All that comes after the drain takes less: connections are closed, workers end or are killed."""

EXIT_OK = 0
EXIT_INTERRUPTED = 130

log = logging.getLogger(__name__)


def end_early() -> None:
    """Until `watch`, SIGTERM unwinds what has been opened, as Ctrl-C does, and then ends."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(EXIT_OK)

    signal.signal(signal.SIGTERM, end)


class Stop:
    """One run's. `watch` on its event loop, then wait for `asked`."""

    def __init__(
        self,
        drain_timeout_s: float,
        lifeline_fd: int | None = None,
        on_asked: Callable[[float], None] | None = None,
    ) -> None:
        """on_asked: told at once, with the seconds that stopping takes at most."""
        self._on_asked = on_asked
        self.drain_timeout_s = drain_timeout_s
        self._lifeline = None if lifeline_fd is None else socket.socket(fileno=lifeline_fd)
        self.asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self.exit_code = EXIT_OK

    @property
    def close_timeout_s(self) -> float:
        """What is left for closing."""
        return HURRIED_CLOSE_TIMEOUT_S if self._hurry.is_set() else CLOSE_TIMEOUT_S

    def watch(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        if self._lifeline is not None:
            self._lifeline.setblocking(False)
            loop.add_reader(self._lifeline.fileno(), self._on_lifeline)

    def now(self, why: str) -> None:
        """As if a signal had come."""
        log.info("%s: finishing what runs, for %g s at most", why, self.drain_timeout_s)
        self._ask()

    def say_ready(self) -> None:
        """To whoever holds the lifeline."""
        if self._lifeline is not None:
            try:
                self._lifeline.send(b"ready")
            except OSError as error:
                log.debug("nobody hears that this is ready: %s", error)

    async def drain(self, dispatchers: Iterable[Dispatcher]) -> None:
        """Let what runs finish, until the time is over or there is a hurry."""
        dispatchers = list(dispatchers)
        drained = asyncio.gather(*(d.drain(self.drain_timeout_s) for d in dispatchers))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not drained.done():
            drained.cancel()
            await asyncio.wait((drained,))
            await asyncio.gather(*(d.drain(0.0) for d in dispatchers))

    def _on_signal(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            log.warning("%s again: stopping at once", number.name)
            self._hurry.set()
            return
        if number == signal.SIGINT:
            self.exit_code = EXIT_INTERRUPTED
        log.info("%s: finishing what runs, for %g s at most; a second signal stops at once",
                 number.name, self.drain_timeout_s)  # fmt: skip
        self._ask()

    def _ask(self) -> None:
        if not self.asked.is_set() and self._on_asked is not None:
            self._on_asked(self.drain_timeout_s + END_TIMEOUT_S)
        self.asked.set()

    def _on_lifeline(self) -> None:
        """Nothing is ever sent to us: readable means closed."""
        assert self._lifeline is not None
        asyncio.get_running_loop().remove_reader(self._lifeline.fileno())
        self._lifeline.close()
        self._lifeline = None
        self._ask()
        self._hurry.set()
