"""The step-time model: the packed form against the formula, compiled or not."""

from __future__ import annotations

import msgspec
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.steptime import (
    NUM_KNOTS,
    PACKED_SIZE,
    SCALE_DECODE,
    SCALE_PREFILL,
    Curve,
    StepModel,
    step_time,
)

compiled = numba.njit("float64(float64[::1], float64, float64, float64, float64)")(step_time)


def curve(points: list[tuple[int, int]]) -> Curve:
    """From (gap, rise in ms) of each segment."""
    knots, values = np.cumsum([(0, 0), *points], axis=0).T.astype(float)
    return Curve(tuple(knots.tolist()), tuple((values / 1000).tolist()))


curves = st.builds(
    curve,
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 100)), max_size=NUM_KNOTS - 1),
)
seconds = st.integers(0, 1000).map(lambda n: n / 1000)
models = st.builds(
    StepModel,
    base_s=seconds,
    prefill_base_s=seconds,
    prefill=curves,
    decode=curves,
    tokens=st.one_of(st.just(Curve()), curves),
    kv_s=seconds.map(lambda s: 1e-5 * s),
    attention_s=seconds.map(lambda s: 1e-7 * s),
    attention_tile=st.sampled_from((0, 64)),
    small_attention_s=seconds.map(lambda s: 1e-7 * s),
)
steps = st.tuples(
    st.integers(0, 8000), st.integers(0, 300), st.integers(0, 10**6), st.integers(0, 10**8)
)


@given(models, steps)
def test_the_packed_form_is_the_formula(
    model: StepModel, step: tuple[int, int, int, float]
) -> None:
    packed = model.packed()
    assert packed.shape == (PACKED_SIZE,)
    num_prefill, num_decoding, num_kv, attention = step
    expected = model.step_s(num_prefill, num_decoding, num_kv, attention)
    assert step_time(packed, num_prefill, num_decoding, num_kv, attention) == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )
    assert compiled(packed, num_prefill, num_decoding, num_kv, attention) == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )


@given(models, steps)
def test_more_work_takes_less_time_only_where_it_completes_a_tile(
    model: StepModel, step: tuple[int, int, int, float]
) -> None:
    packed = model.packed()
    shorter = step_time(packed, *step)
    for i in range(4):
        longer = [*step]
        longer[i] += 7
        if step[0] < model.attention_tile <= longer[0]:
            continue
        assert step_time(packed, *longer) >= shorter * (1 - 1e-9) - 1e-12


@given(models, steps, st.floats(0.2, 5), st.floats(0.2, 5))
def test_corrections_scale_decoding_and_what_prefill_adds(
    model: StepModel, step: tuple[int, int, int, float], by_prefill: float, by_decode: float
) -> None:
    packed = model.packed()
    num_prefill, num_decoding, num_kv, attention = step
    decode_s = step_time(packed, 0, num_decoding, num_kv, 0.0)
    total_s = step_time(packed, num_prefill, num_decoding, num_kv, attention)
    packed[SCALE_PREFILL], packed[SCALE_DECODE] = by_prefill, by_decode
    assert step_time(packed, num_prefill, num_decoding, num_kv, attention) == pytest.approx(
        by_decode * decode_s + by_prefill * (total_s - decode_s), rel=1e-7, abs=1e-9
    )


def test_nothing_takes_no_time() -> None:
    model = StepModel(base_s=1.0, prefill_base_s=1.0, tokens=Curve((0.0, 1.0), (0.0, 1.0)))
    assert step_time(model.packed(), 0, 0, 0, 0) == 0
    assert model.step_s(0, 0) == 0


def test_a_run_of_decode_steps_is_the_step_at_its_mean_depth() -> None:
    model = StepModel(base_s=0.004, decode=Curve((0.0, 8.0), (0.0, 0.004)), kv_s=3e-7)
    packed = model.packed()
    one_by_one = sum(step_time(packed, 0, 8, 4000 + 8 * i, 0) for i in range(100))
    assert 100 * step_time(packed, 0, 8, 4000 + 8 * 99 / 2, 0) == pytest.approx(one_by_one)


def test_a_curve_goes_through_its_knots_and_on() -> None:
    curve = Curve((0.0, 4.0, 8.0), (0.0, 0.0, 0.8))
    assert [curve(x) for x in (0, 3, 4, 6, 8, 10)] == pytest.approx([0, 0, 0, 0.4, 0.8, 1.2])


@pytest.mark.parametrize(
    ("knots", "values", "complaint"),
    [
        ((), (), "knots"),
        ((0.0, 1.0), (0.0,), "as many values"),
        (tuple(map(float, range(17))), (0.0,) * 17, "1 to 16"),
        ((1.0,), (0.0,), "starts"),
        ((0.0, 2.0, 2.0), (0.0, 1.0, 1.0), "increase"),
        ((0.0, 2.0), (0.0, -1.0), "never fall"),
        ((0.0, 2.0), (0.0, float("nan")), "finite"),
    ],
)
def test_a_curve_that_cannot_be(
    knots: tuple[float, ...], values: tuple[float, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Curve(knots, values)


@pytest.mark.parametrize("value", [-1e-9, float("inf"), float("nan")])
def test_a_model_that_cannot_be(value: float) -> None:
    with pytest.raises(ValueError, match="kv_s"):
        StepModel(base_s=0.0, kv_s=value)


def test_a_stored_model_is_checked_when_it_is_read() -> None:
    model = StepModel(base_s=0.1, decode=Curve((0.0, 4.0), (0.0, 0.5)), kv_s=1e-7)
    stored = msgspec.json.encode(model)
    assert msgspec.json.decode(stored, type=StepModel) == model
    with pytest.raises(msgspec.ValidationError, match="never fall"):
        msgspec.json.decode(stored.replace(b"0.5", b"-0.5"), type=StepModel)
