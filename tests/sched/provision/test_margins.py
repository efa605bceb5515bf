"""What loads teach of a device's memory, and that nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.provision.device import Device
from fmedge.sched.provision.margins import FIRST_BYTES, Margins, failed_device

GIB = 1 << 30
MIB = 1 << 20


def _device(name: str = "CUDA0", memory_bytes: int = 24 * GIB, endpoint: str = "") -> Device:
    return Device(
        name=name, type="cpu" if name == "CPU" else "rpc" if endpoint else "gpu",
        memory_bytes=memory_bytes, bandwidth_gb_s=1000, tflop_s=100, reserve_bytes=MIB,
        endpoint=endpoint,
    )  # fmt: skip


def test_nothing_learned_changes_nothing() -> None:
    assert Margins().applied(_device()) == _device()


def test_a_failed_allocation_doubles_the_margin_up_to_half_the_device() -> None:
    margins, device = Margins(), _device()
    reserves = []
    for _ in range(8):
        margins.on_failure(device)
        reserves.append(margins.applied(device).reserve_bytes - device.reserve_bytes)
    assert reserves[0] == int(0.02 * device.memory_bytes)
    assert reserves[1] == 2 * reserves[0]
    assert reserves[-1] == device.memory_bytes // 2
    assert margins.applied(device).capacity_bytes > 0


def test_a_small_device_keeps_half_of_it() -> None:
    margins, device = Margins(), _device(memory_bytes=100 * MIB)
    margins.on_failure(device)
    assert margins.of(device).total == 50 * MIB


def test_more_than_predicted_is_kept_back_from_then_on() -> None:
    margins, device = Margins(), _device()
    margins.on_loaded(device, 300)
    margins.on_loaded(device, 100)
    margins.on_loaded(device, -5)
    assert margins.of(device).total == 300


def test_loads_that_keep_within_give_a_failures_margin_back() -> None:
    margins, device = Margins(), _device(memory_bytes=GIB)
    margins.on_failure(device)
    assert margins.of(device).total == FIRST_BYTES
    totals = []
    for _ in range(40):
        margins.on_loaded(device, 0)
        totals.append(margins.of(device).total)
    assert totals == sorted(totals, reverse=True)
    assert totals[6] == FIRST_BYTES
    assert totals[7] == FIRST_BYTES // 2
    assert totals[-1] == 0


def test_devices_are_told_apart_by_what_stays() -> None:
    margins = Margins()
    margins.on_failure(_device("box", endpoint="a:1"))
    assert margins.of(_device("renamed", endpoint="a:1")).total
    assert not margins.of(_device("box", endpoint="b:1")).total
    assert not margins.of(_device("CUDA0")).total


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-GIB, 4 * GIB)), max_size=20))
def test_they_survive_storage(events: list[tuple[int, int]]) -> None:
    margins = Margins()
    devices = [_device(f"CUDA{i}") for i in range(4)]
    for number, excess in events:
        if excess % 3 == 0:
            margins.on_failure(devices[number])
        else:
            margins.on_loaded(devices[number], excess)
    again = Margins.from_bytes(margins.to_bytes())
    for device in devices:
        assert again.of(device) == margins.of(device)
        assert 0 <= again.of(device).total <= device.memory_bytes


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[]", b'[1, {"a": {"failed": -5}}]', b'[9, {"a": {"failed": 5}}]',
     b'[1, {"a": {"failed": "x"}}]'],
)  # fmt: skip
def test_what_is_not_ours_is_nothing_learned(data: bytes) -> None:
    assert Margins.from_bytes(data).to_bytes() == Margins().to_bytes()


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("alloc_tensor_range: failed to allocate RPC0[b:1] buffer of size 21597184", "box"),
        ("unable to allocate RPC1[b:1] buffer", "box/1"),
        ("unable to allocate RPC7[b:1] buffer", None),
        ("unable to allocate RPC0[z:1] buffer", None),
        ("ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 1", "CUDA0"),
        ("allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory", None),
        ("failed to allocate CPU buffer of size 5", "CPU"),
        ("not enough memory on the host", "CPU"),
        ("something else", None),
    ],
)
def test_whose_allocation_failed(message: str, name: str | None) -> None:
    devices = {
        d.name: d
        for d in (
            _device("CPU"), _device("CUDA0"), _device("a:1", endpoint="a:1"),
            _device("box", endpoint="b:1"), _device("box/1", endpoint="b:1"),
        )
    }  # fmt: skip
    assert failed_device(f"m.gguf: cannot load\n{message}", devices) == name
