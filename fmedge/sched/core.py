"""The scheduler core: events in, effects out. It performs nothing, waits for nothing, owns no
clock; every request that arrives leaves it exactly once, by finish, cancel, Refuse or Fail.

What goes where, and in which order, is a policy's: "fmedge" routes by estimates (`router`), the
others are baselines. Until every ready replica of a model has a profile, the model is served by
least outstanding work. Who is to blame for a crash is `crashes`' matter.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from fmedge.sched.admission import bound_refusal, queue_refusal
from fmedge.sched.baselines import BASELINES, Baseline, CentralQueue, HighestLoad, choice
from fmedge.sched.cold import Cold, OpenWork, judge_cold, open_work
from fmedge.sched.crashes import PROGRESS_TOKENS, Crashes, blame
from fmedge.sched.decision import Decision
from fmedge.sched.events import (
    ABLATIONS,
    Arrival,
    Assign,
    CancelOn,
    CoreSettings,
    Effect,
    Fail,
    Observed,
    Refuse,
    StepFacts,
    Withdraw,
)
from fmedge.sched.records import Records
from fmedge.sched.requests import ModelState, ReplicaState, Request
from fmedge.sched.router import Router
from fmedge.types import Promise

if TYPE_CHECKING:
    import numpy as np

    from fmedge.sched.fleet import ReplicaFacts

__all__ = [
    "POLICIES",
    "PROGRESS_TOKENS",
    "Arrival",
    "Assign",
    "CancelOn",
    "CoreSettings",
    "Effect",
    "Fail",
    "Observed",
    "Refuse",
    "SchedulerCore",
    "StepFacts",
    "Withdraw",
]

Policy = Literal["fmedge"] | Baseline
POLICIES: tuple[Policy, ...] = ("fmedge", *BASELINES)

ESTIMATING: frozenset[Policy] = frozenset({"fmedge", "highest_load"})
"""Policies that need to know how fast replicas are."""

RATE_WEIGHT = 0.1
LEFT_RETRY_S = 5.0
"""After which whoever asked for a model that was replaced may come again."""

MOST_CAPACITY = 1 << 30


class SchedulerCore:
    """Times `now_s` are any one monotonic clock's seconds. Each event returns its effects in the
    order in which they shall be carried out. One thread owns it; `refusal` alone may be asked from
    any."""

    def __init__(self, settings: CoreSettings | None = None, policy: Policy = "fmedge") -> None:
        if policy not in POLICIES:
            raise ValueError(f"no policy {policy!r}; there are {', '.join(POLICIES)}")
        self._settings = settings or CoreSettings()
        unknown = sorted(self._settings.without - ABLATIONS)
        if unknown:
            parts = ", ".join(sorted(ABLATIONS))
            raise ValueError(
                f"no part {unknown[0]!r} that fmedge can do without; there are {parts}"
            )
        self._policy = policy
        self._max_waiting = self._settings.max_waiting
        self._models: dict[str, ModelState] = {}
        self._replicas: dict[str, ReplicaState] = {}
        self._requests: dict[int, Request] = {}
        self._num_arrived = 0
        self._num_added = 0
        self._is_draining = False
        self._crashes = Crashes(self._settings)
        self._records = Records()
        self._router = Router(self._settings, self._crashes, self._records)
        baseline = (
            HighestLoad(self._router)
            if policy == "highest_load"
            else choice("least_outstanding" if policy == "fmedge" else policy, self._settings.seed)
        )
        self._queue = CentralQueue(baseline, self._crashes)
        self.watched = self._crashes.watched
        """Requests whose progress matters (`on_progress`): those that saw a crash."""

    # --- models whose replicas come and go ---

    def on_model_added(self, model: str, load_s: float) -> None:
        """From now on its requests wait where it has no replica, as one can be loaded in about
        load_s. Again: it takes that long now, and a failure is forgotten."""
        entry = self._models.setdefault(model, ModelState(model))
        entry.gone_reason = ""
        if entry.cold is None:
            entry.cold = Cold(load_s)
        entry.cold.load_s = load_s

    def on_load_expected(self, model: str, ready_s: float, load_s: float) -> None:
        """When the replica that is being loaded will serve, nan where none is; and how long it
        would take to load one that is not."""
        cold = self._models[model].cold
        if cold is not None:
            cold.ready_s, cold.load_s = ready_s, load_s

    def on_model_failed(
        self, now_s: float, model: str, reason: str, retry_after_s: float
    ) -> list[Effect]:
        """It cannot be loaded now: without a replica its requests fail, and more are refused
        until `on_model_added` or a replica comes."""
        entry = self._models[model]
        entry.gone_reason = reason
        if entry.cold is not None:
            entry.cold.retry_after_s = retry_after_s
        return [] if entry.replicas else self._fail_waiting(now_s, entry, retry_after_s)

    def open_work(self, model: str) -> OpenWork:
        """What is wanted of a model now."""
        return open_work(self._models[model])

    # --- models that go for good ---

    def on_model_leaving(self, now_s: float, model: str, *, is_replaced: bool) -> list[Effect]:
        """Nothing more is taken for it; what is open may finish. is_replaced: another comes under
        its name, so that who asks for it shall come again. What waits for a model of which no
        replica is there fails."""
        entry = self._models.get(model)
        if entry is None:
            return []
        entry.leaving = "replaced" if is_replaced else "removed"
        if entry.replicas:
            return []
        entry.gone_reason = f"it was {entry.leaving}"
        return self._fail_waiting(now_s, entry, LEFT_RETRY_S)

    def on_model_gone(self, model: str) -> None:
        """Its name is free. It has neither replicas nor open requests any more."""
        entry = self._models.get(model)
        if entry is None:
            return
        if entry.num_open or entry.replicas:
            raise ValueError(f"model {model} has replicas or requests")
        del self._models[model]

    # --- replicas ---

    def on_replica_added(self, replica: str, model: str) -> None:
        """A replica is starting. Names are unique."""
        if replica in self._replicas:
            raise ValueError(f"replica {replica} was added twice")
        added = ReplicaState(replica, model, self._num_added)
        self._num_added += 1
        self._replicas[replica] = added
        entry = self._models.setdefault(model, ModelState(model))
        entry.replicas[replica] = added
        entry.gone_reason = ""

    def on_replica_ready(
        self,
        now_s: float,
        replica: str,
        facts: ReplicaFacts | int,
        packed: np.ndarray | None = None,
        *,
        num_ids: int = 0,
        keeps_prefixes: bool = True,
    ) -> list[Effect]:
        """It serves from now on. facts and packed (its step model, `StepModel.packed`, kept by
        reference) make estimates possible; an int is the most requests that it takes at a time,
        of a replica whose speed is not known. num_ids: sequences whose KV it can hold, its slots
        if 0; keeps_prefixes: it can cut what it holds to a prefix (recurrent models cannot)."""
        ready = self._replicas[replica]
        model = self._models[ready.model]
        if ready.is_retiring:
            return []
        if model.cold is not None:
            model.cold.ready_s = math.nan
            model.cold.turned_away.clear()
        if isinstance(facts, int):
            ready.facts = None
            ready.slots = ready.capacity = max(1, facts)
        elif self._policy != "fmedge" or packed is None:
            ready.facts = facts
            ready.slots = facts.slots
            most = self._settings.baseline_capacity * facts.slots
            ready.capacity = max(1, int(min(most, MOST_CAPACITY)))
        else:
            ready.facts = facts
            ready.set_slots(facts.slots)
        ready.is_ready = True
        ready.is_estimated = False
        if self._policy in ESTIMATING and not isinstance(facts, int) and packed is not None:
            held = (num_ids or facts.slots) if keeps_prefixes else 0
            self._router.add_replica(ready, facts, packed, held)
        return [*self._refresh(now_s, model), *self._assign(now_s, model)]

    def on_replica_lost(self, now_s: float, replica: str, *, crashed: bool) -> list[Effect]:
        """Its process is gone: what it ran waits again, but for a culprit, which fails."""
        lost = self._replicas.get(replica)
        if lost is None:
            return []
        model = self._models[lost.model]
        self._keep_floor(model)
        lost.is_ready = False
        victims = list(lost.requests.values())
        lost.requests.clear()
        lost.work = 0
        self._router.drop_replica(lost, model)
        for request in victims:
            self._router.put_down(now_s, request)
        effects: list[Effect] = []
        if crashed:
            culprit = self._crashes.count(victims)
            if culprit is not None:
                victims.remove(culprit)
                message = blame(culprit)
                effects.append(Fail(culprit.arrival.request_id, message))
                self._records.event(now_s, culprit, "failed", message)
                self._forget(culprit)
        for request in victims:
            bisect.insort(model.waiting, request, key=Request.order)
        effects.extend(self._refresh(now_s, model))
        effects.extend(self._assign(now_s, model))
        return effects

    def on_replica_gone(self, now_s: float, replica: str, reason: str) -> list[Effect]:
        """It will not come back. With the last of a model's replicas its requests fail."""
        effects = self.on_replica_lost(now_s, replica, crashed=False)
        gone = self._replicas.pop(replica, None)
        if gone is None:
            return effects
        model = self._models[gone.model]
        del model.replicas[replica]
        if not model.replicas and model.cold is None:
            model.gone_reason = reason
            effects.extend(self._fail_waiting(now_s, model))
        return effects

    def on_replica_retiring(self, now_s: float, replica: str) -> list[Effect]:
        """It gets no more requests, and finishes those that it has; what was planned there goes
        elsewhere or waits."""
        retiring = self._replicas.get(replica)
        if retiring is None or retiring.is_retiring:
            return []
        model = self._models[retiring.model]
        self._keep_floor(model)
        retiring.is_retiring = True
        retiring.is_ready = False
        self._router.close_replica(retiring, model)
        return [*self._refresh(now_s, model), *self._assign(now_s, model)]

    def on_cache_cleared(self, replica: str) -> None:
        """It forgot the prefixes that it retained."""
        self._router.clear_prefixes(replica)

    # --- requests ---

    def on_arrival(self, now_s: float, arrival: Arrival) -> list[Effect]:
        """Assign, or wait (no effect), or Refuse; a Withdraw of another where that makes room."""
        refusal = self._queue_refusal(arrival.model, arrival.request_id)
        if refusal is not None:
            self._records.refused(now_s, arrival, refusal)
            return [refusal]
        if arrival.request_id in self._requests:
            raise ValueError(f"request {arrival.request_id} arrived twice")
        model = self._models[arrival.model]
        request = Request(arrival, self._num_arrived, now_s)
        self._num_arrived += 1
        if model.cold is not None:
            model.cold.num_arrived += 1
        cold = judge_cold(now_s, request, model)
        if cold is not None and cold.action == "refuse":
            assert model.cold is not None
            model.cold.turned_away.append((now_s, arrival.promise.weight))
            cold.write(self._records.begin(now_s, request))
            return [cold.refusal(arrival)]
        if cold is not None and cold.action == "best_effort":
            request.give_up_promise()
        effects: list[Effect] = []
        if model.is_estimated:
            effects = self._router.arrive(now_s, request, model)
            if effects and isinstance(effects[0], Refuse):
                return effects
        else:
            self._records.begin(now_s, request)
        if cold is not None and request.decision is not None:
            cold.write(request.decision)
        self._requests[arrival.request_id] = request
        bisect.insort(model.waiting, request, key=Request.order)
        effects.extend(self._assign(now_s, model))
        self._records.settle(request)
        return effects

    def on_step(self, now_s: float, replica: str, facts: StepFacts) -> None:
        """A replica made a step. Call it before `on_tokens` of the same step."""
        state = self._replicas.get(replica)
        if state is None:
            return
        if facts.decode_s > 0:
            state.decode_s = facts.decode_s
        self._router.on_step(now_s, state, facts)

    def on_tokens(self, now_s: float, request_id: int, num_tokens: int) -> list[Effect]:
        """A request emitted so many tokens on its replica."""
        request = self._requests.get(request_id)
        if request is None or request.replica is None:
            return []
        request.num_emitted += num_tokens
        self._router.on_tokens(request_id, num_tokens)
        if self.watched and request_id in self.watched:
            return self._progress(now_s, request, num_tokens)
        return []

    def on_progress_bulk(
        self,
        now_s: float,
        replica: str,
        tokens: Iterable[tuple[int, int]],
        facts: StepFacts,
    ) -> list[Effect]:
        """`on_step` with these facts, then `on_tokens` of each (request_id, num_tokens): for who
        brings a replica's steps up to date a few at a time, all of them as of now_s."""
        self.on_step(now_s, replica, facts)
        if self.watched:
            return [effect for i, n in tokens for effect in self.on_tokens(now_s, i, n)]
        get = self._requests.get
        moved = []
        for told in tokens:
            request = get(told[0])
            if request is not None and request.replica is not None:
                request.num_emitted += told[1]
                moved.append(told)
        self._router.on_tokens_bulk(moved)
        return []

    def on_first_token(self, now_s: float, request_id: int, num_cached: int = -1) -> None:
        """A request's first token came. num_cached: prompt tokens that the replica had, -1 unknown.
        Call it after `on_tokens` of the same step."""
        request = self._requests.get(request_id)
        if request is None or not math.isnan(request.first_token_s):
            return
        request.first_token_s = now_s
        if num_cached >= 0:
            request.num_cached = num_cached
        self._router.on_first_token(now_s, request_id)
        self._records.event(now_s, request, "first_token")

    def on_progress(self, request_id: int, num_tokens: int) -> list[Effect]:
        """A watched request emitted tokens: enough of them clear it."""
        request = self._requests.get(request_id)
        if request is None or request_id not in self.watched:
            return []
        return self._progress(0.0, request, num_tokens)

    def on_finish(
        self, now_s: float, request_id: int, observed: Observed | None = None
    ) -> list[Effect]:
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
        self._records.finish(now_s, request, observed)
        self._router.on_finish(now_s, request, observed)
        effects = self._leave(now_s, request)
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
        self._records.event(now_s, request, "cancelled")
        effects.extend(self._leave(now_s, request))
        return effects

    def on_tick(self, now_s: float) -> list[Effect]:
        """Time passed: look again at what is at risk, and at who has waited long. Call it every
        50 ms or so while anything is open."""
        effects: list[Effect] = []
        for model in self._models.values():
            if model.is_estimated and model.num_open:
                effects.extend(self._router.tick(now_s, model))
                effects.extend(self._assign(now_s, model))
            elif model.is_estimated:
                self._router.measure(now_s, model)
        return effects

    def set_max_waiting(self, max_waiting: int) -> None:
        """Another limit than the settings' from now on."""
        self._max_waiting = max_waiting

    def on_drain(self) -> None:
        """From now on every arrival is refused."""
        self._is_draining = True

    # --- what is, for status ---

    @property
    def num_open(self) -> int:
        """Requests that have arrived and not left."""
        return len(self._requests)

    def num_open_of(self, model: str) -> int:
        """Requests of this model that have arrived and not left."""
        entry = self._models.get(model)
        return 0 if entry is None else entry.num_open

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

    def decision(self, request_id: int) -> Decision | None:
        """What was decided for a request; kept for the last 2,000."""
        return self._records.get(request_id)

    def decisions(self, limit: int = 100) -> list[Decision]:
        """The latest decisions, newest first."""
        return self._records.latest(limit)

    def recent(self) -> list[Decision]:
        """All decisions that are kept, newest first; their estimates may be missing."""
        return self._records.recent()

    def estimate(self, now_s: float, arrival: Arrival) -> Decision:
        """What would be decided for this arrival now; changes nothing."""
        refusal = self._queue_refusal(arrival.model, arrival.request_id)
        if refusal is not None:
            return Records().refused(now_s, arrival, refusal)
        model = self._models[arrival.model]
        request = Request(arrival, self._num_arrived, now_s)
        cold = judge_cold(now_s, request, model)
        if model.is_estimated and cold is None:
            return self._router.estimate(now_s, request, model)
        decision = Records().begin(now_s, request)
        if cold is not None:
            cold.write(decision)
            return decision
        has_room = any(replica.has_room for replica in model.replicas.values())
        decision.action = "assign" if has_room else "queue"
        return decision

    def refusal(
        self,
        model: str,
        promise: Promise | None = None,
        num_body_bytes: int = 0,
        *,
        request_id: int = 0,
    ) -> Refuse | None:
        """How an arrival would be refused now, before its prompt is even tokenised: its model's
        queue is full, or a lower bound shows that its promise cannot hold. Changes nothing and
        reads what is replaced or copied as a whole, so that it may be asked from any thread."""
        refused = self._queue_refusal(model, request_id)
        if refused is None and promise is not None and self._policy == "fmedge":
            entry = self._models.get(model)
            floor = None if entry is None else entry.floor
            refused = bound_refusal(floor, promise, num_body_bytes, request_id)
        return refused

    # --- rules ---

    def _refresh(self, now_s: float, model: ModelState) -> list[Effect]:
        return self._router.refresh(now_s, model) if self._policy == "fmedge" else []

    def _queue_refusal(self, name: str, request_id: int) -> Refuse | None:
        if self._is_draining:
            return Refuse(request_id, "draining", "The server is shutting down.", 5.0)
        model = self._models.get(name)
        if model is not None and model.leaving == "replaced":
            message = f"Model {name} is being replaced by another of its name."
            return Refuse(request_id, "loading", message, LEFT_RETRY_S)
        if model is not None and model.leaving:
            model = None
        return queue_refusal(name, model, self._max_waiting, request_id)

    def _assign(self, now_s: float, model: ModelState) -> list[Effect]:
        if not model.waiting:
            return []
        if model.is_estimated:
            return self._router.assign(now_s, model)
        assigned = self._queue.assign(now_s, model)
        for effect in assigned:
            request = self._requests[effect.request_id]
            if request.replica is not None:
                self._router.submitted(now_s, request, request.replica)
            self._records.event(now_s, request, "assigned", effect.replica)
        return [*assigned]

    def _fail_waiting(
        self, now_s: float, model: ModelState, retry_after_s: float = 0.0
    ) -> list[Effect]:
        what = "can be loaded now" if retry_after_s else "is left"
        message = f"No replica of {model.name} {what}: {model.gone_reason}"
        effects: list[Effect] = []
        for request in model.waiting:
            effects.append(Fail(request.arrival.request_id, message, retry_after_s))
            self._records.event(now_s, request, "failed", message)
            self._forget(request)
        model.waiting.clear()
        return effects

    def _keep_floor(self, model: ModelState) -> None:
        """What its replicas could do at best, for when none is left."""
        if model.cold is not None and model.floor is not None:
            model.cold.floor = model.floor

    def _progress(self, now_s: float, request: Request, num_tokens: int) -> list[Effect]:
        if self._crashes.progress(request, num_tokens):
            return self._assign(now_s, self._models[request.arrival.model])
        return []

    def _leave(self, now_s: float, request: Request) -> list[Effect]:
        model = self._models[request.arrival.model]
        replica = request.replica
        if replica is None:
            model.waiting.remove(request)
        else:
            del replica.requests[request.arrival.request_id]
            replica.work -= request.work
        self._forget(request)
        return self._assign(now_s, model)

    def _forget(self, request: Request) -> None:
        request_id = request.arrival.request_id
        self._router.forget(request)
        del self._requests[request_id]
        self._crashes.forget(request_id)
