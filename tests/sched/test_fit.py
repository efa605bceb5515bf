"""The fit finds a known model again through noise, and says honestly how well."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.sched.design import design
from fmedge.sched.fit import FitReport, Samples, fit, predict
from fmedge.sched.steptime import StepModel
from tests.sched.steps_of import APART, TOGETHER, measured

CPU = design(8, 4096, 2048)
GPU = design(64, 16384, 2048)


def unseen(model: StepModel, seed: int) -> Samples:
    """Steps at points between the design's, without noise."""
    rng = random.Random(seed)
    slots = 8 if model is APART else 64
    points = [
        (
            rng.choice((0, 0, 24, 48, 100, 200, 333, 480, 700)),
            rng.randint(0, slots),
            rng.randint(10, 3000),
        )
        for _ in range(300)
    ]
    points = [point for point in points if point[0] + point[1]]
    return Samples.of(measured(model, points, rng, times=1, sigma=0.0, outliers=0.0))


@pytest.mark.parametrize(("truth", "points"), [(APART, CPU), (TOGETHER, GPU)])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_model_again_through_noise(
    truth: StepModel, points: list[tuple[int, int, int]], seed: int
) -> None:
    report = fit(Samples.of(measured(truth, points, random.Random(seed))))
    samples = unseen(truth, seed)
    errors = np.abs(predict(report.model, samples) / samples.step_s - 1)
    assert np.median(errors) < 0.03
    assert np.quantile(errors, 0.95) < 0.15
    assert report.median_error < 0.06  # of which noise alone makes 0.035
    assert report.noise == pytest.approx(0.035, abs=0.015)
    assert 1.05 < report.mean_ratio < 1.25  # 5 % of the steps take 3.5 times as long


def test_a_tenth_of_wild_samples_moves_little() -> None:
    rng = random.Random(5)
    rows = measured(APART, CPU, rng, times=4, sigma=0.02, outliers=0.0)
    wild = [(row[0] * rng.uniform(5, 50), *row[1:]) if rng.random() < 0.1 else row for row in rows]
    clean, dirty = fit(Samples.of(rows)).model, fit(Samples.of(wild)).model
    samples = unseen(APART, 5)
    ratio = predict(dirty, samples) / predict(clean, samples)
    assert np.median(np.abs(ratio - 1)) < 0.02
    assert np.quantile(np.abs(ratio - 1), 0.95) < 0.08


def test_it_sees_whether_prefill_and_decoding_share_a_pass() -> None:
    apart = fit(Samples.of(measured(APART, CPU, random.Random(1)))).model
    together = fit(Samples.of(measured(TOGETHER, GPU, random.Random(1)))).model
    assert apart.tokens.is_zero
    assert not together.tokens.is_zero
    # 128 tokens beside 8 sequences: a pass of their own there, nearly nothing here.
    assert apart.step_s(128, 7, 0, 0) == pytest.approx(APART.step_s(128, 7, 0, 0), rel=0.1)
    assert together.step_s(128, 32, 0, 0) < 1.2 * together.step_s(0, 32, 0, 0)


def test_it_sees_where_attention_is_tiled() -> None:
    model = fit(Samples.of(measured(APART, CPU, random.Random(2)))).model
    assert 32 < model.attention_tile <= 64
    assert model.small_attention_s == pytest.approx(APART.small_attention_s, rel=0.15)
    assert model.attention_s == pytest.approx(APART.attention_s, rel=0.15)


@pytest.mark.parametrize("part", [0.4, 0.55, 0.7])
def test_a_measurement_that_ended_early_gives_a_model(part: float) -> None:
    points = CPU[: int(part * len(CPU))]
    model = fit(Samples.of(measured(APART, points, random.Random(3), times=2))).model
    samples = unseen(APART, 3)
    errors = np.abs(predict(model, samples) / samples.step_s - 1)
    assert np.median(errors) < 0.12


def test_regions_are_of_unseen_steps() -> None:
    report = fit(Samples.of(measured(APART, CPU, random.Random(4))))
    assert [r.region for r in report.regions] == [
        "decode, shallow",
        "decode, deep",
        "prefill, short",
        "prefill, long",
        "mixed",
    ]
    assert sum(r.num_samples for r in report.regions) == report.num_samples == 3 * len(CPU)
    assert all(0 < r.median_error <= r.p90_error for r in report.regions)
    # A step that no other point tells about is predicted badly, and the report says so.
    odd = [(1.0, 0, 8, 100_000_000, 0.0)] * 3
    worse = fit(Samples.of(measured(APART, CPU[:14], random.Random(4)) + odd))
    assert worse.p90_error > 2 * report.p90_error


def test_odd_values_near_the_designed_ones_are_no_knots() -> None:
    odd = [(128 + i, 0, 0) for i in (-9, -4, -1, 1, 3, 8)]
    model = fit(Samples.of(measured(APART, CPU + odd, random.Random(7)))).model
    near = [knot for knot in model.prefill.knots if 115 < knot < 140]
    assert near == [128.0]
    assert set(range(1, 9)) <= set(model.decode.knots)


def test_a_report_can_be_stored() -> None:
    report = fit(Samples.of(measured(APART, CPU[:20], random.Random(6))))
    assert msgspec.json.decode(msgspec.json.encode(report), type=FitReport) == report


@given(
    st.lists(
        st.tuples(
            st.floats(1e-5, 10),
            st.integers(0, 2048),
            st.integers(1, 64),
            st.integers(0, 10**6),
            st.integers(0, 10**7),
        ),
        min_size=6,
        max_size=20,
    )
)
@settings(max_examples=10, deadline=None)
def test_whatever_was_measured_gives_a_model_that_can_be(
    rows: list[tuple[float, int, int, int, int]],
) -> None:
    samples = Samples.of(rows)
    assert np.isfinite(predict(fit(samples).model, samples)).all()


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(0.1, 1, 1)], "a sample is"),
        ([(0.0, 1, 1, 1, 1)], "more than 0 s"),
        ([(float("nan"), 1, 1, 1, 1)], "finite"),
        ([(0.1, 1, -1, 1, 1)], "negative"),
        ([(0.1, 0, 0, 1, 1)], "without prefill"),
    ],
)
def test_samples_that_cannot_be(rows: list[tuple[float, ...]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Samples.of(rows)


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit(Samples.of([]))
    with pytest.raises(ValueError, match="6 are needed"):
        fit(Samples.of([(0.1, 1, 1, 1, 1)] * 5))
