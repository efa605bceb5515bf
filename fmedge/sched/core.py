"""The scheduler core: events in, effects out. It performs nothing, waits for nothing, owns no
clock; every request that arrives leaves it exactly once, by finish, cancel, Refuse or Fail.

Order: higher priority first, then arrival. A request goes to the ready replica of its model with
the least outstanding work, as long as that replica holds fewer than its capacity.

Crashes: when a worker dies, everything assigned to it may be the cause. The first time, all of it
simply runs again. A request that sees a second crash without having made progress in between is a
suspect, and a replica runs at most one suspect at a time (beside requests above suspicion), so
that the next crash has one plausible culprit: it alone is blamed, and fails once it has seen
`max_crashes`. Tokens emitted since the crash clear a suspect.
"""

from __future__ import annotations

import bisect
import math
from typing import Literal

from msgspec import Struct

ASSUMED_OUTPUT_TOKENS = 256
PROGRESS_TOKENS = 8
MAX_RETRY_AFTER_S = 60.0
RATE_WEIGHT = 0.1

RefusalCode = Literal["model_not_found", "loading", "draining", "overloaded", "model_failed"]


class CoreSettings(Struct, frozen=True, kw_only=True):
    """max_waiting: most requests of one model that wait at the front, 0 for none: what no replica
    has room for is refused. max_crashes: crashes that
    a request may see before it fails as their plausible cause. max_total_crashes: a request that
    saw as many stays a suspect for good, whatever progress it makes between them."""

    max_waiting: int = 512
    max_crashes: int = 3
    max_total_crashes: int = 6


class Arrival(Struct, frozen=True):
    """A request as the core sees it; `max_tokens` is 0 for an embedding."""

    request_id: int
    model: str
    num_prompt_tokens: int
    max_tokens: int
    priority: int = 0


class Assign(Struct, frozen=True):
    """Submit this request to this replica now."""

    request_id: int
    replica: str


class Refuse(Struct, frozen=True):
    """An arrival is not taken. retry_after_s: when to try again, if that can help."""

    request_id: int
    code: RefusalCode
    message: str
    retry_after_s: float


class Fail(Struct, frozen=True):
    """A request that had been taken can never finish."""

    request_id: int
    message: str


class CancelOn(Struct, frozen=True):
    """Tell this replica to drop the request."""

    request_id: int
    replica: str


Effect = Assign | Refuse | Fail | CancelOn


class _Request:
    __slots__ = (
        "arrival",
        "crashes",
        "crashes_total",
        "num_new_tokens",
        "order",
        "replica",
        "work",
    )

    def __init__(self, arrival: Arrival, order: int) -> None:
        self.arrival = arrival
        self.order = (-arrival.priority, order)
        self.work = arrival.num_prompt_tokens + min(arrival.max_tokens, ASSUMED_OUTPUT_TOKENS)
        self.replica: _Replica | None = None
        self.crashes = 0  # seen since it last made progress
        self.crashes_total = 0
        self.num_new_tokens = 0  # since the last crash


class _Replica:
    __slots__ = ("capacity", "is_ready", "model", "name", "order", "requests", "work")

    def __init__(self, name: str, model: str, order: int) -> None:
        self.name = name
        self.model = model
        self.order = order
        self.capacity = 0
        self.is_ready = False
        self.requests: dict[int, _Request] = {}
        self.work = 0

    @property
    def has_room(self) -> bool:
        return self.is_ready and len(self.requests) < self.capacity


class _Model:
    __slots__ = ("finish_interval_s", "gone_reason", "last_finish_s", "replicas", "waiting")

    def __init__(self) -> None:
        self.replicas: dict[str, _Replica] = {}
        self.waiting: list[_Request] = []  # sorted by order
        self.gone_reason = ""
        self.last_finish_s = math.nan
        self.finish_interval_s = math.nan

    @property
    def num_open(self) -> int:
        return len(self.waiting) + sum(len(r.requests) for r in self.replicas.values())


