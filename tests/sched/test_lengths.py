"""Output lengths: what the cdf means, censoring, back-off, forgetting, and what is kept."""

from __future__ import annotations

from math import ceil

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.lengths import (
    EDGES,
    MAX_LENGTH,
    NUM_BINS,
    LengthDistribution,
    LengthPredictor,
    length_cdf,
    length_quantile,
)


def _cdf(seed: int) -> np.ndarray:
    masses = np.random.default_rng(seed).exponential(size=NUM_BINS) ** 3
    masses[np.random.default_rng(seed + 1).random(NUM_BINS) < 0.3] = 0.0
    cdf = np.cumsum(masses / masses.sum()).astype(np.float32)
    cdf[-1] = 1.0
    return cdf


def _draw(cdf: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Whole lengths from a cdf, without the code under test."""
    u = np.random.default_rng(seed).random(count)
    return np.ceil(np.interp(u, np.concatenate(([0.0], cdf)), EDGES)).astype(int)


def test_edges() -> None:
    assert EDGES.dtype == np.int32
    assert EDGES[0] == 0
    assert EDGES[1] == 1
    assert EDGES[-1] == MAX_LENGTH
    assert (np.diff(EDGES) > 0).all()
    assert {1 << i for i in range(18)} <= set(EDGES.tolist())


@given(st.integers(0, 50), st.integers(1, NUM_BINS))
def test_cdf_is_what_it_says_at_the_edges(seed: int, index: int) -> None:
    cdf = _cdf(seed)
    assert length_cdf(cdf, EDGES[index]) == pytest.approx(cdf[index - 1])
    assert length_cdf(cdf, 0) == 0.0
    assert length_cdf(cdf, MAX_LENGTH + 5) == 1.0


@given(st.integers(0, 50), st.floats(0.001, 0.999), st.integers(0, 5000))
def test_quantile_inverts_the_conditional_cdf(seed: int, u: float, produced: int) -> None:
    cdf = _cdf(seed)
    length = length_quantile(cdf, u, produced)
    assert length > produced
    reached = length_cdf(cdf, produced)
    if reached < 0.99:
        came = (length_cdf(cdf, length) - reached) / (1 - reached)
        assert came == pytest.approx(u, abs=1e-4)


@pytest.mark.parametrize("produced", [0, 5, 40, 3000])
@pytest.mark.parametrize(("least", "most"), [(1, MAX_LENGTH), (30, 700), (1, 4096)])
def test_quantile_mean_and_survival_agree_with_simulation(
    produced: int, least: int, most: int
) -> None:
    if produced >= most:
        return
    cdf = _cdf(9)
    lengths = np.clip(_draw(cdf, 400_000, seed=1), least, most)
    lengths = lengths[lengths > produced]
    distribution = LengthDistribution(cdf, least, most)
    assert distribution.mean(produced) == pytest.approx(lengths.mean(), rel=0.02)
    for u in (0.1, 0.5, 0.9):
        length = distribution.quantile(u, produced)
        assert (lengths < length).mean() - 0.01 <= u <= (lengths <= length).mean() + 0.01
    for at in (1, 25, 64, 500, 699, 700, 4000):
        expected = (lengths > at).mean()
        assert distribution.survival(at, produced) == pytest.approx(expected, abs=0.01)


@given(st.integers(1, MAX_LENGTH), st.floats(0.01, 0.99), st.integers(0, MAX_LENGTH))
def test_a_known_length_is_exact(length: int, u: float, produced: int) -> None:
    distribution = LengthPredictor().predict((), length, length)
    assert distribution.quantile(u) == length
    assert distribution.quantile(u, min(produced, length - 1)) == length
    assert distribution.mean() == length
    assert distribution.survival(length - 1) == 1.0
    assert distribution.survival(length) == 0.0


@given(st.floats(0.01, 0.99), st.integers(1, 1000), st.integers(1, 1000), st.integers(0, 2000))
def test_a_quantile_lies_within_the_limits_and_beyond_what_was_given(
    u: float, least: int, more: int, produced: int
) -> None:
    most = least + more
    length = LengthDistribution(_cdf(3), least, most).quantile(u, produced)
    assert least <= length <= most
    assert length > min(produced, most - 1)


@pytest.mark.parametrize("u", [0.0, 1.0, -1.0, float("nan")])
def test_a_quantile_of_no_probability_is_refused(u: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        LengthDistribution(_cdf(0)).quantile(u)


def test_nothing_known_is_heavy_tailed() -> None:
    unknown = LengthPredictor().predict(("never", "seen"))
    assert unknown.quantile(0.5) == pytest.approx(150, rel=0.05)
    assert unknown.quantile(0.9) > 5 * unknown.quantile(0.5)
    # The more it has given, the more is left: what has outlived the median goes on for long.
    left = [unknown.quantile(0.5, produced) - produced for produced in (0, 500, 2000)]
    assert left == sorted(left)


def test_limits_that_cut_off_do_not_shorten_what_is_learned() -> None:
    rng = np.random.default_rng(4)
    truth = np.ceil(rng.lognormal(5.0, 0.8, 6000)).astype(int)
    limits = rng.choice([64, 256, 1024, 4096], 6000)
    predictor = LengthPredictor(memory=5000)
    for length, limit in zip(truth, limits, strict=True):
        predictor.observe(("k",), int(min(length, limit)), bool(length >= limit))
    distribution = predictor.predict(("k",), 1, MAX_LENGTH)
    for u in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert distribution.quantile(u) == pytest.approx(np.quantile(truth, u), rel=0.1)
    cut = predictor.predict(("k",), 1, 100)
    assert cut.quantile(0.9) == 100
    assert cut.survival(99) == pytest.approx((truth > 99).mean(), abs=0.02)


def test_a_cancel_before_the_first_token_teaches_nothing() -> None:
    predictor = LengthPredictor()
    predictor.observe(("k",), 0, True)
    assert len(predictor) == 0
    predictor.observe(("k",), 0, False)
    assert predictor.predict(("k",)).survival(1) < predictor.predict(()).survival(1)


def test_back_off_from_the_particular_to_the_coarse() -> None:
    predictor = LengthPredictor()
    rng = np.random.default_rng(5)
    for _ in range(500):
        predictor.observe(("stage/plan", "model"), int(rng.integers(390, 410)), False)
    unseen = predictor.predict(("stage/new", "model"))
    assert 362 < unseen.quantile(0.5) <= 431
    for _ in range(100):
        predictor.observe(("stage/new", "model"), 12, False)
    assert 11 < predictor.predict(("stage/new", "model")).quantile(0.5) <= 13
    assert predictor.predict(("stage/new", "model")).quantile(0.85) <= 13
    assert 362 < predictor.predict(("stage/plan", "model")).quantile(0.5) <= 431


@pytest.mark.parametrize("in_flight", [1, 30])
def test_p50_and_p90_cover_what_they_say_online(in_flight: int) -> None:
    """Two kinds of request under one coarse key; lengths double half-way."""
    rng = np.random.default_rng(6)
    predictor = LengthPredictor()
    held: list[tuple[bool, bool]] = []
    waiting: list[tuple[tuple[str, ...], int]] = []
    for at in range(6000):
        kind = int(rng.random() < 0.3)
        median = (40.0, 400.0)[kind] * (2.0 if at >= 3000 else 1.0)
        length = ceil(median * rng.lognormal(0.0, 0.7))
        keys = (f"kind{kind}", "model")
        distribution = predictor.predict(keys)
        held.append((length <= distribution.quantile(0.5), length <= distribution.quantile(0.9)))
        waiting.append((keys, length))
        if len(waiting) > in_flight:
            then, came = waiting.pop(0)
            predictor.observe(then, came, False)
    covered = np.array(held)
    for calm in (covered[200:3000], covered[5000:]):
        assert calm[:, 0].mean() == pytest.approx(0.5, abs=0.04)
        assert calm[:, 1].mean() == pytest.approx(0.9, abs=0.03)


def test_old_requests_are_forgotten() -> None:
    predictor = LengthPredictor(memory=200)
    for length in [1000] * 2000 + [10] * 600:
        predictor.observe(("k",), length, False)
    assert predictor.predict(("k",)).quantile(0.9) <= 10


def test_weights_do_not_overflow() -> None:
    predictor = LengthPredictor(memory=4)
    for _ in range(2000):
        predictor.observe(("k",), 77, False)
    assert 76 < predictor.predict(("k",)).quantile(0.5) <= 91


def test_keys_are_bounded_and_the_coarse_ones_stay() -> None:
    predictor = LengthPredictor(max_keys=8)
    for i in range(100):
        predictor.observe((f"unique{i}", "model"), 3, False)
    assert len(predictor) == 8
    assert predictor.predict(("model",)).quantile(0.5) == 3


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 10**7), st.booleans()), max_size=30)
)
def test_a_prediction_is_always_a_distribution(seen: list[tuple[str, int, bool]]) -> None:
    predictor = LengthPredictor(max_keys=2)
    for key, length, is_censored in seen:
        predictor.observe((key, "all"), length, is_censored)
    cdf = predictor.predict(("a", "all")).cdf
    assert cdf.dtype == np.float32
    assert cdf.shape == (NUM_BINS,)
    assert (np.diff(cdf) >= 0).all()
    assert cdf[0] >= 0
    assert cdf[-1] == 1
    restored = LengthPredictor.from_bytes(predictor.to_bytes())
    assert restored.predict(("a", "all")).cdf == pytest.approx(cdf, abs=1e-5)


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="learned lengths"):
        LengthPredictor.from_bytes(data)


def test_partial_other_version_and_impossible_are_refused() -> None:
    predictor = LengthPredictor()
    for length in range(1, 200):
        predictor.observe(("k", "model"), length, length % 3 == 0)
    data = predictor.to_bytes()
    assert len(LengthPredictor.from_bytes(data)) == 2
    for size in range(0, len(data), 53):
        with pytest.raises(ValueError, match="learned lengths"):
            LengthPredictor.from_bytes(data[:size])
    version, bins, longest, keys = msgspec.msgpack.decode(data)
    key, ended, passed = keys[0]
    nans = np.full(NUM_BINS, np.nan, np.float32).tobytes()
    ones = np.ones(NUM_BINS, np.float32).tobytes()
    for changed in (
        [version + 1, bins, longest, keys],
        [version, bins + 1, longest, keys],
        [version, bins, longest, [[key, ended[:-4], passed]]],
        [version, bins, longest, [[key, nans, passed]]],
        [version, bins, longest, [[key, ones, bytes(4 * NUM_BINS)]]],
        [version, bins, longest, [[key, ended, (-np.frombuffer(ones, np.float32)).tobytes()]]],
    ):
        with pytest.raises(ValueError, match="learned lengths"):
            LengthPredictor.from_bytes(msgspec.msgpack.encode(changed))
