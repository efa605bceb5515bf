"""What the core knows of a request, a replica and a model; only the core and its policy write it.

A request is at the front (`replica` None) or on one replica, and at most planned for one (`home`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fmedge.types import BEST_EFFORT, Promise

if TYPE_CHECKING:
    from fmedge.sched.cold import Cold
    from fmedge.sched.decision import Decision
    from fmedge.sched.events import Arrival
    from fmedge.sched.fleet import ReplicaFacts
    from fmedge.sched.prefixes import Chain

ASSUMED_OUTPUT_TOKENS = 256
"""Of a request whose length nobody predicted."""

LOOKAHEAD_DIVISOR = 8
MAX_PRIORITY = 1000

_PRIORITY_UNIT = 1e10
_BEST_EFFORT_RANK = 4e9
_AGED_RANK = -1e15


class Request:
    """One arrival until it leaves. Times are the core's clock's."""

    __slots__ = (
        "arrival",
        "arrived_s",
        "blocks",
        "crashes",
        "crashes_total",
        "decision",
        "first_token_s",
        "has_started",
        "held",
        "home",
        "is_aged",
        "is_best_effort",
        "is_embedding",
        "judged_at_s",
        "judged_harm",
        "num_cached",
        "num_computed",
        "num_emitted",
        "num_expected",
        "num_moves",
        "num_new_tokens",
        "num_withdrawals",
        "order_key",
        "promise",
        "replica",
        "sequence",
        "started_s",
        "stays_until_s",
        "tag",
        "waited_s",
        "waits_since_s",
        "work",
    )

    def __init__(self, arrival: Arrival, sequence: int, now_s: float) -> None:
        self.arrival = arrival
        self.sequence = sequence
        self.arrived_s = now_s
        promise = arrival.promise
        self.promise: Promise = promise  # BEST_EFFORT once demoted
        self.is_best_effort = (
            promise.ttft_s == promise.tpot_s == promise.e2e_s == math.inf
            and arrival.e2e_due_s is None
        )
        self.is_embedding = arrival.max_tokens == 0
        self.order_key = -float(arrival.priority)
        self.tag = -1.0  # of fair queueing; best effort alone has one
        self.is_aged = False
        lengths = arrival.lengths
        self.num_expected = (
            min(arrival.max_tokens, ASSUMED_OUTPUT_TOKENS)
            if lengths is None or arrival.max_tokens == 0
            else lengths.quantile(0.5)
        )
        self.work = arrival.num_prompt_tokens + self.num_expected
        self.replica: ReplicaState | None = None
        self.home: ReplicaState | None = None
        self.decision: Decision | None = None
        self.judged_at_s = math.nan  # the harm that it would do where it was planned then
        self.judged_harm = 0.0
        self.blocks: Chain = ()
        self.held: Mapping[str, int] = {}  # tokens of it, by replica, when it was last planned
        self.num_cached = 0  # believed when it was submitted, then told by the engine
        self.num_computed = 0  # of its prompt, on `replica`
        self.num_emitted = 0
        self.has_started = False  # its prefill, on `replica`
        self.started_s = math.nan  # when it did
        self.first_token_s = math.nan
        self.waits_since_s = now_s
        self.waited_s = 0.0  # before the wait that goes on
        self.stays_until_s = -math.inf  # at its home, where it is planned, without another look
        self.num_withdrawals = 0
        self.num_moves = 0
        self.crashes = 0  # seen since it last made progress
        self.crashes_total = 0
        self.num_new_tokens = 0  # since the last crash

    def give_up_promise(self) -> None:
        """Best effort from now on."""
        self.promise = BEST_EFFORT
        self.is_best_effort = True

    @property
    def has_first_token(self) -> bool:
        return not math.isnan(self.first_token_s)

    def is_over(self, now_s: float) -> bool:
        """Its promise cannot hold any more, whatever happens."""
        if now_s > self.e2e_due_s:
            return True
        return (self.first_token_s if self.has_first_token else now_s) > self.ttft_due_s

    @property
    def e2e_due_s(self) -> float:
        """Absolute; inf without such a promise."""
        if self.is_best_effort:
            return math.inf
        due_s = self.arrived_s + self.promise.e2e_s
        return due_s if self.arrival.e2e_due_s is None else min(due_s, self.arrival.e2e_due_s)

    @property
    def ttft_due_s(self) -> float:
        return self.arrived_s + self.promise.ttft_s

    def order(self) -> tuple[float, int]:
        """Sort key: what is served first."""
        return (self.order_key, self.sequence)

    def wait_s(self, now_s: float) -> float:
        """Time spent at the front in all."""
        if self.replica is not None:
            return self.waited_s
        return self.waited_s + max(0.0, now_s - self.waits_since_s)


def order_key(request: Request, prefill_s: float, decode_s: float, l_r_s: float) -> float:
    """Aged first; then by priority: promises by latest start, then best effort by fair tag.

    The latest start is when its remaining execution and what follows must begin for the promise
    to hold: less slack, sooner served. It does not move with time, so waiting never raises slack.
    """
    if request.is_aged:
        return _AGED_RANK + request.sequence
    priority = max(-MAX_PRIORITY, min(MAX_PRIORITY, request.arrival.priority))
    rank = -priority * _PRIORITY_UNIT
    if request.is_best_effort:
        return rank + _BEST_EFFORT_RANK + request.tag / 1000.0
    latest_s = min(request.ttft_due_s, request.e2e_due_s - decode_s - l_r_s) - prefill_s
    if latest_s == math.inf:  # only the time per token is promised
        latest_s = request.arrived_s + request.num_expected * request.promise.tpot_s
    return rank + latest_s


def engine_priority(request: Request) -> int:
    """The same order for the replica's engine, which serves the highest number first."""
    return -round(request.order_key * 1000)


