"""What a model is expected to be asked for, and a workload drawn from that.

The rule: a workload is a stratified sample, so a hundred requests have the quantiles that were
asked for, and the same demand gives the same requests each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.types import BEST_EFFORT, Promise

NUM_CALLS = 128
DURATION_S = 20.0
MAX_CALLS = 384
LEAST_CALLS = 16
"""Of each stream, where MAX_CALLS in all allow it: fewer say little of its promise."""

_NORMAL = NormalDist()
_Z95 = _NORMAL.inv_cdf(0.95)


class Spread(Struct, frozen=True):
    """A log-normal number of tokens by its median and its 95th percentile. ValueError unless
    0 < p50 <= p95."""

    p50: float
    p95: float

    def __post_init__(self) -> None:
        if not 0 < self.p50 <= self.p95 < float("inf"):
            raise ValueError(f"quantiles rise from above 0, not p50 {self.p50}, p95 {self.p95}")

    @property
    def mean(self) -> float:
        sigma = log(self.p95 / self.p50) / _Z95
        return self.p50 * exp(sigma * sigma / 2)

    def quantile(self, u: float) -> float:
        """Not exceeded with probability u, 0 < u < 1."""
        return self.p50 * exp(log(self.p95 / self.p50) / _Z95 * _NORMAL.inv_cdf(u))


class Demand(Struct, frozen=True, kw_only=True):
    """One stream of requests to a model, arriving at random at a mean rate. A model may have
    several, with promises of their own."""

    model: str
    rate_per_s: float
    prompt_tokens: Spread
    output_tokens: Spread
    promise: Promise = BEST_EFFORT


class Call(Struct, frozen=True, kw_only=True):
    """One request of a workload."""

    arrival_s: float
    num_prompt: int
    num_output: int
    promise: Promise


def demands_of(model: str, demand: Sequence[Demand]) -> tuple[Demand, ...]:
    return tuple(stream for stream in demand if stream.model == model)


def workload(demands: Sequence[Demand], *, seed: int = 0) -> tuple[Call, ...]:
    """Some NUM_CALLS requests of these streams together, or DURATION_S of them, by arrival; of each
    as many as its rate has in that time, but at least LEAST_CALLS; MAX_CALLS in all. () without
    demand."""
    if not demands:
        return ()
    rates = [demand.rate_per_s for demand in demands]
    duration_s = max(NUM_CALLS / sum(rates), DURATION_S, LEAST_CALLS / min(rates))
    duration_s = min(duration_s, MAX_CALLS / sum(rates))
    calls: list[Call] = []
    for number, demand in enumerate(demands):
        n = max(1, round(demand.rate_per_s * duration_s))
        rng = np.random.default_rng((seed, number))
        prompts, outputs = (
            _lengths(demand.prompt_tokens, n, rng),
            _lengths(demand.output_tokens, n, rng),
        )
        for arrival_s, prompt, output in zip(
            _arrivals(demand.rate_per_s, n, rng), prompts, outputs, strict=True
        ):
            calls.append(
                Call(
                    arrival_s=arrival_s,
                    num_prompt=prompt,
                    num_output=output,
                    promise=demand.promise,
                )
            )
    return tuple(sorted(calls, key=lambda call: call.arrival_s))


def longest(demands: Sequence[Demand], share: float = 0.99) -> int:
    """Tokens of prompt and output together that `share` of each stream's requests stay within; 0
    without demand."""
    # A sum's quantile is at most that of its parts together; this is close for skewed lengths.
    return max(
        (
            round(demand.prompt_tokens.quantile(share) + demand.output_tokens.quantile(share))
            for demand in demands
        ),
        default=0,
    )


def _strata(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64[n]: one from the middle of each n-th of (0, 1), in random order."""
    return rng.permutation((np.arange(n) + 0.5) / n)


def _lengths(spread: Spread, n: int, rng: np.random.Generator) -> list[int]:
    return [max(1, round(spread.quantile(float(u)))) for u in _strata(n, rng)]


def _arrivals(rate_per_s: float, n: int, rng: np.random.Generator) -> list[float]:
    """n arrivals whose gaps are an exponential's strata, over n / rate seconds in all."""
    gaps = -np.log1p(-_strata(n, rng))
    times = np.cumsum(gaps)
    return [float(t) for t in times * (n / rate_per_s) / times[-1]]
