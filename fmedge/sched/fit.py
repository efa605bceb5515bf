"""A step model from measured steps, and how far it can be trusted.

The rule: a coefficient is never negative and no curve ever falls, whatever the noise; and the
errors reported are of steps at points that the fit had not seen.

Each curve is a sum of ramps between neighbouring knots (0 before the first, constant after the
second), so non-negative coefficients give every monotone piecewise linear shape, convex or not, and
one non-negative least squares problem (Lawson and Hanson, Solving Least Squares Problems, 1974)
gives the whole model. Rows are divided by their measured time, so relative errors count alike from
a millisecond to a second; iterative reweighting turns the squares into absolute values, so a tenth
of all samples being far off (another process, a page fault) moves nothing.

Two choices are made by cross-validation: whether prefill and decoding share a curve over all tokens
(they do where one pass over the weights serves both), and from how many tokens on prefill attention
works in tiles. Folds keep all samples of one point together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.sched.steptime import NUM_KNOTS, Curve, StepModel

Floats = NDArray[np.float64]

MIN_SAMPLES = 6
NUM_FOLDS = 5
ATTENTION_TILES = (0, 16, 32, 64, 128)
SHORT_PREFILL_TOKENS = 128
SHALLOW_TOKENS = 512
"""Where the regions of a report meet: of a step's prefill, and of KV for each decoding sequence."""

_MIN_JOINT_SAMPLES = 8  # steps of both kinds, without which sharing cannot be told from adding
_MIN_GAIN = 0.97  # a richer model is chosen if it makes the error less than this times as large
_ITERATIONS = 15
_FLAT = 0.005  # residuals smaller than this share of the time are all alike
_MIN_GAP = 0.1  # between knots, as a share of the greater: noise would shape what lies between
_RIDGE = 1e-3  # keeps apart what the samples do not tell apart


class Samples(Struct, frozen=True):
    """Measured steps, float64[n] each: seconds, and P, D, K and A as steptime.py defines them."""

    step_s: Floats
    num_prefill: Floats
    num_decoding: Floats
    num_kv: Floats
    attention: Floats

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]]) -> Samples:
        """From rows of (step_s, P, D, K, A). ValueError for rows that cannot be."""
        table = np.array([tuple(row) for row in rows], dtype=np.float64)
        if len(table) == 0:
            table = table.reshape(0, 5)
        if table.ndim != 2 or table.shape[1] != 5:
            raise ValueError("a sample is (step_s, P, D, K, A)")
        if not np.isfinite(table).all() or (table < 0).any() or (table[:, 0] <= 0).any():
            raise ValueError("samples are finite, not negative, and take more than 0 s")
        if (table[:, 1] + table[:, 2] == 0).any():
            raise ValueError("a step without prefill and without decoding is no sample")
        return cls(*np.ascontiguousarray(table.T))

    def __len__(self) -> int:
        return len(self.step_s)

    def take(self, chosen: NDArray[np.bool_]) -> Samples:
        return Samples(*(getattr(self, name)[chosen] for name in self.__struct_fields__))


class RegionError(Struct, frozen=True):
    """Relative errors (|predicted / measured - 1|) on the unseen steps of one kind."""

    region: str
    num_samples: int
    median_error: float
    p90_error: float


class FitReport(Struct, frozen=True, kw_only=True):
    """A fitted model and how good it is; errors are relative and cross-validated.

    noise: median deviation of a step from its likes, which no model can beat.
    mean_ratio: mean of measured / predicted, each at most 10: what rare slow steps add to a sum.
    """

    model: StepModel
    num_samples: int
    median_error: float
    p90_error: float
    noise: float
    mean_ratio: float
    regions: tuple[RegionError, ...]


