"""Embeddings: our pooling for causal models, llama.cpp's for encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmedge.errors import NativeError
from tests.native.conftest import LoadEngine
from tests.native.test_engine import logits_after, pack, prompt


def floats(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.float32)


@pytest.mark.parametrize("length", [1, 5, 64, 65, 200])
def test_poolings_of_a_causal_model_are_what_its_token_vectors_say(
    load_engine: LoadEngine, length: int
) -> None:
    tokens = pack(prompt(length))
    vectors = floats(load_engine(pooling="none").embed(tokens, 0)).reshape(length, -1)
    assert vectors.shape[1] == 64
    expected = {"": vectors.mean(axis=0), "mean": vectors.mean(axis=0)}
    expected |= {"cls": vectors[0], "last": vectors[-1]}
    for pooling, vector in expected.items():
        engine = load_engine(pooling=pooling)
        np.testing.assert_allclose(floats(engine.embed(tokens, 1)), vector, rtol=0.02, atol=0.02)
        assert engine.seq_len(1) == 0


def test_token_vectors_depend_on_what_comes_before_alone(load_engine: LoadEngine) -> None:
    engine = load_engine(pooling="none")
    tokens = prompt(100)
    whole = floats(engine.embed(pack(tokens), 0)).reshape(100, -1)
    part = floats(engine.embed(pack(tokens[:70]), 0)).reshape(70, -1)
    np.testing.assert_allclose(part, whole[:70], rtol=0.02, atol=0.02)


def test_embedding_disturbs_no_other_sequence(load_engine: LoadEngine) -> None:
    engine = load_engine()
    logits_after(engine, 0, prompt(30))
    expected = logits_after(engine, 0, [5], pos=30)
    assert engine.seq_remove(0, 30)
    engine.embed(pack(prompt(90, seed=1)), 1)
    np.testing.assert_allclose(logits_after(engine, 0, [5], pos=30), expected, atol=1e-4)


def test_an_encoder_embeds_and_does_not_generate(
    load_engine: LoadEngine, embedding_path: Path
) -> None:
    engine = load_engine(model_path=str(embedding_path), ctx_size=0)
    assert engine.info.pooling == "mean"
    assert engine.info.kv_tokens == 0
    assert not engine.can_generate
    first = floats(engine.embed(pack(prompt(12)), 0))
    assert first.shape == (engine.info.num_embd,)
    assert np.isfinite(first).all()
    assert np.abs(first).max() > 0
    other = floats(engine.embed(pack(prompt(12, seed=1)), 0))
    again = floats(engine.embed(pack(prompt(12)), 3))
    np.testing.assert_allclose(again, first, rtol=1e-3, atol=1e-4)
    assert np.abs(other - first).max() > 1e-3
    engine.batch.add_token(0, 0, 1)
    with pytest.raises(NativeError, match="cannot generate"):
        engine.step()


def test_an_encoder_takes_its_whole_context_at_once(
    load_engine: LoadEngine, embedding_path: Path
) -> None:
    engine = load_engine(model_path=str(embedding_path), ctx_size=0, batch_size=64)
    assert engine.info.ctx_size == 512
    assert len(floats(engine.embed(pack(prompt(512)), 0))) == engine.info.num_embd


def test_what_cannot_be_embedded_is_refused(load_engine: LoadEngine) -> None:
    engine = load_engine()
    for tokens, seq in ((prompt(257), 0), ([], 0), ([1], 4), ([99999], 0)):
        with pytest.raises(NativeError):
            engine.embed(pack(tokens), seq)
    assert len(engine.embed(pack([1]), 0)) == 4 * engine.info.num_embd
