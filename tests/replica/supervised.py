"""What tests of real worker processes share: a listener that records, and process facts."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Callable

from fmedge.replica.interface import Replica
from fmedge.replica.local import LocalReplica, RestartSettings
from fmedge.replica.process import WatchSettings
from fmedge.types import EngineSettings

DEADLINE_S = 40.0
ENGINE = "tests.replica.worker_engine:load"
QUICK_RESTART = RestartSettings(initial_s=0.02, max_s=0.1)


def pack(*tokens: int) -> bytes:
    return array("i", tokens).tobytes()


def make_replica(
    name: str = "r0",
    options: str = "",
    *,
    model: str = "m",
    slots: int = 4,
    watch: WatchSettings | None = None,
    restart: RestartSettings = QUICK_RESTART,
) -> LocalReplica:
    settings = EngineSettings(model_path=options, slots=slots, ctx_size=1024)
    return LocalReplica(name, model, settings, engine=ENGINE, watch=watch, restart=restart)


class Recorder:
    """A ReplicaListener that keeps every event and lets a test wait for one."""

    def __init__(self) -> None:
        self.events: list[tuple] = []
        self._changed = asyncio.Event()

    def _add(self, *event: object) -> None:
        self.events.append(event)
        self._changed.set()

    def on_ready(self, replica: Replica, info) -> None:
        self._add("ready", info)

    def on_step(self, replica: Replica, step) -> None:
        self._add("step", step)

    def on_embedded(self, replica: Replica, embedded) -> None:
        self._add("embedded", embedded)

    def on_failed(self, replica: Replica, failed) -> None:
        self._add("failed", failed)

    def on_lost(self, replica: Replica, reason: str, *, crashed: bool) -> None:
        self._add("lost", reason, crashed)

    def on_gone(self, replica: Replica, reason: str) -> None:
        self._add("gone", reason)

    def of(self, kind: str) -> list[tuple]:
        return [event for event in self.events if event[0] == kind]

    def tokens(self, request_id: int) -> list[int]:
        return [
            token
            for _, step in self.of("step")
            for part in step.sequences
            if part.request_id == request_id
            for token in part.tokens
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_count(self, kind: str, count: int) -> None:
        await self.until(lambda: len(self.of(kind)) >= count)


async def process_gone(pid: int) -> None:
    """Wait until no live process has this pid; a zombie is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), DEADLINE_S)
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
