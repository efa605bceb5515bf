"""The replicas of one dispatcher: who has loaded, who was measured, who serves.

A replica that has loaded is measured before it serves, once; when it comes back after a crash, its
profile is still good. Requests are not this module's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from msgspec.structs import replace

from fmedge.dispatch.entry import ReplicaEntry
from fmedge.dispatch.status import ReplicaLoad
from fmedge.errors import FmedgeError, ModelNotFoundError, UnavailableError
from fmedge.metrics import Metrics
from fmedge.replica.interface import Replica
from fmedge.sched.profile import StepProfile
from fmedge.types import EngineInfo

Profiler = Callable[[Replica, EngineInfo], Awaitable[StepProfile | None]]
"""Finds out what a loaded replica's steps cost; None leaves it without estimates."""

log = logging.getLogger(__name__)


class Replicas:
    """By name. on_serving is called when one has loaded, and its profile is known if it ever
    will be."""

    def __init__(
        self,
        metrics: Metrics,
        profiler: Profiler | None,
        on_serving: Callable[[ReplicaEntry, EngineInfo], None],
    ) -> None:
        self._metrics = metrics
        self._profiler = profiler
        self._on_serving = on_serving
        self._entries: dict[str, ReplicaEntry] = {}
        self.planned_ctx_sizes: dict[str, int] = {}
        """By model, for as long as none of its replicas is loaded; 0 unknown."""
        self._profiling: set[asyncio.Task[None]] = set()

    def __getitem__(self, name: str) -> ReplicaEntry:
        return self._entries[name]

    def __iter__(self) -> Iterator[ReplicaEntry]:
        return iter(self._entries.values())

    def find(self, name: str) -> ReplicaEntry | None:
        return self._entries.get(name)

    def add(self, replica: Replica) -> None:
        self._entries[replica.name] = ReplicaEntry(replica, self._metrics)

    def remove(self, name: str) -> None:
        """Its process has ended, and nothing of it comes any more."""
        del self._entries[name]

    def of(self, model: str) -> list[ReplicaEntry]:
        return [entry for entry in self if entry.replica.model == model]

    def ctx_size(self, model: str) -> int:
        """The least of the model's replicas, so that any of them can take over; 0 unknown."""
        sizes = [entry.info.ctx_size for entry in self.of(model) if entry.info is not None]
        return min(sizes, default=self.planned_ctx_sizes.get(model, 0))

    def loaded(self, name: str, info: EngineInfo) -> None:
        """Its process has loaded; it serves at once or when it has been measured."""
        entry = self._entries[name]
        entry.info = info
        if self._profiler is None or entry.profile is not None:
            self._serve(entry, info)
            return
        task = asyncio.create_task(self._profile(entry, info, self._profiler))
        self._profiling.add(task)
        task.add_done_callback(self._profiling.discard)

    def lost(self, name: str) -> None:
        """Its process is gone, for now."""
        entry = self._entries[name]
        entry.last_step, entry.info, entry.is_serving = None, None, False

    def gone(self, name: str) -> None:
        """It will not come back."""
        entry = self._entries[name]
        entry.is_gone, entry.is_serving = True, False

    async def measure(
        self, name: str, profiler: Profiler, on_idle: Callable[[], None]
    ) -> StepProfile:
        """Measure one that serves anew; it does not serve meanwhile. on_idle: called first, to
        take away what it runs.

        Raises ModelNotFoundError for an unknown replica, UnavailableError when it is not ready.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise ModelNotFoundError(f"No replica named {name} is served.")
        info = entry.info
        if not entry.is_serving or info is None:
            raise UnavailableError(
                f"Replica {name} is not ready.", retry_after_s=5.0, code="loading"
            )
        entry.is_serving = False
        on_idle()
        try:
            profile = await profiler(entry.replica, info)
            if profile is None:
                raise UnavailableError(
                    f"Replica {name} could not be measured.", retry_after_s=5.0, code="busy"
                )
            entry.set_profile(profile)
            return profile
        finally:
            self._serve(entry, info)

    async def close(self, deadline_s: float) -> None:
        """End every one; each politely until the deadline, then by force."""
        for task in self._profiling:
            task.cancel()
        await asyncio.gather(*self._profiling, return_exceptions=True)
        await asyncio.gather(*(entry.replica.close(deadline_s) for entry in self))

    def load(self, entry: ReplicaEntry, num_assigned: int) -> ReplicaLoad:
        """How busy it is. num_assigned: requests that the scheduler has given it."""
        status = entry.replica.status()
        if status.state == "ready" and not entry.is_serving:
            status = replace(status, state="retiring" if entry.is_retiring else "measuring")
        step = entry.last_step
        # A cancelled sequence ends without a step to say so.
        num_running = 0 if step is None else min(step.num_running, num_assigned)
        return ReplicaLoad(
            status=status,
            num_assigned=num_assigned,
            num_running=num_running,
            num_waiting=num_assigned - num_running,
            kv_tokens_used=0 if step is None else step.kv_tokens_used,
            kv_tokens=0 if entry.info is None else entry.info.kv_tokens,
        )

    async def _profile(self, entry: ReplicaEntry, info: EngineInfo, profiler: Profiler) -> None:
        profile: StepProfile | None = None
        try:
            profile = await profiler(entry.replica, info)
        except FmedgeError as error:
            log.warning("replica %s was not measured: %s", entry.replica.name, error)
        except Exception:  # estimates are worth much, but not the service
            log.exception("replica %s serves without estimates", entry.replica.name)
        if profile is not None:
            entry.set_profile(profile)
        self._serve(entry, info)

    def _serve(self, entry: ReplicaEntry, info: EngineInfo) -> None:
        # It was neither lost nor told to retire meanwhile.
        if entry.info is info and not entry.is_gone and not entry.is_retiring:
            entry.is_serving = True
            self._on_serving(entry, info)
