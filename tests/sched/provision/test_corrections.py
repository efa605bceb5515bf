"""Devices that are not as fast as their figures say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fmedge.sched.provision.corrections import MOST, Correction, Corrections
from fmedge.sched.provision.device import Device, TypeSpeed

DEVICE = Device(
    name="gpu0", type="gpu", memory_bytes=1 << 30, bandwidth_gb_s=100.0, tflop_s=10.0,
    speeds=(TypeSpeed(quant="q8_0", bandwidth_gb_s=90.0, tflop_s=8.0),),
)  # fmt: skip


def test_what_nobody_measured_is_as_its_figures_say() -> None:
    assert Corrections().applied(DEVICE) is DEVICE


@pytest.mark.parametrize("truth", [0.6, 0.9, 1.3, 1.9])
def test_predictions_come_to_what_is_measured(truth: float) -> None:
    corrections = Corrections()
    for _ in range(12):
        factor = DEVICE.bandwidth_gb_s / corrections.applied(DEVICE).bandwidth_gb_s
        corrections.on_measured([DEVICE], (0.010 * factor, 0.010 * truth), (0.0, 0.0))
    found = corrections.applied(DEVICE)
    assert found.bandwidth_gb_s == pytest.approx(100.0 / truth, rel=0.06)
    assert found.speeds[0].bandwidth_gb_s == pytest.approx(90.0 / truth, rel=0.06)
    assert found.tflop_s == DEVICE.tflop_s


def test_one_measurement_moves_it_half_the_way() -> None:
    corrections = Corrections()
    corrections.on_measured([DEVICE], (0.010, 0.010), (0.010, 0.0144))
    assert corrections.applied(DEVICE).tflop_s == pytest.approx(10.0 / 1.2)
    assert corrections.applied(DEVICE).bandwidth_gb_s == DEVICE.bandwidth_gb_s


def test_little_steps_and_nonsense_say_nothing() -> None:
    corrections = Corrections()
    corrections.on_measured([DEVICE], (0.0001, 0.01), (0.01, float("nan")))
    assert corrections.applied(DEVICE) is DEVICE


@given(st.lists(st.tuples(st.floats(1e-3, 1), st.floats(1e-6, 100)), max_size=20))
def test_it_is_bounded_and_kept(steps: list[tuple[float, float]]) -> None:
    corrections = Corrections()
    other = replace(DEVICE, name="gpu1")
    for step in steps:
        corrections.on_measured([DEVICE], step, step)
    found = Corrections.from_bytes(corrections.to_bytes())
    assert found.of(DEVICE) == corrections.of(DEVICE)
    assert 1 / MOST <= found.of(DEVICE).decode <= MOST
    assert found.of(other) == Correction()


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff", b'{"version": 9, "corrections": {}}',
             b'{"version": 1, "corrections": {"gpu gpu0": {"decode": -5}}}'],
)  # fmt: skip
def test_what_is_not_ours_is_forgotten(data: bytes) -> None:
    assert Corrections.from_bytes(data).applied(DEVICE) is DEVICE
