"""Timing products through ggml: what is there works, and what cannot be is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fmedge._native.bandwidth import BandwidthProbe
from fmedge.errors import NativeError, OutOfMemoryError


@pytest.fixture
def probe() -> Iterator[BandwidthProbe]:
    with BandwidthProbe("CPU", 1) as opened:
        yield opened


@pytest.mark.parametrize("quant", ["q8_0", "q4_K", "f16", "f32"])
def test_times_products(probe: BandwidthProbe, quant: str) -> None:
    bits = {"q8_0": 8.5, "q4_K": 4.5, "f16": 16, "f32": 32}[quant]
    num_bytes = probe.load(quant, width=1024, rows=512, num_matrices=4)
    assert num_bytes == 4 * 1024 * 512 * bits / 8
    one_s = min(probe.run(num_matrices=1, num_tokens=1) for _ in range(20))
    many_s = min(probe.run(num_matrices=4, num_tokens=64) for _ in range(5))
    assert 0 < one_s < many_s  # 256 times the work
    assert probe.run(num_matrices=1, num_tokens=1, repeats=3, first=3) > 0


def test_times_attention(probe: BandwidthProbe) -> None:
    def least_s(depth: int, num_caches: int, num_calls: int) -> float:
        return min(
            probe.attention(
                heads=8, kv_heads=4, width=128, depth=depth, num_caches=num_caches,
                num_calls=num_calls,
            )
            for _ in range(5)
        )  # fmt: skip

    few_s = least_s(64, 1, 4)
    assert 0 < few_s < least_s(600, 3, 7)  # 16 times the work
    for asked in (
        {"heads": 6}, {"kv_heads": 0}, {"depth": 0}, {"num_caches": 5}, {"num_calls": 1000},
        {"width": 1 << 20},
    ):  # fmt: skip
        with pytest.raises(NativeError, match="no attention"):
            probe.attention(
                **{"heads": 8, "kv_heads": 4, "width": 128, "depth": 64, "num_caches": 1,
                   "num_calls": 4} | asked
            )  # fmt: skip


def test_times_transfers(probe: BandwidthProbe) -> None:
    small_s = min(probe.link(4096) for _ in range(5))
    large_s = min(probe.link(16 << 20) for _ in range(5))
    assert 0 < small_s < large_s < 10


def test_memory_is_the_devices(probe: BandwidthProbe) -> None:
    num_free, num_total = probe.memory()
    assert 0 < num_free <= num_total


def test_says_what_cannot_be(probe: BandwidthProbe) -> None:
    with pytest.raises(NativeError, match="there is no device warp0"):
        BandwidthProbe("warp0")
    with pytest.raises(NativeError, match="1 matrices from 0 of 0"):
        probe.run(num_matrices=1, num_tokens=1)
    for quant, width in (("q9_9", 1024), ("q4_K", 100), ("f16", 0)):
        with pytest.raises(NativeError, match="to probe with"):
            probe.load(quant, width=width, rows=8, num_matrices=1)
    probe.load("f16", width=256, rows=8, num_matrices=2)
    for first, count, tokens, repeats in ((0, 3, 1, 1), (2, 1, 1, 1), (-1, 1, 1, 1), (0, 1, 0, 1),
                                          (0, 1, 1, 0), (1, 2, 1, 1)):  # fmt: skip
        with pytest.raises(NativeError, match="no run"):
            probe.run(num_matrices=count, num_tokens=tokens, repeats=repeats, first=first)
    for num_bytes in (0, 1 << 40):
        with pytest.raises(NativeError, match="no transfer"):
            probe.link(num_bytes)


def test_too_large_is_out_of_memory(probe: BandwidthProbe) -> None:
    with pytest.raises(OutOfMemoryError, match=r"has no \d+ MiB left"):
        probe.load("f32", width=1 << 20, rows=1 << 20, num_matrices=64)
    probe.load("f16", width=256, rows=8, num_matrices=1)  # and goes on
    assert probe.run(num_matrices=1, num_tokens=1) > 0


def test_close_is_idempotent() -> None:
    probe = BandwidthProbe("CPU")
    probe.close()
    probe.close()
