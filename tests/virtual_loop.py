"""An event loop whose time passes only while it waits: seconds of timers in no time.

The rule: `time()` is virtual and jumps to the next timer instead of waiting for it. With `lag`, the
loop wakes that much later than it meant to, as on a busy machine.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, lag: Callable[[], float]) -> None:
        super().__init__()
        self.now_s = 1000.0
        self._lag = lag

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0.0 if timeout is not None else None)
        if not events and timeout:
            self.now_s += timeout + self._lag()
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """lag: seconds that a timer is late, asked each time."""

    def __init__(self, lag: Callable[[], float] = lambda: 0.0) -> None:
        self._virtual = _Selector(lag)
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s

    def pass_time(self, seconds: float) -> None:
        """As if a callback had kept the loop busy for so long."""
        self._virtual.now_s += seconds


def run_virtual(main: Coroutine[Any, Any, Any], lag: Callable[[], float] = lambda: 0.0) -> Any:
    """`asyncio.run` on a VirtualLoop."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(lag)) as runner:
        return runner.run(main)
