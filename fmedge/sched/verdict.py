"""Where a request should go, from its estimates alone: pure, and with its reason in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, cast

from msgspec import Struct

from fmedge.sched.admission import retry_after_s
from fmedge.sched.decision import Decision
from fmedge.sched.estimate import E2E, E2E_P90, HARM, P_HOLD, REST, TTFT_P90, X
from fmedge.sched.events import CoreSettings, Refuse
from fmedge.sched.requests import ReplicaState, Request

if TYPE_CHECKING:
    from fmedge.sched.fleet import Candidate
    from fmedge.sched.plans import Plans, Row
    from fmedge.sched.records import Records
    from fmedge.sched.router import Room

MAX_GIVEN_UP = 0.03
"""Probability that a request gives up to leave a faster replica free: what holds elsewhere with so
much more goes there, whatever the target says."""

MAX_WITHDRAWAL_LOOKS = 2

MAX_LOOKS = 2
"""Replicas that a decision looks at in several scenarios before it takes the best of them."""

MAX_BEST_EFFORT_LOOKS = 8
"""Best effort goes where there is a slot in the end, so where it would end first need not be
looked for among all."""

NOTICEABLE_HARM = 0.005

FEW = 4
"""So many replicas are all looked at; of more, none beyond the first that is surely enough."""

Rows = list["Row | None"]
MakeRoom = Callable[[ReplicaState, float], "Room | None"]


class Verdict(Struct, frozen=True):
    """rows: estimates of each replica, None of those not looked at; place: an index into them, of
    a refusal the nearest. victim: who must leave that replica first. harm: nan where it was not
    asked for."""

    action: Literal["assign", "best_effort", "refuse"]
    replicas: Sequence[ReplicaState]
    rows: Rows
    place: int
    reason: str
    victim: Request | None = None
    retry_after_s: float = 0.0
    harm: float = math.nan

    @property
    def replica(self) -> ReplicaState:
        return self.replicas[self.place]

    @property
    def row(self) -> Row:
        row = self.rows[self.place]
        assert row is not None, "what is chosen was looked at"
        return row

    def write(self, decision: Decision, records: Records, plans: Plans) -> None:
        """Into the record, with the estimates of all that was looked at."""
        decision.action = self.action
        decision.reason = self.reason
        decision.chosen = -1
        if self.action != "refuse":
            decision.chosen = self.place - self.rows[: self.place].count(None)
        decision.retry_after_s = self.retry_after_s
        pairs = zip(self.replicas, self.rows, strict=True)
        known = [(replica, row) for replica, row in pairs if row is not None]
        records.explain(decision, lambda: plans.estimates(known))

    def refusal(self, request: Request) -> Refuse:
        return Refuse(
            request.arrival.request_id, "sla_unattainable", self.reason, self.retry_after_s
        )


def net(row: Row, weight: float) -> float:
    """The probability that the promise holds, less the harm to others in units of its weight."""
    return row[P_HOLD] - row[HARM] / weight


def judge(
    now_s: float,
    request: Request,
    candidate: Candidate,
    replicas: Sequence[ReplicaState],
    likely: int,
    plans: Plans,
    settings: CoreSettings,
    make_room: MakeRoom,
) -> Verdict:
    """The verdict on an arrival. `replicas` are ordered by what their capacity is worth, least
    first.

    They are looked at in one scenario, and those that matter then in several and for the harm they
    would do: a full look at everything costs more than it tells. likely: an index; a good guess
    saves a look. make_room: for a probability reached without, the best-effort request on a
    replica that is worth withdrawing and the row without it; None if there is none.
    """
    look = _Look(now_s, candidate, replicas, likely, plans)
    if request.is_best_effort:
        return _judge_best_effort(look)
    if len(replicas) > FEW:
        found = _surely_enough(look, request)
        if found is not None:
            reason = _holds(look, found, request)
            return Verdict(
                "assign", replicas, look.rows, found, reason, harm=look.full(found)[HARM]
            )
    target, weight = request.promise.target, request.promise.weight
    rows = look.all()
    chosen, reason = _just_enough(look, request)
    reached = net(rows[chosen], weight)
    victim: Request | None = None
    if reached < target:
        room = _with_withdrawal(rows, replicas, request, reached, make_room)
        if room is not None:
            chosen, (victim, rows[chosen]) = room
            reached = net(rows[chosen], weight)
            reason = (
                f"{replicas[chosen].name} holds with {_p(reached)} once it lets a best-effort "
                f"request ({victim.arrival.request_id}) wait"
            )
    refuses = request.promise.on_miss == "refuse"
    if reached >= (settings.min_p_admit if refuses else settings.min_p_hold) * target:
        harm = rows[chosen][HARM]
        return Verdict("assign", replicas, [*rows], chosen, reason, victim, harm=harm)
    best = f"{replicas[chosen].name}, the best, holds with {_p(rows[chosen][P_HOLD])}"
    if rows[chosen][HARM] > NOTICEABLE_HARM:
        best += f" and would break others' promises ({rows[chosen][HARM]:.2f})"
    if refuses:
        least = settings.min_p_admit * target
        could = any(plans.alone(now_s, candidate, r)[P_HOLD] >= least for r in replicas)
        when = "" if could else "; not even an idle replica could keep it"
        message = f"The promise cannot be kept: {best}{when}."
        retry_s = retry_after_s([_excess_s(row, request) for row in rows], could)
        return Verdict("refuse", replicas, [*rows], chosen, message, retry_after_s=retry_s)
    chosen = min(range(len(rows)), key=lambda i: rows[i][E2E])
    return Verdict("best_effort", replicas, [*rows], chosen, f"hopeless, so best effort: {best}")


class _Look:
    """What was looked at: at median lengths, or in full."""

    __slots__ = ("_candidate", "_is_full", "_now_s", "_plans", "likely", "replicas", "rows")

    def __init__(
        self,
        now_s: float,
        candidate: Candidate,
        replicas: Sequence[ReplicaState],
        likely: int,
        plans: Plans,
    ) -> None:
        self._now_s = now_s
        self._candidate = candidate
        self.likely = likely
        self._plans = plans
        self.replicas = replicas
        self.rows: Rows = [None] * len(replicas)
        self._is_full: set[int] = set()

    def all(self) -> list[Row]:
        """All rows, which later looks change."""
        if not self._is_full:
            self.rows = [
                *self._plans.look(self._now_s, self._candidate, self.replicas, self.likely)
            ]
            self._is_full.add(self.likely)
        self.likely_lengths(range(len(self.rows)))
        return cast("list[Row]", self.rows)

    def soonest(self, count: int) -> Sequence[int]:
        """Where it may end first, without a look: a slot's share of what each replica has to do."""
        if len(self.rows) <= count:
            return range(len(self.rows))
        num_requests, held = self._plans.fleet.num_requests, self._candidate.num_cached
        waits = []
        for i, replica in enumerate(self.replicas):
            num_ahead = max(0, num_requests(replica.name) - replica.slots)
            waits.append((replica.token_s * (1.0 + num_ahead / replica.slots), i))
        places = [i for _, i in sorted(waits)[:count]]
        if not isinstance(held, int):  # and wherever a part of its prompt is
            places += [i for i, r in enumerate(self.replicas) if r.name in held and i not in places]
        return places

    def likely_lengths(self, places: Sequence[int]) -> None:
        """See to their rows, of one scenario where nothing more was asked for."""
        missing = [i for i in places if self.rows[i] is None]
        if missing:
            replicas = [self.replicas[i] for i in missing]
            rows = self._plans.compare(self._now_s, self._candidate, replicas, num_scenarios=1)
            for i, row in zip(missing, rows, strict=True):
                self.rows[i] = row

    def in_full(self) -> list[int]:
        """Which were looked at in several scenarios, in order."""
        return sorted(self._is_full)

    def full(self, index: int) -> Row:
        if index not in self._is_full:
            self._is_full.add(index)
            (self.rows[index],) = self._plans.assess(
                self._now_s, self._candidate, [self.replicas[index]]
            )
        row = self.rows[index]
        assert row is not None
        return row

    def first_enough(self, count: int, least: float) -> int | None:
        """Of the first `count` replicas, the first where it holds with `least` at median lengths;
        no further ones are looked at."""
        places = [i for i in range(count) if i not in self._is_full]
        replicas = [self.replicas[i] for i in places]
        rows = self._plans.first_enough(self._now_s, self._candidate, replicas, least)
        for i, row in zip(places, rows, strict=False):
            self.rows[i] = row
        return places[len(rows) - 1] if rows and rows[-1][P_HOLD] >= least else None


