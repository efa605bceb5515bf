"""Where a request should go, from its estimates alone: pure, and with its reason in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from fmedge.sched.admission import retry_after_s
from fmedge.sched.decision import Decision
from fmedge.sched.events import CoreSettings, Refuse
from fmedge.sched.fleet import Column
from fmedge.sched.requests import ReplicaState, Request

if TYPE_CHECKING:
    from fmedge.sched.plans import Plans, Row

MAX_GIVEN_UP = 0.03
"""Probability that a request gives up to leave a faster replica free: what holds elsewhere with so
much more goes there, whatever the target says."""

MIN_GAIN = 0.1
"""Withdrawing another must raise the probability by as much."""

MAX_WITHDRAWAL_LOOKS = 3

Retry = Callable[[ReplicaState], "tuple[Request, Row] | None"]


class Verdict(Struct, frozen=True):
    """rows: estimates of each replica; chosen: an index into them, of a refusal the nearest.
    victim: who must leave the chosen replica first."""

    action: Literal["assign", "best_effort", "refuse"]
    replicas: Sequence[ReplicaState]
    rows: list[Row]
    chosen: int
    reason: str
    victim: Request | None = None
    retry_after_s: float = 0.0

    @property
    def replica(self) -> ReplicaState:
        return self.replicas[self.chosen]

    @property
    def row(self) -> Row:
        return self.rows[self.chosen]

    def write(self, decision: Decision, plans: Plans) -> None:
        """Into the record."""
        decision.action = self.action
        decision.reason = self.reason
        decision.chosen = -1 if self.action == "refuse" else self.chosen
        decision.retry_after_s = self.retry_after_s
        decision.estimates = tuple(
            [plans.estimate(r, row) for r, row in zip(self.replicas, self.rows, strict=True)]
        )

    def refusal(self, request: Request) -> Refuse:
        return Refuse(
            request.arrival.request_id, "sla_unattainable", self.reason, self.retry_after_s
        )


def net(row: Row, weight: float) -> float:
    """The probability that the promise holds, less the harm to others in units of its weight."""
    return row[Column.P_HOLD] - row[Column.HARM] / weight


def place_best_effort(
    replicas: Sequence[ReplicaState], rows: list[Row], settings: CoreSettings
) -> tuple[int, str]:
    """The earliest end; among those that harm no promise where there are such."""
    harmless = [i for i, row in enumerate(rows) if row[Column.HARM] <= settings.max_harm]
    chosen = min(harmless or range(len(rows)), key=lambda i: rows[i][Column.E2E])
    name, e2e_s = replicas[chosen].name, rows[chosen][Column.E2E]
    return chosen, f"best effort: {name} would end it first, in {_ms(e2e_s)}"


def place_promise(
    replicas: Sequence[ReplicaState], rows: list[Row], request: Request
) -> tuple[int, str]:
    """Just enough. `replicas` are ordered by what their capacity is worth, least first."""
    target, weight = request.promise.target, request.promise.weight
    nets = [net(row, weight) for row in rows]
    best = max(range(len(rows)), key=nets.__getitem__)
    least = max(target, nets[best] - MAX_GIVEN_UP)
    for index, value in enumerate(nets):
        if value >= least:
            if len(rows) == 1 or index == best:
                why = "the most likely" if len(rows) > 1 else "the only replica"
            else:
                why = f"just enough; {replicas[best].name} ({_p(nets[best])}) stays free"
            return index, f"{replicas[index].name} holds with {_p(value)} >= {_p(target)}: {why}"
    return best, (
        f"no replica reaches {_p(target)}; {replicas[best].name} comes nearest with "
        f"{_p(nets[best])}"
    )


def judge(
    replicas: Sequence[ReplicaState],
    rows: list[Row],
    request: Request,
    settings: CoreSettings,
    make_room: Retry,
    alone: Callable[[ReplicaState], Row],
) -> Verdict:
    """The verdict on an arrival.

    make_room: the best effort request on a replica that costs least to withdraw, and the row
    without it; None if there is none. alone: the row on a replica if it were empty.
    """
    if request.is_best_effort:
        chosen, reason = place_best_effort(replicas, rows, settings)
        return Verdict("assign", replicas, rows, chosen, reason)
    target, weight = request.promise.target, request.promise.weight
    chosen, reason = place_promise(replicas, rows, request)
    reached = net(rows[chosen], weight)
    victim: Request | None = None
    if reached < target:
        found = _with_withdrawal(replicas, rows, request, reached, make_room)
        if found is not None:
            chosen, victim, row = found
            rows = [*rows[:chosen], row, *rows[chosen + 1 :]]
            reached = net(row, weight)
            reason = (
                f"{replicas[chosen].name} holds with {_p(reached)} once it lets a best-effort "
                f"request ({victim.arrival.request_id}) wait"
            )
    if reached >= settings.min_p_hold * target:
        return Verdict("assign", replicas, rows, chosen, reason, victim)
    best = f"{replicas[chosen].name}, the best, holds with {_p(rows[chosen][Column.P_HOLD])}"
    if rows[chosen][Column.HARM] > 0.005:
        best += f" and would break others' promises ({rows[chosen][Column.HARM]:.2f})"
    if request.promise.on_miss == "refuse":
        could = any(alone(replica)[Column.P_HOLD] >= target for replica in replicas)
        excess_s = [_excess_s(row, request) for row in rows]
        when = "" if could else "; not even an idle replica could keep it"
        return Verdict(
            "refuse",
            replicas,
            rows,
            chosen,
            f"The promise cannot be kept: {best}{when}.",
            retry_after_s=retry_after_s(excess_s, could),
        )
    chosen, _ = place_best_effort(replicas, rows, settings)
    return Verdict("best_effort", replicas, rows, chosen, f"hopeless, so best effort: {best}")


def _with_withdrawal(
    replicas: Sequence[ReplicaState],
    rows: list[Row],
    request: Request,
    reached: float,
    make_room: Retry,
) -> tuple[int, Request, Row] | None:
    """The first replica, best first, where letting best effort wait is enough; or the one where it
    gains most."""
    weight, target = request.promise.weight, request.promise.target
    best: tuple[int, Request, Row] | None = None
    order = sorted(range(len(rows)), key=lambda i: rows[i][Column.X])[:MAX_WITHDRAWAL_LOOKS]
    for index in order:
        found = make_room(replicas[index])
        if found is None:
            continue
        victim, row = found
        gained = net(row, weight)
        if gained >= max(reached + MIN_GAIN, target):
            return index, victim, row
        if gained >= reached + MIN_GAIN:
            best, reached = (index, victim, row), gained
    return best


def _excess_s(row: Row, request: Request) -> float:
    """By how much the median estimates lie over the promise."""
    promise = request.promise
    e2e_s = request.e2e_due_s - request.arrived_s
    l_est_s = row[Column.E2E_P90] + row[Column.REST]
    over_s = max(row[Column.TTFT_P90] - promise.ttft_s, l_est_s - e2e_s)
    return over_s if over_s > -math.inf else 0.0


def _p(probability: float) -> str:
    return f"P {max(0.0, probability):.2f}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
