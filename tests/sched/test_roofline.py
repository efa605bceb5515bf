"""The prior: what its formula says, and that it orders hardware sensibly."""

from __future__ import annotations

import pytest

from fmedge.sched.roofline import (
    BANDWIDTH_EFFICIENCY,
    COMPUTE_EFFICIENCY,
    LAYER_OVERHEAD_S,
    DeviceSpeed,
    roofline,
)
from fmedge.sched.steptime import StepModel, step_time

GIB = 2**30
FAST = DeviceSpeed(bandwidth_gb_s=1000, tflop_s=300)
SLOW = DeviceSpeed(bandwidth_gb_s=60, tflop_s=1)


def prior(*devices: DeviceSpeed, weight_bytes: float = 4 * GIB) -> StepModel:
    return roofline(
        devices,
        weight_bytes=weight_bytes,
        num_params=7.5e9,
        num_layers=32,
        attention_width=4096,
        kv_bytes_per_token=131_072,
    )


def test_one_sequence_reads_the_weights_once() -> None:
    read_s = 4 * GIB / (1000e9 * BANDWIDTH_EFFICIENCY)
    assert prior(FAST).step_s(0, 1) == pytest.approx(32 * LAYER_OVERHEAD_S + read_s)


def test_many_tokens_take_what_they_compute() -> None:
    model = prior(FAST)
    compute_s = 2048 * 2 * 7.5e9 / (300e12 * COMPUTE_EFFICIENCY)
    assert model.step_s(2048, 0) == pytest.approx(32 * LAYER_OVERHEAD_S + compute_s)


def test_batching_is_free_up_to_the_knee_and_then_linear() -> None:
    model = prior(FAST)
    knee = 4 * GIB / (1000e9 * BANDWIDTH_EFFICIENCY) / (2 * 7.5e9 / (300e12 * COMPUTE_EFFICIENCY))
    assert 20 < knee < 60
    assert model.step_s(0, int(knee)) == model.step_s(0, 1)
    further_s = [model.step_s(0, int(knee) + n) - model.step_s(0, int(knee) + 1) for n in (11, 21)]
    assert further_s[1] == pytest.approx(2 * further_s[0])


def test_the_packed_form_agrees() -> None:
    model = prior(FAST)
    for step in [(0, 1, 500, 0.0), (512, 0, 0, 131_072.0), (300, 16, 9000, 45_000.0)]:
        assert step_time(model.packed(), *step) == pytest.approx(model.step_s(*step))


def test_kv_and_attention_are_reads_and_products() -> None:
    model = prior(FAST)
    assert model.kv_s == pytest.approx(131_072 / (1000e9 * BANDWIDTH_EFFICIENCY))
    assert model.attention_s == pytest.approx(4 * 32 * 4096 / (300e12 * COMPUTE_EFFICIENCY))


def test_a_split_model_takes_the_sum_of_its_parts() -> None:
    halves = prior(
        DeviceSpeed(bandwidth_gb_s=1000, tflop_s=300, share=0.5),
        DeviceSpeed(bandwidth_gb_s=60, tflop_s=1, share=0.5),
    )
    for step in [(0, 1), (0, 64), (512, 0), (2048, 8), (10_000, 0)]:
        expected_s = (prior(FAST).step_s(*step) + prior(SLOW).step_s(*step)) / 2
        assert halves.step_s(*step) == pytest.approx(expected_s)


def test_many_devices_fit_a_curve() -> None:
    devices = [
        DeviceSpeed(bandwidth_gb_s=100 + i, tflop_s=10 * (i + 1), share=1 / 20) for i in range(20)
    ]
    whole = sum(
        prior(DeviceSpeed(bandwidth_gb_s=d.bandwidth_gb_s, tflop_s=d.tflop_s)).step_s(4096, 0) / 20
        for d in devices
    )
    assert prior(*devices).step_s(4096, 0) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("devices", "weight_bytes", "complaint"),
    [
        ((), 1e9, "sum to 1"),
        ((FAST, SLOW), 1e9, "sum to 1"),
        ((DeviceSpeed(bandwidth_gb_s=0, tflop_s=1),), 1e9, "above 0"),
        ((DeviceSpeed(bandwidth_gb_s=1, tflop_s=float("inf")),), 1e9, "above 0"),
        ((FAST,), 0, "above 0"),
    ],
)
def test_what_cannot_be(
    devices: tuple[DeviceSpeed, ...], weight_bytes: float, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        prior(*devices, weight_bytes=weight_bytes)
