"""Measured steps as a noisy virtual machine would give them, of a model that is known."""

from __future__ import annotations

import random
from collections.abc import Iterable

from fmedge.sched.design import Point
from fmedge.sched.steptime import Curve, StepModel

Row = tuple[float, int, int, int, float]
"""(step_s, P, D, K, A)"""

APART = StepModel(
    base_s=0.0,
    prefill_base_s=0.002,
    prefill=Curve((0.0, 64.0, 256.0, 1024.0), (0.0, 0.009, 0.034, 0.2)),
    decode=Curve((0.0, 1.0, 3.0, 8.0), (0.0, 0.0022, 0.0024, 0.004)),
    kv_s=1e-6,
    attention_s=3.5e-7,
    attention_tile=64,
    small_attention_s=1e-6,
)
"""Like a CPU with a stream a sequence: prefill and decoding go through the weights one by one."""

TOGETHER = StepModel(
    base_s=0.018,
    tokens=Curve((0.0, 200.0, 400.0, 2048.0), (0.0, 0.001, 0.014, 0.16)),
    decode=Curve((0.0, 256.0), (0.0, 0.004)),
    kv_s=6e-8,
    attention_s=1.5e-9,
)
"""Like a GPU: one pass for all, free up to a knee."""


def noise(rng: random.Random, sigma: float = 0.05, outliers: float = 0.05) -> float:
    """A factor on a step's time: lognormal jitter, and now and then 2 to 5 times as long."""
    factor = rng.lognormvariate(0.0, sigma)
    return factor * rng.uniform(2, 5) if rng.random() < outliers else factor


def measured(
    model: StepModel, points: Iterable[Point], rng: random.Random, *, times: int = 3, **kind: float
) -> list[Row]:
    """Each point so many times, with noise."""
    rows: list[Row] = []
    for num_prefill, num_decoding, depth in points:
        for i in range(times):
            num_kv = num_decoding * (depth + i)
            attention = num_prefill * (depth + num_prefill / 2)
            true_s = model.step_s(num_prefill, num_decoding, num_kv, attention)
            step_s = true_s * noise(rng, **kind)
            rows.append((step_s, num_prefill, num_decoding, num_kv, attention))
    return rows
