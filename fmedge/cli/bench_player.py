"""Plays a workload to a server in real time: open loop, and each task's later calls when the
earlier have ended.

The rule: times count from when a call was due, whenever it could be sent; and whatever ends the
run, what is known by then is kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from math import inf, nan
from time import perf_counter

from msgspec import Struct

from fmedge.cli.bench_client import Client
from fmedge.cli.bench_connection import Outcome
from fmedge.sim.outcome import INTERRUPTED, Row, Status
from fmedge.sim.pending import Pending
from fmedge.sim.workload import Call, Workload

LEAD_S = 0.05
"""From the start to the arrival of a call that is due at 0: its request is made before."""
NUM_ASKED = 3
"""Times that a server is asked whether it still is there, before the run is given up."""
ASK_TIMEOUT_S = 2.0
_REFUSED = frozenset({"http_429", "http_503", "http_529"})
_GONE = frozenset({"connect", "disconnected"})


class Played(Struct, frozen=True, kw_only=True):
    """rows: one of each call, in their order. errors: kinds of failure, and an example of each.
    late_s: of each request, from when it was due until it was sent. ended: "" or why early."""

    rows: tuple[Row, ...]
    errors: dict[str, int]
    examples: dict[str, str]
    late_s: tuple[float, ...]
    ended: str


class Player:
    """Plays one workload once. make(place, due_s): a call's request. on_row: told of each end."""

    def __init__(
        self,
        client: Client,
        workload: Workload,
        make: Callable[[int, float], bytes],
        *,
        timeout_s: float,
        concurrency: int = 0,
        ask_again_s: float = 0.5,
        on_row: Callable[[Call, Row], None] | None = None,
    ) -> None:
        self._client = client
        self._calls = workload.calls
        self._make = make
        self._timeout_s = timeout_s
        self._ask_again_s = ask_again_s
        self._on_row = on_row
        self._room = asyncio.Semaphore(concurrency) if concurrency else nullcontext()
        self._rows: dict[int, Row] = {}
        self._open: dict[int, Outcome] = {}
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._late_s: list[float] = []
        self._pending = Pending(self._calls)
        self._start_s = 0.0
        self._is_asking = False

    async def play(self) -> Played:
        """Until every call has ended, the server is gone, or this task is cancelled: then too the
        result comes."""
        self._start_s = perf_counter() + LEAD_S
        self._gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(self._run())
        ended = ""
        try:
            await asyncio.wait((running, self._gone), return_when=asyncio.FIRST_COMPLETED)
            if self._gone.done():
                ended = self._gone.result()
        except asyncio.CancelledError:
            ended = INTERRUPTED
        running.cancel()
        await asyncio.wait((running,))
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error
        return Played(
            rows=tuple(self._rows.get(n) or self._cut(n) for n in range(len(self._calls))),
            errors=dict(self._errors.most_common()),
            examples=self._examples,
            late_s=tuple(self._late_s),
            ended=ended,
        )

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            for place, due_s in self._due():
                request = self._make(place, due_s)
                await self._until(due_s)
                self._group.create_task(self._send(place, due_s, request))

    def _due(self) -> list[tuple[int, float]]:
        """The calls whose arrival is known by now, each told once, and when they arrive."""
        found = []
        while (due_s := self._pending.next_s) < inf:
            found.append((self._pending.pop(), due_s))
        return found

    async def _until(self, due_s: float) -> None:
        await asyncio.sleep(max(0.0, self._start_s + due_s - perf_counter()))

    async def _later(self, place: int, due_s: float) -> None:
        request = self._make(place, due_s)
        await self._until(due_s)
        await self._send(place, due_s, request)

    async def _send(self, place: int, due_s: float, request: bytes) -> None:
        outcome = Outcome(index=place, arrival_s=self._start_s + due_s)
        self._open[place] = outcome
        async with self._room:
            self._late_s.append(perf_counter() - outcome.arrival_s)
            await self._client.exchange(request, outcome, self._timeout_s)
        del self._open[place]
        if outcome.error:
            self._errors[outcome.error] += 1
            self._examples.setdefault(outcome.error, outcome.detail)
        self._end(place, self._row(place, outcome, _status(outcome.error)))
        if outcome.error in _GONE and not self._is_asking:
            self._is_asking = True
            self._group.create_task(self._ask(outcome.detail))

    async def _ask(self, detail: str) -> None:
        """Gives the run up where nobody listens any more."""
        for _ in range(NUM_ASKED):
            if await self._client.can_connect(ASK_TIMEOUT_S):
                self._is_asking = False
                return
            await asyncio.sleep(self._ask_again_s)
        if not self._gone.done():
            self._gone.set_result(f"the server no longer answers: {detail}")

    def _end(self, place: int, row: Row) -> None:
        """Keeps what became of a call; those that wait for it are sent, or never will be."""
        if self._on_row is not None:
            self._on_row(self._calls[place], row)
        self._rows[place] = row
        for lost in self._pending.ended(place, row.at_s + row.e2e_s, is_ok=row.status == "ok"):
            self._rows[lost] = Row(call=lost, at_s=nan, status="unsent")
        for later, due_s in self._due():
            self._group.create_task(self._later(later, due_s))

    def _cut(self, place: int) -> Row:
        """Of a call that had not ended when the run was."""
        outcome = self._open.get(place)
        if outcome is None:
            return Row(call=place, at_s=nan, status="unsent")
        return self._row(place, outcome, "unfinished")

    def _row(self, place: int, outcome: Outcome, status: Status) -> Row:
        times_s = outcome.times_s
        e2e_s = outcome.end_s - outcome.arrival_s if outcome.end_s else nan
        is_ok = status == "ok"
        # an answer without any text has its first token, if it has one, at its end
        first_s = times_s[0] - outcome.arrival_s if times_s else (e2e_s if is_ok else nan)
        return Row(
            call=place,
            at_s=outcome.arrival_s - self._start_s,
            status=status,
            ttft_s=first_s,
            e2e_s=e2e_s,
            num_tokens=outcome.num_output_tokens or len(times_s),
            num_cached=outcome.num_cached_tokens,
            replica=outcome.replica,
        )


def _status(error: str) -> Status:
    if not error:
        return "ok"
    if error in _REFUSED:
        return "refused"
    return "timeout" if error == "timeout" else "failed"
