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

from fmedge.sched.steptime import StepModel
from fmedge.types import EngineSettings

NUM_FACTORS = 4096
"""Of a replica's noise; a power of two. Its step number n strays by the factor n modulo this."""


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
    """

    name: str
    model: str
    engine: EngineSettings
    steps: StepModel
    noise: Noise = Noise()
    num_ids: int = 0
    copy_bytes: int = 0
    is_recurrent: bool = False


def step_factors(noise: Noise, replica: str) -> NDArray[np.float64]:
    """float64[NUM_FACTORS]: what each of a replica's steps in turn takes, in units of its model."""
    rng = np.random.default_rng((noise.seed, crc32(replica.encode())))
    factors = np.exp(rng.normal(-(noise.sigma**2) / 2, noise.sigma, NUM_FACTORS))
    is_late = rng.random(NUM_FACTORS) < noise.straggler_share
    factors[is_late] *= noise.straggler_factor
    return np.asarray(factors * noise.slowdown.get(replica, 1.0), dtype=np.float64)
