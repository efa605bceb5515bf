"""Policies that know nothing of promises, to compare with and to begin with: one queue in order of
priority and arrival, and a rule that picks among the replicas that have room.

least_outstanding is also what serves a model while the speed of a replica of it is unknown.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from fmedge.sched.crashes import Crashes
from fmedge.sched.events import Assign
from fmedge.sched.requests import ModelState, ReplicaState, Request

if TYPE_CHECKING:
    from fmedge.sched.router import Router

Baseline = Literal[
    "round_robin", "least_outstanding", "power_of_two", "speed_weighted", "highest_load"
]
BASELINES: tuple[Baseline, ...] = (
    "round_robin",
    "least_outstanding",
    "power_of_two",
    "speed_weighted",
    "highest_load",
)

Choice = Callable[[float, Request, Sequence[ReplicaState]], ReplicaState]


class CentralQueue:
    """One queue a model. choose: of the replicas with room (at least one), where a request goes."""

    def __init__(self, choose: Choice, crashes: Crashes) -> None:
        self._choose = choose
        self._crashes = crashes

    def assign(self, now_s: float, model: ModelState) -> list[Assign]:
        """Give what waits to replicas that have room, in order; state follows."""
        effects: list[Assign] = []
        kept: list[Request] = []
        waiting = model.waiting
        for position, request in enumerate(waiting):
            with_room = [replica for replica in model.replicas.values() if replica.has_room]
            if not with_room:
                kept.extend(waiting[position:])
                break
            allowed = [r for r in with_room if self._crashes.may_run(request, r)]
            if not allowed:
                kept.append(request)
                continue
            best = self._choose(now_s, request, allowed)
            request_id, priority = request.arrival.request_id, request.arrival.priority
            best.requests[request_id] = request
            best.work += request.work
            request.replica = best
            effects.append(Assign(request_id, best.name, priority))
        if effects:
            model.waiting = kept
        return effects


def choice(policy: Baseline, seed: int) -> Choice:
    """The rule of a policy by name, of those that need no estimates."""
    if policy == "round_robin":
        return RoundRobin()
    if policy == "least_outstanding":
        return least_outstanding
    if policy == "power_of_two":
        return PowerOfTwo(seed)
    return speed_weighted


def least_outstanding(
    now_s: float, request: Request, replicas: Sequence[ReplicaState]
) -> ReplicaState:
    """Least work in tokens, then fewest requests."""
    return min(replicas, key=lambda r: (r.work, len(r.requests), r.order))


def speed_weighted(
    now_s: float, request: Request, replicas: Sequence[ReplicaState]
) -> ReplicaState:
    """Where its work and what is there already would be done first, at the measured rates."""
    return min(replicas, key=lambda r: ((r.work + request.work) * _s_per_token(r), r.order))


class RoundRobin:
    """The next replica in turn that has room."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __call__(
        self, now_s: float, request: Request, replicas: Sequence[ReplicaState]
    ) -> ReplicaState:
        last = self._last.get(request.arrival.model, -1)
        chosen = min(replicas, key=lambda r: (r.order <= last, r.order))
        self._last[request.arrival.model] = chosen.order
        return chosen


class PowerOfTwo:
    """The less busy (by requests) of two drawn at random (Mitzenmacher, IEEE TPDS 2001)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - lots, not secrets

    def __call__(
        self, now_s: float, request: Request, replicas: Sequence[ReplicaState]
    ) -> ReplicaState:
        if len(replicas) == 1:
            return replicas[0]
        first, second = self._random.sample(replicas, 2)
        return second if len(second.requests) < len(first.requests) else first


class HighestLoad:
    """The most loaded replica where the promise is estimated to hold and no other's is broken, so
    that the less loaded stay free; where there is none, and for what was promised nothing, the
    least loaded. Load is the share of slots that are asked for (after Zhu et al., PolyServe,
    arXiv 2507.17769, whose load gradient it is)."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def __call__(
        self, now_s: float, request: Request, replicas: Sequence[ReplicaState]
    ) -> ReplicaState:
        known = [replica for replica in replicas if replica.is_estimated]
        holding = known
        if known and not request.is_embedding:
            holding = self._router.where_it_holds(now_s, request, known)
        if not holding or request.is_best_effort or request.is_embedding:
            chosen = min(replicas, key=lambda r: (_load(r), r.order))
        else:
            chosen = max(holding, key=lambda r: (_load(r), -r.order))
        return chosen


def _load(replica: ReplicaState) -> tuple[float, int]:
    return len(replica.requests) / max(1, replica.slots), replica.work


def _s_per_token(replica: ReplicaState) -> float:
    """Roughly: a step's time shared by its slots; 1 where unknown, so that work alone decides."""
    if replica.decode_s <= 0:
        return 1.0
    return replica.decode_s / max(1, replica.slots)
