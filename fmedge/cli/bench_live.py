"""One line on the terminal while a load runs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from time import perf_counter

from fmedge.cli.bench_connection import Outcome
from fmedge.sim.outcome import Row, has_promise, is_held
from fmedge.sim.workload import Call

EVERY_S = 0.5


class Progress:
    """Of requests that all are alike."""

    def __init__(self, num_requests: int) -> None:
        self._num_requests = num_requests
        self._num_done = 0
        self._num_failed = 0
        self._num_tokens = 0

    def on_outcome(self, outcome: Outcome) -> None:
        self._num_done += 1
        self._num_failed += bool(outcome.error)
        self._num_tokens += outcome.num_output_tokens or len(outcome.times_s)

    def line(self, elapsed_s: float) -> str:
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        return (
            f"{self._num_done}/{self._num_requests} requests{failed}, "
            f"{self._num_tokens / elapsed_s:.0f} tokens/s, {elapsed_s:.0f} s"
        )


class Standing:
    """Of a workload's calls: how many have ended, and how many of their promises held."""

    def __init__(self, num_calls: int) -> None:
        self._num_calls = num_calls
        self._by_status: dict[str, int] = {}
        self._num_promised = 0
        self._num_held = 0
        self._ttft_s = 0.0

    def on_row(self, call: Call, row: Row) -> None:
        self._by_status[row.status] = self._by_status.get(row.status, 0) + 1
        if has_promise(call):
            self._num_promised += 1
            self._num_held += is_held(call, row)
        if row.status == "ok":
            self._ttft_s += row.ttft_s

    def line(self, elapsed_s: float) -> str:
        parts = [f"{sum(self._by_status.values())}/{self._num_calls} calls"]
        parts += [f"{n} {status}" for status, n in self._by_status.items() if status != "ok"]
        if self._num_promised:
            parts.append(f"{100 * self._num_held / self._num_promised:.1f} % kept")
        if num_ok := self._by_status.get("ok", 0):
            parts.append(f"TTFT {1e3 * self._ttft_s / num_ok:.0f} ms on average")
        return ", ".join([*parts, f"{elapsed_s:.0f} s"])


@contextlib.asynccontextmanager
async def shown(line: Callable[[float], str]) -> AsyncIterator[None]:
    """Shows line(elapsed_s) again and again, on a terminal; nothing is left of it."""
    if not sys.stderr.isatty():
        yield
        return
    shower = asyncio.create_task(_show(line))
    try:
        yield
    finally:
        shower.cancel()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


async def _show(line: Callable[[float], str]) -> None:
    started_s = perf_counter()
    while True:
        await asyncio.sleep(EVERY_S)
        sys.stderr.write(f"\r\x1b[K{line(perf_counter() - started_s)}")
        sys.stderr.flush()
