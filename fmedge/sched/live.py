"""A step model that follows its replica from one measured step to the next.

The rule: a single step proves nothing. What moves the corrections is clipped, and what counts as a
change (drift.py) must have lasted.

Two factors on the model's parts (steptime.py), theta = (prefill, decode), follow by recursive least
squares on relative errors with forgetting:

    h = (prefill part, decode part) / (theta . parts)       e = step_s / (theta . parts) - 1
    C <- C / lambda, in the directions of h alone           k = C h / (1 + h C h)
    theta <- theta + k * clip(e)                            C <- C - k h C

Forgetting only what a step tells about keeps C bounded where one kind of step does not occur for
hours. e is clipped at CLIP times its own mean deviation, so that rare slow steps do not look like
a slow machine. They take real time all the same, and a sum over many steps contains them: the slow
mean of what clipping took away (`tail`) is part of the factors in `packed`.
"""

from __future__ import annotations

from bisect import bisect_right
from math import sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.sched.drift import DriftEvent, Watch
from fmedge.sched.steptime import SCALE_DECODE, SCALE_PREFILL, Curve, StepModel

FORGETTING = 0.99
"""A hundred steps of memory."""

CLIP = 4.0
MIN_SCALE, MAX_SCALE = 0.1, 20.0
"""The corrections' bounds: beyond them the model is of another machine."""

DECODE_BLOCK_STEPS = 32
PREFILL_BLOCK_STEPS = 8
"""How many steps are compared at once for drift: a prefill step is the work of many others."""

_ROOT = 1 / sqrt(FORGETTING)
_MAX_C = 1.0
_DEVIATION_RATE = 0.02
_MIN_DEVIATION, _MAX_DEVIATION = 0.02, 0.5
_TAIL_RATE = 1e-3
_MAX_ERROR = 10.0


class LiveState(Struct, frozen=True, kw_only=True):
    """For metrics: the factors in `packed`, how much of them is rare slow steps, the mean relative
    deviation of a corrected step (outliers clipped), and counts."""

    scale_prefill: float
    scale_decode: float
    tail_prefill: float
    tail_decode: float
    deviation: float
    num_prefill_steps: int
    num_decode_steps: int
    num_drifts: int


