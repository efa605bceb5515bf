"""Shapes from headers: every kind of attention, split files, experts, ties, and hostile headers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.errors import ModelFileError
from fmedge.sched.provision import attention
from fmedge.sched.provision.attention import Keys, layer_caches
from fmedge.sched.provision.shapes import ALIGNMENT, shape_of
from fmedge.types import GgufHeader, GgufTensor


def tensor(name: str, *shape: int, kind: str = "f16", nbytes: int = 0) -> GgufTensor:
    elements = 1
    for size in shape:
        elements *= size
    return GgufTensor(name=name, type=kind, shape=shape, offset=0, nbytes=nbytes or 2 * elements)


def header(
    keys: dict[str, Any], *tensors: GgufTensor, architecture: str = "llama", path: str = "m.gguf"
) -> GgufHeader:
    metadata = {"general.architecture": architecture}
    metadata |= {f"{architecture}.{key}": value for key, value in keys.items()}
    return GgufHeader(
        path=path, version=3, alignment=32, data_offset=0, file_bytes=1 << 40, metadata=metadata,
        tensors=tensors,
    )  # fmt: skip


BASE = {
    "block_count": 2, "embedding_length": 64, "context_length": 4096,
    "attention.head_count": 4, "attention.head_count_kv": 2,
}  # fmt: skip
EMBEDDING = tensor("token_embd.weight", 64, 1000)
HEAD = tensor("output.weight", 64, 1000)


def caches(
    architecture: str, num_layers: int = 12, **keys: Any
) -> tuple[attention.LayerCache, ...]:
    named = {"embedding_length": 1024, "attention.head_count": 16, "attention.head_count_kv": 4}
    named |= {key.replace("__", "."): value for key, value in keys.items()}
    metadata = {f"{architecture}.{key}": value for key, value in named.items()}
    return layer_caches(Keys({**metadata, "general.architecture": architecture}), num_layers)


def windows(*args: Any, **keys: Any) -> list[int]:
    return [cache.window for cache in caches(*args, **keys)]


def test_layers_inputs_and_head_are_told_apart() -> None:
    shape = shape_of(
        [
            header(
                BASE,
                EMBEDDING,
                HEAD,
                tensor("output_norm.weight", 64, kind="f32", nbytes=256),
                tensor("rope_freqs.weight", 8, kind="f32", nbytes=32),
                tensor("blk.0.attn_q.weight", 64, 64),
                tensor("blk.1.attn_q.weight", 64, 64, kind="q8_0", nbytes=4352),
                tensor("blk.7.attn_q.weight", 64, 64),
            )
        ],
        "chat",
    )
    assert (shape.name, shape.file, shape.num_vocab, shape.num_layers) == (
        "chat",
        "m.gguf",
        1000,
        2,
    )
    assert shape.input_bytes == 128000
    assert shape.output_bytes == 128000 + 256
    assert shape.shared_bytes == ALIGNMENT
    assert shape.tied_bytes == 0
    assert [layer.weight_bytes for layer in shape.layers] == [8192, 4352]
    assert [layer.quant for layer in shape.layers] == ["f16", "q8_0"]
    assert shape.layers[0].pad_bytes == 0
    assert shape.layers[1].pad_bytes == 512  # 448 elements of 34 / 32 bytes, aligned


def test_a_tied_embedding_is_the_head_too_but_not_an_encoders() -> None:
    tied = shape_of([header(BASE, EMBEDDING)])
    assert tied.output_bytes == tied.tied_bytes == tied.input_bytes == 128000
    encoder = shape_of([header(BASE, EMBEDDING, architecture="bert")])
    assert encoder.output_bytes == encoder.tied_bytes == 0


def test_of_experts_a_token_reads_those_it_meets() -> None:
    keys = {**BASE, "expert_count": 8, "expert_used_count": 2}
    experts = [tensor(f"blk.0.ffn_{part}_exps.weight", 64, 32, 8) for part in ("up", "down")]
    shared = tensor("blk.0.ffn_up_shexp.weight", 64, 32)
    shape = shape_of([header(keys, EMBEDDING, *experts, shared, architecture="qwen3moe")])
    layer = shape.layers[0]
    assert layer.expert_bytes == 2 * 2 * 64 * 32 * 8
    assert layer.active_expert_bytes == layer.expert_bytes / 4
    assert layer.active_expert_params == 2 * 64 * 32 * 2
    assert layer.num_params == layer.active_expert_params + 64 * 32
    assert layer.read_bytes == layer.weight_bytes - 0.75 * layer.expert_bytes
    assert (shape.num_experts, shape.num_experts_used) == (8, 2)


def test_parts_of_a_model_are_one_shape() -> None:
    first = header(BASE, EMBEDDING, tensor("blk.0.attn_q.weight", 64, 64))
    second = header({}, tensor("blk.1.attn_q.weight", 64, 64), HEAD, path="2.gguf")
    assert shape_of([first, second]).layers == shape_of([header(
        BASE, EMBEDDING, tensor("blk.0.attn_q.weight", 64, 64),
        tensor("blk.1.attn_q.weight", 64, 64), HEAD,
    )]).layers  # fmt: skip


def test_heads_that_predict_further_tokens_are_layers_that_hold_nothing() -> None:
    keys = {**BASE, "block_count": 3, "nextn_predict_layers": 1}
    blocks = [tensor(f"blk.{i}.attn_q.weight", 64, 64) for i in range(3)]
    shape = shape_of([header(keys, EMBEDDING, *blocks, architecture="glm4moe")])
    assert shape.num_layers == 3
    assert [layer.weight_bytes for layer in shape.layers] == [8192, 8192, 0]
    assert [layer.k_width for layer in shape.layers] == [32, 32, 0]


def test_lfm2_calls_its_last_norm_by_another_name() -> None:
    norm = tensor("token_embd_norm.weight", 64, kind="f32", nbytes=256)
    lfm2 = shape_of([header(BASE, EMBEDDING, norm, architecture="lfm2")])
    bloom = shape_of([header(BASE, EMBEDDING, norm, architecture="bloom")])
    assert lfm2.output_bytes - lfm2.tied_bytes == 256
    assert bloom.layers[0].weight_bytes == 256


def test_grouped_heads_may_differ_from_layer_to_layer() -> None:
    found = caches("deci", 3, attention__head_count=[16, 8, 16], attention__head_count_kv=[4, 0, 2])
    assert [cache.k_width for cache in found] == [256, 0, 128]
    assert [cache.query_width for cache in found] == [1024, 0, 1024]


def test_key_and_value_heads_have_their_own_lengths() -> None:
    (cache, *_) = caches("qwen3", attention__key_length=128, attention__value_length=96)
    assert (cache.k_width, cache.v_width, cache.query_width) == (512, 384, 2048)


@pytest.mark.parametrize(
    ("architecture", "keys", "dense"),
    [
        ("gemma2", {}, {1, 3, 5, 7, 9, 11}),
        ("gemma3", {"attention__sliding_window": 512}, {5, 11}),
        ("gemma3", {}, set(range(12))),
        ("gpt-oss", {"attention__sliding_window": 128}, {1, 3, 5, 7, 9, 11}),
        ("cohere2moe", {"attention__sliding_window": 4096}, {0, 4, 8}),
        ("llama4", {}, {3, 7, 11}),
        ("llama4", {"attention__sliding_window": 0}, set(range(12))),
        ("smallthinker", {"attention__sliding_window": 1}, {0, 4, 8}),
        ("phi3", {"attention__sliding_window": 2048}, set(range(12))),
        ("exaone4", {"attention__sliding_window": 2048}, set(range(12))),
        ("olmo2", {"attention__sliding_window": 64, "attention__sliding_window_pattern": 3},
         {2, 5, 8, 11}),
        ("gemma4", {"attention__sliding_window": 64,
                    "attention__sliding_window_pattern": [True] * 11 + [False]}, {11}),
        ("lfm2", {"attention__sliding_window": 64}, set()),
    ],
)  # fmt: skip
def test_layers_slide_in_each_architectures_pattern(
    architecture: str, keys: dict[str, Any], dense: set[int]
) -> None:
    assert {i for i, window in enumerate(windows(architecture, **keys)) if not window} == dense


def test_windows_that_headers_leave_out_are_llama_cpps_own() -> None:
    assert max(windows("gemma2")) == 4096
    assert max(windows("llama4", attention__sliding_window=100)) == 8192
    assert max(windows("exaone4", 64)) == 4096


def test_layers_that_slide_may_have_heads_of_their_own() -> None:
    flags = [True, False]
    slides, dense = caches(
        "mimo2", 2, attention__sliding_window=128, attention__sliding_window_pattern=flags,
        attention__key_length=192, attention__value_length=128, attention__key_length_swa=64,
    )  # fmt: skip
    assert (slides.k_width, slides.v_width) == (256, 512)
    assert (dense.k_width, dense.v_width) == (768, 512)


def test_latent_attention_keeps_k_alone() -> None:
    keys = {"attention__head_count_kv": 1, "attention__key_length": 576,
            "attention__value_length": 512}  # fmt: skip
    (latent, *_) = caches(
        "deepseek2", **keys, attention__key_length_mla=192, attention__value_length_mla=128
    )
    assert (latent.k_width, latent.v_width) == (576, 0)
    (plain, *_) = caches("deepseek2", **keys)
    assert (plain.k_width, plain.v_width) == (576, 512)
    (indexed, *_) = caches(
        "deepseek32", **keys, attention__key_length_mla=192, attention__value_length_mla=128,
        attention__indexer__key_length=128,
    )  # fmt: skip
    assert indexed.k_width == 576 + 128


def test_layers_that_share_anothers_kv_have_none() -> None:
    gemma3n = caches("gemma3n", 30, attention__sliding_window=512)
    assert [bool(cache.k_width) for cache in gemma3n] == [True] * 20 + [False] * 10
    assert gemma3n[-1].query_width > 0
    gemma4 = caches("gemma4", 10, attention__shared_kv_layers=4)
    assert [bool(cache.k_width) for cache in gemma4] == [True] * 6 + [False] * 4


SSM = {"ssm__conv_kernel": 4, "ssm__inner_size": 2048, "ssm__state_size": 16, "ssm__group_count": 2}


def test_recurrent_layers_keep_a_state_for_each_sequence() -> None:
    for cache in caches("mamba", **SSM):  # whose groups llama.cpp does not read
        assert (cache.k_width, cache.v_width) == (0, 0)
        assert cache.state_bytes == 4 * (3 * 2048 + 16 * 2048)
    (mamba2, *_) = caches("mamba2", **SSM)
    assert mamba2.state_bytes == 4 * (3 * (2048 + 2 * 2 * 16) + 16 * 2048)
    (rwkv, *_) = caches("rwkv7", wkv__head_size=64)
    assert rwkv.state_bytes == 4 * (2 * 1024 + 1024 * 64)


def test_hybrid_layers_are_recurrent_or_attend_or_both() -> None:
    jamba = caches("jamba", 4, **SSM, attention__head_count_kv=[0, 4, 0, 0])
    assert [bool(cache.state_bytes) for cache in jamba] == [True, False, True, True]
    assert [bool(cache.k_width) for cache in jamba] == [False, True, False, False]
    both = caches("falcon-h1", 2, **SSM)
    assert all(cache.state_bytes and cache.k_width for cache in both)
    every = caches("qwen3next", 8, **SSM)
    assert [bool(cache.k_width) for cache in every] == [False, False, False, True] * 2
    named = caches("qwen35", 4, **SSM, attention__recurrent_layers=[0, 1, 1, 0])
    assert [bool(cache.k_width) for cache in named] == [True, False, False, True]
    feed_forward = caches(
        "nemotron_h", 3, **SSM, attention__head_count_kv=[0, 4, 0],
        feed_forward_length=[0, 0, 4096],
    )  # fmt: skip
    assert [bool(cache.state_bytes) for cache in feed_forward] == [True, False, False]
    assert [bool(cache.k_width) for cache in feed_forward] == [False, True, False]


def test_encoders_keep_nothing() -> None:
    assert all(cache.k_width == cache.v_width == 0 for cache in caches("bert"))


def test_an_unknown_architecture_is_bounded_by_all_that_its_keys_can_mean() -> None:
    keys = {**SSM, "attention__sliding_window": 128, "attention__indexer__key_length": 64}
    assert not attention.is_known("tomorrow")
    for cache in caches("tomorrow", **keys):
        assert (cache.k_width, cache.v_width, cache.window) == (256 + 64, 256, 0)
        assert cache.state_bytes > 0
    assert not shape_of([header(BASE, EMBEDDING, architecture="tomorrow")]).is_known


NUMBERS = st.one_of(
    st.integers(-(2**40), 2**40), st.booleans(), st.text(max_size=3), st.floats(), st.none(),
    st.lists(st.integers(-2, 2**33), max_size=4),
)  # fmt: skip
NAMES = st.sampled_from((
    "embedding_length", "attention.head_count", "attention.head_count_kv",
    "attention.key_length", "attention.sliding_window", "attention.sliding_window_pattern",
    "nextn_predict_layers", "expert_count", "expert_used_count", "ssm.inner_size",
    "ssm.conv_kernel", "wkv.head_size", "kda.head_dim", "num_loops",
    "attention.shared_kv_layers", "full_attention_interval", "shortconv.l_cache",
))  # fmt: skip


@given(
    architecture=st.sampled_from(sorted(attention._KNOWN | {"tomorrow", "deepseek4", "nanbeige"})),
    keys=st.dictionaries(NAMES, NUMBERS, max_size=8),
)
def test_no_header_makes_a_shape_that_cannot_be(architecture: str, keys: dict[str, Any]) -> None:
    try:
        shape = shape_of([header({"block_count": 3, **keys}, EMBEDDING, architecture=architecture)])
    except ModelFileError:
        return
    for layer in shape.layers:
        assert min(layer.k_width, layer.v_width, layer.window, layer.state_bytes) >= 0
        assert 0 <= layer.active_expert_bytes <= layer.expert_bytes <= layer.weight_bytes


@pytest.mark.parametrize("count", [0, -1, 513, 1 << 40, "2", None])
def test_a_header_without_a_sensible_number_of_layers_is_refused(count: object) -> None:
    with pytest.raises(ModelFileError, match="layers"):
        shape_of([header({**BASE, "block_count": count}, EMBEDDING)])
