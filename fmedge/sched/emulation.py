"""A replica that keeps the time of hardware which need not be here: what it is, and how its steps
stray from their model.

The rule: an emulated replica and a simulated one take the same specification and the same noise, so
that they differ in nothing but whose clock passes.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.sched.provision.demand import Spread
from fmedge.sched.steptime import StepModel
from fmedge.types import EngineSettings

NUM_FACTORS = 4096
"""Of a replica's noise; a power of two. Its step number n strays by the factor n modulo this."""

LENGTH_SEED = 1_000_000_000
NUM_LENGTHS = 1_000_000
"""A request whose seed is LENGTH_SEED + n, n < NUM_LENGTHS, gets n tokens: every client and router
passes a seed on, and no scheduler looks at it."""

_MASK = (1 << 64) - 1


class Noise(Struct, frozen=True, kw_only=True):
    """How steps stray from their model. sigma: deviation of ln(time); the mean stays.
    straggler_share of the steps take straggler_factor times as long. slowdown: all steps of a
    replica take so many times what anybody was told of it, by its name."""

    sigma: float = 0.0
    straggler_share: float = 0.0
    straggler_factor: float = 1.0
    slowdown: dict[str, float] = {}
    seed: int = 0


class ReplicaSpec(Struct, frozen=True, kw_only=True):
    """One emulated replica. engine: ctx_size, slots, batch_size and the KV pool are what decides.
    steps: how long its steps take on the devices that it stands for. num_ids: sequences whose KV it
    can hold, 0: its slots. copy_bytes: that a copied prefix moves, 0 where sequences share cells.
    output_tokens: what answers are long whose seed does not say it (see `output_length`).
    """

    name: str
    model: str
    engine: EngineSettings
    steps: StepModel
    noise: Noise = Noise()
    num_ids: int = 0
    copy_bytes: int = 0
    is_recurrent: bool = False
    output_tokens: Spread = Spread(128.0, 512.0)


def step_factors(noise: Noise, replica: str) -> NDArray[np.float64]:
    """float64[NUM_FACTORS]: what each of a replica's steps in turn takes, in units of its model."""
    rng = np.random.default_rng((noise.seed, crc32(replica.encode())))
    factors = np.exp(rng.normal(-(noise.sigma**2) / 2, noise.sigma, NUM_FACTORS))
    is_late = rng.random(NUM_FACTORS) < noise.straggler_share
    factors[is_late] *= noise.straggler_factor
    return np.asarray(factors * noise.slowdown.get(replica, 1.0), dtype=np.float64)


def output_length(seed: int, spread: Spread) -> int:
    """Tokens, 0 or more, after which an answer with this seed ends if nothing ends it before."""
    if 0 <= seed - LENGTH_SEED < NUM_LENGTHS:
        return seed - LENGTH_SEED
    return max(1, round(spread.quantile((mix(seed) + 0.5) / (_MASK + 1))))


def mix(seed: int) -> int:
    """64 bits that look random: what is drawn for a seed. SplitMix64's (Steele et al. 2014)."""
    x = (seed + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
