"""The designed experiment: within the replica's sizes, and telling from its beginning on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.design import SHALLOW, design


@given(st.integers(1, 512), st.integers(64, 200_000), st.integers(32, 8192), st.integers(16, 2048))
def test_points_fit_the_replica(slots: int, ctx_size: int, batch_size: int, ubatch: int) -> None:
    points = design(slots, ctx_size, batch_size, ubatch)
    assert len(points) == len(set(points))
    assert 2 <= len(points) <= 130
    for num_prefill, num_decoding, depth in points:
        assert 0 < num_prefill + num_decoding <= batch_size
        assert num_decoding <= slots - (num_prefill > 0 and num_decoding > 0)
        assert depth + num_prefill <= 1.25 * ctx_size
        assert depth <= max(SHALLOW, 0.75 * ctx_size)


def test_each_batch_size_of_a_small_replica_is_measured() -> None:
    assert {d for p, d, _ in design(8, 4096, 2048) if p == 0} == set(range(1, 9))


def test_the_beginning_has_every_part_of_the_formula() -> None:
    start = design(8, 8192, 2048)[:26]
    depths = {depth for _, _, depth in start}
    assert any(p == 0 and d == 1 for p, d, _ in start)
    assert any(p == 0 and d == 8 for p, d, _ in start)
    assert any(p > 0 and d == 0 for p, d, _ in start)
    assert any(p > 0 and d > 1 for p, d, _ in start)
    assert max(depths) >= 512
    assert max(p for p, _, _ in start) <= 256


def test_a_single_slot_has_no_mixed_steps() -> None:
    assert all(p == 0 or d == 0 for p, d, _ in design(1, 4096, 2048))


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        design(0, 4096, 2048)
