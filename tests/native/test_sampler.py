"""The fused sampler against a slow oracle and against llama.cpp's own chain.

The rule: seeds are fixed, so a statistical test passes always or never; its threshold is the
chance with which a correct sampler would have failed when the seed was chosen.
"""

from __future__ import annotations

import shutil
import subprocess
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fmedge._native.binding import lib
from fmedge._native.sampler import Kernels, Sampler
from fmedge.errors import NativeError, RequestError
from fmedge.types import SamplingParams
from tests import naive_sampler as naive
from tests.native.llama_chain import LlamaChain

REPOSITORY = Path(__file__).resolve().parents[2]
UNLIKELY = 1e-4
ALL_KERNELS: tuple[Kernels, ...] = ("baseline", "avx2", "avx512")
HAS_KERNELS = tuple(k for i, k in enumerate(ALL_KERNELS, 1) if lib.fm_sampler_has_kernels(i))
# Two of llama.cpp's defaults are off in ours; these are its own.
LLAMA_DEFAULTS = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)

quick = settings(max_examples=40, derandomize=True, deadline=None)


def peaked(num_vocab: int, seed: int = 0, spread: float = 2.0) -> NDArray[np.float32]:
    """Logits as a model's are: most far below a few."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, num_vocab)
    logits[rng.integers(num_vocab, size=12)] += 5
    return logits.astype(np.float32)


def packed(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()


def mask_of(allowed: NDArray[np.bool_]) -> bytes:
    padded = np.zeros((len(allowed) + 31) // 32 * 32, np.bool_)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").tobytes()


def draws(
    params: SamplingParams,
    logits: NDArray[np.float32],
    num: int,
    *,
    mask: bytes | None = None,
    banned: Sequence[int] = (),
) -> NDArray[np.int64]:
    sampler = Sampler(params, len(logits), banned_tokens=banned)
    return np.array([sampler.sample(logits, mask) for _ in range(num)])


def assert_drawn_from(tokens: NDArray[np.int64], probs: NDArray[np.float64]) -> None:
    """Chi-square; tokens expected too rarely for it are one bin together."""
    counts = np.bincount(tokens, minlength=len(probs))
    assert counts[probs == 0].sum() == 0
    expected = probs * len(tokens)
    rare = expected < 8
    if rare.any() and expected[rare].sum() > 0:
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    else:
        counts, expected = counts[~rare], expected[~rare]
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > UNLIKELY


@st.composite
def rows(draw: st.DrawFn) -> NDArray[np.float32]:
    """Rows around the block and lane sizes, with ties, -inf and NaN."""
    num_vocab = draw(st.sampled_from([1, 2, 15, 16, 17, 31, 33, 127, 128, 129, 300, 700]))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    step = draw(st.sampled_from([0.0, 0.25, 2.0]))
    logits = rng.normal(draw(st.sampled_from([0.0, -50.0, 300.0])), 3, num_vocab)
    if step > 0:
        logits = np.round(logits / step) * step
    spoilt = rng.random(num_vocab) < draw(st.sampled_from([0.0, 0.0, 0.3]))
    logits[spoilt] = rng.choice([-np.inf, np.nan], int(spoilt.sum()))
    assume(np.isfinite(logits).any())
    return logits.astype(np.float32)


def near_an_edge(logits: NDArray[np.float64], params: SamplingParams) -> bool:
    """Whether float32 may rightly decide otherwise than float64 does."""
    ranked = logits[naive.ranking(logits)]
    if params.top_k > 0:
        ranked = ranked[: params.top_k]
    total = np.cumsum(naive.softmax(ranked))
    by_mass = params.top_p < 1 and bool((np.abs(total - params.top_p) < 1e-5).any())
    low = ranked[0] + np.log(max(params.min_p, 1e-30))
    return by_mass or bool((np.abs(ranked - low) < 1e-4).any())


class TestKeptTokens:
    @quick
    @given(
        rows(),
        st.sampled_from([0, 1, 2, 7, 40, 200]),
        st.sampled_from([1.0, 0.0, 0.1237, 0.5031, 0.9517]),
        st.sampled_from([0.0, 1.0, 0.0517, 0.3003]),
    )
    def test_are_those_of_the_oracle(
        self, logits: NDArray[np.float32], top_k: int, top_p: float, min_p: float
    ) -> None:
        # So hot that every kept token is equally likely and soon seen.
        params = SamplingParams(temperature=1e7, top_k=top_k, top_p=top_p, min_p=min_p, seed=3)
        edited = naive.edited_logits(logits, params)
        assume(not near_an_edge(edited, params))
        kept = naive.kept_tokens(edited, params)
        seen = draws(params, logits, 16 * len(kept) + 100)
        assert set(seen.tolist()) == set(kept.tolist())

    @pytest.mark.parametrize(
        "params",
        [
            SamplingParams(top_k=5000),
            SamplingParams(top_k=7000, top_p=0.9),
            SamplingParams(top_p=0.97),
            SamplingParams(top_p=0.9999),
            SamplingParams(min_p=0.0002),
            SamplingParams(top_k=9000, top_p=0.99, min_p=0.0007),
            SamplingParams(top_k=3000, temperature=2.5),
        ],
    )
    @pytest.mark.parametrize("ties", [False, True])
    def test_are_right_where_they_are_thousands(self, params: SamplingParams, ties: bool) -> None:
        logits = np.random.default_rng(1).normal(0, 1.3, 16_000).astype(np.float32)
        if ties:
            logits = np.round(logits)
        edited = naive.edited_logits(logits, params)
        kept = naive.kept_tokens(edited, params)
        rank = np.empty(len(logits), np.int64)
        rank[naive.ranking(edited)] = np.arange(len(logits))
        seen = rank[draws(params, logits, 3000)]
        # Where thousands are kept, float32 and float64 may put the end a token or two apart.
        assert len(kept) > 2000
        assert seen.max() < len(kept) + 3
        # By rank in 50 bins; single tokens are too rare to compare.
        probs = naive.distribution(edited, params)[kept]
        bins = np.arange(len(kept)) * 50 // len(kept)
        assert_drawn_from(
            bins[np.minimum(seen, len(kept) - 1)], np.bincount(bins, probs, minlength=50)
        )

    def test_equal_logits_rank_by_id(self) -> None:
        logits = np.zeros(50_000, np.float32)
        for top_k in (3, 100, 5000):
            seen = draws(SamplingParams(top_k=top_k), logits, 1000)
            assert 0.98 * top_k - 2 < seen.max() < top_k


class TestGreedy:
    @quick
    @given(rows())
    def test_takes_the_best_and_among_equals_the_lowest_id(
        self, logits: NDArray[np.float32]
    ) -> None:
        sampler = Sampler(SamplingParams(temperature=0, top_k=3, top_p=0.5), len(logits))
        best = int(np.argmax(np.where(np.isnan(logits), -np.inf, logits)))
        assert sampler.sample(logits) == best

    def test_takes_plus_infinity_and_the_smallest_temperature_is_greedy(self) -> None:
        logits = peaked(1000)
        tiny = SamplingParams(temperature=1e-44)
        assert draws(tiny, logits, 5).tolist() == [int(logits.argmax())] * 5
        logits[[700, 800]] = np.inf
        for params in (SamplingParams(temperature=0), SamplingParams(top_k=1), SamplingParams()):
            assert draws(params, logits, 1)[0] in (700, 800)
        assert draws(SamplingParams(temperature=0), logits, 1)[0] == 700


CONFIGS = [
    SamplingParams(),
    SamplingParams(temperature=0.6),
    SamplingParams(temperature=3.0),
    SamplingParams(top_p=0.9),
    SamplingParams(top_k=7, temperature=1.5),
    SamplingParams(min_p=0.1, temperature=0.7),
    SamplingParams(top_k=0, top_p=0.8, min_p=0.02, temperature=1.3),
    LLAMA_DEFAULTS,
]


class TestDistribution:
    @pytest.mark.parametrize("params", CONFIGS)
    @pytest.mark.parametrize("num_vocab", [40, 1500])
    def test_is_the_oracles(self, params: SamplingParams, num_vocab: int) -> None:
        logits = peaked(num_vocab, seed=num_vocab)
        probs = naive.distribution(naive.edited_logits(logits, params), params)
        assert_drawn_from(draws(params, logits, 10_000), probs)

    @pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
    def test_of_an_untruncated_draw_is_the_softmax(self, spread: float) -> None:
        """The untruncated draw is a rejection sampler: flat, usual and steep rows differ in it."""
        logits = np.random.default_rng(5).normal(0, spread, 2000).astype(np.float32)
        seen = draws(SamplingParams(seed=9), logits, 40_000)
        assert_drawn_from(seen, naive.softmax(logits.astype(np.float64)))

    @pytest.mark.parametrize("params", CONFIGS)
    def test_is_what_llama_cpps_chain_draws_from(self, params: SamplingParams) -> None:
        logits = peaked(1000, seed=3)
        chain = LlamaChain(params, 1000, draws=False)
        tokens, scaled = chain.candidates(logits)
        chain.close()
        probs = np.zeros(1000)
        probs[tokens] = naive.softmax(scaled)
        kept = naive.kept_tokens(naive.edited_logits(logits, params), params)
        assert set(kept.tolist()) == set(tokens.tolist())
        assert_drawn_from(draws(params, logits, 10_000), probs)

    def test_agrees_with_llama_cpps_draws(self) -> None:
        logits = np.random.default_rng(4).normal(0, 1, 500).astype(np.float32)
        chain = LlamaChain(LLAMA_DEFAULTS, 500)
        theirs = np.array([chain.sample(logits) for _ in range(8000)])
        chain.close()
        ours = draws(LLAMA_DEFAULTS, logits, 8000)
        table = np.array([np.bincount(x, minlength=500) for x in (ours, theirs)])
        table = table[:, table.sum(axis=0) >= 10]
        assert table.shape[1] > 5
        assert stats.chi2_contingency(table).pvalue > UNLIKELY


class TestRandomNumbers:
    def test_the_oracles_philox_gives_the_published_answers(self) -> None:
        assert naive.philox(0, (0, 0, 0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
        ones = 0xFFFFFFFF
        assert naive.philox(2**64 - 1, (ones,) * 4) == (
            0x408F276D,
            0x41C83B0E,
            0xA20BC7C6,
            0x6D5451FD,
        )

    @pytest.mark.parametrize("seed", [0, 1, 2**63 + 12345])
    def test_seed_and_index_decide_the_token(self, seed: int) -> None:
        params = SamplingParams(temperature=0.9, top_k=12, top_p=0.97, seed=seed)
        logits = peaked(5000, seed=6)
        for index in (0, 1, 77, 2**32 + 5):
            sampler = Sampler(params, 5000, num_emitted=index)
            expected, distance = naive.draw_small(logits.astype(np.float64), params, index)
            assert distance > 1e-6
            assert sampler.sample(logits) == expected

    def test_draws_of_different_seeds_and_indices_are_independent(self) -> None:
        logits = np.zeros(16, np.float32)
        table = np.zeros((16, 16), np.int64)
        for seed in range(2000):
            first, second = draws(SamplingParams(seed=seed), logits, 2)
            table[first, second] += 1
        assert stats.chisquare(table.ravel()).pvalue > UNLIKELY

    @pytest.mark.parametrize("params", CONFIGS)
    def test_batch_mates_and_resuming_change_nothing(self, params: SamplingParams) -> None:
        params = SamplingParams(
            **{**_asdict(params), "seed": 11, "repeat_penalty": 1.2, "frequency_penalty": 0.1}
        )
        rows = [peaked(3000, seed=i) for i in range(30)]
        prompt = [5, 6, 7, 5]
        alone = Sampler(params, 3000, packed(prompt))
        expected = [alone.sample(row) for row in rows]

        mate = Sampler(SamplingParams(seed=12, top_k=3), 3000)
        beside = Sampler(params, 3000, packed(prompt))
        got = []
        for row in rows:
            mate.sample(row)
            got.append(beside.sample(row))
            mate.sample(row)
        assert got == expected

        for cut in (1, 13, 29):
            resumed = Sampler(params, 3000, packed(prompt + expected[:cut]), num_emitted=cut)
            assert [resumed.sample(row) for row in rows[cut:]] == expected[cut:]

    def test_asking_for_logprobs_changes_no_token(self) -> None:
        logits = peaked(4000)
        for params in CONFIGS:
            asked = SamplingParams(**{**_asdict(params), "top_logprobs": 5})
            assert draws(asked, logits, 200).tolist() == draws(params, logits, 200).tolist()


@pytest.mark.skipif(len(HAS_KERNELS) < 2, reason="this CPU has but one vector width")
class TestKernels:
    @quick
    @given(
        rows(),
        st.builds(
            SamplingParams,
            temperature=st.sampled_from([0.0, 0.3, 1.0, 50.0]),
            top_k=st.sampled_from([0, 5, 150]),
            top_p=st.sampled_from([1.0, 0.9]),
            min_p=st.sampled_from([0.0, 0.01]),
            repeat_penalty=st.sampled_from([1.0, 1.3]),
            seed=st.integers(0, 2**64 - 1),
            top_logprobs=st.just(20),
        ),
    )
    def test_all_draw_the_same(self, logits: NDArray[np.float32], params: SamplingParams) -> None:
        seen = set()
        for kernels in HAS_KERNELS:
            sampler = Sampler(params, len(logits), kernels=kernels)
            drawn = tuple((sampler.sample(logits), sampler.last_logprobs()) for _ in range(5))
            seen.add(repr(drawn))
        assert len(seen) == 1

    @pytest.mark.parametrize("params", [*CONFIGS, SamplingParams(top_k=6000, top_p=0.99)])
    def test_all_draw_the_same_from_a_large_vocabulary(self, params: SamplingParams) -> None:
        logits = peaked(151_936, spread=1.0)
        seen = []
        for kernels in HAS_KERNELS:
            sampler = Sampler(params, len(logits), kernels=kernels)
            seen.append([sampler.sample(logits) for _ in range(10)])
        assert all(tokens == seen[0] for tokens in seen)


class TestLogprobs:
    @quick
    @given(rows(), st.sampled_from([0, 1, 5, 20]), st.sampled_from([0.0, 1.0]))
    def test_are_the_models_own(
        self, logits: NDArray[np.float32], num_top: int, temperature: float
    ) -> None:
        params = SamplingParams(
            temperature=temperature,
            top_k=4,
            top_logprobs=num_top,
            presence_penalty=1.5,
            logit_bias=((0, 3.0),),
        )
        allowed = np.ones(len(logits), np.bool_)
        allowed[::3] = False
        edited = naive.edited_logits(logits, params, allowed=allowed)
        assume(np.isfinite(edited).any())
        sampler = Sampler(params, len(logits))
        token = sampler.sample(logits, mask_of(allowed))
        got = sampler.last_logprobs()
        assert got is not None
        expected = naive.logprobs(logits)
        assert got.logprob == pytest.approx(expected[token], abs=1e-4)
        best = naive.ranking(naive.edited_logits(logits, SamplingParams()))[:num_top]
        assert [token for token, _ in got.top] == best.tolist()
        assert [value for _, value in got.top] == pytest.approx(expected[best], abs=1e-4)

    def test_of_equal_logits_are_the_lowest_ids(self) -> None:
        sampler = Sampler(SamplingParams(top_logprobs=3), 20_000)
        sampler.sample(np.full(20_000, -7.5, np.float32))
        got = sampler.last_logprobs()
        assert got is not None
        assert [token for token, _ in got.top] == [0, 1, 2]
        assert got.logprob == pytest.approx(-np.log(20_000), abs=1e-4)

    def test_are_none_unless_asked_for_and_drawn(self) -> None:
        silent, asked = Sampler(SamplingParams(), 10), Sampler(SamplingParams(top_logprobs=0), 10)
        assert asked.last_logprobs() is None
        for sampler in (silent, asked):
            sampler.sample(np.zeros(10, np.float32))
        assert silent.last_logprobs() is None
        assert asked.last_logprobs() is not None


class TestMaskAndBans:
    @pytest.mark.parametrize("params", CONFIGS)
    def test_only_allowed_tokens_are_drawn_in_their_proportions(
        self, params: SamplingParams
    ) -> None:
        logits = peaked(1000, seed=8)
        rng = np.random.default_rng(8)
        allowed = rng.random(1000) < 0.5
        allowed[256:512] = False
        allowed[512:768] = True
        banned = [int(np.argmax(np.where(allowed, logits, -np.inf))), 600, 600]
        edited = naive.edited_logits(logits, params, banned=banned, allowed=allowed)
        seen = draws(params, logits, 10_000, mask=mask_of(allowed), banned=banned)
        assert_drawn_from(seen, naive.distribution(edited, params))

    @pytest.mark.parametrize("token", [0, 31, 32, 127, 128, 998, 999])
    def test_one_allowed_token_is_drawn(self, token: int) -> None:
        allowed = np.zeros(1000, np.bool_)
        allowed[token] = True
        for params in CONFIGS:
            assert draws(params, peaked(1000), 3, mask=mask_of(allowed)).tolist() == [token] * 3

    def test_nothing_left_is_an_error_that_changes_nothing(self) -> None:
        logits = peaked(100)
        expected = draws(SamplingParams(seed=4), logits, 3).tolist()
        for params in (SamplingParams(seed=4), SamplingParams(temperature=0)):
            sampler = Sampler(params, 100)
            with pytest.raises(NativeError, match="no token may be drawn"):
                sampler.sample(logits, bytes(16))
        sampler = Sampler(SamplingParams(seed=4), 100, banned_tokens=range(100))
        with pytest.raises(NativeError, match="no token may be drawn"):
            sampler.sample(logits)
        sampler.set_banned(())
        with pytest.raises(NativeError, match="no token may be drawn"):
            sampler.sample(np.full(100, np.nan, np.float32))
        assert [sampler.sample(logits) for _ in range(3)] == expected

    def test_a_ban_ends_when_it_is_lifted(self) -> None:
        logits = peaked(100)
        best = int(logits.argmax())
        sampler = Sampler(SamplingParams(temperature=0), 100, banned_tokens=[best])
        assert sampler.sample(logits) != best
        sampler.set_banned([])
        assert sampler.sample(logits) == best


class TestPenaltiesAndBias:
    @pytest.mark.parametrize(
        "params",
        [
            SamplingParams(repeat_penalty=1.3),
            SamplingParams(repeat_penalty=0.9, presence_penalty=0.7, penalty_last_n=5),
            SamplingParams(frequency_penalty=0.4, presence_penalty=-0.1, penalty_last_n=20),
            SamplingParams(frequency_penalty=0.9, repeat_penalty=1.1, penalty_last_n=1),
        ],
    )
    def test_follow_llama_cpps_formula(self, params: SamplingParams) -> None:
        """Greedy decoding is a long chain of comparisons of penalised logits."""
        params = SamplingParams(**{**_asdict(params), "temperature": 0.0})
        rng = np.random.default_rng(2)
        prompt = rng.integers(0, 50, 40).tolist()
        ours, theirs = Sampler(params, 50, packed(prompt)), LlamaChain(params, 50)
        for token in prompt:
            theirs.accept(token)
        history = list(prompt)
        for _ in range(300):
            logits = rng.normal(0, 1, 50).astype(np.float32)
            token = ours.sample(logits)
            assert token == theirs.sample(logits)
            assert token == naive.edited_logits(logits, params, history).argmax()
            history.append(token)
        theirs.close()

    @pytest.mark.parametrize("last_n", [-1, 0, 3, 64, 700, 2**31 - 1])
    def test_look_at_the_window_they_are_told(self, last_n: int) -> None:
        params = SamplingParams(temperature=0, presence_penalty=2, penalty_last_n=last_n)
        rng = np.random.default_rng(3)
        history = rng.integers(0, 2000, 600).tolist()
        sampler = Sampler(params, 2000, packed(history))
        for _ in range(900):
            logits = rng.normal(0, 1, 2000).astype(np.float32)
            token = sampler.sample(logits)
            assert token == naive.edited_logits(logits, params, history).argmax()
            history.append(token)
            if len(history) % 50 == 0:
                sampler.accept(7)
                history.append(7)

    def test_bias_adds_up_and_comes_after_penalties(self) -> None:
        logits = np.array([0.0, 1.0, 2.0], np.float32)
        params = SamplingParams(
            temperature=0, repeat_penalty=2.0, logit_bias=((2, -0.5), (2, 0.75), (0, 1.2))
        )
        # 2 / 2 + 0.25 = 1.25 beats 0 + 1.2; with the bias first it would be 2.25 / 2.
        assert Sampler(params, 3, packed([2])).sample(logits) == 2

    def test_a_bias_of_minus_infinity_forbids(self) -> None:
        params = SamplingParams(logit_bias=((1, -np.inf),))
        assert 1 not in draws(params, np.zeros(4, np.float32), 200)

    def test_with_everything_at_once_the_distribution_is_the_oracles(self) -> None:
        logits = peaked(800, seed=9)
        history = np.argsort(-logits)[[0, 0, 1, 3, 3, 3]].tolist()
        params = SamplingParams(
            temperature=1.2,
            top_p=0.92,
            repeat_penalty=1.1,
            presence_penalty=0.3,
            frequency_penalty=0.2,
            logit_bias=((17, 4.0), (int(logits.argmax()), 2.0)),
        )
        edited = naive.edited_logits(logits, params, history)
        seen = np.array(
            [
                Sampler(params, 800, packed(history), num_emitted=i).sample(logits)
                for i in range(10_000)
            ]
        )
        assert_drawn_from(seen, naive.distribution(edited, params))


class TestBadInput:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"temperature": -0.1}, "temperature"),
            ({"temperature": float("nan")}, "temperature"),
            ({"temperature": 1e300}, "temperature"),
            ({"top_p": 1.5}, "top_p"),
            ({"top_p": -0.1}, "top_p"),
            ({"min_p": float("nan")}, "min_p"),
            ({"repeat_penalty": 0.0}, "repeat_penalty"),
            ({"frequency_penalty": float("inf")}, "frequency_penalty"),
            ({"penalty_last_n": -(2**40)}, "penalty_last_n"),
            ({"top_logprobs": 2**40}, "top_logprobs"),
            ({"logit_bias": ((100, 1.0),)}, "token 100"),
            ({"logit_bias": ((-(2**40), 1.0),)}, "vocabulary has 100"),
            ({"logit_bias": ((3, float("inf")),)}, "bias of token 3"),
        ],
    )
    def test_names_the_parameter(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(RequestError, match=message):
            Sampler(SamplingParams(**wrong), 100)

    def test_huge_but_possible_parameters_work(self) -> None:
        params = SamplingParams(top_k=2**40, seed=2**70 + 1, penalty_last_n=2**40, min_p=1.0)
        logits = peaked(100)
        assert draws(params, logits, 2).tolist() == [int(logits.argmax())] * 2

    def test_tokens_outside_the_vocabulary_are_refused(self) -> None:
        with pytest.raises(RequestError, match="token 100 in the history"):
            Sampler(SamplingParams(presence_penalty=1), 100, packed([5, 100]))
        sampler = Sampler(SamplingParams(), 100)
        with pytest.raises(NativeError, match="token 100"):
            sampler.accept(100)
        with pytest.raises(NativeError, match="token -1"):
            sampler.set_banned([-1])

    def test_short_rows_and_masks_are_refused(self) -> None:
        sampler = Sampler(SamplingParams(), 100)
        with pytest.raises(RequestError, match="99 logits"):
            sampler.sample(np.zeros(99, np.float32))
        with pytest.raises(RequestError, match="mask of 12 bytes"):
            sampler.sample(np.zeros(100, np.float32), bytes(12))

    @pytest.mark.parametrize("num_vocab", [0, -1, 2**20 + 1])
    def test_impossible_vocabularies_are_refused(self, num_vocab: int) -> None:
        with pytest.raises(RequestError, match="vocabulary"):
            Sampler(SamplingParams(), num_vocab)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    "flags",
    [
        # The insides, every byte watched.
        ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
        # What an architecture without variants of its own compiles, such as aarch64, whose
        # compiler may fuse multiplications and additions: the tokens are the same.
        ["-O1", "-DFM_PORTABLE_KERNELS", *(["-mavx2", "-mfma"] if "avx2" in HAS_KERNELS else [])],
    ],
)
def test_selftest_in_c_passes(flags: list[str], tmp_path: Path) -> None:
    native = REPOSITORY / "fmedge" / "_native"
    sources = [*sorted(native.glob("fm_sampler*.c")), native / "fm_error.c"]
    program = tmp_path / "selftest"
    subprocess.run(
        ["cc", *flags, "-Wall", "-Wextra", "-Werror", f"-I{native}",
         str(REPOSITORY / "tests" / "native" / "sampler_selftest.c"), *map(str, sources),
         "-lm", "-o", str(program)],
        check=True, timeout=100,
    )  # fmt: skip
    done = subprocess.run([str(program)], check=False, timeout=100, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "sampler self-test passed\n"), done.stderr


def _asdict(params: SamplingParams) -> dict[str, Any]:
    return {name: getattr(params, name) for name in params.__struct_fields__}
