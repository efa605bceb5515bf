"""What is made of a probe's timings: the figures, and how long it takes to get them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from fmedge.errors import NativeError, OutOfMemoryError
from fmedge.replica.speed import Speed, better, measure
from fmedge.sched.provision.device import TypeSpeed

BITS = {"q8_0": 8.5, "q4_K": 4.5, "f16": 16.0}


@dataclass
class FakeDevice:
    """A device on its own clock: it reads and multiplies at these rates, and each call costs."""

    bandwidth: float = 30e9
    flops: float = 0.5e12
    call_s: float = 5e-6
    link_rate: float = 10e9
    link_s: float = 10e-6
    free: int = 8 << 30
    quants: tuple[str, ...] = ("q8_0", "q4_K", "f16")
    disturbed: float = 0.0  # share of the calls that take 20 times as long
    leak: int = 0
    now_s: float = 0.0
    longest_s: float = 0.0
    loaded: list[int] = field(default_factory=list)
    quant: str = ""
    rows: int = 0
    num_matrices: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def clock(self) -> float:
        return self.now_s

    def _spend(self, seconds: float) -> float:
        if self.dice.random() < self.disturbed:
            seconds *= 20
        self.now_s += seconds
        self.longest_s = max(self.longest_s, seconds)
        return seconds

    def memory(self) -> tuple[int, int]:
        return self.free - (self.leak if self.loaded else 0), self.free

    def load(self, quant: str, *, width: int, rows: int, num_matrices: int) -> int:
        if quant not in self.quants:
            raise NativeError(f"no {quant}")
        num_bytes = int(rows * width * num_matrices * BITS[quant] / 8)
        self.loaded.append(num_bytes)
        self.quant, self.rows, self.num_matrices = quant, rows * width, num_matrices
        self.now_s += num_bytes / self.bandwidth
        return num_bytes

    def run(self, *, num_matrices: int, num_tokens: int, repeats: int = 1, first: int = 0) -> float:
        assert first >= 0
        assert first + num_matrices <= self.num_matrices
        read_s = num_matrices * self.rows * BITS[self.quant] / 8 / self.bandwidth
        flop_s = 2 * num_matrices * self.rows * num_tokens / self.flops
        return self._spend(self.call_s + repeats * max(read_s, flop_s))

    def link(self, num_bytes: int) -> float:
        return self._spend(2 * (self.link_s + num_bytes / self.link_rate))


def timed(device: FakeDevice, budget_s: float = 2.0, *, is_host: bool = True) -> Speed:
    return measure(
        device, is_host=is_host, cache_bytes=32 << 20, budget_s=budget_s, clock=device.clock
    )


@pytest.mark.parametrize(
    ("bandwidth", "flops"),
    [(3e9, 0.05e12), (30e9, 0.5e12), (300e9, 4e12), (1008e9, 160e12), (4800e9, 800e12)],
)
def test_figures_are_what_the_device_does(bandwidth: float, flops: float) -> None:
    speed = timed(FakeDevice(bandwidth=bandwidth, flops=flops))
    assert [s.quant for s in speed.types] == ["q8_0", "q4_K", "f16"]
    for found in speed.types:
        assert found.bandwidth_gb_s == pytest.approx(bandwidth / 1e9, rel=0.05)
        assert found.tflop_s == pytest.approx(flops / 1e12, rel=0.05)
    assert speed.bandwidth_gb_s == pytest.approx(bandwidth / 1e9, rel=0.05)
    assert speed.link_gb_s == 0


@pytest.mark.parametrize("flops", [1e9, 0.01e12, 0.5e12, 800e12])
@pytest.mark.parametrize("bandwidth", [0.5e9, 30e9, 4800e9])
def test_takes_its_budget_and_one_try(bandwidth: float, flops: float) -> None:
    device = FakeDevice(bandwidth=bandwidth, flops=flops)
    timed(device, 2.0)
    assert device.now_s < 2.0 + 6 * device.longest_s + sum(device.loaded) / device.bandwidth


def test_a_disturbed_device_is_as_fast_as_when_left_alone() -> None:
    speed = timed(FakeDevice(disturbed=0.8))
    assert speed.bandwidth_gb_s == pytest.approx(30, rel=0.05)
    assert speed.tflop_s == pytest.approx(0.5, rel=0.05)


def test_link_of_what_is_not_the_host() -> None:
    device = FakeDevice(leak=3 << 20)
    speed = timed(device, is_host=False)
    assert speed.link_gb_s == pytest.approx(10, rel=0.1)
    assert speed.link_s == pytest.approx(10e-6, rel=0.1)
    assert speed.used_bytes == 3 << 20


def test_weights_exceed_the_caches_and_fit_the_memory() -> None:
    device = FakeDevice()
    timed(device)
    assert 4 * (32 << 20) * 0.9 <= device.loaded[0] <= 4 * (32 << 20)
    small = FakeDevice(free=64 << 20)
    timed(small)
    assert max(small.loaded) <= small.free / 4
    with pytest.raises(OutOfMemoryError, match="8 MiB free are too few"):
        timed(FakeDevice(free=8 << 20))


def test_types_that_the_device_lacks() -> None:
    speed = timed(FakeDevice(quants=("q4_K",)))
    assert [s.quant for s in speed.types] == ["q4_K"]
    assert speed.tflop_s == speed.types[0].tflop_s
    with pytest.raises(NativeError, match="no f16"):
        timed(FakeDevice(quants=()))


def test_tflop_s_is_that_of_16_bit_weights() -> None:
    fast, slow = (
        TypeSpeed(quant=quant, bandwidth_gb_s=1.0, tflop_s=x)
        for quant, x in (("q8_0", 3.0), ("f16", 2.0))
    )
    assert Speed(types=(fast, slow)).tflop_s == 2.0
    assert Speed(types=(fast,)).tflop_s == 3.0


def test_better_is_better_by_figure() -> None:
    def speed(quant: str, bandwidth: float, tflops: float, link: float = 0.0) -> Speed:
        types = (TypeSpeed(quant=quant, bandwidth_gb_s=bandwidth, tflop_s=tflops),)
        return Speed(types=types, link_gb_s=link, link_s=1 / (link or 1))

    both = better(speed("f16", 10, 1, 5), speed("f16", 8, 3, 9))
    assert both == Speed(
        types=(TypeSpeed(quant="f16", bandwidth_gb_s=10, tflop_s=3),), link_gb_s=9, link_s=1 / 9
    )
    other = better(speed("f16", 10, 1), speed("q8_0", 8, 3))
    assert [s.quant for s in other.types] == ["f16", "q8_0"]
