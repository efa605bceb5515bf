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
    gmacs: float = 3e9
    kv_rate: float = 5e9
    op_s: float = 0.0
    has_attention: bool = True
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
        op_s = repeats * num_matrices * self.op_s
        return self._spend(self.call_s + op_s + repeats * max(read_s, flop_s))

    def attention(
        self, *, heads: int, kv_heads: int, width: int, depth: int, num_caches: int, num_calls: int
    ) -> float:
        """A cache of 1 MiB is at hand the next time, what is not comes from memory."""
        if not self.has_attention:
            raise NativeError("no fused attention")
        num_bytes = 4 * kv_heads * width * depth
        fetch_s = num_bytes / self.kv_rate if num_caches * num_bytes > 1 << 20 else 0.0
        product_s = 2 * heads * width * depth / self.gmacs
        return self._spend(self.call_s + num_calls * (self.op_s + product_s + fetch_s))

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
    speed = timed(FakeDevice(disturbed=0.7), 3.0)
    assert speed.bandwidth_gb_s == pytest.approx(30, rel=0.05)
    assert speed.tflop_s == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(("gmacs", "kv_rate"), [(3e9, 5e9), (17e9, 9e9), (200e9, 80e9)])
@pytest.mark.parametrize("disturbed", [0.0, 0.3])
def test_attention_and_the_least_operation(gmacs: float, kv_rate: float, disturbed: float) -> None:
    speed = timed(FakeDevice(gmacs=gmacs, kv_rate=kv_rate, op_s=2e-6, disturbed=disturbed), 3.0)
    assert speed.attention_gmac_s == pytest.approx(gmacs / 1e9, rel=0.05)
    # Fetching takes long tries: where none is left alone, it is taken for slower than it is.
    assert (0.0 if disturbed else 0.95) * kv_rate < speed.kv_gb_s * 1e9 < 1.05 * kv_rate
    assert speed.op_s == pytest.approx(2e-6, rel=0.1)


def test_attention_only_where_it_is_wanted_and_there() -> None:
    without = timed(FakeDevice(has_attention=False, op_s=2e-6))
    assert without.attention_gmac_s == without.kv_gb_s == 0
    assert without.op_s > 0
    device = FakeDevice()
    card = measure(
        device, is_host=False, cache_bytes=1 << 20, budget_s=1.0, is_processor=False,
        clock=device.clock,
    )  # fmt: skip
    assert card.attention_gmac_s == card.kv_gb_s == card.op_s == 0


def test_the_middle_of_what_was_left_alone_counts() -> None:
    """Most tries take a tenth longer than the shortest: so do most steps of a model."""

    class Uneven(FakeDevice):
        def _spend(self, seconds: float) -> float:
            return super()._spend(seconds * self.dice.choice((1.0, 1.1, 1.1, 1.1, 3.0)))

    speed = timed(Uneven(call_s=0.0))
    assert speed.bandwidth_gb_s == pytest.approx(30 / 1.1, rel=0.01)
    assert speed.tflop_s == pytest.approx(0.5 / 1.1, rel=0.01)


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
    assert max(small.loaded) <= 0.7 * small.free
    with pytest.raises(OutOfMemoryError, match="4 MiB free are too few"):
        timed(FakeDevice(free=4 << 20))


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


def test_the_least_operation_is_of_the_threads_that_read_faster() -> None:
    types = [(TypeSpeed(quant="f16", bandwidth_gb_s=x, tflop_s=1),) for x in (30, 20)]
    many = Speed(types=types[0], op_s=2e-6, attention_gmac_s=12, kv_gb_s=4)
    one = Speed(types=types[1], op_s=2e-7, attention_gmac_s=8, kv_gb_s=5)
    for both in (better(many, one), better(one, many)):
        assert (both.op_s, both.attention_gmac_s, both.kv_gb_s) == (2e-6, 12, 5)
