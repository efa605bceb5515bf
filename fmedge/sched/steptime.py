"""How long one engine step takes, as a function of what is in it.

The rule: a step with P prefill tokens, D decoding sequences, K cached tokens read by decoding and
A = sum over prefill chunks of chunk * (past + chunk / 2) takes

    t = base + [P > 0] * prefill_base + p(P) + g(D) + f(P + D) + kv_s * K + a(P) * A
        + [P > 0] * (beside_kv_s * K + beside_decode_s * D + beside_s * P * D)

seconds, where p, g and f are monotone, piecewise linear and 0 at 0. g bends where batching stops
being free; p jumps where a step needs one more compute graph; f carries what prefill and decoding
share when they go through the weights together, and is 0 where they do not. a(P) is attention_s,
or small_attention_s where P is less than attention_tile: kernels work on whole tiles of a prompt
and row by row on what is less than a tile, so there alone more tokens can take less time. A step
with P = D = 0 takes no time; K counts only where D > 0, and A only where P > 0. The line
of `beside_` is what decoding costs more in a step that prefills: one attention kernel serves both,
slower for what decodes, with as many tiles for each sequence as the longest chunk needs.

For the live corrections (live.py) the time is split in two: what the step would take without its
prefill, and what prefill adds to that (all of it where nothing decodes):

    decode part  = [D > 0] * (base + g(D) + f(D) + kv_s * K)
    prefill part = [P > 0] * ([D = 0] * base + prefill_base + p(P) + f(P + D) - f(D)
                              + a(P) * A + beside_kv_s * K + beside_decode_s * D
                              + beside_s * P * D)
    t = scale_decode * decode part + scale_prefill * prefill part

K and A enter linearly: n steps between which only K grows evenly take n times the step at the mean
K, and likewise for A. So runs of equal steps have closed forms.

`StepModel` is what people and files see, `packed()` the same as one float64 array of fixed size:

    [0] base  [1] prefill_base  [2] kv_s  [3] attention_s  [4] small_attention_s
    [5] attention_tile  [6] 1 if f is not 0 else 0
    [7] beside_kv_s  [8] beside_decode_s  [9] beside_s
    three curves (p, g, f) of 3 * NUM_KNOTS: knots, padded with inf; then (intercept, slope) pairs
    [SCALE_PREFILL] and [SCALE_DECODE], the last two
"""

from __future__ import annotations

from itertools import pairwise
from math import inf, isfinite

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

NUM_KNOTS = 16
_CURVE_SIZE = 3 * NUM_KNOTS
PREFILL_CURVE = 10
DECODE_CURVE = PREFILL_CURVE + _CURVE_SIZE
TOKENS_CURVE = DECODE_CURVE + _CURVE_SIZE
SCALE_PREFILL = TOKENS_CURVE + _CURVE_SIZE
SCALE_DECODE = SCALE_PREFILL + 1
PACKED_SIZE = SCALE_DECODE + 1


class Curve(Struct, frozen=True):
    """A monotone piecewise linear function through (knots[i], values_s[i]).

    The first point is (0, 0); beyond the last knot the last segment goes on (a single knot is the
    function 0). ValueError for anything else, and for more than NUM_KNOTS knots.
    """

    knots: tuple[float, ...] = (0.0,)
    values_s: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not 1 <= len(self.knots) <= NUM_KNOTS or len(self.knots) != len(self.values_s):
            raise ValueError(
                f"a curve has 1 to {NUM_KNOTS} knots and as many values, not "
                f"{len(self.knots)} and {len(self.values_s)}"
            )
        if not all(map(isfinite, self.knots + self.values_s)):
            raise ValueError("a curve's knots and values are finite numbers")
        if self.knots[0] != 0 or self.values_s[0] != 0:
            raise ValueError("a curve starts at (0, 0)")
        if any(b <= a for a, b in pairwise(self.knots)):
            raise ValueError("a curve's knots increase")
        if any(b < a for a, b in pairwise(self.values_s)):
            raise ValueError("a curve's values never fall")

    @property
    def is_zero(self) -> bool:
        return self.values_s[-1] == 0

    @property
    def slopes(self) -> tuple[float, ...]:
        """Seconds per unit from each knot on, float[len(knots)]."""
        points = pairwise(zip(self.knots, self.values_s, strict=True))
        rises = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in points]
        return (*rises, rises[-1] if rises else 0.0)

    def __call__(self, x: float) -> float:
        """Seconds at x >= 0."""
        i = sum(1 for knot in self.knots if knot <= x) - 1
        return self.values_s[i] + self.slopes[i] * (x - self.knots[i])


