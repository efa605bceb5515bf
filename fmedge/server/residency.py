"""Keeps in memory what residency decides: loads and retires replicas, and says what is happening.

All decisions are `sched.residency`'s; this module tells it what is wanted and what came of its
effects, and is the only one that starts or ends replicas of managed models. A replica that could
not be loaded is planned anew once or twice, if somebody can (`replan`), before its model fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from fmedge.dispatch import Dispatcher
from fmedge.errors import ConflictError, FmedgeError, ModelNotFoundError, UnavailableError
from fmedge.replica.interface import Replica
from fmedge.sched.provision.plan import Placed, Plan, PlannedReplica
from fmedge.sched.provision.replan import bytes_by_replica
from fmedge.sched.residency import Residency, ResidencyStatus
from fmedge.sched.resident import (
    Effect,
    Hopeless,
    Load,
    ModelRule,
    ResidencySettings,
    Resident,
    Retry,
    Unload,
)
from fmedge.types import EngineInfo

TICK_S = 0.05
IDLE_TICK_S = 1.0
COMMAND_TIMEOUT_S = 600.0
MAX_REPLANS = 2
START_S = 0.5
LOAD_BYTES_PER_S = 1e9
"""Of what was never loaded: a process starts, and weights come from an ordinary SSD."""

log = logging.getLogger(__name__)

MakeReplica = Callable[[PlannedReplica], Replica]
Replan = Callable[[PlannedReplica, str], Awaitable[tuple[PlannedReplica, dict[str, int]] | None]]
"""Another placement under the same name, with its bytes by device, for a replica that could not be
loaded and why; None: there is none."""

Learn = Callable[[str, EngineInfo], Awaitable[None]]
"""Told of every replica that has loaded, and what llama.cpp says of it."""


class PlacementOut(Struct, frozen=True, kw_only=True):
    """A replica and where it lies, or would."""

    replica: str
    state: str
    why: str
    since_s: float
    load_s: float
    file: str
    ctx_size: int
    slots: int
    kv_type: str
    bytes: dict[str, int]
    placement: tuple[Placed, ...]


class ModelResidency(Struct, frozen=True, kw_only=True):
    """A model for `fmedge ps`: see ResidencyStatus. ready_in_s: until it can serve, 0 when it
    does, None unknown."""

    model: str
    state: str
    why: str
    is_pinned: bool
    idle_s: float | None
    keep_alive_left_s: float | None
    rate_per_s: float
    ready_in_s: float | None
    error: str
    replicas: list[PlacementOut]


class ModelManager:
    """One for each server. Use it on the dispatcher's event loop.

    make_replica: a replica of this name that has not been started. save_kv: replicas that are
    unloaded keep their conversations' KV.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        make_replica: MakeReplica,
        *,
        settings: ResidencySettings | None = None,
        save_kv: bool = False,
        replan: Replan | None = None,
        learn: Learn | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._roster = dispatcher.roster
        self._make_replica = make_replica
        self._settings = settings or ResidencySettings()
        self._save_kv = save_kv
        self._replan = replan
        self._learn = learn
        self._residency = Residency({}, self._settings)
        self._planned: dict[str, PlannedReplica] = {}
        """By name: those of the plan, and those that are to end but have not yet."""
        self._bytes: dict[str, dict[str, int]] = {}
        self._rules: dict[str, ModelRule] = {}
        self._started_s: dict[str, float] = {}
        self._load_s: dict[str, float] = {}
        self._ready_s: dict[str, float] = {}  # by model, of what is loading
        self._num_replans: dict[str, int] = {}
        self._plan: Plan | None = None
        self._leaving: set[str] = set()
        self._loop: asyncio.Task[None] | None = None
        self._work: set[asyncio.Future[None]] = set()
        self._has_work = False
        self._changed = asyncio.Event()
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Load what fits, and serve from now on. `apply` comes first."""
        self._roster.watcher = self
        self._look()
        self._loop = asyncio.create_task(self._run(), name="residency")

    async def close(self) -> None:
        """Stop deciding. Replicas are the dispatcher's to close."""
        self._roster.watcher = None
        tasks = [*self._work, *([self._loop] if self._loop is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def apply(self, plan: Plan, rules: Mapping[str, ModelRule] | None = None) -> None:
        """What may be loaded from now on, and on which devices. The plan's replicas together may
        take more than the devices have. A replica that goes on keeps its name (`replan.renamed`)
        and is not touched; what is not in the plan is retired. rules: None leaves them."""
        if rules is not None:
            self._rules = dict(rules)
        self._plan = plan
        self._num_replans.clear()
        self._place(plan)

    def leave(self, model: str) -> None:
        """It goes for good: its replicas as soon as nothing is open of it. What a plan says of its
        name is for another model, and waits until `free`. `apply` comes after."""
        self._leaving.add(model)

    async def wait_left(self, model: str, timeout_s: float) -> bool:
        """Whether the last replica of a model that leaves ended in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while any(planned.model == model for planned in self._planned.values()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def free(self, model: str) -> None:
        """It has left: the name is that of whatever the plan has under it."""
        self._leaving.discard(model)
        if self._plan is not None:
            self._place(self._plan)

    def set_least_time(self, min_resident_s: float) -> None:
        """How long a model that was loaded stays at least."""
        self._residency.set_least_time(min_resident_s)

    def _place(self, plan: Plan) -> None:
        held = bytes_by_replica(plan)
        coming = [replica for replica in plan.replicas if replica.model not in self._leaving]
        kept = {name: replica for name, replica in self._planned.items() if self._is_up(name)}
        self._planned = {replica.name: replica for replica in coming} | kept
        self._bytes = held | {name: self._bytes[name] for name in kept}
        leaving = dict.fromkeys(self._leaving, ModelRule(is_leaving=True))
        capacity = {device.name: device.capacity_bytes for device in plan.devices}
        residents = [self._resident(replica.name) for replica in coming]
        rules = self._rules | leaving
        self._residency.set_residents(time.monotonic(), residents, rules, capacity)
        for model in dict.fromkeys(replica.model for replica in coming):
            self._add_model(model)
        self._show(capacity)
        self._stir()

    @property
    def names(self) -> set[str]:
        """Of all replicas: those of the plan, and those that have not ended yet."""
        return set(self._planned)

    # --- commands ---

    async def load(self, model: str, timeout_s: float = COMMAND_TIMEOUT_S) -> ModelResidency:
        """Load a model, whatever has to go for it; returns when it serves.

        Raises ModelNotFoundError; UnavailableError when it cannot be loaded or not in time.
        """
        self._check(model)
        if self._status_of(model).state != "loaded":
            self._residency.command_load(model)
            self._add_model(model)
            self._look()
            await self._until(model, lambda state: state in ("loaded", "failed"), timeout_s)
        status = self._status_of(model)
        if status.state != "loaded":
            raise UnavailableError(
                f"Model {model} could not be loaded: {status.error or status.why}",
                retry_after_s=10.0,
                code="model_failed",
            )
        return status

    async def unload(self, model: str, timeout_s: float = COMMAND_TIMEOUT_S) -> ModelResidency:
        """Unload a model; returns when its processes have ended. The next request loads it again.

        Raises ModelNotFoundError; ConflictError for one that is pinned; UnavailableError when it
        takes too long.
        """
        self._check(model)
        rule = self._rules.get(model)
        if rule is not None and rule.is_pinned:
            raise ConflictError(
                f"Model {model} is pinned: it stays loaded until the configuration says otherwise.",
                param="model",
                code="pinned",
            )
        self._carry_out(self._residency.command_unload(time.monotonic(), model))
        await self._until(model, lambda state: state != "unloading", timeout_s)
        return self._status_of(model)

    # --- what is ---

    def status(self) -> list[ModelResidency]:
        """Every model's state, why it is so, and where its replicas lie."""
        now_s = time.monotonic()
        return [self._out(now_s, status) for status in self._residency.status(now_s)]

    # --- events of replicas ---

    def on_loaded(self, replica: str, info: EngineInfo) -> None:
        """Its weights are there; it may still be measured."""
        if replica in self._started_s:
            self._load_s[replica] = time.monotonic() - self._started_s.pop(replica)
        if self._learn is not None:
            self._spawn(self._learn(replica, info))

    def on_serving(self, replica: str) -> None:
        """It serves; after a crash of its own it is here without a load of ours."""
        load_s = self._load_s.pop(replica, None)
        if load_s is not None:
            model = self._planned[replica].model
            self._ready_s.pop(model, None)
            self._dispatcher.metrics.model_load_seconds.labels(model).observe(load_s)
            self._residency.on_loaded(time.monotonic(), replica, load_s)
            self._stir()

    def on_gone(self, replica: str, reason: str) -> None:
        """It was given up."""
        self._spawn(self._recover(replica, reason))

    # --- rules ---

    async def _run(self) -> None:
        stirred = self._roster.stirred
        while True:
            is_busy = self._has_work or not self._residency.is_settled
            # Not wait_for: in Python 3.11 it swallows a cancellation that comes with its result.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S if is_busy else IDLE_TICK_S):
                    await (self._news if is_busy else stirred).wait()
            stirred.clear()
            self._news.clear()
            try:
                self._look()
            except Exception:
                log.exception("residency: a decision failed")

    def _look(self) -> None:
        """See what is wanted, do what is decided, and tell what to expect."""
        now_s = time.monotonic()
        works = self._roster.open_work()
        self._has_work = any(work.waiting or work.num_running for work in works.values())
        self._residency.see(now_s, works)
        self._carry_out(self._residency.decide(now_s))
        for model in {replica.model for replica in self._planned.values()}:
            ready_s = self._ready_s.get(model, math.nan)
            self._roster.expect(model, ready_s, self._expected_s(model))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Load():
                    log.info("loading %s: %s", effect.replica, effect.reason)
                    self._load(effect.replica)
                case Unload():
                    log.info("unloading %s: %s", effect.replica, effect.reason)
                    self._dispatcher.metrics.model_unloads.labels(effect.model).inc()
                    self._spawn(self._unload(effect))
                case Retry():
                    self._add_model(effect.model)
                case Hopeless():
                    log.error("%s cannot be loaded: %s", effect.model, effect.reason)
                    self._roster.fail_model(effect.model, effect.reason, effect.retry_after_s)
        self._changed.set()

    def _load(self, name: str) -> None:
        planned, now_s = self._planned[name], time.monotonic()
        self._started_s[name] = now_s
        self._ready_s[planned.model] = now_s + self._residency.load_s(name)
        self._dispatcher.add_replica(self._make_replica(planned))

    async def _unload(self, effect: Unload) -> None:
        name = effect.replica
        self._started_s.pop(name, None)
        self._load_s.pop(name, None)
        try:
            await self._roster.retire(name, effect.deadline_s, save_kv=self._save_kv)
        except ModelNotFoundError:
            pass  # it was gone before
        except FmedgeError as error:
            log.warning("%s Nothing is loaded into its memory.", error)
            return
        self._ended(name)

    async def _recover(self, name: str, reason: str) -> None:
        """A replica was given up: place it otherwise, or say that its model failed."""
        self._roster.forget(name)
        self._started_s.pop(name, None)
        self._load_s.pop(name, None)
        planned = self._planned[name]
        other = await self._placed_anew(planned, reason)
        now_s = time.monotonic()
        self._ready_s.pop(planned.model, None)
        if other is not None:
            log.warning("%s is loaded otherwise, as it failed: %s", name, reason)
            self._planned[name], self._bytes[name] = replace(other[0], name=name), other[1]
            self._residency.on_replanned(now_s, name, self._resident(name))
        else:
            wait_s = self._residency.on_failed(now_s, name, reason)
            self._forget_unplanned(name)
            if self._state_of(planned.model) == "failed":
                self._roster.fail_model(planned.model, reason, wait_s)
        self._stir()

    async def _placed_anew(
        self, planned: PlannedReplica, reason: str
    ) -> tuple[PlannedReplica, dict[str, int]] | None:
        num_before = self._num_replans.get(planned.name, 0)
        is_leaving = planned.model in self._leaving
        if self._replan is None or num_before >= MAX_REPLANS or is_leaving:
            return None
        self._num_replans[planned.name] = num_before + 1
        try:
            return await self._replan(planned, reason)
        except FmedgeError as error:
            log.warning("%s is not planned anew: %s", planned.name, error)
            return None

    def _ended(self, name: str) -> None:
        self._residency.on_unloaded(time.monotonic(), name)
        self._forget_unplanned(name)
        self._stir()

    def _forget_unplanned(self, name: str) -> None:
        if self._residency.state(name) is None:
            del self._planned[name], self._bytes[name]

    def _show(self, capacity: Mapping[str, int]) -> None:
        """Let the metrics say what there is of each device, and what is taken of it."""
        metrics = self._dispatcher.metrics
        metrics.device_capacity_bytes.clear()
        metrics.device_used_bytes.clear()
        for replica in self._planned.values():
            metrics.model_unloads.labels(replica.model)  # counted from 0 on
        for device, capacity_bytes in capacity.items():
            metrics.device_capacity_bytes.labels(device).set(capacity_bytes)
            metrics.device_used_bytes.labels(device).set_function(partial(self._held_bytes, device))

    def _held_bytes(self, device: str) -> int:
        return sum(held.get(device, 0) for name, held in self._bytes.items() if self._is_up(name))

    def _resident(self, name: str) -> Resident:
        held = self._bytes[name]
        load_s = START_S + sum(held.values()) / LOAD_BYTES_PER_S
        return Resident(replica=name, model=self._planned[name].model, bytes=held, load_s=load_s)

    def _is_up(self, name: str) -> bool:
        return self._residency.state(name) not in (None, "unloaded")

    def _add_model(self, model: str) -> None:
        sizes = [planned.ctx_size for planned in self._planned.values() if planned.model == model]
        self._roster.add_model(
            model, load_s=self._expected_s(model), ctx_size=min(sizes, default=0)
        )

    def _expected_s(self, model: str) -> float:
        return self._residency.expected_s(time.monotonic(), model)

    def _check(self, model: str) -> None:
        if all(planned.model != model for planned in self._planned.values()):
            raise ModelNotFoundError(f"The model `{model[:100]}` is not served here.")

    def _status_of(self, model: str) -> ModelResidency:
        self._check(model)
        return next(status for status in self.status() if status.model == model)

    def _state_of(self, model: str) -> str | None:
        """None for one that has left."""
        return next((status.state for status in self.status() if status.model == model), None)

    def _out(self, now_s: float, status: ResidencyStatus) -> ModelResidency:
        ready_in_s: float | None = 0.0
        if status.state != "loaded":
            ready_s = self._ready_s.get(status.model)
            wait_s = (
                self._expected_s(status.model) if ready_s is None else max(0.0, ready_s - now_s)
            )
            ready_in_s = wait_s if math.isfinite(wait_s) else None
        replicas = []
        for replica in status.replicas:
            planned = self._planned[replica.replica]
            replicas.append(
                PlacementOut(
                    replica=replica.replica,
                    state=replica.state,
                    why=replica.why,
                    since_s=replica.since_s,
                    load_s=replica.load_s,
                    file=planned.file,
                    ctx_size=planned.ctx_size,
                    slots=planned.slots,
                    kv_type=planned.kv_type,
                    bytes=self._bytes[replica.replica],
                    placement=planned.placement,
                )
            )
        return ModelResidency(
            model=status.model,
            state=status.state,
            why=status.why,
            is_pinned=status.is_pinned,
            idle_s=status.idle_s,
            keep_alive_left_s=status.keep_alive_left_s,
            rate_per_s=status.rate_per_s,
            ready_in_s=ready_in_s,
            error=status.error,
            replicas=replicas,
        )

    async def _until(self, model: str, is_so: Callable[[str], bool], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not is_so(self._status_of(model).state):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            state = self._status_of(model).state
            raise UnavailableError(
                f"Model {model} is still {state} after {timeout_s:.0f} s.",
                retry_after_s=10.0,
                code="loading",
            ) from None

    def _stir(self) -> None:
        """Something changed: look again at once, and let who waits for it look."""
        self._roster.stirred.set()
        self._news.set()
        self._changed.set()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("residency failed", exc_info=task.exception())
