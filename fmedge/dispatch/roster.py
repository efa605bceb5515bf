"""Models and replicas that come and go while the server runs.

A replica that retires is given nothing more and finishes what it has; at its deadline the rest
waits at the front again, with every token that it emitted. It is gone only when its process has
ended: until then its memory is not free.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from fmedge.dispatch.observe import forget_replica
from fmedge.dispatch.replicas import Replicas
from fmedge.dispatch.status import ModelStatus, ReplicaLoad
from fmedge.errors import ConflictError, ModelNotFoundError, UnavailableError
from fmedge.metrics import Metrics
from fmedge.replica.interface import Replica, ReplicaListener
from fmedge.sched.cold import OpenWork
from fmedge.sched.core import Effect, SchedulerCore
from fmedge.types import EngineInfo

CLOSE_S = 5.0
KV_CLOSE_S = 20.0
"""Longer where KV goes to disk first."""

END_S = 60.0
"""A process that was killed and has not ended by then hangs in the kernel."""


class RosterWatcher(Protocol):
    """Is told of replicas by name. on_serving: it was measured too, where that was needed. on_gone:
    it will not come back; one that was retired is not told of."""

    def on_loaded(self, replica: str, info: EngineInfo) -> None: ...

    def on_serving(self, replica: str) -> None: ...

    def on_gone(self, replica: str, reason: str) -> None: ...


class Roster:
    """Of one dispatcher. carry_out: effects. take_away: what a replica runs. changed: set whenever
    a request ends or a replica's state changes."""

    def __init__(
        self,
        core: SchedulerCore,
        replicas: Replicas,
        metrics: Metrics,
        changed: asyncio.Event,
        carry_out: Callable[[Iterable[Effect]], None],
        take_away: Callable[[str], None],
    ) -> None:
        self._core = core
        self._replicas = replicas
        self._metrics = metrics
        self._changed = changed
        self._carry_out = carry_out
        self._take_away = take_away
        self._failures: dict[str, str] = {}  # of models that can be loaded
        self.watcher: RosterWatcher | None = None
        self.stirred = asyncio.Event()
        """Set by every arrival, for who looks at what is wanted only when something is."""

    # --- models ---

    def add_model(self, name: str, *, load_s: float, ctx_size: int) -> None:
        """Its requests wait where it has no replica, as one can be loaded in about load_s, which
        will take ctx_size tokens (0: not known). Again: so it is from now on, and a failure is
        forgotten."""
        self._core.on_model_added(name, load_s)
        self._replicas.planned_ctx_sizes[name] = ctx_size
        self._failures[name] = ""

    def expect(self, name: str, ready_s: float, load_s: float) -> None:
        """The replica that is being loaded will serve at about ready_s (time.monotonic(); nan:
        none is); loading one that is not would take load_s."""
        self._core.on_load_expected(name, ready_s, load_s)

    def fail_model(self, name: str, reason: str, retry_after_s: float) -> None:
        """It cannot be loaded: what waits fails with UnavailableError, and what comes is refused
        until `add_model` or a replica comes."""
        self._failures[name] = reason
        effects = self._core.on_model_failed(time.monotonic(), name, reason, retry_after_s)
        self._carry_out(effects)
        self._changed.set()

    def forget_model(self, name: str) -> None:
        """It is served no more, and has neither replicas nor requests: another may have its
        name."""
        self._core.on_model_gone(name)
        self._failures.pop(name, None)
        self._replicas.planned_ctx_sizes.pop(name, None)
        self._changed.set()

    def open_work(self) -> dict[str, OpenWork]:
        """What is wanted of each model that can be loaded."""
        return {name: self._core.open_work(name) for name in self._failures}

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Every model's, those without a replica included."""
        loads: dict[str, list[ReplicaLoad]] = {}
        for entry in self._replicas:
            load = self._replicas.load(entry, self._core.num_assigned(entry.replica.name))
            loads.setdefault(entry.replica.model, []).append(load)
        return tuple(
            ModelStatus(
                name=name,
                is_ready=any(load.status.state == "ready" for load in loads.get(name, ())),
                num_waiting=self._core.num_waiting(name),
                replicas=tuple(loads.get(name, ())),
                can_load=name in self._failures,
                error=self._failures.get(name, ""),
            )
            for name in dict.fromkeys((*loads, *self._failures))
        )

    # --- replicas ---

    def add(self, replica: Replica, listener: ReplicaListener) -> None:
        """Serve with it from when it is ready; starts it."""
        self._core.on_replica_added(replica.name, replica.model)
        self._replicas.add(replica)
        if replica.model in self._failures:
            self._failures[replica.model] = ""
        replica.start(listener)
        self._changed.set()

    async def retire(self, name: str, deadline_s: float, *, save_kv: bool = False) -> None:
        """Returns when its process has ended and it is forgotten. What it runs may take deadline_s
        seconds to finish. save_kv: it keeps its conversations' KV for a later load.

        Raises ModelNotFoundError for an unknown replica, ConflictError for one that retires
        already, UnavailableError for a process that cannot be ended.
        """
        entry = self._replicas.find(name)
        if entry is None:
            raise ModelNotFoundError(f"No replica named {name} is served.")
        if entry.is_retiring:
            raise ConflictError(f"Replica {name} is being unloaded already.")
        entry.is_retiring, entry.is_serving = True, False
        self._carry_out(self._core.on_replica_retiring(time.monotonic(), name))
        await self.until(lambda: entry.is_gone or not self._core.num_assigned(name), deadline_s)
        if self._core.num_assigned(name):
            self._take_away(name)
        await entry.replica.close(KV_CLOSE_S if save_kv else CLOSE_S, save_kv=save_kv)
        if not await self.until(lambda: entry.is_gone, END_S):
            raise UnavailableError(
                f"The process of replica {name} does not end.", retry_after_s=60.0, code="busy"
            )
        self.forget(name)

    def forget(self, name: str) -> None:
        """A replica that is gone is not shown any more, and another may have its name."""
        entry = self._replicas[name]
        self._replicas.remove(name)
        forget_replica(self._metrics, entry.replica.model, name)
        self._changed.set()

    def of(self, model: str) -> list[str]:
        """The names of a model's replicas, those that retire or are gone included."""
        return [entry.replica.name for entry in self._replicas.of(model)]

    async def wait_serving(self, names: Iterable[str], timeout_s: float) -> None:
        """Return when all these replicas serve. UnavailableError when that takes longer than
        timeout_s, or one of them is given up (its message says why)."""
        wanted = tuple(names)

        def are_serving() -> bool:
            entries = [self._replicas[name] for name in wanted]
            for entry in entries:
                if entry.is_gone:
                    raise UnavailableError(
                        f"Replica {entry.replica.name} could not be loaded: "
                        f"{entry.replica.status().error}",
                        retry_after_s=60.0,
                        code="model_failed",
                    )
            return all(entry.is_serving for entry in entries)

        if not await self.until(are_serving, timeout_s):
            raise UnavailableError(
                f"Not every replica was ready within {timeout_s:.0f} s.",
                retry_after_s=10.0,
                code="loading",
            )

    async def wait_ready(self, timeout_s: float, *, every_replica: bool) -> None:
        """Return when every model has a ready replica (or every replica is ready); a model that
        can be loaded needs none.

        Raises UnavailableError when that takes longer than timeout_s, or a model's last replica
        is given up (its message says why).
        """
        enough = all if every_replica else any

        def is_ready() -> bool:
            models = self.statuses()
            for model in models:
                gone = [load for load in model.replicas if self._replicas[load.status.name].is_gone]
                reason = model.error
                if model.replicas and len(gone) == len(model.replicas):
                    reason = "; ".join(load.status.error for load in gone)
                if reason:
                    raise UnavailableError(
                        f"Model {model.name} could not be loaded: {reason}",
                        retry_after_s=60.0,
                        code="model_failed",
                    )
            return all(
                (model.can_load and not model.replicas)
                or enough(load.status.state == "ready" for load in model.replicas)
                for model in models
            )

        if not await self.until(is_ready, timeout_s):
            raise UnavailableError(
                f"Not every model was ready within {timeout_s:.0f} s.",
                retry_after_s=10.0,
                code="loading",
            )

    async def until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came to be so in time; looked at whenever something changes."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._changed.clear()
            if is_so():
                return True
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                return is_so()
