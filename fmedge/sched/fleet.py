"""What every replica has to do, as arrays, and estimates of what one more request would get there.

The rule: this is told what happens and is asked; it decides nothing. One owner calls it, from one
thread. Times are seconds of one monotonic clock; estimates are seconds from the time asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isinf
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmedge.sched import arrays, estimate
from fmedge.sched.arrays import NUM_SCENARIOS
from fmedge.sched.facts import (
    Candidate,
    Column,
    Floats,
    OutlookColumn,
    Replay,
    ReplicaFacts,
    Risk,
    SpeedColumn,
    replica_estimate,
)
from fmedge.sched.steptime import PACKED_SIZE, step_time
from fmedge.sched.storage import Storage

__all__ = [
    "NUM_SCENARIOS",
    "Candidate",
    "Column",
    "Fleet",
    "OutlookColumn",
    "Replay",
    "ReplicaFacts",
    "Risk",
    "Sigmas",
    "SpeedColumn",
    "replica_estimate",
]

Sigmas = float | tuple[float, float, float]
"""How far estimates stray, as the deviation of ln(actual / estimate): of all, or of (ttft, tpot,
e2e)."""


NUM_COLUMNS = len(Column)  # of an enumeration, which takes a while to count

_ROW = Struct(f"{arrays.NUM_FIELDS}d")


class _Replica:
    __slots__ = ("facts", "index", "is_derived", "packed", "packed_cells", "request_ids")

    def __init__(self, index: int, facts: ReplicaFacts, packed: Floats) -> None:
        self.index = index
        self.facts = facts
        self.packed = packed
        self.packed_cells: Any = memoryview(packed)  # type: ignore[arg-type]
        self.is_derived = True  # its rates are the model's: the engine has not measured yet
        self.request_ids: set[int] = set()


class Fleet:
    """All replicas and all requests that wait or run on them.

    bodies: what has `run`, `add_member`, `drop_member` and `draw_arrivals`; None takes the compiled
    kernels, which the first use on a machine compiles (call `kernels.warm` early, where waiting is
    no harm). Tests give the plain functions.
    """

    def __init__(self, *, bodies: Any = None) -> None:
        if bodies is None:
            from fmedge.sched import kernels as bodies  # numba: only where estimates are made
        self._bodies = bodies
        self._replicas: dict[str, _Replica] = {}
        self._store = Storage()
        self._bases: dict[int, int] = {}  # by request: where its row begins in _cells
        self._homes: dict[int, str] = {}
        self._candidates: dict[int, Candidate] = {}
        self._num_put = 0

    # replicas

    @property
    def names(self) -> list[str]:
        """Of all replicas, in order of addition."""
        return list(self._replicas)

    @property
    def num_replicas(self) -> int:
        return len(self._replicas)

    def add_replica(self, name: str, facts: ReplicaFacts, packed: Floats) -> None:
        """packed: float64[PACKED_SIZE], its step model with the live corrections; kept, and read
        again at each `on_step`. ValueError for a second one of a name or impossible facts."""
        if name in self._replicas:
            raise ValueError(f"replica {name} was added twice")
        if facts.slots < 1 or facts.limits.max_tokens < 1 or facts.block_tokens < 1:
            raise ValueError(f"replica {name} has no slots, no batch or no KV: {facts}")
        if facts.kv_unified and facts.kv_tokens < facts.block_tokens:
            raise ValueError(f"replica {name} shares one KV pool of {facts.kv_tokens} tokens")
        index = self._store.take_replica()
        self._replicas[name] = _Replica(index, facts, packed)
        limits = facts.limits
        params = self._store.arrays.params[index]
        params[:] = 0.0
        params[arrays.SLOTS] = facts.slots
        params[arrays.CTX_SIZE] = facts.ctx_size
        params[arrays.KV_TOKENS] = facts.kv_tokens if facts.kv_unified else 0
        params[arrays.MAX_TOKENS] = limits.max_tokens
        params[arrays.DECODE_BOUND] = limits.decode_bound_s
        params[arrays.DECODE_SLOWDOWN] = limits.decode_slowdown
        params[arrays.PREFILL_BOUND] = limits.prefill_bound_s
        params[arrays.STEPPED_AT] = -inf
        params[arrays.ARRIVAL_INTERVAL] = inf
        params[arrays.STEP_TOKENS] = facts.step_tokens
        params[arrays.BLOCK_TOKENS] = facts.block_tokens
        params[arrays.RESERVE_PROMPT] = facts.reserve_prompt
        params[arrays.PREFIX_CACHING] = facts.prefix_caching
        params[arrays.SCHEDULE_AHEAD] = facts.schedule_ahead
        self.set_packed(name, packed)

    def remove_replica(self, name: str) -> list[int]:
        """Its requests, which are in the fleet no longer. KeyError if there is none of the name."""
        replica = self._replicas[name]
        request_ids = self.requests_on(name)
        for request_id in request_ids:
            self.take(request_id)
        del self._replicas[name]
        self._store.free_replicas.append(replica.index)
        return request_ids

    def set_packed(self, name: str, packed: Floats) -> None:
        """From now on, the step model of a replica is this one."""
        replica = self._replicas[name]
        replica.packed = packed
        replica.packed_cells = memoryview(packed)  # type: ignore[arg-type]
        self._store.arrays.packed[replica.index] = packed
        if replica.is_derived:
            self.set_rates(name, 0.0, 0.0)

    def set_rates(self, name: str, prefill_s_per_token: float, decode_s: float) -> None:
        """The speeds that the engine's policy goes by (`StepRates`); 0 takes the step model's."""
        replica = self._replicas[name]
        packed, params = replica.packed, self._store.arrays.params[replica.index]
        replica.is_derived = prefill_s_per_token <= 0 or decode_s <= 0
        if prefill_s_per_token <= 0:
            chunk = min(512, replica.facts.limits.max_tokens)
            prefill_s_per_token = step_time(packed, chunk, 0, 0, chunk * chunk / 2) / chunk
        if decode_s <= 0:
            decode_s = step_time(packed, 0, 1, min(256, replica.facts.ctx_size), 0)
        params[arrays.PREFILL_RATE] = prefill_s_per_token
        params[arrays.DECODE_RATE] = decode_s

    def set_arrivals(
        self,
        name: str,
        interval_s: float,
        num_prompt: int = 0,
        max_new: int = 1,
        cdf: NDArray[np.float32] | None = None,
    ) -> None:
        """Further requests to expect, evenly spaced, behind all others; interval inf for none.
        Where more than 4 of them are there at a time they come in groups, as each arrival costs
        a replay some events.

        num_prompt: tokens of each to prefill. max_new: most it gives; cdf: float32[NUM_BINS] of
        what it gives, None for max_new.
        """
        replica = self._replicas[name]
        params = self._store.arrays.params[replica.index]
        if isinf(interval_s):
            params[arrays.ARRIVAL_INTERVAL] = inf
            return
        if not interval_s > 0 or num_prompt < 1 or max_new < 1:
            raise ValueError(
                f"arrivals every {interval_s} s of {num_prompt} tokens, up to {max_new} new ones"
            )
        params[arrays.ARRIVAL_INTERVAL] = interval_s
        params[arrays.ARRIVAL_PROMPT] = num_prompt
        known = self._store.arrays.cdfs[0] if cdf is None else cdf
        a = self._store.arrays
        self._bodies.draw_arrivals(a, replica.index, known, max_new, cdf is None)

    def set_arrival_interval(self, name: str, interval_s: float) -> None:
        """Those that `set_arrivals` foretold come at another interval. KeyError."""
        index = self._replicas[name].index
        self._store.param_cells[index * arrays.NUM_PARAMS + arrays.ARRIVAL_INTERVAL] = interval_s

    def on_step(self, name: str, now_s: float) -> None:
        """A replica ended a step, and began the next one: call it after what the step told."""
        replica = self._replicas[name]
        index = replica.index
        self._store.param_cells[index * arrays.NUM_PARAMS + arrays.STEPPED_AT] = now_s
        start = index * PACKED_SIZE
        self._store.packed_cells[start : start + PACKED_SIZE] = replica.packed_cells

    # requests

    def put(self, name: str, candidate: Candidate, now_s: float = -inf) -> None:
        """It waits on a replica, in its place by order_key. now_s: when it was handed over, since
        it cannot be in a step that had begun then. KeyError, ValueError for a request that is
        in the fleet already or can give nothing."""
        replica = self._replicas[name]
        request_id = candidate.request_id
        if request_id in self._bases:
            raise ValueError(f"request {request_id} is on {self._homes[request_id]} already")
        _check(candidate)
        row = self._store.take_row(len(replica.request_ids))
        self._num_put += 1
        self._write(row, candidate, self._num_put, candidate.cached_on(name), now_s)
        self._bases[request_id] = row * arrays.NUM_FIELDS
        self._homes[request_id] = name
        self._candidates[request_id] = candidate
        replica.request_ids.add(request_id)
        self._bodies.add_member(self._store.arrays, replica.index, row)

    def _write(
        self, row: int, candidate: Candidate, serial: int, num_cached: int, now_s: float
    ) -> None:
        a, c = self._store.arrays, candidate
        _ROW.pack_into(
            a.state,
            row * _ROW.size,
            c.order_key,
            serial,
            c.request_id,
            now_s,
            c.arrival_s,
            c.first_s,
            c.num_tokens,
            0,
            0,
            arrays.WAITING,
            num_cached,
            c.max_new,
            min(c.min_new, c.max_new),
            c.emitted,
            c.ttft_due_s,
            c.tpot_limit_s,
            c.e2e_due_s,
            c.weight,
            0,  # drawn when first needed
            0,
            (c.request_id * 37) % arrays.NUM_STRATA,
            c.cdf is not None,
            c.rest is not None,
            0,
        )
        if c.cdf is not None:
            a.cdfs[row] = c.cdf
        if c.rest is not None:
            a.rests[row] = c.rest

    def take(self, request_id: int) -> Candidate:
        """Out of the fleet; what it is by now, so that it can be put elsewhere. KeyError."""
        candidate = self.candidate(request_id)
        replica = self._replicas[self._homes.pop(request_id)]
        row = self._bases.pop(request_id) // arrays.NUM_FIELDS
        del self._candidates[request_id]
        replica.request_ids.remove(request_id)
        self._bodies.drop_member(self._store.arrays, replica.index, row)
        self._store.free_rows.append(row)
        return candidate

    def candidate(self, request_id: int) -> Candidate:
        """What a request is by now, as a waiting one; a copy. KeyError."""
        base = self._bases[request_id]
        put, cells = self._candidates[request_id], self._store.cells
        new = int(cells[base + arrays.NUM_NEW])
        return Candidate(
            request_id=request_id,
            num_tokens=put.num_tokens + new,
            max_new=max(1, put.max_new - new),
            min_new=max(0, put.min_new - new),
            emitted=put.emitted + new,
            cdf=put.cdf,
            order_key=cells[base + arrays.ORDER],
            ttft_due_s=cells[base + arrays.TTFT_DUE],
            tpot_limit_s=cells[base + arrays.TPOT_LIMIT],
            e2e_due_s=cells[base + arrays.E2E_DUE],
            rest=put.rest,
            weight=cells[base + arrays.WEIGHT],
            num_cached=put.num_cached,
            arrival_s=put.arrival_s,
            first_s=cells[base + arrays.FIRST_AT],
        )

    def set_order(self, request_id: int, order_key: float) -> None:
        """Another place in its replica's service order. KeyError."""
        base = self._bases[request_id]
        index, row = self._replicas[self._homes[request_id]].index, base // arrays.NUM_FIELDS
        self._bodies.drop_member(self._store.arrays, index, row)
        self._store.cells[base + arrays.ORDER] = order_key
        self._bodies.add_member(self._store.arrays, index, row)

    def set_promise(
        self,
        request_id: int,
        *,
        ttft_due_s: float = inf,
        tpot_limit_s: float = inf,
        e2e_due_s: float = inf,
        weight: float = 1.0,
    ) -> None:
        """Another promise; none by default. KeyError."""
        base, cells = self._bases[request_id], self._store.cells
        cells[base + arrays.TTFT_DUE] = ttft_due_s
        cells[base + arrays.TPOT_LIMIT] = tpot_limit_s
        cells[base + arrays.E2E_DUE] = e2e_due_s
        cells[base + arrays.WEIGHT] = weight

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._bases

    def replica_of(self, request_id: int) -> str | None:
        return self._homes.get(request_id)

    def requests_on(self, name: str) -> list[int]:
        """In service order. KeyError."""
        index = self._replicas[name].index
        a = self._store.arrays
        rows = a.members[index, : int(a.params[index, arrays.NUM_HERE])]
        return [int(i) for i in a.state[rows, arrays.REQUEST_ID]]

    def num_requests(self, name: str) -> int:
        return len(self._replicas[name].request_ids)

    def on_started(self, request_id: int, num_cached: int) -> None:
        """Its prefill begins, with so many tokens found in the cache; harmless once it has begun.
        KeyError."""
        base, cells = self._bases[request_id], self._store.cells
        if cells[base + arrays.PHASE_NOW] == arrays.WAITING:
            cells[base + arrays.NUM_COMPUTED] = num_cached
            cells[base + arrays.PHASE_NOW] = arrays.PREFILLING

    def on_prefilled(self, request_id: int, num_computed: int) -> None:
        """It prefills, and so many of its tokens are computed by now. KeyError."""
        base, cells = self._bases[request_id], self._store.cells
        cells[base + arrays.NUM_COMPUTED] = num_computed
        cells[base + arrays.PHASE_NOW] = arrays.PREFILLING

    def on_tokens(self, request_id: int, num_tokens: int) -> None:
        """It emitted tokens, so it decodes. KeyError."""
        base, cells = self._bases[request_id], self._store.cells
        cells[base + arrays.NUM_NEW] += num_tokens
        cells[base + arrays.PHASE_NOW] = arrays.DECODING

    def on_tokens_bulk(self, tokens: Iterable[tuple[int, int]]) -> None:
        """`on_tokens` of each (request_id, num_tokens) that is here."""
        bases, cells = self._bases, self._store.cells
        num_new, phase, decoding = arrays.NUM_NEW, arrays.PHASE_NOW, arrays.DECODING
        for request_id, num_tokens in tokens:
            base = bases.get(request_id)
            if base is not None:
                cells[base + num_new] += num_tokens
                cells[base + phase] = decoding

    def on_first_token(self, request_id: int, now_s: float) -> None:
        """When its first token came, for what is left of its promise. KeyError."""
        self._store.cells[self._bases[request_id] + arrays.FIRST_AT] = now_s

    # estimates

    def assess(
        self,
        now_s: float,
        candidate: Candidate,
        names: Sequence[str] | None = None,
        *,
        sigma: Sigmas = 0.0,
        num_scenarios: int = NUM_SCENARIOS,
        with_harm: bool = False,
        without: int | None = None,
        stop_at: float = inf,
        most_full: int = 1 << 30,
    ) -> Floats:
        """What the candidate would get on each of `names` (None: all): float64[n, len(Column)].

        The candidate may be in the fleet itself: it is left out where it is. num_scenarios: 1 (of
        median lengths), 4, 8 or 16. with_harm: replay the others' promises too, with and without
        it. without: a request that is taken to be absent. stop_at: once a replica, in the order
        given, has P_HOLD - HARM of this, the following get one scenario and no harm; so do those
        after the first most_full. KeyError.
        """
        indices, cached = self._places(candidate, self._replicas if names is None else names)
        self._take_candidate(candidate, now_s)
        out = np.empty((len(indices), NUM_COLUMNS))
        self._run(
            estimate.ASSESS,
            indices,
            cached,
            now_s,
            sigma,
            out,
            num_scenarios=num_scenarios,
            with_harm=with_harm,
            skip=self._row(candidate.request_id),
            without=-1 if without is None else self._bases[without] // arrays.NUM_FIELDS,
            stop_at=stop_at,
            most_full=most_full,
        )
        return out

    def first_enough(
        self,
        now_s: float,
        candidate: Candidate,
        names: Sequence[str],
        *,
        sigma: Sigmas = 0.0,
        least: float,
    ) -> Floats:
        """The same of one scenario each, no further than the first of `names` where the promise
        holds with `least`: float64[k, len(Column)]. KeyError."""
        indices, cached = self._places(candidate, names)
        self._take_candidate(candidate, now_s)
        out = np.empty((len(indices), NUM_COLUMNS))
        count = self._run(
            estimate.FIRST_ENOUGH,
            indices,
            cached,
            now_s,
            sigma,
            out,
            num_scenarios=1,
            skip=self._row(candidate.request_id),
            stop_at=least,
        )
        return out[:count]

    def _places(
        self, candidate: Candidate, names: Iterable[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Replicas' indices, and how much of the candidate each holds."""
        replicas, held = self._replicas, candidate.num_cached
        found = [replicas[name].index for name in names]
        indices, cached = self._store.scratch(len(found))
        indices[:] = found
        if isinstance(held, int):
            cached.fill(held)
        elif held:
            cached[:] = [held.get(name, 0) for name in names]
        else:
            cached.fill(0)
        return indices, cached

    def alone(
        self, now_s: float, name: str, candidate: Candidate, *, sigma: Sigmas = 0.0
    ) -> Floats:
        """The candidate on a replica that has nothing else to do, a bound of what can be:
        float64[len(Column)]. KeyError."""
        self._take_candidate(candidate, now_s)
        out = np.empty((1, NUM_COLUMNS))
        self._run_one(estimate.ALONE, name, now_s, sigma, out, num_cached=candidate.cached_on(name))
        row: Floats = out[0]
        return row

    def _take_candidate(self, candidate: Candidate, now_s: float) -> None:
        _check(candidate)
        self._write(0, candidate, self._num_put + 1, 0, now_s)

    def _row(self, request_id: int) -> int:
        base = self._bases.get(request_id)
        return -1 if base is None else base // arrays.NUM_FIELDS

    def _run_one(
        self,
        kind: int,
        name: str,
        now_s: float,
        sigma: Sigmas,
        out: Floats,
        *,
        num_cached: int = 0,
        num_scenarios: int = NUM_SCENARIOS,
        only_scenario: int = arrays.MEDIAN,
        without: int = -1,
    ) -> int:
        index = self._replicas[name].index
        indices, cached = self._store.scratch(1)
        indices[0], cached[0] = index, num_cached
        return self._run(
            kind,
            indices,
            cached,
            now_s,
            sigma,
            out,
            num_scenarios=num_scenarios,
            only_scenario=only_scenario,
            without=without,
        )

    def _run(
        self,
        kind: int,
        indices: NDArray[np.int64],
        cached: NDArray[np.int64],
        now_s: float,
        sigma: Sigmas,
        out: Floats,
        *,
        num_scenarios: int = NUM_SCENARIOS,
        only_scenario: int = arrays.MEDIAN,
        with_harm: bool = False,
        skip: int = -1,
        without: int = -1,
        stop_at: float = inf,
        most_full: int = 1,
    ) -> int:
        n: int = self._bodies.run(
            self._store.arrays,
            kind,
            indices,
            cached,
            now_s,
            _sigmas(sigma),
            _checked(num_scenarios),
            only_scenario,
            with_harm,
            skip,
            without,
            stop_at,
            most_full,
            self._store.rows,
            out,
        )
        return n

    def outlook(
        self,
        now_s: float,
        name: str,
        *,
        sigma: Sigmas = 0.0,
        num_scenarios: int = NUM_SCENARIOS,
        without: int | None = None,
    ) -> tuple[list[int], Floats]:
        """What each request of a replica will get: ids in service order and
        float64[n, len(OutlookColumn)]. KeyError."""
        out = np.empty((self.num_requests(name), len(OutlookColumn)))
        n = self._run_one(
            estimate.OUTLOOK,
            name,
            now_s,
            sigma,
            out,
            num_scenarios=num_scenarios,
            without=-1 if without is None else self._bases[without] // arrays.NUM_FIELDS,
        )
        return self._ids(n), out[:n]

    def risks(
        self,
        now_s: float,
        names: Sequence[str],
        *,
        sigma: Sigmas = 0.0,
        num_scenarios: int = NUM_SCENARIOS,
        least: float = 1.0,
    ) -> list[Risk]:
        """Promises on these replicas that hold with less than `least`, replica by replica in
        service order. Where all of a replica's are likely enough to hold at likely lengths, its
        scenarios are not looked at. KeyError."""
        n = len(names)
        indices, cached = self._store.scratch(n)
        indices[:] = [self._replicas[name].index for name in names]
        out = np.empty((sum(map(self.num_requests, names)), estimate.R_P_HOLD + 1))
        count = self._run(
            estimate.RISKS,
            indices,
            cached,
            now_s,
            sigma,
            out,
            num_scenarios=num_scenarios,
            stop_at=least,
        )
        return [Risk(int(i), names[int(at)], p) for i, at, p in out[:count].tolist()]

    def replay(self, now_s: float, name: str, scenario: int = arrays.MEDIAN) -> Replay:
        """One scenario (0 to NUM_SCENARIOS - 1, or the one of median lengths) in full. KeyError,
        ValueError."""
        if not 0 <= scenario <= arrays.MEDIAN:
            raise ValueError(f"scenarios are 0 to {arrays.MEDIAN}, not {scenario}")
        out = np.empty((self.num_requests(name), len(OutlookColumn)))
        n = self._run_one(
            estimate.OUTLOOK, name, now_s, 0.0, out, num_scenarios=1, only_scenario=scenario
        )
        return Replay(
            request_ids=tuple(self._ids(n)),
            start_s=out[:, OutlookColumn.START],
            first_s=out[:, OutlookColumn.TTFT],
            end_s=out[:, OutlookColumn.E2E],
            num_preempted=out[:, OutlookColumn.PREEMPTED],
        )

    def _ids(self, n: int) -> list[int]:
        rows = self._store.rows[:n]
        ids: list[int] = self._store.arrays.state[rows, arrays.REQUEST_ID].astype(np.int64).tolist()
        return ids

    def speeds(self, names: Sequence[str] | None = None) -> Floats:
        """How fast replicas are as they are loaded: float64[n, len(SpeedColumn)]. KeyError."""
        chosen = self.names if names is None else names
        n = len(chosen)
        out = np.empty((n, len(SpeedColumn)))
        indices, cached = self._store.scratch(n)
        indices[:] = [self._replicas[name].index for name in chosen]
        self._run(estimate.SPEEDS, indices, cached, 0.0, 0.0, out)
        return out

    def estimate_speed(self, name: str) -> float:
        """Seconds per token of one more sequence on a replica, as it is loaded. KeyError."""
        return float(self.speeds((name,))[0, SpeedColumn.TOKEN_S])


def _check(candidate: Candidate) -> None:
    if candidate.max_new < 1 or candidate.num_tokens < 1:
        raise ValueError(
            f"request {candidate.request_id} has {candidate.num_tokens} tokens and may give "
            f"{candidate.max_new}"
        )


def _sigmas(sigma: Sigmas) -> tuple[float, float, float]:
    return sigma if isinstance(sigma, tuple) else (sigma, sigma, sigma)


def _checked(num_scenarios: int) -> int:
    if not 1 <= num_scenarios <= NUM_SCENARIOS:
        raise ValueError(f"there are 1 to {NUM_SCENARIOS} scenarios, not {num_scenarios}")
    return num_scenarios
