"""What a plan is worth: the demand's workload, replayed on the replicas by the scheduler's own
estimates.

The rule: this is the fleet's replay and nothing beside it, every arrival and length known. A call
goes where it ends first of all that came before it; so what is missed here, no order would save.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from statistics import median
from typing import Any

from msgspec import Struct

from fmedge.sched import estimate, gather
from fmedge.sched.facts import Floats
from fmedge.sched.fleet import Candidate, Column, Fleet, ReplicaFacts
from fmedge.sched.provision.demand import Call
from fmedge.sched.steps import StepLimits
from fmedge.sched.steptime import SCALE_DECODE, SCALE_PREFILL, StepModel
from fmedge.types import EngineSettings

MISS_S = 60.0
"""A broken promise of weight 1 counts as so many seconds of somebody's waiting."""

USER_PROMPT, USER_OUTPUT = 512, 128
"""Tokens of the request of the one user for whom a plan without demand is made."""


class Plain:
    """The kernels' functions as they are written, for a few calls: a millisecond each, where
    compiled ones take a second to load."""

    run = staticmethod(estimate.run)
    draw_arrivals = staticmethod(gather.draw_arrivals)
    add_member = staticmethod(gather.add_member)
    drop_member = staticmethod(gather.drop_member)


class Speed(Struct, frozen=True, kw_only=True):
    """A replica as the replay sees it: how long its steps take, how many times longer beside others
    on its devices, and what decides its queue."""

    name: str
    steps: StepModel
    engine: EngineSettings
    slowdown: float = 1.0

    def packed(self) -> Floats:
        packed = self.steps.packed()
        packed[SCALE_PREFILL : SCALE_DECODE + 1] *= self.slowdown
        return packed


class Served(Struct, frozen=True):
    """What a call gets: seconds from its arrival to the first token and to the last, and per token
    between; inf where no replica can hold it."""

    replica: int
    ttft_s: float
    tpot_s: float
    e2e_s: float
    is_held: bool


class Score(Struct, frozen=True, kw_only=True):
    """cost_s: mean over calls of their time and what broken promises cost. attainment: share of
    promises that hold, None without promises. is_steady: the queue does not grow over the
    workload. served: in the workload's order."""

    cost_s: float
    attainment: float | None
    is_steady: bool
    served: tuple[Served, ...]


def facts_of(engine: EngineSettings) -> ReplicaFacts:
    num_cells = engine.kv_tokens or engine.ctx_size * engine.slots
    return ReplicaFacts(
        slots=engine.slots,
        ctx_size=engine.ctx_size,
        limits=StepLimits(max_tokens=engine.batch_size),
        kv_unified=engine.kv_unified,
        kv_tokens=num_cells if engine.kv_unified else 0,
    )


def serve_one(speed: Speed, num_prompt: int, num_output: int, *, bodies: Any = None) -> Served:
    """One call alone on an idle replica."""
    return replay([speed], [(0.0, num_prompt, num_output)], bodies=bodies)[0]


def replay(
    speeds: Sequence[Speed], calls: Sequence[tuple[float, int, int]], *, bodies: Any = None
) -> list[Served]:
    """Calls (arrival_s ascending, prompt, output) on replicas of one model. bodies: as Fleet's."""
    fleet = Fleet(bodies=bodies)
    for speed in speeds:
        fleet.add_replica(speed.name, facts_of(speed.engine), speed.packed())
    homes = [-1] * len(calls)
    for number, (arrival_s, num_prompt, num_output) in enumerate(calls):
        fitting = [i for i, s in enumerate(speeds) if num_prompt < s.engine.ctx_size]
        if not fitting:
            continue
        home = fitting[0]
        room = max(speeds[i].engine.ctx_size for i in fitting) - num_prompt
        candidate = Candidate(
            request_id=number,
            num_tokens=num_prompt,
            max_new=min(num_output, room),
            min_new=min(num_output, room),
            order_key=float(number),
            arrival_s=arrival_s,
        )
        if len(fitting) > 1:
            rows = fleet.assess(0.0, candidate, [speeds[i].name for i in fitting], num_scenarios=1)
            home = fitting[int(rows[:, Column.E2E].argmin())]
        fleet.put(speeds[home].name, candidate)
        homes[number] = home
    found: dict[int, tuple[float, float]] = {}
    for speed in speeds:
        told = fleet.replay(0.0, speed.name)
        found |= dict(
            zip(told.request_ids, zip(told.first_s.tolist(), told.end_s.tolist(), strict=True),
                strict=True)
        )  # fmt: skip
    served = []
    for number, (arrival_s, num_prompt, num_output) in enumerate(calls):
        if homes[number] < 0:
            served.append(Served(-1, inf, inf, inf, False))
            continue
        first_s, end_s = found[number]
        is_whole = num_prompt + num_output <= speeds[homes[number]].engine.ctx_size
        tpot_s = (end_s - first_s) / (num_output - 1) if num_output > 1 else 0.0
        served.append(
            Served(homes[number], first_s - arrival_s, tpot_s, end_s - arrival_s, is_whole)
        )
    return served


def score(speeds: Sequence[Speed], calls: Sequence[Call], *, bodies: Any = None) -> Score:
    """Of one model's replicas for its workload, which has a call at least."""
    plain = [(call.arrival_s, call.num_prompt, call.num_output) for call in calls]
    served = []
    cost_s, held, promised = 0.0, 0.0, 0.0
    for call, got in zip(calls, replay(speeds, plain, bodies=bodies), strict=True):
        is_held = got.is_held and (
            got.ttft_s <= call.promise.ttft_s
            and got.tpot_s <= call.promise.tpot_s
            and got.e2e_s <= call.promise.e2e_s
        )
        weight = call.promise.weight
        if has_promise(call):
            promised += weight
            held += weight if is_held else 0.0
        is_missed = not is_held and (has_promise(call) or not got.is_held)
        cost_s += (got.e2e_s if isfinite(got.e2e_s) else MISS_S) * weight
        cost_s += MISS_S * weight if is_missed else 0.0
        served.append(Served(got.replica, got.ttft_s, got.tpot_s, got.e2e_s, is_held))
    weights = sum(call.promise.weight for call in calls)
    return Score(
        cost_s=cost_s / weights,
        attainment=held / promised if promised else None,
        is_steady=_is_steady(served),
        served=tuple(served),
    )


def has_promise(call: Call) -> bool:
    promise = call.promise
    return min(promise.ttft_s, promise.tpot_s, promise.e2e_s) < inf


def _is_steady(served: Sequence[Served]) -> bool:
    """The last third waits no longer than the first two, by much."""
    waits = [got.ttft_s for got in served if isfinite(got.ttft_s)]
    third = len(waits) // 3
    if third < 3:
        return True
    return median(waits[-third:]) <= 3 * median(waits[:-third]) + 1.0
