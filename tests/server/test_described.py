"""Devices of a file, and what the catalogue adds to them."""

from __future__ import annotations

from math import inf

import pytest

from fmedge.config.devices import DeviceConfig
from fmedge.errors import ConfigError
from fmedge.sched.provision import catalogue
from fmedge.server.described import GIB, LINK_GB_S, described


def one(**values: object) -> DeviceConfig:
    given = {"where": "F: [[device]] number 1 (d)", "name": "d", "type": "gpu", **values}
    return DeviceConfig(**given)  # type: ignore[arg-type]


def test_a_known_card() -> None:
    card = catalogue.find("RTX 4090")
    assert card is not None
    (device,) = described((one(kind="RTX 4090", reserve_gib=0.5),))
    assert (device.name, device.kind, device.type, device.source) == (
        "d", "RTX 4090", "gpu", "catalogue",
    )  # fmt: skip
    assert device.memory_bytes == card.memory_gib * GIB
    assert (device.bandwidth_gb_s, device.tflop_s) == (card.bandwidth_gb_s, card.fp16_tflop_s)
    assert (device.link_gb_s, device.reserve_bytes) == (card.link_gb_s, GIB // 2)
    assert device.backend == "CUDA"
    assert device.backend_bytes > 0


def test_given_figures_count_more_than_the_catalogues() -> None:
    (device,) = described(
        (one(kind="RTX 4090", memory_gib=48, bandwidth_gb_s=1, fp16_tflop_s=2, link_gb_s=3),)
    )
    assert (device.memory_bytes, device.bandwidth_gb_s, device.tflop_s, device.link_gb_s) == (
        48 * GIB, 1.0, 2.0, 3.0,
    )  # fmt: skip
    assert device.source == "file"


def test_a_card_that_nobody_knows() -> None:
    own = one(kind="Wonder 9", memory_gib=8, bandwidth_gb_s=100, fp16_tflop_s=10, link_us=20)
    (device,) = described((own,))
    assert (device.kind, device.source, device.backend) == ("Wonder 9", "file", "CUDA")
    assert (device.link_gb_s, device.link_s) == (LINK_GB_S, pytest.approx(20e-6))


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("RX 7900 XTX", "ROCm"), ("MI300X", "ROCm"), ("Arc A770", "SYCL"), ("Tesla V100", "CUDA")],
)
def test_the_makers_backend(kind: str, backend: str) -> None:
    (device,) = described((one(kind=kind),))
    assert device.backend == backend
    (other,) = described((one(kind=kind, backend="Vulkan"),))
    assert other.backend == "Vulkan"


def test_the_host() -> None:
    cpu = one(type="cpu", memory_gib=64, bandwidth_gb_s=80, fp16_tflop_s=1, cores=16, link_gb_s=5)
    (device,) = described((cpu,))
    assert device.is_host
    assert (device.link_gb_s, device.num_cores, device.backend, device.backend_bytes) == (
        inf, 16, "CPU", 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "RTX 4091"}, "no card 'RTX 4091' is known (near it: RTX 4090"),
        ({"kind": "zzzzzzzz"}, "no card 'zzzzzzzz' is known; give memory_gib, bandwidth"),
        ({"kind": "zzzzzzzz", "memory_gib": 4, "bandwidth_gb_s": 9}, "give memory_gib"),
        ({"kind": "Apple M1 Max"}, "needs memory_gib: the Apple M1 Max shares the host's memory"),
        ({"kind": "RTX 4090", "reserve_gib": 30}, "leaves nothing of the 24 GiB of the RTX 4090"),
    ],
)
def test_says_what_is_missing(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        described((one(**values),))
    assert str(caught.value).startswith("F: [[device]] number 1 (d): ")
    assert said in str(caught.value)