class LiveModel:
    """One replica's model, corrected by each of its steps.

    packed: float64[PACKED_SIZE], changed in place. drift: the latest change, None before any.
    prior_steps: how many steps the model's own factors (1, 1) are worth; few for a model that was
    not measured on this machine. One thread calls `observe`.
    """

    def __init__(self, model: StepModel, *, prior_steps: float = 50.0) -> None:
        if not prior_steps > 0:
            raise ValueError(f"prior_steps is more than 0, not {prior_steps}")
        self.model = model
        self.packed: NDArray[np.float64] = model.packed()
        self.drift: DriftEvent | None = None
        self._num_drifts = self._num_prefill_steps = self._num_decode_steps = 0
        self._kv_s = model.kv_s
        self._constants_s: dict[int, float] = {}  # base + g(D) + f(D)
        self._prefill = _Line(model.prefill)
        self._tokens = _Line(model.tokens)
        self._scale_prefill = self._scale_decode = 1.0
        self._tail_prefill = self._tail_decode = 0.0
        self._deviation = 0.05
        self._c_pp = self._c_dd = min(1 / prior_steps, _MAX_C)
        self._c_pd = 0.0
        self._watch_prefill = Watch("prefill", PREFILL_BLOCK_STEPS)
        self._watch_decode = Watch("decode", DECODE_BLOCK_STEPS)
        self._ratios = self._watch_decode.ratios

    def observe(
        self,
        num_prefill: int,
        num_decoding: int,
        num_kv: float,
        attention: float,
        step_s: float,
    ) -> DriftEvent | None:
        """One measured step (see steptime.py); the change that it made certain, if any.

        Ignores what cannot be: a time that is not above 0, a step with nothing in it.
        """
        if not step_s > 0.0:
            return None
        if num_decoding:
            constant_s = self._constants_s.get(num_decoding)
            if constant_s is None:
                constant_s = self._constant_s(num_decoding)
            decode_s = constant_s + self._kv_s * num_kv
        else:
            decode_s = 0.0
        if num_prefill:
            return self._observe_prefill(num_prefill, num_decoding, attention, decode_s, step_s)
        if decode_s <= 0.0:
            return None
        self._num_decode_steps += 1
        # _clip and _correct with h = (0, 1 / scale), written out: nearly every step comes here.
        scale = self._scale_decode
        ratio = step_s / decode_s
        error = ratio / scale - 1.0
        deviation = self._deviation
        limit = CLIP * deviation
        if -limit <= error <= limit:
            deviation += _DEVIATION_RATE * ((error if error > 0.0 else -error) - deviation)
            self._deviation = deviation if deviation > _MIN_DEVIATION else _MIN_DEVIATION
            tail = self._tail_decode * (1.0 - _TAIL_RATE)
        else:
            error, excess = self._clip(error)
            tail = self._tail_decode + _TAIL_RATE * (excess - self._tail_decode)
        self._tail_decode = tail
        c_dd = self._c_dd / FORGETTING
        total = scale * scale + c_dd
        gain = c_dd / total
        if self._c_pd:
            c_pd = self._c_pd * _ROOT
            along = c_pd / total
            self._c_pp -= along * c_pd
            self._c_pd = c_pd * (1.0 - gain)
            self._set_prefill(self._scale_prefill + along * scale * error)
        self._c_dd = c_dd * (1.0 - gain)
        scale += gain * scale * error
        if not MIN_SCALE < scale < MAX_SCALE:
            scale = min(max(scale, MIN_SCALE), MAX_SCALE)
        self._scale_decode = scale
        self.packed[SCALE_DECODE] = scale * (1.0 + tail)
        ratios = self._ratios
        ratios.append(ratio)
        if len(ratios) == DECODE_BLOCK_STEPS:
            return self._end_block(self._watch_decode, decode_s)
        return None

    def state(self) -> LiveState:
        return LiveState(
            scale_prefill=float(self.packed[SCALE_PREFILL]),
            scale_decode=float(self.packed[SCALE_DECODE]),
            tail_prefill=self._tail_prefill,
            tail_decode=self._tail_decode,
            deviation=self._deviation,
            num_prefill_steps=self._num_prefill_steps,
            num_decode_steps=self._num_decode_steps,
            num_drifts=self._num_drifts,
        )

    def _observe_prefill(
        self, num_prefill: int, num_decoding: int, attention: float, decode_s: float, step_s: float
    ) -> DriftEvent | None:
        model = self.model
        is_tiled = num_prefill >= model.attention_tile
        prefill_s = (
            (0.0 if num_decoding else model.base_s)
            + model.prefill_base_s
            + self._prefill(num_prefill)
            + (model.attention_s if is_tiled else model.small_attention_s) * attention
            + self._tokens(num_prefill + num_decoding)
            - self._tokens(num_decoding)
        )
        expected_s = self._scale_prefill * prefill_s + self._scale_decode * decode_s
        if expected_s <= 0.0:
            return None
        self._num_prefill_steps += 1
        error, excess = self._clip(step_s / expected_s - 1.0)
        self._correct(prefill_s / expected_s, decode_s / expected_s, error)
        if prefill_s < decode_s:
            return None
        self._tail_prefill += _TAIL_RATE * (excess - self._tail_prefill)
        watch = self._watch_prefill
        raw_s = prefill_s + decode_s
        watch.ratios.append(step_s / raw_s)
        if len(watch.ratios) == PREFILL_BLOCK_STEPS:
            return self._end_block(watch, raw_s)
        return None

    def _clip(self, error: float) -> tuple[float, float]:
        """The error as it may move the factors, and what of it may not. Learns the deviation."""
        deviation = self._deviation
        limit = CLIP * deviation
        excess = 0.0
        if error > limit:
            excess = (error if error < _MAX_ERROR else _MAX_ERROR) - limit
            error = limit
        elif error < -limit:
            error = -limit
        deviation += _DEVIATION_RATE * ((error if error > 0.0 else -error) - deviation)
        if deviation < _MIN_DEVIATION:
            deviation = _MIN_DEVIATION
        elif deviation > _MAX_DEVIATION:
            deviation = _MAX_DEVIATION
        self._deviation = deviation
        return error, excess

    def _correct(self, h_prefill: float, h_decode: float, error: float) -> None:
        """One step of recursive least squares."""
        c_pp, c_pd, c_dd = self._c_pp, self._c_pd, self._c_dd
        if h_prefill > 0.0:
            c_pp = min(c_pp / FORGETTING, _MAX_C)
            c_pd *= _ROOT
        if h_decode > 0.0:
            c_dd = min(c_dd / FORGETTING, _MAX_C)
            c_pd *= _ROOT
        # Bounding a variance must not leave a covariance that no two variables can have.
        bound = 0.99 * sqrt(c_pp * c_dd)
        c_pd = min(max(c_pd, -bound), bound)
        along_p = c_pp * h_prefill + c_pd * h_decode
        along_d = c_pd * h_prefill + c_dd * h_decode
        total = 1.0 + h_prefill * along_p + h_decode * along_d
        self._c_pp = c_pp - along_p * along_p / total
        self._c_pd = c_pd - along_p * along_d / total
        self._c_dd = c_dd - along_d * along_d / total
        self._set_prefill(self._scale_prefill + along_p / total * error)
        self._set_decode(self._scale_decode + along_d / total * error)

    def _set_prefill(self, scale: float) -> None:
        self._scale_prefill = scale = min(max(scale, MIN_SCALE), MAX_SCALE)
        self.packed[SCALE_PREFILL] = scale * (1.0 + self._tail_prefill)

    def _set_decode(self, scale: float) -> None:
        self._scale_decode = scale = min(max(scale, MIN_SCALE), MAX_SCALE)
        self.packed[SCALE_DECODE] = scale * (1.0 + self._tail_decode)

    def _end_block(self, watch: Watch, expected_s: float) -> DriftEvent | None:
        event = watch.close(expected_s)
        if event is not None:
            self.drift = event
            self._num_drifts += 1
        return event

    def _constant_s(self, num_decoding: int) -> float:
        model = self.model
        constant_s = model.base_s + model.decode(num_decoding) + model.tokens(num_decoding)
        self._constants_s[num_decoding] = constant_s
        return constant_s


class _Line:
    """A curve for many calls: a search in lists, slopes ready."""

    __slots__ = ("_intercepts", "_knots", "_slopes")

    def __init__(self, curve: Curve) -> None:
        self._knots = list(curve.knots)
        self._slopes = list(curve.slopes)
        points = zip(curve.knots, curve.values_s, curve.slopes, strict=True)
        self._intercepts = [value - slope * knot for knot, value, slope in points]

    def __call__(self, x: float) -> float:
        i = bisect_right(self._knots, x) - 1
        return self._intercepts[i] + self._slopes[i] * x
