"""Routing by estimates: just enough. Among the replicas where a promise holds with its target's
probability, harm to others' promises counted, a request goes to the one whose capacity is worth
least elsewhere, the slowest, so that fast ones stay free for tight promises; if there is none, to
the best, and if the best is hopeless it is refused or becomes best effort (`verdict`).

Requests are planned on a replica (`home`) and wait at the front in its order until it has room. So
plans are cheap to change until the last moment, and the estimates see everything that is ahead.
Best effort takes whatever slot is free, wherever that is; its home only tells what to expect. What
comes to be at risk later is `rectify`'s matter.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fmedge.sched.baselines import least_outstanding
from fmedge.sched.crashes import Crashes
from fmedge.sched.decision import Decision
from fmedge.sched.events import Assign, CoreSettings, Effect, Observed, StepFacts, Withdraw
from fmedge.sched.fair import FairClock
from fmedge.sched.records import Records
from fmedge.sched.requests import ModelState, ReplicaState, Request, engine_priority

if TYPE_CHECKING:
    import numpy as np

    from fmedge.sched.fleet import Candidate, ReplicaFacts
    from fmedge.sched.plans import Plans, Row
    from fmedge.sched.verdict import Verdict


MIN_GAIN = 0.1
FULL_WASTE_S = 1.0
"""A withdrawal must add 0.1 to a promise's probability, and more the more prefill was thrown away
on that replica lately: 1 at a second of it."""

MAX_ARRIVALS_A_TICK = 8
"""Replicas of which the next arrivals are guessed anew."""

CLOSED_S = 0.04

"""For so long a replica where best effort would do harm is not looked at again for it, unless
something ends there: less than the time between two ticks."""

STAY_S = 0.1
"""How often best effort that waits for its home is compared with what else is free."""

MOVE_GAIN, MAX_MOVES_LOOKS = 0.9, 4
"""It goes elsewhere for an end that is sooner by as much; so many are looked at, the quickest."""


class Room(NamedTuple):
    """Who would have to leave a replica, and the estimate of another there without it."""

    victim: Request
    row: Row


class Router:
    """Plans and places requests. The core owns it and keeps `ModelState.waiting` with it."""

    def __init__(self, settings: CoreSettings, crashes: Crashes, records: Records) -> None:
        self.settings = settings
        self.records = records
        self._crashes = crashes
        self._fair: dict[str, FairClock] = {}
        self._likely: dict[str, int] = {}  # by class, where the last one went
        self._plans: Plans | None = None  # from the first profile on: it loads the estimator

    @property
    def plans(self) -> Plans:
        assert self._plans is not None, "a model is estimated only once a profile is known"
        return self._plans

    # --- replicas ---

    def add_replica(
        self, replica: ReplicaState, facts: ReplicaFacts, packed: np.ndarray, num_ids: int
    ) -> None:
        """It is ready, and its speed is known."""
        if self._plans is None:
            from fmedge.sched.plans import Plans  # numba, which only estimates need

            self._plans = Plans(sees_queues="queue" not in self.settings.without)
        self._plans.add_replica(replica, facts, packed, num_ids)
        replica.is_estimated = True

    def drop_replica(self, replica: ReplicaState, model: ModelState) -> None:
        """Its process is gone; what was planned there has no home."""
        model.forget_worth()
        if self._plans is not None:
            self._plans.drop_replica(replica)
        for request in model.waiting:
            if request.home is replica:
                request.home = None

    def close_replica(self, replica: ReplicaState, model: ModelState) -> None:
        """It finishes what it runs; what was planned there has no home."""
        model.forget_worth()
        for request in model.waiting:
            if request.home is replica:
                request.home = None
                if self._plans is not None:
                    self._plans.take(request.arrival.request_id)

    def refresh(self, now_s: float, model: ModelState) -> list[Effect]:
        """The model's replicas changed: what is open and has no plan gets one."""
        model.forget_worth()
        known = [replica for replica in model.replicas.values() if replica.capacity]
        was_estimated = model.is_estimated
        model.is_estimated = bool(known) and all(replica.is_estimated for replica in known)
        ready = model.ready()
        if not model.is_estimated or not ready:
            return []
        if not was_estimated:
            for replica in ready:
                for request in replica.requests.values():
                    self.submitted(now_s, request, replica)
        effects: list[Effect] = []
        for request in sorted(model.waiting, key=Request.order):
            if request.home is None:
                effects.extend(self.replan(now_s, request, model))
        self.measure(now_s, model)
        return effects

    def clear_prefixes(self, replica: str) -> None:
        if self._plans is not None:
            self._plans.prefixes.clear(replica)

    # --- requests: planned ---

    def arrive(self, now_s: float, request: Request, model: ModelState) -> list[Effect]:
        """Plan an arrival, or refuse it; a Withdraw where another must make room."""
        decision = self.records.begin(now_s, request)
        replicas = model.by_worth()
        if request.is_best_effort:
            self._take_turn(request)
        if not replicas or request.is_embedding:
            decision.reason = (
                "an embedding goes where least is outstanding"
                if request.is_embedding
                else "no replica is ready: it waits for the first that is"
            )
            if not request.is_embedding:
                self.plans.set_order(request, replicas)
            return []
        candidate = self.plans.candidate(now_s, request, replicas)
        verdict = self.judge(now_s, request, candidate, replicas)
        verdict.write(decision, self.records, self.plans)
        if verdict.action == "refuse":
            return [verdict.refusal(request)]
        self.plans.tell(request, verdict.replica, verdict.row)
        if verdict.action == "best_effort":
            self._demote(now_s, request, verdict.reason)
            candidate = self.plans.candidate(now_s, request, replicas)
        return self.follow(now_s, request, candidate, verdict, model)

    def estimate(self, now_s: float, request: Request, model: ModelState) -> Decision:
        """What `arrive` would decide, without a trace."""
        records = Records()
        decision = records.begin(now_s, request)
        replicas = model.by_worth()
        if not replicas or request.is_embedding:
            decision.action = "queue"
            return decision
        if request.is_best_effort:
            request.tag = self._clock(request).peek(request.arrival.api_key_id)
        candidate = self.plans.candidate(now_s, request, replicas)
        verdict = self.judge(now_s, request, candidate, replicas)
        verdict.write(decision, records, self.plans)
        if decision.action == "assign" and not verdict.replica.can_take(request):
            decision.action = "queue"
        return records.get(decision.request_id) or decision

    def replan(self, now_s: float, request: Request, model: ModelState) -> list[Effect]:
        """Plan a request that waits and has lost its plan; it is never refused any more."""
        replicas = model.by_worth()
        if not replicas or request.is_embedding:
            return []
        if request.is_best_effort and request.tag < 0:
            self._take_turn(request)
        model.waiting.remove(request)
        candidate = self.plans.candidate(now_s, request, replicas)
        verdict = self.judge(now_s, request, candidate, replicas)
        if verdict.action != "assign":
            self._demote(now_s, request, verdict.reason)
            candidate = self.plans.candidate(now_s, request, replicas)
        bisect.insort(model.waiting, request, key=Request.order)
        return self.follow(now_s, request, candidate, verdict, model)

    def judge(
        self,
        now_s: float,
        request: Request,
        candidate: Candidate,
        replicas: Sequence[ReplicaState],
    ) -> Verdict:
        """Of all these replicas, cheapest first."""
        from fmedge.sched.verdict import judge

        def make_room(replica: ReplicaState, reached: float) -> Room | None:
            return self.room_on(now_s, request, candidate, replica, reached)

        likely = self._likely.get(request.promise.sla_class, 0) % len(replicas)
        return judge(
            now_s, request, candidate, replicas, likely, self.plans, self.settings, make_room
        )

    def room_on(
        self,
        now_s: float,
        request: Request,
        candidate: Candidate | None,
        replica: ReplicaState,
        reached: float,
    ) -> Room | None:
        """Whom to withdraw there for a request whose promise holds with `reached` as it is, and
        the estimate without it. None if there is nobody, or no gain would be worth it: each
        withdrawal throws prefill away, which time must make up for. candidate: None makes one."""
        victim = self._victim(request, replica)
        if victim is None:
            return None
        wasted_s = replica.waste_s(now_s, self.settings.max_waste)
        price = max(MIN_GAIN, (wasted_s + loss(victim) * replica.prefill_s) / FULL_WASTE_S)
        if reached + price > 1.0:
            return None
        from fmedge.sched.fleet import Column

        if candidate is None:
            candidate = self.plans.candidate(now_s, request, [replica])
        without = victim.arrival.request_id
        (row,) = self.plans.compare(now_s, candidate, [replica], without=without)
        if row[Column.P_HOLD] < reached + price:
            return None
        return Room(victim, row)

    def follow(
        self,
        now_s: float,
        request: Request,
        candidate: Candidate,
        verdict: Verdict,
        model: ModelState,
    ) -> list[Effect]:
        """Plan as judged."""
        request.home = verdict.replica
        self._likely[request.promise.sla_class] = verdict.place
        request.judged_harm = verdict.harm
        request.judged_at_s = math.nan if math.isnan(verdict.harm) else now_s
        request.stays_until_s = now_s + STAY_S  # all others were looked at just now
        self.plans.put(now_s, candidate, request.home)
        if verdict.victim is None:
            return []
        return [self.withdraw(now_s, verdict.victim, model, "its slot is needed for a promise")]

    def where_it_holds(
        self, now_s: float, request: Request, replicas: Sequence[ReplicaState]
    ) -> list[ReplicaState]:
        """Of these replicas, those where one more request would keep its promise and break none,
        as one scenario has it. For a policy that serves in order of priority and arrival."""
        from fmedge.sched.verdict import net

        candidate = self.plans.candidate(now_s, request, replicas)
        # What the estimator puts behind all others: equals are served in order of their coming.
        candidate.order_key = request.order_key = -float(request.arrival.priority)
        if request.is_best_effort:
            return list(replicas)
        rows = self.plans.compare(now_s, candidate, replicas, with_harm=True, num_scenarios=1)
        target, weight = request.promise.target, request.promise.weight
        pairs = zip(replicas, rows, strict=True)
        return [replica for replica, row in pairs if net(row, weight) >= target]

    # --- requests: given to replicas and taken back ---

    def assign(self, now_s: float, model: ModelState) -> list[Effect]:
        """Give what waits to replicas that have room, in order; state follows."""
        effects: list[Effect] = []
        replicas = model.replicas.values()
        if not any(replica.may_take_any for replica in replicas):
            return effects
        with_room = [replica for replica in replicas if replica.has_room]
        for request in list(model.waiting):
            if not with_room and (request.is_best_effort or request.is_embedding):
                continue
            replica = self._replica_for(now_s, request, with_room)
            if replica is None:
                continue
            model.waiting.remove(request)
            effects.append(self._submit(now_s, request, replica))
            if replica.has_room:
                continue
            with_room = [other for other in with_room if other is not replica]
            if not any(other.may_take_any for other in replicas):
                break
        return effects

    def submitted(self, now_s: float, request: Request, replica: ReplicaState) -> None:
        """A request went to this replica, whoever decided it."""
        request.waited_s += max(0.0, now_s - request.waits_since_s)
        if self._plans is None or request.is_embedding:
            return
        if replica.is_estimated:
            self._plans.submitted(now_s, request, replica)
        else:
            self._plans.take(request.arrival.request_id)

    def withdraw(self, now_s: float, request: Request, model: ModelState, why: str) -> Withdraw:
        """Take a request off its replica; it waits at the front, planned where it was."""
        replica = request.replica
        assert replica is not None
        request_id = request.arrival.request_id
        del replica.requests[request_id]
        replica.work -= request.work
        self.plans.left_replica(request, replica)
        if request.has_started:
            request.num_withdrawals += 1
            replica.waste_s(now_s, self.settings.max_waste)
            replica.wasted_s += loss(request) * replica.prefill_s
        self.put_down(now_s, request)
        self.plans.put(now_s, self.plans.candidate(now_s, request, [replica]), replica)
        request.home = replica
        bisect.insort(model.waiting, request, key=Request.order)
        self.records.event(now_s, request, "withdrawn", f"from {replica.name}: {why}")
        return Withdraw(request_id, replica.name)

    def put_down(self, now_s: float, request: Request) -> None:
        """It is on no replica any more and waits at the front."""
        request.replica = None
        request.home = None
        request.has_started = False
        request.started_s = math.nan
        request.num_computed = 0
        request.waits_since_s = now_s
        if self._plans is not None:
            self._plans.take(request.arrival.request_id)

    def move(
        self, now_s: float, request: Request, candidate: Candidate, to: ReplicaState, why: str
    ) -> None:
        """Plan a request that waits at the front on another replica."""
        origin = "nowhere" if request.home is None else request.home.name
        request.home = to
        request.num_moves += 1
        self.plans.put(now_s, candidate, to)
        self.records.event(now_s, request, "moved", f"from {origin} to {to.name}: {why}")

    def demote(self, now_s: float, request: Request, model: ModelState, why: str) -> None:
        """Its promise is given up: best effort from now on, wherever it is."""
        self._demote(now_s, request, why)
        self.plans.release(request.arrival.request_id)
        if request.replica is None:
            self.reorder(request, model)

    def reorder(self, request: Request, model: ModelState) -> None:
        """What decides its order changed while it waits."""
        model.waiting.remove(request)
        self.plans.set_order(request, model.ready())
        bisect.insort(model.waiting, request, key=Request.order)
        self.plans.reorder(request)

    # --- what replicas tell ---

    def on_step(self, now_s: float, replica: ReplicaState, facts: StepFacts) -> None:
        requests = replica.requests
        plans = self._plans if replica.is_estimated else None
        for request_id, num_computed in facts.prefilled:
            request = requests.get(request_id)
            if request is None or request.is_embedding:
                continue
            if not request.has_started:
                request.has_started = True
                request.started_s = now_s
                if plans is not None:
                    plans.fleet.on_started(request_id, request.num_cached)
            request.num_computed = num_computed
            if plans is not None:
                plans.fleet.on_prefilled(request_id, num_computed)
        if plans is not None:
            if facts.decode_s > 0 and facts.prefill_s_per_token > 0:
                plans.fleet.set_rates(replica.name, facts.prefill_s_per_token, facts.decode_s)
            plans.fleet.on_step(replica.name, now_s)

    def on_tokens(self, request_id: int, num_tokens: int) -> None:
        plans = self._plans
        if plans is not None and request_id in plans.fleet:
            plans.fleet.on_tokens(request_id, num_tokens)

    def on_tokens_bulk(self, tokens: Sequence[tuple[int, int]]) -> None:
        if self._plans is not None:
            self._plans.fleet.on_tokens_bulk(tokens)

    def on_first_token(self, now_s: float, request_id: int) -> None:
        plans = self._plans
        if plans is not None and request_id in plans.fleet:
            plans.fleet.on_first_token(request_id, now_s)

    def on_finish(self, now_s: float, request: Request, observed: Observed | None) -> None:
        """It is complete; it is still where it was."""
        if request.tag >= 0:
            num_off = request.arrival.num_prompt_tokens + request.num_emitted - request.work
            arrival = request.arrival
            clock = self._clock(request)
            clock.settle(arrival.api_key_id, num_off, arrival.promise.weight)
        if self._plans is None or request.replica is None:
            return
        ttft_s = request.first_token_s - request.arrived_s
        self._plans.observe(request, ttft_s, now_s - request.arrived_s)
        if observed is not None and not math.isnan(observed.link_s):
            self._plans.observe_link(request.arrival.model, observed.link_s)
        emitted = b"" if observed is None else observed.tokens
        self._plans.left_replica(request, request.replica, emitted)

    def forget(self, request: Request) -> None:
        if self._plans is not None:
            if request.replica is not None:
                request.replica.closed_until_s = -math.inf
                self._plans.left_replica(request, request.replica)
            self._plans.forget(request.arrival.request_id)

    # --- time ---

    def tick(self, now_s: float, model: ModelState) -> list[Effect]:
        """What changed without an event."""
        from fmedge.sched.rectify import age, rectify

        self.measure(now_s, model)
        age(self, now_s, model)
        return [] if "rectify" in self.settings.without else rectify(self, now_s, model)

    def measure(self, now_s: float, model: ModelState) -> None:
        """Speeds and errors as they are now, and with them what no request can beat."""
        ready = model.ready()
        plans = self.plans
        if not ready:
            model.floor = None
            return
        plans.measure_speed(ready)
        model.forget_worth()
        plans.measure_errors(model.name, ready)
        for _ in range(min(len(ready), MAX_ARRIVALS_A_TICK)):
            model.next_arrivals += 1
            plans.expect_arrivals(now_s, ready[model.next_arrivals % len(ready)])
        model.floor = plans.floor(now_s, ready)

    # --- rules ---

    def _replica_for(
        self, now_s: float, request: Request, with_room: Sequence[ReplicaState]
    ) -> ReplicaState | None:
        """Where a request that waits can go now, of the model's replicas that have room."""
        home = request.home
        if not request.is_best_effort and not request.is_embedding:
            if home is None or not home.can_take(request):
                return None
            return home if self._crashes.may_run(request, home) else None
        if home is not None and home.has_room and self._may_fill(now_s, request, home):
            if request.is_embedding or request.is_aged or not self._harms(now_s, request, home):
                return home
            home.closed_until_s = now_s + CLOSED_S
        # Who waited long takes any room, whatever was foretold of its home.
        keeps_home = home is not None and home.closed_until_s <= now_s and not request.is_aged
        if keeps_home and now_s < request.stays_until_s and not request.is_embedding:
            return None
        others = [
            replica
            for replica in with_room
            if replica is not home and self._may_fill(now_s, request, replica)
        ]
        if not others:
            return None
        if request.is_embedding:
            return least_outstanding(now_s, request, others)
        others.sort(key=lambda r: r.token_s)
        if home is not None and keeps_home:
            others = self._earlier_than_at(home, now_s, request, others[:MAX_MOVES_LOOKS])
        for replica in others:
            if request.is_aged or not self._harms(now_s, request, replica):
                return replica
            replica.closed_until_s = now_s + CLOSED_S
        return None

    def _earlier_than_at(
        self, home: ReplicaState, now_s: float, request: Request, others: list[ReplicaState]
    ) -> list[ReplicaState]:
        """Those where best effort would end before it would at home, where it was told to end; a
        slot that is free on a slow replica may be no help."""
        request.stays_until_s = now_s + STAY_S
        others = [replica for replica in others if replica.is_estimated]
        candidate = self.plans.candidate(now_s, request, others)
        at_home_s, *ends_s = self.plans.ends(now_s, candidate, [home, *others])
        return [
            replica
            for replica, end_s in zip(others, ends_s, strict=True)
            if end_s < MOVE_GAIN * at_home_s
        ]

    def _may_fill(self, now_s: float, request: Request, replica: ReplicaState) -> bool:
        """A request that may run anywhere may run here, where there is room."""
        return (
            (replica.closed_until_s <= now_s or request.is_aged)
            and replica.can_take(request)
            and self._crashes.may_run(request, replica)
        )

    def _harms(self, now_s: float, request: Request, replica: ReplicaState) -> bool:
        """One more best-effort request there would break a promise."""
        from fmedge.sched.fleet import Column

        if all(other.is_best_effort for other in replica.requests.values()):
            return False
        if request.judged_at_s == now_s and request.home is replica:
            return request.judged_harm > self.settings.max_harm
        candidate = self.plans.candidate(now_s, request, [replica])
        row = self.plans.compare(now_s, candidate, [replica], with_harm=True)[0]
        return row[Column.HARM] > self.settings.max_harm

    def _submit(self, now_s: float, request: Request, replica: ReplicaState) -> Assign:
        request_id = request.arrival.request_id
        replica.requests[request_id] = request
        replica.work += request.work
        request.replica = request.home = replica
        if request.is_best_effort and not request.is_embedding:
            self._clock(request).serve(request.tag)
        self.submitted(now_s, request, replica)
        self.records.event(now_s, request, "assigned", replica.name)
        return Assign(request_id, replica.name, engine_priority(request))

    def _victim(self, request: Request, replica: ReplicaState) -> Request | None:
        """The best-effort request on a replica that costs least to run again later."""
        if len(replica.requests) < replica.slots:
            return None
        best: Request | None = None
        least = (0, 0)
        for other in replica.requests.values():
            if (
                other.is_best_effort
                and other.has_started
                and not other.is_aged
                and not other.is_embedding
                and other.num_withdrawals < self.settings.max_withdrawals
                and other.arrival.priority <= request.arrival.priority
            ):
                cost = (other.num_withdrawals, loss(other))
                if best is None or cost < least:
                    best, least = other, cost
        return best

    def _demote(self, now_s: float, request: Request, why: str) -> None:
        request.give_up_promise()
        request.stays_until_s = -math.inf
        self._take_turn(request)
        self.records.event(now_s, request, "demoted", why)

    def _take_turn(self, request: Request) -> None:
        arrival = request.arrival
        weight = max(1e-3, arrival.promise.weight)
        request.tag = self._clock(request).tag(arrival.api_key_id, request.work, weight)

    def _clock(self, request: Request) -> FairClock:
        return self._fair.setdefault(request.arrival.model, FairClock())


def loss(request: Request) -> int:
    """Tokens that it must prefill again if it is withdrawn now."""
    return request.num_computed + request.num_emitted