class SchedulerCore:
    """Times `now_s` are any one monotonic clock's seconds. Each event returns its effects in the
    order in which they shall be carried out."""

    def __init__(self, settings: CoreSettings | None = None) -> None:
        self._settings = settings or CoreSettings()
        self._models: dict[str, _Model] = {}
        self._replicas: dict[str, _Replica] = {}
        self._requests: dict[int, _Request] = {}
        self._num_arrived = 0
        self._is_draining = False
        self.watched: set[int] = set()
        """Requests whose progress matters (`on_progress`): those that saw a crash."""

    # --- replicas ---

    def on_replica_added(self, replica: str, model: str) -> None:
        """A replica is starting. Names are unique."""
        if replica in self._replicas:
            raise ValueError(f"replica {replica} was added twice")
        added = _Replica(replica, model, len(self._replicas))
        self._replicas[replica] = added
        entry = self._models.setdefault(model, _Model())
        entry.replicas[replica] = added
        entry.gone_reason = ""

    def on_replica_ready(self, now_s: float, replica: str, capacity: int) -> list[Effect]:
        """It takes up to `capacity` (>= 1) requests at a time."""
        ready = self._replicas[replica]
        ready.is_ready, ready.capacity = True, max(1, capacity)
        return [*self._assign(self._models[ready.model])]

    def on_replica_lost(self, now_s: float, replica: str, *, crashed: bool) -> list[Effect]:
        """Its process is gone: what it ran waits again, but for a culprit, which fails."""
        lost = self._replicas.get(replica)
        if lost is None:
            return []
        lost.is_ready = False
        victims = list(lost.requests.values())
        lost.requests.clear()
        lost.work = 0
        for request in victims:
            request.replica = None
        effects: list[Effect] = []
        if crashed:
            culprit = self._count_crash(victims)
            if culprit is not None:
                victims.remove(culprit)
                effects.append(Fail(culprit.arrival.request_id, _blame(culprit)))
                self._forget(culprit)
        model = self._models[lost.model]
        for request in victims:
            bisect.insort(model.waiting, request, key=_order)
        effects.extend(self._assign(model))
        return effects

    def on_replica_gone(self, now_s: float, replica: str, reason: str) -> list[Effect]:
        """It will not come back. With the last of a model's replicas its requests fail."""
        effects = self.on_replica_lost(now_s, replica, crashed=False)
        gone = self._replicas.pop(replica, None)
        if gone is None:
            return effects
        model = self._models[gone.model]
        del model.replicas[replica]
        if not model.replicas:
            model.gone_reason = reason
            for request in model.waiting:
                message = f"No replica of {gone.model} is left: {reason}"
                effects.append(Fail(request.arrival.request_id, message))
                self._forget(request)
            model.waiting.clear()
        return effects

    # --- requests ---

    def on_arrival(self, now_s: float, arrival: Arrival) -> list[Effect]:
        """Assign, or wait (no effect), or Refuse."""
        refusal = self.refusal(arrival.model, arrival.request_id)
        if refusal is not None:
            return [refusal]
        model = self._models[arrival.model]
        request = _Request(arrival, self._num_arrived)
        self._num_arrived += 1
        self._requests[arrival.request_id] = request
        bisect.insort(model.waiting, request, key=_order)
        return [*self._assign(model)]

    def on_progress(self, request_id: int, num_tokens: int) -> list[Effect]:
        """A watched request emitted tokens: enough of them clear it."""
        request = self._requests.get(request_id)
        if request is None or request_id not in self.watched:
            return []
        request.num_new_tokens += num_tokens
        if request.num_new_tokens < PROGRESS_TOKENS:
            return []
        request.crashes = 0
        if self._is_suspect(request):
            return []
        self.watched.discard(request_id)
        return [*self._assign(self._models[request.arrival.model])]

    def on_finish(self, now_s: float, request_id: int) -> list[Effect]:
        """Its replica answered it completely, or failed it."""
        request = self._requests.get(request_id)
        if request is None:
            return []
        model = self._models[request.arrival.model]
        if not math.isnan(model.last_finish_s):
            interval_s = now_s - model.last_finish_s
            past_s = model.finish_interval_s
            model.finish_interval_s = (
                interval_s if math.isnan(past_s) else past_s + RATE_WEIGHT * (interval_s - past_s)
            )
        effects = self._leave(request)
        # Idle time says nothing about pace.
        model.last_finish_s = now_s if model.num_open else math.nan
        return effects

    def on_cancel(self, now_s: float, request_id: int) -> list[Effect]:
        """Nobody wants it any more."""
        request = self._requests.get(request_id)
        if request is None:
            return []
        effects: list[Effect] = []
        if request.replica is not None:
            effects.append(CancelOn(request_id, request.replica.name))
        effects.extend(self._leave(request))
        return effects

    def on_drain(self) -> None:
        """From now on every arrival is refused."""
        self._is_draining = True

    # --- what is, for status ---

    @property
    def num_open(self) -> int:
        """Requests that have arrived and not left."""
        return len(self._requests)

    def num_waiting(self, model: str) -> int:
        """Requests of this model at the front."""
        entry = self._models.get(model)
        return 0 if entry is None else len(entry.waiting)

    def num_assigned(self, replica: str) -> int:
        """Requests that this replica holds, running or in its own queue."""
        entry = self._replicas.get(replica)
        return 0 if entry is None else len(entry.requests)

    def replica_of(self, request_id: int) -> str | None:
        """Where it is, None while it waits (or is unknown)."""
        request = self._requests.get(request_id)
        return None if request is None or request.replica is None else request.replica.name

    def refusal(self, name: str, request_id: int = 0) -> Refuse | None:
        """How an arrival for this model would be refused now. Changes nothing and reads what is
        replaced or copied as a whole, so that it may be asked from any thread."""

        def refuse(code: RefusalCode, message: str, retry_after_s: float) -> Refuse:
            return Refuse(request_id, code, message, retry_after_s)

        if self._is_draining:
            return refuse("draining", "The server is shutting down.", 5.0)
        model = self._models.get(name)
        if model is None:
            return refuse("model_not_found", f"No model named {name} is served.", 0.0)
        replicas = list(model.replicas.values())
        if not replicas:
            message = f"Model {name} is not available: {model.gone_reason}"
            return refuse("model_failed", message, MAX_RETRY_AFTER_S)
        if all(replica.capacity == 0 for replica in replicas):
            return refuse("loading", f"Model {name} is still loading.", 2.0)
        num_waiting = len(model.waiting)
        if num_waiting >= self._settings.max_waiting and not any(r.has_room for r in replicas):
            message = (
                f"Model {name} has {num_waiting} requests waiting, which is as many as are allowed."
                if num_waiting
                else f"Every replica of model {name} is busy, and requests may not wait."
            )
            return refuse("overloaded", message, self._retry_after_s(model))
        return None

    # --- rules ---

    def _retry_after_s(self, model: _Model) -> float:
        """When about half of what waits will have left, at the pace of the last finishes."""
        if math.isnan(model.finish_interval_s):
            return 1.0
        estimate_s = model.finish_interval_s * len(model.waiting) / 2
        return float(math.ceil(min(MAX_RETRY_AFTER_S, max(1.0, estimate_s))))

    def _assign(self, model: _Model) -> list[Assign]:
        effects: list[Assign] = []
        kept: list[_Request] = []
        has_room = True
        for position, request in enumerate(model.waiting):
            if not has_room:
                kept.extend(model.waiting[position:])
                break
            is_suspect = self._is_suspect(request)
            open_replicas = [replica for replica in model.replicas.values() if replica.has_room]
            has_room = bool(open_replicas)
            if is_suspect:
                open_replicas = [r for r in open_replicas if not self._runs_suspect(r)]
            if not open_replicas:
                kept.append(request)
                continue
            best = min(open_replicas, key=lambda r: (r.work, len(r.requests), r.order))
            best.requests[request.arrival.request_id] = request
            best.work += request.work
            request.replica = best
            effects.append(Assign(request.arrival.request_id, best.name))
        model.waiting = kept
        return effects

    def _count_crash(self, victims: list[_Request]) -> _Request | None:
        """Who is to blame counts: a lone suspect, else everyone. Returns one that must fail."""
        suspects = [request for request in victims if self._is_suspect(request)]
        counted = suspects if len(suspects) == 1 else victims
        for request in counted:
            request.crashes += 1
            request.crashes_total += 1
            request.num_new_tokens = 0
            self.watched.add(request.arrival.request_id)
        # A request that was alone is its own only suspect.
        if len(counted) != 1:
            return None
        seen = max(counted[0].crashes, counted[0].crashes_total - self._settings.max_total_crashes)
        return counted[0] if seen >= self._settings.max_crashes else None

    def _is_suspect(self, request: _Request) -> bool:
        settings = self._settings
        return (
            request.crashes >= max(1, settings.max_crashes - 1)
            or request.crashes_total >= settings.max_total_crashes
        )

    def _runs_suspect(self, replica: _Replica) -> bool:
        if self.watched.isdisjoint(replica.requests):
            return False
        return any(self._is_suspect(request) for request in replica.requests.values())

    def _leave(self, request: _Request) -> list[Effect]:
        model = self._models[request.arrival.model]
        replica = request.replica
        if replica is None:
            model.waiting.remove(request)
        else:
            del replica.requests[request.arrival.request_id]
            replica.work -= request.work
        self._forget(request)
        return [*self._assign(model)]

    def _forget(self, request: _Request) -> None:
        del self._requests[request.arrival.request_id]
        self.watched.discard(request.arrival.request_id)


def _order(request: _Request) -> tuple[int, int]:
    return request.order


def _blame(request: _Request) -> str:
    return (
        f"The model's worker process crashed {request.crashes_total} times while running this "
        "request, so it is not tried again. Other requests are not affected."
    )
