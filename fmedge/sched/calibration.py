"""Keeps p90 estimates honest: what they said against what came, per key.

The rule: a p90 that was told is right when 90 % of what came was within it, in the long run and
whatever the errors do. Two parts give the factor by which a raw p90 is multiplied: the quantile of
recent log errors (quick, and blind to drift), and the integral of misses over target (slow, and
right under any drift): Angelopoulos, Candes, Tibshirani, "Conformal PID control for time series
prediction" (2023), its quantile tracker and integrator, in units of the errors' own spread.

Errors are told late: between an estimate and what came of it, `delay` others are observed. An
integrator that learns late must learn slowly, so its gain is GAIN / (1 + delay / DELAY_SCALE); and
a late error of an estimate that was made before anything was known is not its business, or the
requests in flight at the start would wind it up for hundreds to come.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from math import exp, isfinite, log

import msgspec
from msgspec import Struct

WINDOW = 192
GAIN = 0.2
DELAY_SCALE = 32.0
FIRST_SERIAL = 32  # estimates before this many observations were made in ignorance
MAX_INTEGRAL = 6.0  # in spreads; a bound on what one wrong key can do, never met in tests
MIN_SPREAD = 0.01
MIN_TIME_S = 1e-4  # below it a relative error says nothing
PRIOR_SIGMA = 0.15
PRIOR_WEIGHT = 5.0
MAX_LOG_ERROR = 7.0  # a factor of 1,100
_VERSION = 1
_DELAY_WEIGHT = 0.1


class Quote(Struct, frozen=True):
    """What was known of a key's errors when an estimate was made; kept with the request and
    given back with what came of it.

    factor: multiply a raw p90 by it. bias: median of actual / estimated p50. sigma: robust spread
    of ln(actual / estimated p50). serial: observations of the key before it.
    """

    factor: float = 1.0
    bias: float = 1.0
    sigma: float = PRIOR_SIGMA
    serial: int = 0


class CoverageState(Struct, frozen=True, kw_only=True):
    """A key's calibration, for people and metrics. coverage: of the p90s told, the part that
    held among the last WINDOW; nan before the first."""

    num_observed: int
    coverage: float
    factor: float
    bias: float
    sigma: float


class _Tracker:
    __slots__ = ("delay", "errors50", "errors90", "held", "integral", "num_observed")

    def __init__(self) -> None:
        self.errors50 = _SortedWindow()
        self.errors90 = _SortedWindow()
        self.held: deque[bool] = deque(maxlen=WINDOW)
        self.integral = 0.0
        self.delay = 0.0
        self.num_observed = 0


class _SortedWindow:
    """The last WINDOW values, with their quantiles at the cost of an index."""

    __slots__ = ("in_order", "values")

    def __init__(self, values: Sequence[float] = ()) -> None:
        self.values = deque(values[-WINDOW:])
        self.in_order = sorted(self.values)

    def add(self, value: float) -> None:
        if len(self.values) == WINDOW:
            oldest = self.values.popleft()
            del self.in_order[bisect_left(self.in_order, oldest)]
        self.values.append(value)
        insort(self.in_order, value)

    def quantile(self, u: float) -> float:
        at = u * (len(self.in_order) - 1)
        low = int(at)
        high = min(low + 1, len(self.in_order) - 1)
        return self.in_order[low] + (at - low) * (self.in_order[high] - self.in_order[low])

    def spread(self) -> float:
        """Half of what the middle 68 % span: the standard deviation, if they were normal."""
        return (self.quantile(0.84) - self.quantile(0.16)) / 2


class Coverage:
    """Calibration of estimates, by key (a replica, a model, whatever errs alike).

    A key that has seen little borrows from all keys together. target: the probability with which
    a p90 shall hold. max_keys: most keys kept; least recently observed go first.
    """

    def __init__(self, *, target: float = 0.9, max_keys: int = 256) -> None:
        if not 0.0 < target < 1.0:
            raise ValueError(f"a coverage target is between 0 and 1, not {target}")
        self._target = target
        self._max_keys = max_keys
        self._all = _Tracker()
        self._pooled: tuple[float, float, float] | None = None  # its centre, until it changes
        self._keys: dict[str, _Tracker] = {}  # in order of their last observation

    def __len__(self) -> int:
        return len(self._keys)

    def quote(self, key: str) -> Quote:
        """What to correct an estimate by; changes nothing."""
        tracker = self._keys.get(key)
        if self._pooled is None:
            self._pooled = self._centre(self._all, (0.0, 0.0, PRIOR_SIGMA))
        pooled = self._pooled
        if tracker is None:
            return self._as_quote(pooled, self._integral(self._all), 0)
        own = self._centre(tracker, pooled)
        return self._as_quote(own, self._integral(tracker), tracker.num_observed)

    def factor(self, key: str) -> float:
        """By which to multiply a raw p90."""
        return self.quote(key).factor

    def bias(self, key: str) -> float:
        """Median of actual / estimated p50."""
        return self.quote(key).bias

    def residual_sigma(self, key: str) -> float:
        """Robust spread of ln(actual / estimated p50): what is left of an error once its median
        is taken out. It is as wide as what the estimate did not know; estimates made with the
        length known give the spread of the model alone."""
        return self.quote(key).sigma

    def observe(
        self, key: str, quote: Quote, *, actual_s: float, p50_s: float, p90_s: float
    ) -> None:
        """What came of an estimate made with `quote`; p50_s and p90_s are raw (uncorrected).

        Times that are not finite teach nothing; shorter ones than MIN_TIME_S count as that.
        """
        if not (isfinite(actual_s) and isfinite(p50_s) and isfinite(p90_s)):
            return
        actual_s = max(actual_s, MIN_TIME_S)
        error50 = _log_ratio(actual_s, p50_s)
        error90 = _log_ratio(actual_s, p90_s)
        is_held = actual_s <= max(p90_s, MIN_TIME_S) * quote.factor
        tracker = self._keys.pop(key, None)
        if tracker is None:
            tracker = _Tracker()
            while len(self._keys) >= self._max_keys:
                del self._keys[next(iter(self._keys))]
        self._keys[key] = tracker
        delay = max(0, tracker.num_observed - quote.serial)
        self._pooled = None
        for each in (tracker, self._all):
            if delay == 0 or quote.serial >= FIRST_SERIAL:
                # Rises at once, falls slowly: too small a delay is what makes it swing.
                each.delay = max(delay, each.delay + _DELAY_WEIGHT * (delay - each.delay))
                gain = GAIN / (1.0 + each.delay / DELAY_SCALE)
                integral = each.integral + gain * (self._target - is_held)
                each.integral = min(max(integral, -MAX_INTEGRAL), MAX_INTEGRAL)
            each.errors50.add(error50)
            each.errors90.add(error90)
            each.held.append(is_held)
            each.num_observed += 1

    def states(self) -> dict[str, CoverageState]:
        """All keys, and all together under ""."""
        found = {"": self._state("", self._all)}
        found.update({key: self._state(key, tracker) for key, tracker in self._keys.items()})
        return found

    def _state(self, key: str, tracker: _Tracker) -> CoverageState:
        quote = self.quote(key)
        held = tracker.held
        return CoverageState(
            num_observed=tracker.num_observed,
            coverage=sum(held) / len(held) if held else float("nan"),
            factor=quote.factor,
            bias=quote.bias,
            sigma=quote.sigma,
        )

    def _centre(
        self, tracker: _Tracker, coarse: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        """The window's (target quantile of errors90, median of errors50, spread of errors50),
        shrunk towards `coarse` by how few they are."""
        count = len(tracker.errors90.in_order)
        if count == 0:
            return coarse
        weight = count / (count + PRIOR_WEIGHT)
        # The (n+1)/n of split conformal prediction: n errors leave n+1 places for the next one.
        level = min(1.0, self._target * (count + 1) / count)
        high = tracker.errors90.quantile(level)
        middle = tracker.errors50.quantile(0.5)
        spread = tracker.errors50.spread()
        variance = weight * spread * spread + (1.0 - weight) * coarse[2] * coarse[2]
        return (
            weight * high + (1.0 - weight) * coarse[0],
            weight * middle + (1.0 - weight) * coarse[1],
            max(variance**0.5, MIN_SPREAD),
        )

    @staticmethod
    def _integral(tracker: _Tracker) -> float:
        if not tracker.errors90.in_order:
            return 0.0
        return tracker.integral * max(tracker.errors90.spread(), MIN_SPREAD)

    @staticmethod
    def _as_quote(centre: tuple[float, float, float], integral: float, serial: int) -> Quote:
        high, middle, sigma = centre
        shift = min(max(high + integral, -MAX_LOG_ERROR), MAX_LOG_ERROR)
        return Quote(exp(shift), exp(middle), sigma, serial)

    def to_bytes(self) -> bytes:
        """Everything learned, for from_bytes of the same version."""
        keys = [_store(key, tracker) for key, tracker in self._keys.items()]
        return msgspec.msgpack.encode(_Stored(_VERSION, _store("", self._all), keys))

    @classmethod
    def from_bytes(cls, data: bytes, *, target: float = 0.9, max_keys: int = 256) -> Coverage:
        """What to_bytes saved; ValueError when `data` is not that."""
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"calibration cannot be read: {error}") from None
        if stored.version != _VERSION:
            raise ValueError(f"calibration is of version {stored.version}, not {_VERSION}")
        coverage = cls(target=target, max_keys=max_keys)
        coverage._all = _restore(stored.pooled)
        for item in stored.keys[-max_keys:]:
            coverage._keys[item.key] = _restore(item)
        return coverage


def _log_ratio(actual_s: float, estimated_s: float) -> float:
    error = log(actual_s / max(estimated_s, MIN_TIME_S))
    return min(max(error, -MAX_LOG_ERROR), MAX_LOG_ERROR)


class _StoredTracker(Struct, array_like=True, forbid_unknown_fields=True):
    key: str
    errors50: list[float]
    errors90: list[float]
    held: list[bool]
    integral: float
    delay: float
    num_observed: int


class _Stored(Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    pooled: _StoredTracker
    keys: list[_StoredTracker]


def _store(key: str, tracker: _Tracker) -> _StoredTracker:
    return _StoredTracker(
        key,
        list(tracker.errors50.values),
        list(tracker.errors90.values),
        list(tracker.held),
        tracker.integral,
        tracker.delay,
        tracker.num_observed,
    )


def _restore(stored: _StoredTracker) -> _Tracker:
    errors = stored.errors50 + stored.errors90
    if len(stored.errors50) != len(stored.errors90) or len(errors) > 2 * WINDOW:
        raise ValueError("calibration holds errors that do not match")
    if not all(abs(error) <= MAX_LOG_ERROR for error in errors):
        raise ValueError("calibration holds impossible errors")
    if not (abs(stored.integral) <= MAX_INTEGRAL and 0.0 <= stored.delay < 1e9):
        raise ValueError("calibration holds an impossible integral or delay")
    if not len(stored.errors50) <= stored.num_observed:
        raise ValueError("calibration holds an impossible count")
    tracker = _Tracker()
    tracker.errors50 = _SortedWindow(stored.errors50)
    tracker.errors90 = _SortedWindow(stored.errors90)
    tracker.held.extend(stored.held[-WINDOW:])
    tracker.integral = stored.integral
    tracker.delay = stored.delay
    tracker.num_observed = stored.num_observed
    return tracker
