"""Which steps to measure, and in which order, so that a fit has what it needs.

The rule: each part of the formula (steptime.py) is met coarsely, shallow and deep, before any is
met finely; what is expensive comes last. So a measurement that ends early still gives a model.
"""

from __future__ import annotations

import numpy as np

from fmedge.sched.steptime import NUM_KNOTS

Point = tuple[int, int, int]
"""(P, D, depth): prefill tokens, decoding sequences, tokens already in the KV of each sequence."""

SHALLOW = 16
_DEPTHS = (512, 2048, 8192, 32768)
_CHUNKS = (32, 128, 256, 64, 512, 16, 4, 1, 192, 384)
_NUM_COARSE_CHUNKS = 4


def design(slots: int, ctx_size: int, batch_size: int, ubatch_size: int = 512) -> list[Point]:
    """Points for one replica, at most about 90. ValueError for sizes less than 1."""
    if min(slots, ctx_size, batch_size, ubatch_size) < 1:
        raise ValueError("slots, ctx_size, batch_size and ubatch_size are 1 or more")
    batches = [d for d in _batches(slots) if d <= batch_size]
    some = list(dict.fromkeys((1, batches[-1], batches[len(batches) // 2])))
    beside = list(dict.fromkeys(min(d, slots - 1) for d in some if slots > 1))
    chunks = [*_CHUNKS, ubatch_size, *(n * ubatch_size // 2 for n in (3, 4, 8))]
    chunks = [n for n in dict.fromkeys(chunks) if n <= min(batch_size, ctx_size // 2)]
    few = chunks[:_NUM_COARSE_CHUNKS]
    deepest = ctx_size * 3 // 4
    depths = [*(d for d in _DEPTHS if 2 * d <= deepest), deepest]

    def coarse(depth: int) -> list[Point]:
        points = [(0, d, depth) for d in some]
        points += [(n, 0, depth if depth > SHALLOW else 0) for n in few]
        return points + [(n, d, depth) for n in few[:2] for d in beside]

    points = coarse(SHALLOW) + coarse(depths[0])
    points += [(0, d, SHALLOW) for d in batches]
    points += [(n, 0, 0) for n in chunks]
    for depth in depths[1:]:
        points += coarse(depth)
    points += [(n, d, SHALLOW) for n in chunks[2:5] for d in beside]
    points += [(n, 0, depths[0]) for n in chunks if n < min(few, default=0)]
    return [p for p in dict.fromkeys(points) if p[0] + p[1] <= batch_size]


def _batches(slots: int) -> list[int]:
    """Batch sizes with a knot each: all of few, else ever wider apart."""
    if slots < NUM_KNOTS:
        return list(range(1, slots + 1))
    return [int(d) for d in np.unique(np.geomspace(1, slots, NUM_KNOTS - 1).round())]
