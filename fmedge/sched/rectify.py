"""Predict, then rectify: what is at risk is looked at again as time passes, and moved to where it
holds, given a slot that best effort holds, or, when nothing can save it, made best effort, so that
what is lost does not delay what can be kept. Best effort that waited long is served next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmedge.sched.events import Effect
from fmedge.sched.fleet import Column
from fmedge.sched.requests import ModelState, ReplicaState, Request
from fmedge.sched.verdict import net

if TYPE_CHECKING:
    from fmedge.sched.router import Router

HOPELESS = 0.02
"""Below it a promise is given up."""

MIN_GAIN = 0.15
MIN_GAIN_RUNNING = 0.4
"""What moving must add to the probability; more for what runs, as it prefills again."""

AT_RISK = 0.9
"""Nothing can be done for what holds as probably: a withdrawal has to add more than is left."""

MAX_LOOKS, SLACK = 2, 0.1
"""All are looked at with lengths as they are likely, and that many in several scenarios: those
where it is likeliest to hold, by so little less than wanted."""

LOOK_AGAIN_S = 0.5
"""So long a request keeps its place after a look for a better one: moved by each tick's estimates,
requests at risk chase each other (16 simulated replicas then kept 91 % of promises, not 96 %)."""

MAX_MOVES = 4
MAX_REPLICAS_A_TICK = 8
MAX_ACTIONS_A_TICK = 8


def age(router: Router, now_s: float, model: ModelState) -> None:
    """Best effort that waited for `best_effort_wait_s` is served next: first come, and one at a
    time a replica, so that a long backlog cannot crowd out every promise."""
    limit_s = router.settings.best_effort_wait_s
    came_until_s = now_s - limit_s
    if not any(
        r.arrived_s <= came_until_s and r.is_best_effort and r.wait_s(now_s) >= limit_s
        for r in model.waiting
    ):
        return
    ready = model.ready()
    num_aged = sum(request.is_aged for request in model.waiting)
    num_aged += sum(request.is_aged for r in ready for request in r.requests.values())
    overdue = [
        request
        for request in model.waiting
        if request.is_best_effort and not request.is_aged and request.wait_s(now_s) >= limit_s
    ]
    overdue.sort(key=lambda request: request.sequence)
    for request in overdue[: max(0, len(ready) - num_aged)]:
        request.is_aged = True
        router.reorder(request, model)


def rectify(router: Router, now_s: float, model: ModelState) -> list[Effect]:
    """Look at all promises that are planned or run, some replicas a call."""
    effects: list[Effect] = []
    by_id = {r.arrival.request_id: r for r in model.waiting if not r.is_best_effort}
    ready = model.ready()
    homes = {request.home for request in by_id.values()}
    watched = [
        replica
        for replica in ready
        if replica in homes or any(not other.is_best_effort for other in replica.requests.values())
    ]
    if not watched:
        return effects
    start = model.next_look % len(watched)
    model.next_look = start + MAX_REPLICAS_A_TICK
    turn = (watched[start:] + watched[:start])[:MAX_REPLICAS_A_TICK]
    for request_id, name, p_hold in router.plans.risks(now_s, turn, AT_RISK):
        replica = model.replicas[name]
        request = replica.requests.get(request_id) or by_id.get(request_id)
        if request is None or request.is_best_effort:
            continue
        if (request.replica or request.home) is not replica:
            continue  # what was just done for another has moved it
        if p_hold >= request.promise.target:
            continue
        effects.extend(_save(router, now_s, request, model, p_hold))
        if len(effects) >= MAX_ACTIONS_A_TICK:
            break
    return effects


def _save(
    router: Router, now_s: float, request: Request, model: ModelState, p_hold: float
) -> list[Effect]:
    if request.is_over(now_s):
        router.demote(now_s, request, model, "its promise is broken")
        return []
    waits = request.replica is None
    found = None
    if request.num_moves < MAX_MOVES and (waits or not request.has_first_token):
        found = _elsewhere(router, now_s, request, model, p_hold)
    if found is not None:
        return found
    home = request.home
    if waits and home is not None:
        room = router.room_on(now_s, request, None, home, p_hold)
        if room is not None:
            return [router.withdraw(now_s, room.victim, model, "its slot is needed for a promise")]
    if p_hold < HOPELESS and waits:
        router.demote(now_s, request, model, "its promise cannot be kept any more")
    return []


def _elsewhere(
    router: Router, now_s: float, request: Request, model: ModelState, p_hold: float
) -> list[Effect] | None:
    """Another replica where it holds, by enough to be worth the way."""
    home = request.home
    others = [replica for replica in model.ready() if replica is not home]
    least = p_hold + (MIN_GAIN_RUNNING if request.has_started else MIN_GAIN)
    if not others or least > 1.0 or now_s < request.stays_until_s:
        return None
    request.stays_until_s = now_s + LOOK_AGAIN_S
    plans = router.plans
    candidate = plans.candidate(now_s, request, others)
    if len(others) > MAX_LOOKS:
        ahead = plans.compare(now_s, candidate, others, num_scenarios=1)
        order = sorted(range(len(others)), key=lambda i: -ahead[i][Column.P_HOLD])[:MAX_LOOKS]
        others = [others[i] for i in order if ahead[i][Column.P_HOLD] >= least - SLACK]
        if not others:
            return None
    rows = plans.compare(now_s, candidate, others, with_harm=True)
    weight = request.promise.weight
    best = max(range(len(rows)), key=lambda i: net(rows[i], weight))
    if net(rows[best], weight) < least:
        return None
    to: ReplicaState = others[best]
    effects: list[Effect] = []
    why = f"P {p_hold:.2f} there, P {rows[best][Column.P_HOLD]:.2f} here"
    if request.replica is not None:
        effects.append(router.withdraw(now_s, request, model, "it is at risk there"))
    router.move(now_s, request, candidate, to, why)
    return effects
