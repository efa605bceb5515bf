"""Stepping, sampling, sequences and state of a real llama.cpp engine."""

from __future__ import annotations

import threading
from array import array

import numpy as np
import pytest

from fmedge._native.engine import Engine
from fmedge._native.logs import LogCursor
from fmedge._native.sampler import Sampler
from fmedge.errors import KvCacheFullError, NativeError, StepAbortedError
from fmedge.types import SamplingParams
from tests.native.conftest import LoadEngine

GREEDY = SamplingParams(temperature=0.0)


def pack(tokens: list[int]) -> bytes:
    return array("i", tokens).tobytes()


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(token) for token in rng.integers(0, 400, length)]


def logits_after(engine: Engine, seq: int, tokens: list[int], pos: int = 0) -> np.ndarray:
    engine.batch.clear()
    row = engine.batch.add(seq, pos, pack(tokens), True)
    engine.step()
    return np.array(engine.logits(row))


def generate(engine: Engine, seq: int, tokens: list[int], length: int) -> list[int]:
    sampler = Sampler(GREEDY, engine.info.num_vocab)
    engine.batch.clear()
    row = engine.batch.add(seq, 0, pack(tokens), True)
    output: list[int] = []
    for pos in range(len(tokens), len(tokens) + length):
        engine.step()
        output += engine.sample([row], [sampler])
        engine.batch.clear()
        row = engine.batch.add_token(seq, pos, output[-1])
    return output


def test_a_row_is_numbered_in_the_order_of_asking(load_engine: LoadEngine) -> None:
    engine = load_engine()
    assert engine.batch.add(0, 0, pack([1, 2, 3]), False) == -1
    assert engine.batch.add(1, 0, pack([4, 5]), True) == 0
    assert engine.batch.add_token(2, 0, 6) == 1
    assert engine.batch.num_tokens == 6
    engine.step()
    assert [engine.seq_len(seq) for seq in range(4)] == [3, 2, 1, 0]
    with pytest.raises(NativeError, match="no output row 2"):
        engine.logits(2)


@pytest.mark.parametrize("kv_unified", [False, True])
def test_a_batch_of_sequences_gives_each_what_it_gets_alone(
    load_engine: LoadEngine, kv_unified: bool
) -> None:
    engine = load_engine(kv_unified=kv_unified)
    prompts = [prompt(5 + 7 * seq, seed=seq) for seq in range(4)]
    alone = []
    for tokens in prompts:
        alone.append(logits_after(engine, 0, tokens))
        assert engine.seq_remove(0)
    engine.batch.clear()
    rows = [engine.batch.add(seq, 0, pack(tokens), True) for seq, tokens in enumerate(prompts)]
    engine.step()
    for row, expected in zip(rows, alone, strict=True):
        np.testing.assert_allclose(np.array(engine.logits(row)), expected, rtol=0.02, atol=0.05)


def test_decode_rows_before_a_prefill_and_after_it_give_the_same_logits(
    load_engine: LoadEngine,
) -> None:
    engine = load_engine()
    for seq in (0, 1):
        logits_after(engine, seq, prompt(9, seed=seq))
    engine.batch.clear()
    row_late = engine.batch.add(2, 0, pack(prompt(40, seed=2)), True)
    row_early = engine.batch.add_token(0, 9, 7)
    engine.step()
    prefill_first = np.array(engine.logits(row_late)), np.array(engine.logits(row_early))
    assert engine.seq_remove(2)
    assert engine.seq_remove(0, 9)
    engine.batch.clear()
    row_early = engine.batch.add_token(0, 9, 7)
    row_late = engine.batch.add(2, 0, pack(prompt(40, seed=2)), True)
    engine.step()
    np.testing.assert_allclose(np.array(engine.logits(row_late)), prefill_first[0], atol=0.05)
    np.testing.assert_allclose(np.array(engine.logits(row_early)), prefill_first[1], atol=0.05)


