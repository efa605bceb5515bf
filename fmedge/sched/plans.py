"""What is planned where, as the estimator sees it: requests on replicas and at the front, prefixes
that replicas hold, how far estimates were off, what is likely to arrive.

The fleet's arrays, the mirror of KV and the calibration change together with the core's state,
here and nowhere else.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmedge.sched.calibration import PRIOR_SIGMA, Coverage, Quote
from fmedge.sched.decision import ReplicaEstimate
from fmedge.sched.fleet import NUM_SCENARIOS, Candidate, Column, Fleet, Risk
from fmedge.sched.lengths import NUM_BINS, LengthPredictor
from fmedge.sched.prefixes import PrefixMirror, chain
from fmedge.sched.requests import ReplicaState, Request, order_key

if TYPE_CHECKING:
    from fmedge.sched.events import Arrival
    from fmedge.sched.fleet import ReplicaFacts

ARRIVAL_WEIGHT = 0.1
LINK_WEIGHT, LINK_CLIP, FIRST_LINK_S = 0.05, 3.0, 0.01
NUM_ARRIVALS = 16
MIN_SIGMA, MAX_SIGMA = 0.03, 0.5
SCENARIOS_AGAIN = 4
"""Of looks that only compare, such as those at what has been planned already."""

NUM_TOLD = Column.CACHED + 1
"""Columns, from the first, that an estimate is made of."""

Row = list[float]


class Told(NamedTuple):
    """What a client was told, raw, and the calibration at that time."""

    replica: str
    ttft: Quote
    e2e: Quote
    row: Row


class _Arrivals:
    """How often a replica is given a request, and of what kind, from the last few."""

    __slots__ = ("_cdfs", "_num_cdfs", "has_changed", "interval_s", "last", "last_s")

    def __init__(self) -> None:
        self.last_s = math.nan
        self.interval_s = math.inf  # moving average
        self.last: deque[Arrival] = deque(maxlen=NUM_ARRIVALS)
        self.has_changed = True  # since the estimator was told
        self._cdfs = np.zeros((NUM_ARRIVALS, NUM_BINS), np.float32)  # in a ring
        self._num_cdfs = 0

    def add(self, now_s: float, arrival: Arrival) -> None:
        if self.last:
            gap_s = max(1e-6, now_s - self.last_s)
            known = self.interval_s < math.inf
            self.interval_s += ARRIVAL_WEIGHT * (gap_s - self.interval_s) if known else 0.0
            self.interval_s = self.interval_s if known else gap_s
        self.last_s = now_s
        self.last.append(arrival)
        self.has_changed = True
        if arrival.lengths is not None:
            self._cdfs[self._num_cdfs % NUM_ARRIVALS] = arrival.lengths.cdf
            self._num_cdfs += 1

    def expected_interval_s(self, now_s: float) -> float:
        """A pause says that the rate has fallen."""
        return max(self.interval_s, now_s - self.last_s) if self.last else math.inf

    def mean_cdf(self) -> NDArray[np.float32] | None:
        """Of the last few whose lengths were predicted; None if none was."""
        count = min(self._num_cdfs, NUM_ARRIVALS)
        if count == 0:
            return None
        mean: NDArray[np.float32] = np.add.reduce(self._cdfs[:count]) / np.float32(count)
        return mean


class Plans:
    """One estimator over all replicas of all models. sees_queues: where it is False, each request
    is taken to come to an idle replica."""

    def __init__(self, *, fleet: Fleet | None = None, sees_queues: bool = True) -> None:
        self.fleet = Fleet() if fleet is None else fleet
        self._sees_queues = sees_queues
        self.prefixes = PrefixMirror()
        self.coverage = Coverage()
        self._arrivals: dict[str, _Arrivals] = {}
        self._quotes: dict[str, tuple[Quote, Quote]] = {}
        self._stale: set[str] = set()
        self._sigmas: dict[str, float] = {}
        self._link_s: dict[str, float] = {}  # by model
        self._told: dict[int, Told] = {}
        self._unknown = LengthPredictor()

    # --- replicas ---

    def add_replica(
        self, replica: ReplicaState, facts: ReplicaFacts, packed: np.ndarray, num_ids: int
    ) -> None:
        """It is ready and empty."""
        self.drop_replica(replica)
        self.fleet.add_replica(replica.name, facts, packed)
        self.prefixes.add_replica(replica.name, num_ids)
        self._arrivals[replica.name] = _Arrivals()
        self.measure_speed([replica])
        replica.alone_token_s = replica.token_s

    def drop_replica(self, replica: ReplicaState) -> None:
        """Its process is gone, if it had one, and all that was planned on it."""
        if replica.name in self._arrivals:
            del self._arrivals[replica.name]
            self.fleet.remove_replica(replica.name)
            self.prefixes.drop_replica(replica.name)

    def measure_speed(self, replicas: Sequence[ReplicaState]) -> None:
        """Replicas' present speeds, for the order of service and for what is cheap."""
        speeds = self.fleet.speeds([replica.name for replica in replicas]).tolist()
        for replica, (token_s, prefill_s, tokens_per_s, _) in zip(replicas, speeds, strict=True):
            replica.token_s, replica.prefill_s, replica.tokens_per_s = (
                token_s,
                prefill_s,
                tokens_per_s,
            )
            replica.alone_token_s = min(token_s, replica.alone_token_s)

    def expect_arrivals(self, now_s: float, replica: ReplicaState) -> None:
        """Tell the estimator what is likely to come there next."""
        seen = self._arrivals[replica.name]
        interval_s = seen.expected_interval_s(now_s)
        if interval_s == math.inf:
            self.fleet.set_arrivals(replica.name, math.inf)
            return
        if not seen.has_changed:
            self.fleet.set_arrival_interval(replica.name, interval_s)
            return
        seen.has_changed = False
        count = len(seen.last)
        num_prompt = max(1, sum([a.num_prompt_tokens for a in seen.last]) // count)
        max_new = max(1, sum([a.max_tokens for a in seen.last]) // count)
        self.fleet.set_arrivals(replica.name, interval_s, num_prompt, max_new, seen.mean_cdf())

    # --- requests ---

    def candidate(
        self, now_s: float, request: Request, replicas: Sequence[ReplicaState]
    ) -> Candidate:
        """The request as the estimator takes it; sets its order by what it would need on these
        replicas."""
        arrival, promise = request.arrival, request.promise
        if arrival.prompt and arrival.cache_prompt and not request.blocks:
            request.blocks = chain(arrival.cache_key, arrival.prompt)
        num_tokens = arrival.num_prompt_tokens + request.num_emitted
        lengths = arrival.lengths
        if lengths is None:
            lengths = self._unknown.predict((), arrival.min_tokens, arrival.max_tokens)
        self.set_order(request, replicas)
        request.held = self.prefixes.match(request.blocks, num_tokens)
        link_s = self._link_s.get(arrival.model, 0.0)
        return Candidate(
            request_id=arrival.request_id,
            num_tokens=num_tokens,
            max_new=max(1, arrival.max_tokens - request.num_emitted),
            min_new=max(0, arrival.min_tokens - request.num_emitted),
            emitted=request.num_emitted,
            cdf=lengths.cdf,
            order_key=request.order_key,
            ttft_due_s=request.ttft_due_s - link_s,
            tpot_limit_s=promise.tpot_s,
            e2e_due_s=request.e2e_due_s - link_s,
            rest=arrival.rest,
            weight=promise.weight,
            num_cached=request.held,
            first_s=request.first_token_s,
        )

    def set_order(self, request: Request, replicas: Sequence[ReplicaState]) -> None:
        """By what it still needs on the middle one of these replicas (ordered by worth)."""
        prefill_s = token_s = 0.0  # of none: only the order among requests matters
        if replicas:
            middle = replicas[len(replicas) // 2]
            prefill_s, token_s = middle.prefill_s, middle.token_s
        num_tokens = request.arrival.num_prompt_tokens + request.num_emitted
        num_left = max(1, request.num_expected - request.num_emitted)
        rest = request.arrival.rest
        l_r_s = 0.0 if rest is None else float(rest[len(rest) // 2])
        request.order_key = order_key(request, prefill_s * num_tokens, token_s * num_left, l_r_s)

    def look(
        self, now_s: float, candidate: Candidate, replicas: Sequence[ReplicaState], likely: int
    ) -> list[Row]:
        """The estimates' rows (`fleet.Column`), one a replica: that of `likely` (an index) as
        `assess` has it, the others at median lengths and without harm."""
        if not self._sees_queues:
            return [self.alone(now_s, candidate, replica) for replica in replicas]
        names = [replica.name for replica in replicas]
        names[0], names[likely] = names[likely], names[0]
        rows: list[Row] = self.fleet.assess(
            now_s,
            candidate,
            names,
            sigma=self.sigma(replicas[0].model),
            num_scenarios=_num_scenarios(self.fleet),
            with_harm=True,
            most_full=1,
        )[:, :NUM_TOLD].tolist()
        rows[0], rows[likely] = rows[likely], rows[0]
        return rows

    def first_enough(
        self, now_s: float, candidate: Candidate, replicas: Sequence[ReplicaState], least: float
    ) -> list[Row]:
        """At median lengths and without harm, no further than the first where the promise holds
        with `least`."""
        if not replicas:
            return []
        if not self._sees_queues:
            rows: list[Row] = []
            for replica in replicas:
                rows.append(self.alone(now_s, candidate, replica))
                if rows[-1][Column.P_HOLD] >= least:
                    break
            return rows
        found: list[Row] = self.fleet.first_enough(
            now_s,
            candidate,
            [replica.name for replica in replicas],
            sigma=self.sigma(replicas[0].model),
            least=least,
        )[:, :NUM_TOLD].tolist()
        return found

    def assess(
        self, now_s: float, candidate: Candidate, replicas: Sequence[ReplicaState]
    ) -> list[Row]:
        """The same in several scenarios of lengths, with the harm to others."""
        if not self._sees_queues:
            return [self.alone(now_s, candidate, replica) for replica in replicas]
        rows: list[Row] = self.fleet.assess(
            now_s,
            candidate,
            [replica.name for replica in replicas],
            sigma=self.sigma(replicas[0].model),
            num_scenarios=_num_scenarios(self.fleet),
            with_harm=True,
        )[:, :NUM_TOLD].tolist()
        return rows

    def compare(
        self,
        now_s: float,
        candidate: Candidate,
        replicas: Sequence[ReplicaState],
        *,
        with_harm: bool = False,
        without: int | None = None,
        num_scenarios: int = SCENARIOS_AGAIN,
    ) -> list[Row]:
        """The same in fewer scenarios. without: a request taken to be absent."""
        if not self._sees_queues:
            return [self.alone(now_s, candidate, replica) for replica in replicas]
        rows: list[Row] = self.fleet.assess(
            now_s,
            candidate,
            [replica.name for replica in replicas],
            sigma=self.sigma(replicas[0].model),
            num_scenarios=num_scenarios,
            with_harm=with_harm,
            without=without,
        )[:, :NUM_TOLD].tolist()
        return rows

    def ends(
        self, now_s: float, candidate: Candidate, replicas: Sequence[ReplicaState]
    ) -> list[float]:
        """When it would end on each, in seconds from now, at likely lengths."""
        if not self._sees_queues:
            return [self.alone(now_s, candidate, replica)[Column.E2E] for replica in replicas]
        rows = self.fleet.assess(
            now_s,
            candidate,
            [replica.name for replica in replicas],
            sigma=self.sigma(replicas[0].model),
            num_scenarios=1,
        )
        ends_s: list[float] = rows[:, Column.E2E].tolist()
        return ends_s

    def risks(self, now_s: float, replicas: Sequence[ReplicaState], least: float) -> list[Risk]:
        """Promises that are planned or run there and hold with less than that, in order of
        service."""
        if not self._sees_queues:
            return [risk for r in replicas for risk in self._risks_alone(now_s, r, least)]
        return self.fleet.risks(
            now_s,
            [replica.name for replica in replicas],
            sigma=self.sigma(replicas[0].model),
            num_scenarios=SCENARIOS_AGAIN,
            least=least,
        )

    def alone(self, now_s: float, candidate: Candidate, replica: ReplicaState) -> Row:
        """As if nothing else were there."""
        row: Row = self.fleet.alone(
            now_s, replica.name, candidate, sigma=self.sigma(replica.model)
        ).tolist()
        return row[:NUM_TOLD]

    def _risks_alone(self, now_s: float, replica: ReplicaState, least: float) -> list[Risk]:
        """Of what has not begun there, each for itself."""
        fleet, found = self.fleet, []
        for request_id in fleet.requests_on(replica.name):
            request = replica.requests.get(request_id)
            if request is None or not request.has_started:
                row = self.alone(now_s, fleet.candidate(request_id), replica)
                if row[Column.P_HOLD] < least:
                    found.append(Risk(request_id, replica.name, row[Column.P_HOLD]))
        return found

    def floor(self, now_s: float, replicas: Sequence[ReplicaState]) -> tuple[float, float, float]:
        """What no request can beat now (`ModelState.floor`): the next step's end where a slot is
        free, or held by best effort, which would be withdrawn; else the wait for one."""
        prefill_s = min(replica.prefill_s for replica in replicas)
        token_s = min(replica.alone_token_s for replica in replicas)
        for replica in replicas:
            num_promised = sum(not r.is_best_effort for r in replica.requests.values())
            if num_promised < replica.slots or not self._sees_queues:
                return 0.0, prefill_s, token_s
        probe = Candidate(request_id=0, num_tokens=1, max_new=1, min_new=1, order_key=-math.inf)
        rows = self.fleet.assess(now_s, probe, [r.name for r in replicas], num_scenarios=1)
        return float(rows[:, Column.TTFT].min()), prefill_s, token_s

    def put(self, now_s: float, candidate: Candidate, replica: ReplicaState) -> None:
        """Plan it there (it may be planned elsewhere so far)."""
        self.take(candidate.request_id)
        self.fleet.put(replica.name, candidate, now_s)

    def reorder(self, request: Request) -> None:
        """Its order key changed."""
        if request.arrival.request_id in self.fleet:
            self.fleet.set_order(request.arrival.request_id, request.order_key)

    def release(self, request_id: int) -> None:
        """Its promise is given up."""
        if request_id in self.fleet:
            self.fleet.set_promise(
                request_id, ttft_due_s=math.inf, tpot_limit_s=math.inf, e2e_due_s=math.inf, weight=0
            )

    def take(self, request_id: int) -> None:
        if request_id in self.fleet:
            self.fleet.take(request_id)

    def submitted(self, now_s: float, request: Request, replica: ReplicaState) -> None:
        """It goes to this replica now."""
        arrival = request.arrival
        request_id = arrival.request_id
        if self.fleet.replica_of(request_id) != replica.name:
            self.put(now_s, self.candidate(now_s, request, [replica]), replica)
        request.num_cached = request.held.get(replica.name, 0)
        if arrival.cache_prompt:
            self.prefixes.begin(replica.name, request_id, request.blocks)
        self._arrivals[replica.name].add(now_s, arrival)

    def left_replica(self, request: Request, replica: ReplicaState, emitted: bytes = b"") -> None:
        """It finished, was withdrawn or cancelled: what it computed stays for others."""
        arrival = request.arrival
        blocks = request.blocks if request.num_emitted else ()
        if emitted and arrival.prompt and arrival.cache_prompt:
            blocks = chain(arrival.cache_key, arrival.prompt + emitted)
        self.prefixes.end(replica.name, arrival.request_id, blocks)

    def forget(self, request_id: int) -> None:
        self.take(request_id)
        self._told.pop(request_id, None)

    # --- calibration ---

    def tell(self, request: Request, replica: ReplicaState, row: Row) -> None:
        """These estimates were told; what comes of them will correct later ones."""
        ttft, e2e = self._quotes_of(replica.name)
        self._told[request.arrival.request_id] = Told(replica.name, ttft, e2e, row)

    def observe(self, request: Request, ttft_s: float, e2e_s: float) -> None:
        """What came of what was told. A crash is nobody's misjudgement."""
        told = self._told.pop(request.arrival.request_id, None)
        if told is None or request.crashes_total:
            return
        row = told.row
        for what, quote, actual_s, p50, p90 in (
            ("ttft", told.ttft, ttft_s, Column.TTFT, Column.TTFT_P90),
            ("e2e", told.e2e, e2e_s, Column.E2E, Column.E2E_P90),
        ):
            key = f"{told.replica} {what}"
            self.coverage.observe(key, quote, actual_s=actual_s, p50_s=row[p50], p90_s=row[p90])
        self._stale.add(told.replica)

    def observe_link(self, model: str, link_s: float) -> None:
        """How long a request of this model took to get to its replica, and its first token back. A
        front that was held up once says little."""
        past_s = self._link_s.get(model, min(link_s, FIRST_LINK_S))
        self._link_s[model] = past_s + LINK_WEIGHT * (min(link_s, LINK_CLIP * past_s) - past_s)

    def sigma(self, model: str) -> float:
        """What estimates of this model's latencies did not know, relative."""
        return self._sigmas.get(model, PRIOR_SIGMA)

    def measure_errors(self, model: str, replicas: Sequence[ReplicaState]) -> None:
        """How far estimates have been off until now. The spread is that of times to the first
        token: what is left of an error where output lengths, whose scenarios have a spread of
        their own, play the least part."""
        for replica in replicas:
            if replica.name in self._stale:
                self._stale.discard(replica.name)
                self._quotes.pop(replica.name, None)
        total = sum(self._quotes_of(replica.name)[0].sigma for replica in replicas)
        self._sigmas[model] = min(MAX_SIGMA, max(MIN_SIGMA, total / len(replicas)))

    def estimates(self, known: Sequence[tuple[ReplicaState, Row]]) -> tuple[ReplicaEstimate, ...]:
        """Of each replica, for people."""
        return tuple([self.estimate(replica, row) for replica, row in known])

    def estimate(self, replica: ReplicaState, row: Row) -> ReplicaEstimate:
        """A row, its p90 corrected by how such estimates turned out. The median is left alone: what
        made it wrong is mostly what came later, and that changes with the load."""
        l_q_s, _, l_r_s, ttft_s, ttft_p90_s, tpot_s, e2e_s, e2e_p90_s, p_hold, harm, cached = row[
            :NUM_TOLD
        ]
        ttft, e2e = self._quotes_of(replica.name)
        link_s = self._link_s.get(replica.model, 0.0)
        l_q_s += link_s  # it is before the prefill, for the most part
        ttft_s += link_s
        e2e_s += link_s
        return ReplicaEstimate(
            replica=replica.name,
            num_cached_tokens=int(cached),
            l_q_s=l_q_s,
            l_x_s=e2e_s - l_q_s,
            l_r_s=l_r_s,
            ttft_s=ttft_s,
            ttft_p90_s=max(ttft_s, ttft_p90_s * ttft.factor),
            tpot_s=tpot_s,
            e2e_s=e2e_s,
            e2e_p90_s=max(e2e_s, e2e_p90_s * e2e.factor),
            p_hold=p_hold,
            harm=harm,
        )

    def _quotes_of(self, replica: str) -> tuple[Quote, Quote]:
        """Of times to the first token and to the end, as of the last `measure_errors`."""
        quotes = self._quotes.get(replica)
        if quotes is None:
            quote = self.coverage.quote
            quotes = self._quotes[replica] = quote(f"{replica} ttft"), quote(f"{replica} e2e")
        return quotes


def _num_scenarios(fleet: Fleet) -> int:
    """The more replicas there are, the more there is to look at in the time of a decision."""
    num_replicas = fleet.num_replicas
    if num_replicas <= 2:
        return NUM_SCENARIOS
    return NUM_SCENARIOS // 2 if num_replicas <= 4 else NUM_SCENARIOS // 4
