"""Steps made up from the tables, for fmedge's step-time model to be fitted on.

The rule: the points cover what the engine's limits allow, evenly on a logarithmic scale and alike
in number for steps of one kind and of the other, whatever any log contains; a point that the tables
do not reach is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.foreign.engine import EngineLimits
from bench.foreign.profile import OperatorProfile, ProfileError
from fmedge.sched.fit import Samples

MIN_SAMPLES = 50
FINE, MEDIUM, COARSE, VERY_COARSE = 2**0.25, 2**0.5, 2.0, 8.0

Point = tuple[int, int, int, int]
"""chunk, past, num_decoding, depth."""


def samples(profile: OperatorProfile, limits: EngineLimits) -> Samples:
    """Steps of decoding only, of prefill only, and mixed, with their times in seconds."""
    return Samples.of(_times(profile, _points(profile, limits)))


def _times(profile: OperatorProfile, points: Iterable[Point]) -> list[tuple[float, ...]]:
    """(step_s, P, D, K, A) of the points within the tables."""
    rows = []
    for chunk, past, num_decoding, depth in points:
        # a chunk's sequence is sampled from, too
        num_sequences = num_decoding + (1 if chunk else 0)
        step_s = profile.step_s(chunk, past, num_decoding, depth, num_sequences)
        if step_s is not None:
            attention = chunk * (past + chunk / 2)
            rows.append((step_s, chunk, num_decoding, num_decoding * depth, attention))
    if len(rows) < MIN_SAMPLES:
        raise ProfileError(f"the profile reaches only {len(rows)} steps, too few to fit a model")
    return rows


def _points(profile: OperatorProfile, limits: EngineLimits) -> Iterator[Point]:
    max_tokens = min(limits.step_tokens, profile.max_tokens)
    max_decoding = min(limits.max_sequences, profile.max_sequences - 1, max_tokens)
    for num_decoding in _spread(1, max_decoding, FINE):
        for depth in _spread(16, limits.kv_tokens, MEDIUM):
            if num_decoding * depth <= limits.kv_tokens:
                yield 0, 0, num_decoding, depth
    for chunk in _spread(16, max_tokens, FINE):
        for past in [0, *_spread(64, limits.kv_tokens, COARSE)]:
            if past + chunk <= limits.kv_tokens:
                yield chunk, past, 0, 0
    for chunk in _spread(16, max_tokens, COARSE):
        for num_decoding in _spread(1, max_decoding, COARSE):
            for past in [0, *_spread(64, limits.kv_tokens, VERY_COARSE)]:
                for depth in _spread(16, limits.kv_tokens, VERY_COARSE):
                    held = past + chunk + num_decoding * depth
                    if chunk + num_decoding <= max_tokens and held <= limits.kv_tokens:
                        yield chunk, past, num_decoding, depth


def _spread(low: int, high: int, factor: float) -> list[int]:
    """Whole numbers from low to high, both included, each about `factor` times the last."""
    found = {min(low, high), high}
    value = float(low)
    while value < high:
        found.add(round(value))
        value *= factor
    return sorted(found)
