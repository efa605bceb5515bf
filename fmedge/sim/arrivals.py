"""Times at which requests arrive.

The rule: the first n arrivals of a process are the same however many are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from fmedge.config.drawn import Arrivals

_AT_ONCE = 512


def times(arrivals: Arrivals, rng: np.random.Generator) -> Iterator[float]:
    """Seconds, rising from start_s, while less than start_s + duration_s."""
    end_s = arrivals.start_s + arrivals.duration_s
    return takewhile(lambda at_s: at_s < end_s, _times(arrivals, rng))


def _times(arrivals: Arrivals, rng: np.random.Generator) -> Iterator[float]:
    peak_per_s = _peak_per_s(arrivals)
    is_even = arrivals.process in ("poisson", "gamma", "uniform")
    now_s = 0.0
    while True:
        at_s = now_s + np.cumsum(_gaps(arrivals, peak_per_s, rng))
        now_s = float(at_s[-1])
        if not is_even:
            # Thinning (Lewis and Shedler, "Simulation of nonhomogeneous Poisson processes by
            # thinning", Naval Research Logistics 26, 1979).
            at_s = at_s[rng.random(_AT_ONCE) * peak_per_s < _rates(arrivals, at_s)]
        yield from (at_s + arrivals.start_s).tolist()
        if now_s > arrivals.duration_s:
            return


def _gaps(arrivals: Arrivals, peak_per_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64[_AT_ONCE], seconds."""
    mean_s = 1 / peak_per_s
    if arrivals.process == "uniform":
        return np.full(_AT_ONCE, mean_s)
    if arrivals.process == "gamma":
        shape = 1 / arrivals.cv**2
        return rng.gamma(shape, mean_s / shape, _AT_ONCE)
    return rng.exponential(mean_s, _AT_ONCE)


def _peak_per_s(arrivals: Arrivals) -> float:
    if arrivals.process == "bursts":
        return max(arrivals.rate_per_s, arrivals.burst_rate_per_s)
    if arrivals.process == "diurnal":
        return arrivals.rate_per_s * (1 + arrivals.amplitude)
    return arrivals.rate_per_s


def _rates(arrivals: Arrivals, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n]: arrivals a second at these times from the start on."""
    if arrivals.process == "bursts":
        is_off = at_s % (arrivals.off_s + arrivals.on_s) < arrivals.off_s
        return np.where(is_off, arrivals.rate_per_s, arrivals.burst_rate_per_s)
    wave = np.cos(2 * np.pi * at_s / arrivals.period_s)
    return np.asarray(arrivals.rate_per_s * (1 - arrivals.amplitude * wave))