class StepModel(Struct, frozen=True, kw_only=True):
    """The coefficients of one replica's step time, in seconds. See the module's docstring.

    prefill: p, over prefill tokens. decode: g, over decoding sequences. tokens: f, over both.
    kv_s: per cached token read by decoding. attention_s: per unit of A, in steps of at least
    `attention_tile` prefill tokens; small_attention_s: in smaller ones. beside_kv_s,
    beside_decode_s, beside_s: of decoding beside prefill, per cached token, per sequence, per
    sequence and prefill token. ValueError if a coefficient is negative or not finite.
    """

    base_s: float
    prefill_base_s: float = 0.0
    prefill: Curve = Curve()
    decode: Curve = Curve()
    tokens: Curve = Curve()
    kv_s: float = 0.0
    attention_s: float = 0.0
    attention_tile: int = 0
    small_attention_s: float = 0.0
    beside_kv_s: float = 0.0
    beside_decode_s: float = 0.0
    beside_s: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Curve):
                continue
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"a step model's {name} is 0 or more, not {value}")

    def packed(self) -> NDArray[np.float64]:
        """float64[PACKED_SIZE] for `step_time`, a new array, both corrections 1."""
        out = np.zeros(PACKED_SIZE)
        out[0:3] = self.base_s, self.prefill_base_s, self.kv_s
        out[3:6] = self.attention_s, self.small_attention_s, self.attention_tile
        out[6] = 0.0 if self.tokens.is_zero else 1.0
        out[7:10] = self.beside_kv_s, self.beside_decode_s, self.beside_s
        for start, curve in (
            (PREFILL_CURVE, self.prefill),
            (DECODE_CURVE, self.decode),
            (TOKENS_CURVE, self.tokens),
        ):
            out[start : start + NUM_KNOTS] = inf
            lines = start + NUM_KNOTS
            points = zip(curve.knots, curve.values_s, curve.slopes, strict=True)
            for i, (knot, value, slope) in enumerate(points):
                out[start + i] = knot
                out[lines + 2 * i] = value - slope * knot
                out[lines + 2 * i + 1] = slope
        out[SCALE_PREFILL] = out[SCALE_DECODE] = 1.0
        return out

    def step_s(
        self,
        num_prefill: float,
        num_decoding: float,
        num_kv: float = 0.0,
        attention: float = 0.0,
    ) -> float:
        """One step's time by the formula itself, uncorrected: for reports and as a check."""
        if num_prefill <= 0 and num_decoding <= 0:
            return 0.0
        is_tiled = num_prefill >= self.attention_tile
        rate = self.attention_s if is_tiled else self.small_attention_s
        beside_s = self.beside_decode_s + self.beside_s * num_prefill
        is_mixed = num_prefill > 0 and num_decoding > 0
        return (
            self.base_s
            + (self.prefill_base_s if num_prefill > 0 else 0.0)
            + self.prefill(num_prefill)
            + self.decode(num_decoding)
            + self.tokens(num_prefill + num_decoding)
            + (self.kv_s * num_kv if num_decoding > 0 else 0.0)
            + (rate * attention if num_prefill > 0 else 0.0)
            + (self.beside_kv_s * num_kv + beside_s * num_decoding if is_mixed else 0.0)
        )


def step_time(
    packed: NDArray[np.float64],
    num_prefill: float,
    num_decoding: float,
    num_kv: float,
    attention: float,
) -> float:
    """Seconds of a step of P = num_prefill, D = num_decoding, K = num_kv, A = attention, with the
    live corrections. numba compiles this unchanged; each curve is a search of four comparisons,
    written out because a compiled function cannot call one that is not.
    """
    decode_s = 0.0
    prefill_s = 0.0
    if num_decoding > 0:
        i = 8 if num_decoding >= packed[DECODE_CURVE + 8] else 0
        if num_decoding >= packed[DECODE_CURVE + i + 4]:
            i += 4
        if num_decoding >= packed[DECODE_CURVE + i + 2]:
            i += 2
        if num_decoding >= packed[DECODE_CURVE + i + 1]:
            i += 1
        i = DECODE_CURVE + NUM_KNOTS + 2 * i
        decode_s = packed[0] + packed[i] + packed[i + 1] * num_decoding + packed[2] * num_kv
    if num_prefill > 0:
        i = 8 if num_prefill >= packed[PREFILL_CURVE + 8] else 0
        if num_prefill >= packed[PREFILL_CURVE + i + 4]:
            i += 4
        if num_prefill >= packed[PREFILL_CURVE + i + 2]:
            i += 2
        if num_prefill >= packed[PREFILL_CURVE + i + 1]:
            i += 1
        i = PREFILL_CURVE + NUM_KNOTS + 2 * i
        rate = packed[3] if num_prefill >= packed[5] else packed[4]
        prefill_s = packed[1] + packed[i] + packed[i + 1] * num_prefill + rate * attention
        if num_decoding <= 0:
            prefill_s += packed[0]
        else:
            prefill_s += packed[7] * num_kv + (packed[8] + packed[9] * num_prefill) * num_decoding
    if packed[6] != 0.0:
        alone_s = 0.0
        if num_decoding > 0:
            i = 8 if num_decoding >= packed[TOKENS_CURVE + 8] else 0
            if num_decoding >= packed[TOKENS_CURVE + i + 4]:
                i += 4
            if num_decoding >= packed[TOKENS_CURVE + i + 2]:
                i += 2
            if num_decoding >= packed[TOKENS_CURVE + i + 1]:
                i += 1
            i = TOKENS_CURVE + NUM_KNOTS + 2 * i
            alone_s = packed[i] + packed[i + 1] * num_decoding
            decode_s += alone_s
        if num_prefill > 0:
            num_tokens = num_prefill + num_decoding
            i = 8 if num_tokens >= packed[TOKENS_CURVE + 8] else 0
            if num_tokens >= packed[TOKENS_CURVE + i + 4]:
                i += 4
            if num_tokens >= packed[TOKENS_CURVE + i + 2]:
                i += 2
            if num_tokens >= packed[TOKENS_CURVE + i + 1]:
                i += 1
            i = TOKENS_CURVE + NUM_KNOTS + 2 * i
            prefill_s += packed[i] + packed[i + 1] * num_tokens - alone_s
    return float(packed[SCALE_PREFILL] * prefill_s + packed[SCALE_DECODE] * decode_s)