class ReplicaState:
    """A replica as the core sees it. capacity: most requests that it is given at a time, 0 until
    it was ready once. is_retiring: it finishes what it has and gets no more. facts, and the
    speeds: None and 0 where they are not known."""

    __slots__ = (
        "alone_token_s",
        "capacity",
        "closed_until_s",
        "decode_s",
        "facts",
        "is_estimated",
        "is_ready",
        "is_retiring",
        "lookahead",
        "model",
        "name",
        "order",
        "prefill_s",
        "requests",
        "slots",
        "token_s",
        "tokens_per_s",
        "wasted_s",
        "wasted_until_s",
        "work",
    )

    def __init__(self, name: str, model: str, order: int) -> None:
        self.name = name
        self.model = model
        self.order = order
        self.capacity = 0
        self.slots = 0
        self.lookahead = 0
        self.is_ready = False
        self.is_retiring = False
        self.facts: ReplicaFacts | None = None
        self.is_estimated = False  # the fleet has its profile
        self.prefill_s = 0.0  # a token
        self.token_s = 0.0  # of one sequence, at the present load
        self.alone_token_s = math.inf  # the least that was ever seen of it
        self.tokens_per_s = 0.0  # with all slots busy
        self.decode_s = 0.0  # a step
        self.wasted_s = 0.0  # prefill to be done again, running off as time passes
        self.wasted_until_s = -math.inf
        self.closed_until_s = -math.inf  # to best effort, for the harm it would do
        self.requests: dict[int, Request] = {}
        self.work = 0

    @property
    def has_room(self) -> bool:
        return self.is_ready and len(self.requests) < self.capacity

    @property
    def takes_next(self) -> bool:
        """Whatever comes next finds room here: places beside the slots (`set_slots`) are for what
        comes soon, and not for the rest of a burst of which nothing has started yet."""
        limit = self.slots if self.lookahead else self.capacity
        return self.is_ready and len(self.requests) < limit

    def waste_s(self, now_s: float, share: float) -> float:
        """Seconds of prefill that withdrawals threw away there and that time has not yet made up
        for, at `share` of a second a second."""
        if now_s > self.wasted_until_s:
            past_s = now_s - self.wasted_until_s
            self.wasted_s = max(0.0, self.wasted_s - share * past_s)
            self.wasted_until_s = now_s
        return self.wasted_s

    def set_slots(self, slots: int) -> None:
        """It runs so many at once, and a few more wait there, so that a freed slot finds its next
        request at once; a request that comes before those may join them."""
        self.slots = slots
        self.lookahead = 1 + slots // LOOKAHEAD_DIVISOR
        self.capacity = slots + self.lookahead

    @property
    def may_take_any(self) -> bool:
        """Some request may find room here."""
        return self.is_ready and len(self.requests) < self.capacity + self.lookahead

    def can_take(self, request: Request) -> bool:
        """It has a slot free, or the request is among the next few in its order."""
        if not self.is_ready:
            return False
        num_held = len(self.requests)
        if num_held < self.slots:
            return True
        if num_held >= self.capacity + self.lookahead:
            return False
        key, num_ahead = request.order_key, 0
        for other in self.requests.values():
            if other.order_key <= key and not other.has_started:
                num_ahead += 1
                if num_ahead >= self.lookahead:
                    return False
        return num_held < self.capacity or num_ahead == 0


class ModelState:
    """A served model: its replicas, and its requests at the front in the order of service. cold:
    of one whose replicas come and go, None where those that there are stay. leaving: "removed" or
    "replaced" where nothing more is taken for it, else ""."""

    __slots__ = (
        "_by_worth",
        "cold",
        "finish_interval_s",
        "floor",
        "gone_reason",
        "is_estimated",
        "last_finish_s",
        "leaving",
        "name",
        "next_arrivals",
        "next_look",
        "replicas",
        "waiting",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.replicas: dict[str, ReplicaState] = {}
        self.waiting: list[Request] = []
        self._by_worth: list[ReplicaState] | None = None
        self.cold: Cold | None = None
        self.gone_reason = ""
        self.leaving = ""
        self.next_look = 0  # of `rectify` at its replicas
        self.next_arrivals = 0  # of `Router.measure`
        self.is_estimated = False  # the speed of all its ready replicas is known
        self.floor: tuple[float, float, float] | None = None
        """What no new request can beat: (ttft_s, prefill_s_per_token, tpot_s)."""
        self.last_finish_s = math.nan
        self.finish_interval_s = math.nan

    @property
    def num_open(self) -> int:
        return len(self.waiting) + sum(len(r.requests) for r in self.replicas.values())

    def by_worth(self) -> list[ReplicaState]:
        """Ready replicas, those first whose capacity is worth least elsewhere: the slow ones."""
        if self._by_worth is None:
            self._by_worth = sorted(self.ready(), key=lambda r: (r.tokens_per_s, r.order))
        return self._by_worth

    def forget_worth(self) -> None:
        """Replicas came, went or changed their speed."""
        self._by_worth = None

    def ready(self) -> list[ReplicaState]:
        return [replica for replica in self.replicas.values() if replica.is_ready]