def _judge_best_effort(look: _Look) -> Verdict:
    """The earliest end. That it harms nobody is seen to when it is given a slot: now, if one is
    free."""
    look.likely_lengths(look.soonest(MAX_BEST_EFFORT_LOOKS))
    replicas = look.replicas
    ends_s = [math.inf if row is None else row[E2E] for row in look.rows]
    chosen = min(range(len(ends_s)), key=ends_s.__getitem__)
    harm = look.full(chosen)[HARM] if replicas[chosen].has_room else math.nan
    ends = f"would end it first, in {_ms(ends_s[chosen])}"
    reason = f"best effort: {replicas[chosen].name} {ends}"
    return Verdict("assign", replicas, look.rows, chosen, reason, harm=harm)


def _surely_enough(look: _Look, request: Request) -> int | None:
    """The first that is enough whatever the others are. None if that takes a look at them."""
    target, weight = request.promise.target, request.promise.weight
    least, likely = max(target, 1.0 - MAX_GIVEN_UP), look.likely
    is_likely_enough = net(look.full(likely), weight) >= least
    first = look.first_enough(likely if is_likely_enough else len(look.replicas), least)
    if first is not None and net(look.full(first), weight) >= least:
        return first
    return likely if is_likely_enough else None


def _just_enough(look: _Look, request: Request) -> tuple[int, str]:
    """The first that is enough, else the best."""
    rows, replicas = look.all(), look.replicas
    target, weight = request.promise.target, request.promise.weight
    tried = {i: net(rows[i], weight) for i in look.in_full()}
    for _ in range(max(1, 1 + MAX_LOOKS - len(tried))):
        nets = [net(row, weight) for row in rows]
        best = max(range(len(rows)), key=nets.__getitem__)
        least = max(target, nets[best] - MAX_GIVEN_UP)
        index = next((i for i, value in enumerate(nets) if value >= least), best)
        was_tried = index in tried
        tried[index] = net(look.full(index), weight)
        if tried[index] >= least:
            return index, _holds(look, index, request)
        if was_tried:
            break
    best = max(tried, key=tried.__getitem__)
    return best, (
        f"no replica reaches {_p(target)}; {replicas[best].name} comes nearest with "
        f"{_p(tried[best])}"
    )


def _holds(look: _Look, index: int, request: Request) -> str:
    promise, name = request.promise, look.replicas[index].name
    faster = "" if index == len(look.replicas) - 1 else "; faster ones stay free"
    reached = net(look.full(index), promise.weight)
    return f"{name} holds with {_p(reached)} >= {_p(promise.target)}{faster}"


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
    order = sorted(range(len(rows)), key=lambda i: rows[i][X])
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
    l_est_s = row[E2E_P90] + row[REST]
    over_s = max(row[TTFT_P90] - promise.ttft_s, l_est_s - e2e_s)
    return over_s if over_s > -math.inf else 0.0


def _p(probability: float) -> str:
    return f"P {max(0.0, probability):.2f}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