def fit(samples: Samples) -> FitReport:
    """The model of these steps. ValueError for fewer than MIN_SAMPLES."""
    if len(samples) < MIN_SAMPLES:
        raise ValueError(
            f"{len(samples)} measured steps are too few for a fit: {MIN_SAMPLES} are needed"
        )
    points = _points(samples)
    is_joint = has_beside = False
    best_tile = 0
    predicted = _cross_validate(samples, points, best_tile, is_joint)
    best = _score(samples, predicted)
    for tile in ATTENTION_TILES[1:]:
        is_small = (samples.num_prefill > 0) & (samples.num_prefill < tile)
        if not (samples.attention[is_small] > 0).any():
            continue
        other = _cross_validate(samples, points, tile, is_joint)
        if _score(samples, other) < _MIN_GAIN * best:
            best_tile, predicted, best = tile, other, _score(samples, other)
    is_mixed = (samples.num_prefill > 0) & (samples.num_decoding > 0)
    if np.count_nonzero(is_mixed) >= _MIN_JOINT_SAMPLES:
        other = _cross_validate(samples, points, best_tile, True)
        if _score(samples, other) < _MIN_GAIN * best:
            is_joint, predicted, best = True, other, _score(samples, other)
        other = _cross_validate(samples, points, best_tile, is_joint, True)
        if _score(samples, other) < _MIN_GAIN * best:
            has_beside, predicted = True, other
    model = fit_model(samples, attention_tile=best_tile, is_joint=is_joint, has_beside=has_beside)
    errors = np.abs(predicted / samples.step_s - 1)
    # A model may say 0 where odd steps taught it so; the ratio is bounded in any case.
    ratios = samples.step_s / np.maximum(predict(model, samples), samples.step_s / 10)
    return FitReport(
        model=model,
        num_samples=len(samples),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
        noise=_noise(samples, points),
        mean_ratio=float(ratios.mean()),
        regions=_regions(samples, errors),
    )


def fit_model(
    samples: Samples,
    *,
    attention_tile: int = 0,
    is_joint: bool = False,
    has_beside: bool = False,
) -> StepModel:
    """The model that minimises the sum of relative errors, given the three choices."""
    prefill = _knots(samples.num_prefill)
    decode = _knots(samples.num_decoding)
    tokens = _knots(samples.num_prefill + samples.num_decoding) if is_joint else np.zeros(1)
    is_small = samples.num_prefill < attention_tile
    beside = float(has_beside) * (samples.num_prefill > 0) * samples.num_decoding
    beside_kv = float(has_beside) * (samples.num_prefill > 0) * samples.num_kv
    blocks = [
        np.ones((len(samples), 1)),
        (samples.num_prefill > 0)[:, None],
        samples.num_kv[:, None],
        np.where(is_small, 0, samples.attention)[:, None],
        np.where(is_small, samples.attention, 0)[:, None],
        np.stack([beside_kv, beside, beside * samples.num_prefill], axis=1),
        _ramps(samples.num_prefill, prefill),
        _ramps(samples.num_decoding, decode),
        _ramps(samples.num_prefill + samples.num_decoding, tokens),
    ]
    solution = _least_absolute(np.hstack(blocks) / samples.step_s[:, None])
    base, prefill_base, kv, attention, small_attention = map(float, solution[:5])
    beside_kv_s, beside_decode_s, beside_s = map(float, solution[5:8])
    rises = np.split(solution[8:], np.cumsum([len(prefill) - 1, len(decode) - 1]))
    return StepModel(
        base_s=base,
        prefill_base_s=prefill_base,
        kv_s=kv,
        attention_s=attention,
        attention_tile=attention_tile,
        small_attention_s=small_attention if attention_tile else attention,
        beside_kv_s=beside_kv_s,
        beside_decode_s=beside_decode_s,
        beside_s=beside_s,
        prefill=_curve(prefill, rises[0]),
        decode=_curve(decode, rises[1]),
        tokens=_curve(tokens, rises[2]),
    )


def predict(model: StepModel, samples: Samples) -> Floats:
    """Seconds, float64[n]."""
    columns = zip(
        samples.num_prefill, samples.num_decoding, samples.num_kv, samples.attention, strict=True
    )
    return np.array([model.step_s(*map(float, row)) for row in columns])


def _least_absolute(rows: Floats) -> Floats:
    """Non-negative x that minimises |rows @ x - 1|, summed."""
    from scipy.optimize import nnls  # half a second that those who only read reports do not need

    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    scaled = rows / scale
    num_rows, num_columns = scaled.shape
    ridge = _RIDGE * np.eye(num_columns)
    target = np.concatenate([np.ones(num_rows), np.zeros(num_columns)])
    weights = np.ones(num_rows)
    solution = np.zeros(num_columns)
    for _ in range(_ITERATIONS):
        root = np.sqrt(weights)
        target[:num_rows] = root
        solution, _ = nnls(np.vstack([scaled * root[:, None], ridge]), target)
        residuals = np.abs(scaled @ solution - 1)
        weights = 1 / np.maximum(residuals / _FLAT, 1)
    return np.asarray(solution / scale, dtype=np.float64)


