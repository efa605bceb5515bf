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
    from fmedge.sched.fleet import Candidate
    from fmedge.sched.plans import Plans, Row
    from fmedge.sched.router import Room

MAX_GIVEN_UP = 0.03
"""Probability that a request gives up to leave a faster replica free: what holds elsewhere with so
much more goes there, whatever the target says."""

MAX_WITHDRAWAL_LOOKS = 2

MAX_DOUBT = 0.2
"""By how much scenarios may raise the probability over that at median lengths."""

MAX_LOOKS = 2
"""Replicas that a decision looks at in all scenarios."""

NOTICEABLE_HARM = 0.005

MakeRoom = Callable[[ReplicaState, float], "Room | None"]


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

    @property
    def harm(self) -> float:
        return self.row[Column.HARM]

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


def judge(
    now_s: float,
    request: Request,
    candidate: Candidate,
    replicas: Sequence[ReplicaState],
    plans: Plans,
    settings: CoreSettings,
    make_room: MakeRoom,
) -> Verdict:
    """The verdict on an arrival. `replicas` are ordered by what their capacity is worth, least
    first.

    All are looked at in one scenario, and those that matter then in all of them and for the harm
    they would do: a full look at everything costs more than it tells. make_room: for a probability
    reached without, the best-effort request on a replica that is worth withdrawing and the row
    without it; None if there is none.
    """
    if request.is_best_effort:
        return _judge_best_effort(now_s, candidate, replicas, plans)
    target, weight = request.promise.target, request.promise.weight
    rows, looked = _look(now_s, request, candidate, replicas, plans)
    chosen, reason = _just_enough(replicas, rows, looked, request)
    reached = net(rows[chosen], weight)
    victim: Request | None = None
    if reached < target:
        found = _with_withdrawal(rows, replicas, request, reached, make_room)
        if found is not None:
            chosen, (victim, rows[chosen]) = found
            reached = net(rows[chosen], weight)
            reason = (
                f"{replicas[chosen].name} holds with {_p(reached)} once it lets a best-effort "
                f"request ({victim.arrival.request_id}) wait"
            )
    refuses = request.promise.on_miss == "refuse"
    if reached >= (settings.min_p_admit if refuses else settings.min_p_hold) * target:
        return Verdict("assign", replicas, rows, chosen, reason, victim)
    best = f"{replicas[chosen].name}, the best, holds with {_p(rows[chosen][Column.P_HOLD])}"
    if rows[chosen][Column.HARM] > NOTICEABLE_HARM:
        best += f" and would break others' promises ({rows[chosen][Column.HARM]:.2f})"
    if refuses:
        least = settings.min_p_admit * target
        could = any(
            plans.alone(now_s, candidate, replica)[Column.P_HOLD] >= least for replica in replicas
        )
        when = "" if could else "; not even an idle replica could keep it"
        message = f"The promise cannot be kept: {best}{when}."
        retry_s = retry_after_s([_excess_s(row, request) for row in rows], could)
        return Verdict("refuse", replicas, rows, chosen, message, retry_after_s=retry_s)
    chosen = min(range(len(rows)), key=lambda i: rows[i][Column.E2E])
    return Verdict("best_effort", replicas, rows, chosen, f"hopeless, so best effort: {best}")


def _judge_best_effort(
    now_s: float, candidate: Candidate, replicas: Sequence[ReplicaState], plans: Plans
) -> Verdict:
    """The earliest end. That it harms nobody is seen to when it is given a slot."""
    rows = plans.scan(now_s, candidate, replicas) if len(replicas) > 1 else [[]]
    chosen = min(range(len(rows)), key=lambda i: rows[i][Column.E2E] if rows[i] else 0.0)
    replica = replicas[chosen]
    has_promises = any(not other.is_best_effort for other in replica.requests.values())
    (rows[chosen],) = plans.assess(now_s, candidate, [replica], with_harm=has_promises)
    ends = f"would end it first, in {_ms(rows[chosen][Column.E2E])}"
    return Verdict("assign", replicas, rows, chosen, f"best effort: {replica.name} {ends}")


def _look(
    now_s: float,
    request: Request,
    candidate: Candidate,
    replicas: Sequence[ReplicaState],
    plans: Plans,
) -> tuple[list[Row], list[int]]:
    """Rows of all replicas, and which of them were looked at in full: the first that are promising
    until one of them is enough."""
    target = request.promise.target
    if len(replicas) <= MAX_LOOKS:
        return plans.assess(now_s, candidate, replicas), list(range(len(replicas)))
    rows = plans.scan(now_s, candidate, replicas)
    p_hold = [row[Column.P_HOLD] for row in rows]
    best = max(range(len(rows)), key=lambda i: (p_hold[i], -rows[i][Column.TTFT]))
    least = max(target, p_hold[best] - MAX_GIVEN_UP)
    if p_hold[best] < target - MAX_DOUBT:
        (rows[best],) = plans.assess(now_s, candidate, [replicas[best]])
        return rows, [best]
    promising = [i for i, p in enumerate(p_hold) if p >= least and i != best]
    looked = [*promising[: MAX_LOOKS - 1], best]
    full = plans.assess(now_s, candidate, [replicas[i] for i in looked], stop_at=least)
    for index, row in zip(looked, full, strict=True):
        rows[index] = row
    enough = next((n for n, row in enumerate(full) if net(row, 1.0) >= least), len(full))
    return rows, looked[: enough + 1]


def _just_enough(
    replicas: Sequence[ReplicaState], rows: list[Row], looked: list[int], request: Request
) -> tuple[int, str]:
    """Of those looked at, the first that is enough, else the best."""
    target, weight = request.promise.target, request.promise.weight
    nets = {index: net(rows[index], weight) for index in looked}
    best = max(looked, key=nets.__getitem__)
    least = max(target, nets[best] - MAX_GIVEN_UP)
    for index in looked:
        if nets[index] >= least:
            name = replicas[index].name
            faster = "" if index == len(rows) - 1 else "; faster ones stay free"
            return index, f"{name} holds with {_p(nets[index])} >= {_p(target)}{faster}"
    return best, (
        f"no replica reaches {_p(target)}; {replicas[best].name} comes nearest with "
        f"{_p(nets[best])}"
    )


def _with_withdrawal(
    rows: list[Row],
    replicas: Sequence[ReplicaState],
    request: Request,
    reached: float,
    make_room: MakeRoom,
) -> tuple[int, Room] | None:
    """The first replica, quickest first, where letting best effort wait is enough; or the one
    where it gains most."""
    weight, target = request.promise.weight, request.promise.target
    best: tuple[int, Room] | None = None
    order = sorted(range(len(rows)), key=lambda i: rows[i][Column.X])
    for index in order[:MAX_WITHDRAWAL_LOOKS]:
        room = make_room(replicas[index], reached)
        if room is None:
            continue
        best, reached = (index, room), net(room.row, weight)
        if reached >= target:
            break
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