def test_greedy_sampling_takes_the_largest_logit_and_obeys_its_mask(
    load_engine: LoadEngine,
) -> None:
    engine = load_engine()
    logits = logits_after(engine, 0, prompt(20))
    best, second = (int(token) for token in np.argsort(-logits)[:2])
    num_words = (engine.info.num_vocab + 31) // 32
    words = np.full(num_words, 0xFFFFFFFF, dtype=np.uint32)
    words[best // 32] &= ~np.uint32(1 << (best % 32))
    samplers = [Sampler(GREEDY, engine.info.num_vocab) for _ in range(3)]
    nothing = bytes(4 * num_words)
    tokens = engine.sample([0, 0, 0], samplers, [None, words.tobytes(), nothing])
    assert tokens == [best, second, -1]


def test_sampling_refuses_rows_and_masks_that_do_not_fit(load_engine: LoadEngine) -> None:
    engine = load_engine()
    logits_after(engine, 0, [1, 2])
    sampler = Sampler(GREEDY, engine.info.num_vocab)
    with pytest.raises(NativeError, match="1 output rows"):
        engine.sample([1], [sampler])
    with pytest.raises(NativeError, match="as many samplers"):
        engine.sample([0], [])
    with pytest.raises(NativeError, match="does not cover"):
        engine.sample([0], [sampler], [b"\xff" * 4])


@pytest.mark.parametrize("kv_unified", [False, True])
def test_a_copied_prefix_continues_as_if_it_had_been_prefilled(
    load_engine: LoadEngine, kv_unified: bool
) -> None:
    engine = load_engine(kv_unified=kv_unified)
    tokens = prompt(60)
    logits_after(engine, 0, tokens)
    expected = logits_after(engine, 1, [*tokens[:40], 7])
    engine.seq_copy(0, 2, 40)
    assert engine.seq_len(2) == 40
    np.testing.assert_allclose(logits_after(engine, 2, [7], pos=40), expected, atol=0.05)
    assert engine.seq_len(0) == 60


def test_a_copy_replaces_what_its_target_held(load_engine: LoadEngine) -> None:
    engine = load_engine()
    logits_after(engine, 0, prompt(30))
    logits_after(engine, 1, prompt(50, seed=1))
    engine.seq_copy(0, 1, 30)
    assert engine.seq_len(1) == 30
    engine.seq_copy(0, 1, 0)
    assert engine.seq_len(1) == 0
    for src, dst, num_tokens in [(0, 0, 3), (0, 1, 31), (0, 1, -1), (0, 4, 1), (-1, 0, 1)]:
        with pytest.raises(NativeError):
            engine.seq_copy(src, dst, num_tokens)


def test_unified_mode_has_sequences_beyond_its_slots(load_engine: LoadEngine) -> None:
    engine = load_engine(kv_unified=True, kv_tokens=512)
    assert engine.num_seqs == 20
    assert engine.info.kv_tokens == 512
    logits_after(engine, 0, prompt(30))
    engine.seq_copy(0, 19, 30)
    assert engine.seq_remove(0)
    assert engine.seq_len(19) == 30
    assert load_engine().num_seqs == 4


def test_a_restored_state_continues_in_another_sequence(load_engine: LoadEngine) -> None:
    engine = load_engine()
    tokens = prompt(50)
    logits_after(engine, 0, tokens)
    state = engine.state_save(0)
    expected = logits_after(engine, 0, [3], pos=50)
    engine.state_restore(3, state)
    assert engine.seq_len(3) == 50
    np.testing.assert_allclose(logits_after(engine, 3, [3], pos=50), expected, atol=0.05)


def test_a_broken_state_is_refused_and_leaves_the_sequence_empty(load_engine: LoadEngine) -> None:
    engine = load_engine()
    logits_after(engine, 0, prompt(50))
    state = engine.state_save(0)
    for broken in (state[: len(state) // 2], b"", b"\xff" * len(state)):
        with pytest.raises(NativeError):
            engine.state_restore(1, broken)
        assert engine.seq_len(1) == 0
    assert engine.seq_len(0) == 50


def test_a_pending_copy_is_not_saved_before_it_happened(load_engine: LoadEngine) -> None:
    engine = load_engine()
    logits_after(engine, 0, prompt(50))
    engine.seq_copy(0, 1, 20)
    with pytest.raises(NativeError, match="pending"):
        engine.state_save(1)
    logits_after(engine, 1, [3], pos=20)
    assert engine.state_save(1)


def test_a_full_cache_changes_nothing(load_engine: LoadEngine) -> None:
    engine = load_engine(slots=2)
    logits_after(engine, 0, prompt(200))
    engine.batch.clear()
    engine.batch.add(0, 200, pack(prompt(100)), True)
    with pytest.raises(KvCacheFullError, match="100 tokens"):
        engine.step()
    assert engine.seq_len(0) == 200
    logits_after(engine, 0, [5], pos=200)
    assert engine.seq_len(0) == 201


def test_an_abort_ends_the_step_and_only_that(load_engine: LoadEngine) -> None:
    engine = load_engine(slots=1, ctx_size=2048, batch_size=2048, ubatch_size=32)
    engine.batch.add(0, 0, pack(prompt(2048)), True)
    is_stepping = threading.Event()

    def abort() -> None:
        assert is_stepping.wait(10)
        engine.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    is_stepping.set()
    cursor = LogCursor()
    with pytest.raises(StepAbortedError):
        engine.step()
    thread.join(10)
    assert not cursor.problems()
    assert engine.seq_len(0) < 2048
    assert engine.seq_remove(0)
    logits_after(engine, 0, [1, 2, 3])


def test_an_abort_with_no_step_in_flight_ends_the_next_one(load_engine: LoadEngine) -> None:
    engine = load_engine()
    engine.abort()
    engine.batch.add(0, 0, pack([1, 2]), True)
    with pytest.raises(StepAbortedError):
        engine.step()
    assert engine.seq_len(0) == 0
    engine.step()
    assert engine.seq_len(0) == 2


def test_a_batch_refuses_what_does_not_fit(load_engine: LoadEngine) -> None:
    engine = load_engine(batch_size=16)
    with pytest.raises(NativeError, match="cannot take 17"):
        engine.batch.add(0, 0, pack(prompt(17)), True)
    with pytest.raises(NativeError, match="sequence id 4"):
        engine.batch.add_token(4, 0, 1)
    with pytest.raises(NativeError, match="cannot take 0"):
        engine.batch.add(0, 0, b"", True)
    for pos in range(16):
        engine.batch.add_token(0, pos, 1)
    with pytest.raises(NativeError, match="cannot take 1 more"):
        engine.batch.add_token(0, 16, 1)


@pytest.mark.parametrize(("token", "pos"), [(99999, 0), (-5, 0), (1, 7)])
def test_llama_cpp_refuses_tokens_and_positions_that_cannot_be(
    load_engine: LoadEngine, token: int, pos: int
) -> None:
    engine = load_engine()
    logits_after(engine, 0, [1, 2])
    engine.batch.clear()
    engine.batch.add_token(0, 2 + pos, token)
    with pytest.raises(NativeError, match="could not decode a batch of 1 tokens"):
        engine.step()
    assert engine.seq_len(0) == 2
    logits_after(engine, 0, [3], pos=2)


def test_an_empty_batch_is_refused(load_engine: LoadEngine) -> None:
    with pytest.raises(NativeError, match="empty"):
        load_engine().step()


def test_a_closed_engine_says_so(load_engine: LoadEngine) -> None:
    engine = load_engine()
    engine.close()
    engine.close()
    for use in (engine.step, engine.abort, engine.memory):
        with pytest.raises(NativeError, match="closed"):
            use()
    with pytest.raises(NativeError, match="closed"):
        engine.batch.add_token(0, 0, 1)


def test_quantised_kv_and_flash_attention_generate_alike(load_engine: LoadEngine) -> None:
    tokens = prompt(30)
    plain = generate(load_engine(flash_attn="off"), 0, tokens, 8)
    assert generate(load_engine(flash_attn="on"), 0, tokens, 8) == plain
    engine = load_engine(flash_attn="on", type_k="bf16", type_v="bf16")
    assert generate(engine, 0, tokens, 8)[:1] == plain[:1]