def _knots(values: Floats) -> Floats:
    """0 and up to NUM_KNOTS - 1 of the values above it: the more frequent of close neighbours, and
    where there are too many, those spread evenly over their logarithms."""
    distinct, counts = np.unique(values[values > 0], return_counts=True)
    kept: list[float] = []
    for value in distinct[np.argsort(-counts, kind="stable")]:
        if all(abs(value - other) > _MIN_GAP * value for other in kept):
            kept.append(value)
    distinct = np.array(sorted(kept))
    if len(distinct) >= NUM_KNOTS:
        wanted = np.geomspace(distinct[0], distinct[-1], NUM_KNOTS - 1)
        nearest = np.abs(np.log(distinct[None, :] / wanted[:, None])).argmin(axis=1)
        distinct = distinct[np.unique(nearest)]
    return np.concatenate([[0.0], distinct])


def _ramps(values: Floats, knots: Floats) -> Floats:
    """float64[n, len(knots) - 1]: how far each value is on the way between two knots. The last
    ramp goes on."""
    if len(knots) == 1:
        return np.zeros((len(values), 0))
    ends = np.append(knots[1:-1], inf)
    inside = np.clip(values[:, None], knots[:-1], ends) - knots[:-1]
    return np.asarray(inside / np.diff(knots), dtype=np.float64)


def _curve(knots: Floats, rises: Floats) -> Curve:
    values = np.concatenate([[0.0], np.cumsum(rises)])
    return Curve(tuple(knots.tolist()), tuple(values.tolist()))


def _points(samples: Samples) -> NDArray[np.int64]:
    """A number for each sample: equal where P and D are, and depths agree within a fifth."""
    each = np.maximum(samples.num_decoding, 1)
    depth = np.where(samples.num_decoding > 0, samples.num_kv / each, 0)
    past = samples.attention / np.maximum(samples.num_prefill, 1) - samples.num_prefill / 2
    depth = np.maximum(depth, past)
    bucket = np.round(np.log(np.maximum(depth, 32)) / np.log(1.2))
    keys = np.stack([samples.num_prefill, samples.num_decoding, bucket], axis=1)
    return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)


def _cross_validate(
    samples: Samples,
    points: NDArray[np.int64],
    attention_tile: int,
    is_joint: bool,
    has_beside: bool = False,
) -> Floats:
    """Each step's time as predicted by a fit without its point, float64[n]."""
    order = np.random.default_rng(0).permutation(points.max() + 1)
    fold = order[points] % NUM_FOLDS
    predicted = np.empty(len(samples))
    for i in range(NUM_FOLDS):
        held_out = fold == i
        if not held_out.any():
            continue
        seen = samples.take(~held_out) if not held_out.all() else samples
        model = fit_model(
            seen, attention_tile=attention_tile, is_joint=is_joint, has_beside=has_beside
        )
        predicted[held_out] = predict(model, samples.take(held_out))
    return predicted


def _score(samples: Samples, predicted: Floats) -> float:
    """Mean relative error, in which no sample counts for more than 1."""
    return float(np.minimum(np.abs(predicted / samples.step_s - 1), 1).mean())


def _noise(samples: Samples, points: NDArray[np.int64]) -> float:
    """From how much neighbouring samples of a point differ: sqrt(2) times what one deviates."""
    differences = [
        np.abs(np.diff(times)) / np.median(times)
        for point in range(points.max() + 1)
        if len(times := samples.step_s[points == point]) >= 2
    ]
    return float(np.median(np.concatenate(differences)) / np.sqrt(2)) if differences else 0.0


def _regions(samples: Samples, errors: Floats) -> tuple[RegionError, ...]:
    decodes, prefills = samples.num_decoding > 0, samples.num_prefill > 0
    is_shallow = samples.num_kv < SHALLOW_TOKENS * np.maximum(samples.num_decoding, 1)
    is_short = samples.num_prefill <= SHORT_PREFILL_TOKENS
    regions = (
        ("decode, shallow", decodes & ~prefills & is_shallow),
        ("decode, deep", decodes & ~prefills & ~is_shallow),
        ("prefill, short", prefills & ~decodes & is_short),
        ("prefill, long", prefills & ~decodes & ~is_short),
        ("mixed", prefills & decodes),
    )
    return tuple(
        RegionError(
            region,
            int(np.count_nonzero(inside)),
            float(np.median(errors[inside])),
            float(np.quantile(errors[inside], 0.9)),
        )
        for region, inside in regions
        if inside.any()
    )
