"""A step model that follows its replica from one measured step to the next.

The rule: a single step proves nothing. What moves the corrections is clipped, and what counts as a
change (drift.py) must have lasted.

Two factors on the model's parts (steptime.py), theta = (prefill, decode), follow by recursive least
squares on their logarithms, with forgetting:

    h = shares of the two parts in theta . parts            e = step_s / (theta . parts) - 1
    C <- C + (1 / lambda - 1) C h h C / (h C h)             k = C h / (1 / w + h C h)
    theta <- theta * (1 + k * e)                            C <- C - k h C

Logarithms, so that a machine five times slower is as easy to follow as one a tenth slower.
Forgetting in the direction of h alone (Kulhavy, Restricted exponential forgetting, Automatica 1987)
keeps C bounded where one kind of step does not occur for hours, or all steps are alike. w is
Huber's weight, limit / |e| for errors beyond limit = CLIP times the mean deviation and 1 for
others: rare slow steps do not look like a slow machine. They take real time all the same, and a sum
over many steps contains them: the slow mean of what exceeds the limit (`tail`) is part of the
factors in `packed`.
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

_INFLATION = 1 / FORGETTING
_MAX_C = 1.0
_MIN_C = 1e-9  # rounding must not make a variance negative
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
        self._deviation = min(max(sqrt(1 / prior_steps), _MIN_DEVIATION), _MAX_DEVIATION)
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
            beside_s = self.model.beside_kv_s * num_kv if num_decoding else 0.0
            return self._observe_prefill(
                num_prefill, num_decoding, attention, beside_s, decode_s, step_s
            )
        if decode_s <= 0.0:
            return None
        self._num_decode_steps += 1
        # _weigh and _correct with h = (0, 1), written out: nearly every step comes here.
        scale = self._scale_decode
        ratio = step_s / decode_s
        error = ratio / scale - 1.0
        deviation = self._deviation
        limit = CLIP * deviation
        weight = 1.0
        if -limit <= error <= limit:
            deviation += _DEVIATION_RATE * ((error if error > 0.0 else -error) - deviation)
            self._deviation = deviation if deviation > _MIN_DEVIATION else _MIN_DEVIATION
            tail = self._tail_decode * (1.0 - _TAIL_RATE)
        else:
            error, weight, excess = self._weigh(error)
            tail = self._tail_decode + _TAIL_RATE * (excess - self._tail_decode)
        self._tail_decode = tail
        c_dd = self._c_dd
        by = _INFLATION / (1.0 / weight + _INFLATION * c_dd)
        if c_pd := self._c_pd:
            change = (_INFLATION - 1.0) / c_dd - by * _INFLATION
            self._c_pp += change * c_pd * c_pd
            self._c_pd = c_pd + change * c_pd * c_dd
            self._set_prefill(self._scale_prefill * max(0.5, 1.0 + by * c_pd * error))
        self._c_dd = _INFLATION * c_dd * (1.0 - by * c_dd)
        scale *= 1.0 + by * c_dd * error
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
        self,
        num_prefill: int,
        num_decoding: int,
        attention: float,
        beside_s: float,
        decode_s: float,
        step_s: float,
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
            + beside_s
            + (model.beside_decode_s + model.beside_s * num_prefill) * num_decoding
        )
        expected_s = self._scale_prefill * prefill_s + self._scale_decode * decode_s
        if expected_s <= 0.0:
            return None
        self._num_prefill_steps += 1
        error, weight, excess = self._weigh(step_s / expected_s - 1.0)
        self._correct(self._scale_prefill * prefill_s / expected_s, error, weight)
        if prefill_s < decode_s:
            return None
        self._tail_prefill += _TAIL_RATE * (excess - self._tail_prefill)
        watch = self._watch_prefill
        raw_s = prefill_s + decode_s
        watch.ratios.append(step_s / raw_s)
        if len(watch.ratios) == PREFILL_BLOCK_STEPS:
            return self._end_block(watch, raw_s)
        return None

    def _weigh(self, error: float) -> tuple[float, float, float]:
        """The error, its weight, and how much of it exceeds the limit. Learns the deviation."""
        limit = CLIP * self._deviation
        error = min(error, _MAX_ERROR)
        size = abs(error)
        deviation = self._deviation + _DEVIATION_RATE * (min(size, limit) - self._deviation)
        self._deviation = min(max(deviation, _MIN_DEVIATION), _MAX_DEVIATION)
        return error, min(1.0, limit / size) if size else 1.0, max(0.0, error - limit)

    def _correct(self, h_prefill: float, error: float, weight: float) -> None:
        """One step of recursive least squares, in which prefill has a share of h_prefill."""
        h_decode = 1.0 - h_prefill
        along_p = self._c_pp * h_prefill + self._c_pd * h_decode
        along_d = self._c_pd * h_prefill + self._c_dd * h_decode
        total = max(h_prefill * along_p + h_decode * along_d, _MIN_C)
        by = _INFLATION / (1.0 / weight + _INFLATION * total)
        change = (_INFLATION - 1.0) / total - by * _INFLATION
        self._c_pp += change * along_p * along_p
        self._c_pd += change * along_p * along_d
        self._c_dd += change * along_d * along_d
        self._set_prefill(self._scale_prefill * max(0.5, 1.0 + by * along_p * error))
        self._set_decode(self._scale_decode * max(0.5, 1.0 + by * along_d * error))

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
