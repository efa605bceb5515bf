"""How many tokens a request will give, as a distribution; max_tokens is a limit, never an estimate.

The rule: a length is clip(X, min_tokens, max_tokens), and only X is learned. So what a limit cut
off counts as "at least this much" (it is censored), and one key's X serves requests of any limits.

X is learned as hazards (of the requests that got into a bin, which part ended in it), so that
censored requests count for the bins they passed. A key's hazards are shrunk, bin by bin, towards
those of the next coarser key, and the coarsest towards a heavy-tailed prior: where a key has seen
little, above all in its tail, the coarser one speaks (a beta-Stacy prior whose mean is the
coarser estimate: Walker & Muliere 1997, "Beta-Stacy processes and a generalization of the
Polya-urn scheme").
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

MAX_LENGTH = 131072

# Four bins an octave, single lengths up to 8; every power of two is an edge. Bin i holds the
# lengths EDGES[i] < length <= EDGES[i+1], and within a bin all of them are equally likely.
EDGES: NDArray[np.int32] = np.concatenate(
    [np.arange(8), np.round(np.geomspace(8, MAX_LENGTH, 57))]
).astype(np.int32)
EDGES.flags.writeable = False
NUM_BINS = len(EDGES) - 1

_EDGE_LIST: tuple[int, ...] = tuple(EDGES.tolist())


def length_cdf(cdf: Any, num_tokens: float) -> float:
    """P(X <= num_tokens): 0 at EDGES[0] = 0, cdf[i] at EDGES[i+1], linear between.

    cdf: float32[NUM_BINS]. Scalar code that numba compiles unchanged.
    """
    if num_tokens <= 0:
        return 0.0
    if num_tokens >= EDGES[NUM_BINS]:
        return 1.0
    low, high = 0, NUM_BINS
    while high - low > 1:
        middle = (low + high) >> 1
        if EDGES[middle] < num_tokens:
            low = middle
        else:
            high = middle
    below = cdf[low - 1] if low > 0 else 0.0
    part = (num_tokens - EDGES[low]) / (EDGES[low + 1] - EDGES[low])
    return float(below + (cdf[low] - below) * part)


def length_quantile(cdf: Any, u: float, produced: float) -> float:
    """The u-quantile of X given X > produced: more than `produced`, and not rounded.

    cdf: float32[NUM_BINS]; 0 < u < 1. Scalar code that numba compiles unchanged. Where nothing
    was left beyond `produced`, one token more.
    """
    reached = length_cdf(cdf, produced) if produced > 0 else 0.0
    wanted = reached + u * (1.0 - reached)
    low, high = -1, NUM_BINS - 1  # the first bin whose cdf is at least `wanted`
    while high - low > 1:
        middle = (low + high) >> 1
        if cdf[middle] < wanted:
            low = middle
        else:
            high = middle
    below = cdf[high - 1] if high > 0 else 0.0
    inside = cdf[high] - below
    part = (wanted - below) / inside if inside > 0.0 else 1.0
    quantile = EDGES[high] + part * (EDGES[high + 1] - EDGES[high])
    return float(max(quantile, produced + 1.0)) if quantile <= produced else float(quantile)


class LengthDistribution(Struct, frozen=True, eq=False):
    """The length clip(X, min_tokens, max_tokens), in output tokens.

    cdf: float32[NUM_BINS], not decreasing, cdf[-1] = 1: cdf[i] = P(X <= EDGES[i+1]). It is X's,
    so it knows nothing of the limits: who samples from it clips. A length known in advance is
    min_tokens = max_tokens, exactly, whatever the cdf.
    """

    cdf: NDArray[np.float32]
    min_tokens: int = 1
    max_tokens: int = MAX_LENGTH

    def quantile(self, u: float, produced: int = 0) -> int:
        """Whole length (not what remains) that is not exceeded with probability u, of a request
        that has given `produced` tokens and goes on. ValueError unless 0 < u < 1."""
        if not 0.0 < u < 1.0:
            raise ValueError(f"a quantile's probability is between 0 and 1, not {u}")
        # What has not got to min_tokens could not have ended, so going on says nothing of X.
        known = produced if produced >= self.min_tokens else 0
        # single values of a memoryview cost a fraction of numpy's
        cells = memoryview(self.cdf)  # type: ignore[arg-type]
        length = math.ceil(length_quantile(cells, u, known) - 1e-6)
        return min(max(length, self.min_tokens, produced + 1), self.max_tokens)

    def survival(self, num_tokens: int, produced: int = 0) -> float:
        """P(length > num_tokens), of a request that has given `produced` tokens and goes on."""
        if num_tokens >= self.max_tokens:
            return 0.0
        if num_tokens < self.min_tokens or num_tokens <= produced:
            return 1.0
        alive = 1.0
        if produced >= self.min_tokens:
            alive = 1.0 - length_cdf(self.cdf, produced)
        if alive <= 0.0:
            return 0.0
        return min(1.0, (1.0 - length_cdf(self.cdf, num_tokens)) / alive)

    def mean(self, produced: int = 0) -> float:
        """Expected whole length of a request that has given `produced` tokens and goes on."""
        least = max(self.min_tokens, produced + 1)
        if least >= self.max_tokens:
            return float(self.max_tokens)
        known = produced if produced >= self.min_tokens else 0
        alive = 1.0 - length_cdf(self.cdf, known)
        if alive <= 0.0:
            return float(least)
        # E[length] = least + sum of P(length > k) for least <= k < max_tokens: of a survival that
        # is linear between knots, each stretch's sum of integers in closed form.
        knots = EDGES[(least < EDGES) & (self.max_tokens > EDGES)].astype(np.float64)
        knots = np.concatenate(([least], knots, [self.max_tokens]))
        grid = np.concatenate(([0.0], self.cdf.astype(np.float64)))
        left = (1.0 - np.interp(knots, EDGES, grid)) / alive
        widths = np.diff(knots)
        sums = widths * (left[:-1] + left[1:]) / 2 + (left[:-1] - left[1:]) / 2
        return float(least + sums.sum())


def _prior_hazards(median_tokens: float, tail_index: float) -> NDArray[np.float64]:
    """Of a Lomax (Pareto II) distribution: survival (1 + x/scale) ** -tail_index."""
    scale = median_tokens / (2.0 ** (1.0 / tail_index) - 1.0)
    survival = (1.0 + EDGES / scale) ** -tail_index
    hazards: NDArray[np.float64] = 1.0 - survival[1:] / survival[:-1]
    return hazards


class _Evidence:
    """What one key has seen. ended[i]: requests that ended in bin i; passed[i]: requests that got
    into bin i (one cut off within it counts by the part it passed). Both in units of `unit`: a
    new request weighs more than an old one, by growth of the unit instead of decay of the sums."""

    __slots__ = ("ended", "passed", "unit")

    def __init__(self) -> None:
        self.ended = np.zeros(NUM_BINS)
        self.passed = np.zeros(NUM_BINS)
        self.unit = 1.0


class _StoredKey(Struct, array_like=True, forbid_unknown_fields=True):
    key: str
    ended: bytes
    passed: bytes


class _Stored(Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    num_bins: int
    max_length: int
    keys: list[_StoredKey]


_VERSION = 1
_MAX_UNIT = 1e12


class LengthPredictor:
    """Learns lengths by key. Keys come from the most particular to the coarsest.

    max_keys: most keys kept, least recently observed go first. memory: a request's weight halves
    after about 0.7 x memory further ones of its key. shrinkage: how many requests of its own, in
    a bin, make a key count as much as the coarser one.
    """

    def __init__(
        self,
        *,
        max_keys: int = 4096,
        memory: float = 400.0,
        shrinkage: float = 8.0,
        prior_median_tokens: float = 150.0,
        prior_tail_index: float = 1.2,
    ) -> None:
        self._max_keys = max_keys
        self._growth = 1.0 / (1.0 - 1.0 / memory)
        self._shrinkage = shrinkage
        self._prior = _prior_hazards(prior_median_tokens, prior_tail_index)
        self._keys: dict[str, _Evidence] = {}  # in order of their last observation

    def __len__(self) -> int:
        return len(self._keys)

    def predict(
        self, keys: Sequence[str], min_tokens: int = 1, max_tokens: int = MAX_LENGTH
    ) -> LengthDistribution:
        """The length's distribution; changes nothing. Unknown keys are passed over."""
        hazards = self._prior
        if min_tokens < max_tokens:
            for key in reversed(keys):
                seen = self._keys.get(key)
                if seen is None:
                    continue
                weight = self._shrinkage * seen.unit
                mixed = hazards * weight
                mixed += seen.ended
                mixed /= seen.passed + weight
                hazards = mixed
        alive = 1.0 - hazards
        np.multiply.accumulate(alive, out=alive)
        cdf = (1.0 - alive).astype(np.float32)
        cdf[-1] = 1.0
        return LengthDistribution(cdf, max(1, min_tokens), max_tokens)

    def observe(self, keys: Sequence[str], num_tokens: int, is_censored: bool) -> None:
        """A request ended after num_tokens output tokens. is_censored: something else than the
        model ended it (max_tokens, a cancel, a failure), so that it might have gone on."""
        if num_tokens < 1:
            if is_censored:
                return
            num_tokens = 1
        length = min(num_tokens, MAX_LENGTH)
        index = bisect_left(_EDGE_LIST, length) - 1
        part = 1.0
        if is_censored:
            low = _EDGE_LIST[index]
            part = (length - low) / (_EDGE_LIST[index + 1] - low)
        for key in keys:
            seen = self._keys.pop(key, None)
            if seen is None:
                seen = _Evidence()
                while len(self._keys) >= self._max_keys:
                    del self._keys[next(iter(self._keys))]
            self._keys[key] = seen
            seen.unit *= self._growth
            if seen.unit > _MAX_UNIT:
                seen.ended /= seen.unit
                seen.passed /= seen.unit
                seen.unit = 1.0
            unit = seen.unit
            seen.passed[:index] += unit
            seen.passed[index] += unit * part
            if not is_censored:
                seen.ended[index] += unit

    def to_bytes(self) -> bytes:
        """Everything learned, for from_bytes of the same version."""
        keys = [
            _StoredKey(
                key,
                (seen.ended / seen.unit).astype("<f4").tobytes(),
                (seen.passed / seen.unit).astype("<f4").tobytes(),
            )
            for key, seen in self._keys.items()
        ]
        return msgspec.msgpack.encode(_Stored(_VERSION, NUM_BINS, MAX_LENGTH, keys))

    @classmethod
    def from_bytes(cls, data: bytes) -> LengthPredictor:
        """What to_bytes saved; ValueError when `data` is not that."""
        predictor = cls()
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"learned lengths cannot be read: {error}") from None
        if stored.version != _VERSION:
            raise ValueError(f"learned lengths are of version {stored.version}, not {_VERSION}")
        if (stored.num_bins, stored.max_length) != (NUM_BINS, MAX_LENGTH):
            raise ValueError("learned lengths use other bins")
        for item in stored.keys[-predictor._max_keys :]:
            if len(item.ended) != 4 * NUM_BINS or len(item.passed) != 4 * NUM_BINS:
                raise ValueError("learned lengths are cut off")
            seen = _Evidence()
            seen.ended = np.frombuffer(item.ended, "<f4").astype(np.float64)
            seen.passed = np.frombuffer(item.passed, "<f4").astype(np.float64)
            whole = np.isfinite(seen.ended).all() and np.isfinite(seen.passed).all()
            if not whole or (seen.ended < 0).any() or (seen.passed < 0).any():
                raise ValueError("learned lengths hold impossible counts")
            # Rounding to float32 may leave a bin with more ends than passages.
            if (seen.ended > seen.passed * (1 + 1e-5) + 1e-6).any():
                raise ValueError("learned lengths hold more ends than requests")
            np.minimum(seen.ended, seen.passed, out=seen.ended)
            predictor._keys[item.key] = seen
        return predictor
