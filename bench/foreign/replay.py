"""The log's requests on fmedge's own estimator, under the other engine's rule.

The rule: this is `Fleet.replay` and nothing beside it. Arrivals and lengths are known, as they are
in the log; times come from the step model alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bench.foreign.compare import Estimate
from bench.foreign.engine import EngineLimits
from bench.foreign.log import LoggedRequest
from bench.foreign.profile import ProfileError
from fmedge.sched.fleet import Candidate, Fleet, Replay, ReplicaFacts
from fmedge.sched.steps import StepLimits

ENGINE = "engine"

NUM_EXPECTED = 64
"""Arrivals that one estimate expects."""


def replay(
    log: Sequence[LoggedRequest], packed: NDArray[np.float64], limits: EngineLimits
) -> list[Estimate]:
    """Every request's times, in the log's order (that of arrival), with all arrivals known.

    packed: float64[PACKED_SIZE]. ProfileError for a request that KV could never hold.
    """
    fleet = _idle_fleet(log, packed, limits)
    for number, request in enumerate(log):
        _put(fleet, number, request)
    found = fleet.replay(0.0, ENGINE)
    return [_estimate(found, number) for number in range(len(log))]


def replay_on_arrival(
    log: Sequence[LoggedRequest], packed: NDArray[np.float64], limits: EngineLimits
) -> list[Estimate]:
    """The same with only the arrivals before its own known: what could be said when it came, by
    one who is told nothing of how those before it fare, and who expects that requests go on coming
    as often as so far, each of the mean size so far."""
    fleet = _idle_fleet(log, packed, limits)
    estimates = []
    for number, request in enumerate(log):
        _put(fleet, number, request)
        expected = _expected(log[: number + 1])
        for other in expected:
            fleet.put(ENGINE, other)
        estimates.append(_estimate(fleet.replay(0.0, ENGINE), number))
        for other in expected:
            fleet.take(other.request_id)
    return estimates


def _expected(seen: Sequence[LoggedRequest]) -> list[Candidate]:
    """Arrivals after those seen; none after a single one, which tells no rate."""
    if len(seen) == 1:
        return []
    last_s = seen[-1].arrival_s
    interval_s = (last_s - seen[0].arrival_s) / (len(seen) - 1)
    num_prompt_tokens = round(fmean(request.num_prompt_tokens for request in seen))
    num_output_tokens = round(fmean(request.num_output_tokens for request in seen))
    return [
        _candidate(
            len(seen) + k, last_s + (k + 1) * interval_s, num_prompt_tokens, num_output_tokens
        )
        for k in range(NUM_EXPECTED)
    ]


def _idle_fleet(
    log: Sequence[LoggedRequest], packed: NDArray[np.float64], limits: EngineLimits
) -> Fleet:
    longest = max(log, key=lambda r: r.num_prompt_tokens + r.num_output_tokens)
    most_tokens = longest.num_prompt_tokens + longest.num_output_tokens
    if limits.blocks_of(most_tokens) > limits.num_blocks:
        raise ProfileError(
            f"request {longest.request_id} has {most_tokens} tokens; kv_tokens leaves room for "
            f"{limits.num_blocks * limits.block_tokens}"
        )
    facts = ReplicaFacts(
        slots=limits.max_sequences,
        ctx_size=most_tokens,
        limits=StepLimits(max_tokens=limits.step_tokens),
        kv_unified=True,
        kv_tokens=limits.num_blocks * limits.block_tokens,
        step_tokens=limits.step_tokens,
        block_tokens=limits.block_tokens,
        reserve_prompt=limits.reserve_prompt,
        prefix_caching=limits.prefix_caching,
        schedule_ahead=limits.schedule_ahead,
    )
    fleet = Fleet()
    fleet.add_replica(ENGINE, facts, packed)
    return fleet


def _candidate(
    number: int, arrival_s: float, num_prompt_tokens: int, num_output_tokens: int
) -> Candidate:
    return Candidate(
        request_id=number,
        num_tokens=num_prompt_tokens,
        max_new=num_output_tokens,
        min_new=num_output_tokens,
        order_key=float(number),
        arrival_s=arrival_s,
    )


def _put(fleet: Fleet, number: int, request: LoggedRequest) -> None:
    tokens = request.num_prompt_tokens, request.num_output_tokens
    fleet.put(ENGINE, _candidate(number, request.arrival_s, *tokens))


def _estimate(found: Replay, number: int) -> Estimate:
    """Service order is that of arrival."""
    return Estimate(
        scheduled_s=float(found.start_s[number]),
        first_token_s=float(found.first_s[number]),
        last_token_s=float(found.end_s[number]),
        num_preemptions=int(found.num_preempted[number]),
    )
