"""Writes GGUFs of many architectures whose weights are holes: enough to load and to size, and a few
KB on disk. What they compute is nothing; what they take of memory is a real model's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests import synthetic_vocab
from tests.synthetic_vocab import CONTROL_TOKENS

Tensors = dict[str, tuple[int, ...]]
Keys = dict[str, Any]

VOCAB = 2048
EMBD = 512
HEADS = 8
KV_HEADS = 2
HEAD = 64
FF = 1408
EXPERTS = 8
EXPERT_FF = 256
CTX = 32768

_KEPT_F32 = ("norm", "conv", "ssm_a", "ssm_d", "ffn_gate_inp", "rope_freqs", "sinks")


def _base(num_layers: int) -> Keys:
    return {
        "context_length": CTX,
        "embedding_length": EMBD,
        "block_count": num_layers,
        "feed_forward_length": FF,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }


def _attention(prefix: str, *, q: int = HEADS * HEAD, kv: int = KV_HEADS * HEAD) -> Tensors:
    return {
        prefix + "attn_norm.weight": (EMBD,),
        prefix + "attn_q.weight": (q, EMBD),
        prefix + "attn_k.weight": (kv, EMBD),
        prefix + "attn_v.weight": (kv, EMBD),
        prefix + "attn_output.weight": (EMBD, q),
    }


def _qk_norms(prefix: str, head: int = HEAD) -> Tensors:
    return {prefix + "attn_q_norm.weight": (head,), prefix + "attn_k_norm.weight": (head,)}


def _ffn(prefix: str, width: int = FF) -> Tensors:
    return {
        prefix + "ffn_norm.weight": (EMBD,),
        prefix + "ffn_gate.weight": (width, EMBD),
        prefix + "ffn_up.weight": (width, EMBD),
        prefix + "ffn_down.weight": (EMBD, width),
    }


def _experts(prefix: str) -> Tensors:
    return {
        prefix + "ffn_gate_inp.weight": (EXPERTS, EMBD),
        prefix + "ffn_gate_exps.weight": (EXPERTS, EXPERT_FF, EMBD),
        prefix + "ffn_up_exps.weight": (EXPERTS, EXPERT_FF, EMBD),
        prefix + "ffn_down_exps.weight": (EXPERTS, EMBD, EXPERT_FF),
    }


def _ends(*, is_tied: bool = False) -> Tensors:
    ends: Tensors = {"token_embd.weight": (VOCAB, EMBD), "output_norm.weight": (EMBD,)}
    return ends if is_tied else {**ends, "output.weight": (VOCAB, EMBD)}


def _moe_keys(num_layers: int) -> Keys:
    return {
        **_base(num_layers),
        "expert_count": EXPERTS,
        "expert_used_count": 2,
        "expert_feed_forward_length": EXPERT_FF,
    }


def llama(num_layers: int) -> tuple[Keys, Tensors]:
    tensors = {**_ends(is_tied=True), "rope_freqs.weight": (HEAD // 2,)}
    for i in range(num_layers):
        tensors |= {**_attention(f"blk.{i}."), **_ffn(f"blk.{i}.")}
    return _base(num_layers), tensors


def qwen3moe(num_layers: int) -> tuple[Keys, Tensors]:
    tensors = _ends()
    for i in range(num_layers):
        prefix = f"blk.{i}."
        tensors |= {**_attention(prefix), **_qk_norms(prefix), **_experts(prefix)}
        tensors[prefix + "ffn_norm.weight"] = (EMBD,)
    return _moe_keys(num_layers), tensors


def gemma3(num_layers: int) -> tuple[Keys, Tensors]:
    """Five layers of six slide over 512 tokens; heads of 128."""
    keys = {
        **_base(num_layers),
        "attention.key_length": 128,
        "attention.value_length": 128,
        "attention.sliding_window": 512,
    }
    tensors = _ends(is_tied=True)
    for i in range(num_layers):
        prefix = f"blk.{i}."
        tensors |= _attention(prefix, q=HEADS * 128, kv=KV_HEADS * 128)
        tensors |= {**_qk_norms(prefix, 128), **_ffn(prefix)}
        tensors[prefix + "post_attention_norm.weight"] = (EMBD,)
        tensors[prefix + "post_ffw_norm.weight"] = (EMBD,)
    return keys, tensors


def gpt_oss(num_layers: int) -> tuple[Keys, Tensors]:
    """Every other layer slides; experts with biases; sinks."""
    keys = {**_moe_keys(num_layers), "attention.sliding_window": 128}
    tensors = _ends()
    for i in range(num_layers):
        prefix = f"blk.{i}."
        tensors |= {**_attention(prefix), **_experts(prefix)}
        tensors |= {
            prefix + "post_attention_norm.weight": (EMBD,),
            prefix + "attn_sinks.weight": (HEADS,),
            prefix + "attn_output.bias": (EMBD,),
            prefix + "ffn_gate_inp.bias": (EXPERTS,),
            prefix + "ffn_gate_exps.bias": (EXPERTS, EXPERT_FF),
            prefix + "ffn_up_exps.bias": (EXPERTS, EXPERT_FF),
            prefix + "ffn_down_exps.bias": (EXPERTS, EMBD),
        }
    return keys, tensors


def deepseek2(num_layers: int) -> tuple[Keys, Tensors]:
    """Latent attention: K is 256 + 32 wide for all heads, V is part of it; a dense layer first."""
    lora, q_lora, rope, nope, v_head = 256, 192, 32, 64, 64
    keys = {
        **_moe_keys(num_layers),
        "attention.head_count_kv": 1,
        "attention.key_length": lora + rope,
        "attention.value_length": lora,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": v_head,
        "attention.kv_lora_rank": lora,
        "attention.q_lora_rank": q_lora,
        "rope.dimension_count": rope,
        "leading_dense_block_count": 1,
        "expert_shared_count": 1,
        "vocab_size": VOCAB,
    }
    tensors = _ends()
    for i in range(num_layers):
        prefix = f"blk.{i}."
        tensors |= {
            prefix + "attn_norm.weight": (EMBD,),
            prefix + "attn_q_a.weight": (q_lora, EMBD),
            prefix + "attn_q_a_norm.weight": (q_lora,),
            prefix + "attn_q_b.weight": (HEADS * (nope + rope), q_lora),
            prefix + "attn_kv_a_mqa.weight": (lora + rope, EMBD),
            prefix + "attn_kv_a_norm.weight": (lora,),
            prefix + "attn_k_b.weight": (HEADS, lora, nope),
            prefix + "attn_v_b.weight": (HEADS, v_head, lora),
            prefix + "attn_output.weight": (EMBD, HEADS * v_head),
        }
        if i == 0:
            tensors |= _ffn(prefix)
            continue
        tensors |= _experts(prefix)
        tensors |= {
            prefix + "ffn_norm.weight": (EMBD,),
            prefix + "ffn_gate_shexp.weight": (EXPERT_FF, EMBD),
            prefix + "ffn_up_shexp.weight": (EXPERT_FF, EMBD),
            prefix + "ffn_down_shexp.weight": (EMBD, EXPERT_FF),
        }
    return keys, tensors


def _ssm_keys() -> Keys:
    return {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 2 * EMBD,
        "ssm.state_size": 16,
        "ssm.time_step_rank": 32,
    }


def _ssm(prefix: str) -> Tensors:
    inner = 2 * EMBD
    return {
        prefix + "attn_norm.weight": (EMBD,),
        prefix + "ssm_in.weight": (2 * inner, EMBD),
        prefix + "ssm_conv1d.weight": (inner, 4),
        prefix + "ssm_conv1d.bias": (inner,),
        prefix + "ssm_x.weight": (32 + 2 * 16, inner),
        prefix + "ssm_dt.weight": (inner, 32),
        prefix + "ssm_dt.bias": (inner,),
        prefix + "ssm_a": (inner, 16),
        prefix + "ssm_d": (inner,),
        prefix + "ssm_out.weight": (EMBD, inner),
    }


def mamba(num_layers: int) -> tuple[Keys, Tensors]:
    """Recurrent all through: no K and V, a state for each sequence."""
    keys = {**_base(num_layers), **_ssm_keys(), "attention.head_count": 0}
    del keys["attention.head_count_kv"]
    tensors = _ends()
    for i in range(num_layers):
        tensors |= _ssm(f"blk.{i}.")
    return {**keys, "feed_forward_length": 0}, tensors


def jamba(num_layers: int) -> tuple[Keys, Tensors]:
    """Attention in every fourth layer, recurrent ones between."""
    heads_kv = [KV_HEADS if i % 4 == 2 else 0 for i in range(num_layers)]
    keys = {**_base(num_layers), **_ssm_keys(), "attention.head_count_kv": heads_kv}
    tensors = _ends()
    for i, heads in enumerate(heads_kv):
        prefix = f"blk.{i}."
        tensors |= _attention(prefix) if heads else _ssm(prefix)
        if not heads:
            tensors |= {
                prefix + "ssm_dt_norm.weight": (32,),
                prefix + "ssm_b_norm.weight": (16,),
                prefix + "ssm_c_norm.weight": (16,),
            }
        tensors |= _ffn(prefix)
    return keys, tensors


def falcon_h1(num_layers: int) -> tuple[Keys, Tensors]:
    """Attention and a state in every layer."""
    inner, state, groups, heads = 768, 64, 1, 12
    conv = inner + 2 * groups * state
    keys = {
        **_base(num_layers),
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
    }
    tensors = _ends()
    for i in range(num_layers):
        prefix = f"blk.{i}."
        tensors |= {**_attention(prefix), **_ffn(prefix)}
        tensors |= {
            prefix + "ssm_in.weight": (inner + conv + heads, EMBD),
            prefix + "ssm_conv1d.weight": (conv, 4),
            prefix + "ssm_conv1d.bias": (conv,),
            prefix + "ssm_dt.bias": (heads,),
            prefix + "ssm_a": (heads, 1),
            prefix + "ssm_d": (heads, 1),
            prefix + "ssm_norm.weight": (groups, inner // groups),
            prefix + "ssm_out.weight": (EMBD, inner),
        }
        tensors[prefix + "ffn_norm"] = tensors.pop(prefix + "ffn_norm.weight")
    return keys, tensors


def lfm2(num_layers: int) -> tuple[Keys, Tensors]:
    """Short convolutions, attention in every third layer."""
    heads_kv = [KV_HEADS if i % 3 == 2 else 0 for i in range(num_layers)]
    keys = {
        **_base(num_layers),
        "attention.head_count_kv": heads_kv,
        "shortconv.l_cache": 3,
    }
    tensors = _ends(is_tied=True)
    tensors["token_embd_norm.weight"] = tensors.pop("output_norm.weight")
    for i, heads in enumerate(heads_kv):
        prefix = f"blk.{i}."
        if heads:
            tensors |= {**_attention(prefix), **_qk_norms(prefix)}
        else:
            tensors |= {
                prefix + "attn_norm.weight": (EMBD,),
                prefix + "shortconv.conv.weight": (EMBD, 3),
                prefix + "shortconv.in_proj.weight": (3 * EMBD, EMBD),
                prefix + "shortconv.out_proj.weight": (EMBD, EMBD),
            }
        tensors |= _ffn(prefix)
    return keys, tensors


def qwen3next(num_layers: int) -> tuple[Keys, Tensors]:
    """Gated delta nets, full attention in every fourth layer, shared experts."""
    state, k_heads, v_heads = 64, 4, 8
    k_dim, v_dim = state * k_heads, state * v_heads
    keys = {
        **_moe_keys(num_layers),
        "expert_shared_feed_forward_length": EXPERT_FF,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": v_dim,
        "ssm.state_size": state,
        "ssm.time_step_rank": v_heads,
        "ssm.group_count": k_heads,
        "rope.dimension_count": HEAD // 4,
    }
    tensors = _ends()
    for i in range(num_layers):
        prefix = f"blk.{i}."
        if (i + 1) % 4 == 0:
            tensors |= {**_attention(prefix), **_qk_norms(prefix)}
            tensors[prefix + "attn_q.weight"] = (2 * HEADS * HEAD, EMBD)
        else:
            tensors |= {
                prefix + "attn_norm.weight": (EMBD,),
                prefix + "attn_qkv.weight": (2 * k_dim + v_dim, EMBD),
                prefix + "attn_gate.weight": (v_dim, EMBD),
                prefix + "ssm_conv1d.weight": (2 * k_dim + v_dim, 4),
                prefix + "ssm_dt.bias": (v_heads,),
                prefix + "ssm_a": (v_heads,),
                prefix + "ssm_ba.weight": (2 * v_heads, EMBD),
                prefix + "ssm_norm.weight": (state,),
                prefix + "ssm_out.weight": (EMBD, v_dim),
            }
        tensors |= _experts(prefix)
        tensors |= {
            prefix + "post_attention_norm.weight": (EMBD,),
            prefix + "ffn_gate_inp_shexp.weight": (EMBD,),
            prefix + "ffn_gate_shexp.weight": (EXPERT_FF, EMBD),
            prefix + "ffn_up_shexp.weight": (EXPERT_FF, EMBD),
            prefix + "ffn_down_shexp.weight": (EMBD, EXPERT_FF),
        }
    return keys, tensors


ARCHITECTURES: dict[str, Callable[[int], tuple[Keys, Tensors]]] = {
    "llama": llama,
    "qwen3moe": qwen3moe,
    "gemma3": gemma3,
    "gpt-oss": gpt_oss,
    "deepseek2": deepseek2,
    "mamba": mamba,
    "jamba": jamba,
    "falcon-h1": falcon_h1,
    "lfm2": lfm2,
    "qwen3next": qwen3next,
}


def write_shape(
    path: Path | str,
    architecture: str,
    *,
    num_layers: int = 8,
    quant: str = "q8_0",
    keys: Keys | None = None,
    name: str = "",
) -> Path:
    """A loadable model of the architecture with weights of zeros, a hole on disk. keys: in place of
    the architecture's own; name: what the file says it is instead."""
    own, tensors = ARCHITECTURES[architecture](num_layers)
    writer = gguf.GGUFWriter(path, name or architecture)
    _add_keys(writer, name or architecture, {**own, **(keys or {})})
    _write(writer, Path(path), tensors, quant)
    return Path(path)


def write_split(
    folder: Path, architecture: str, *, num_layers: int = 8, quant: str = "q8_0"
) -> tuple[Path, Path]:
    """The same in two parts, named as llama.cpp wants them."""
    keys, tensors = ARCHITECTURES[architecture](num_layers)
    names = list(tensors)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    paths = []
    for number, half in enumerate(halves):
        path = folder / f"model-{number + 1:05d}-of-00002.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        if number == 0:
            _add_keys(writer, architecture, keys)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(names))
        _write(writer, path, {name: tensors[name] for name in half}, quant)
        paths.append(path)
    return paths[0], paths[1]


def _add_keys(writer: gguf.GGUFWriter, architecture: str, keys: Keys) -> None:
    for key, value in keys.items():
        name = f"{architecture}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    vocab = synthetic_vocab.train(512, CONTROL_TOKENS)
    filler = [f"<unused{n}>" for n in range(VOCAB - len(vocab.tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*vocab.tokens, *filler])
    kinds = [gguf.TokenType.NORMAL] * vocab.num_plain
    writer.add_token_types(kinds + [gguf.TokenType.CONTROL] * (VOCAB - len(kinds)))
    writer.add_token_merges(list(vocab.merges))
    writer.add_eos_token_id(vocab.id("<|im_end|>"))


def _write(writer: gguf.GGUFWriter, path: Path, tensors: Tensors, quant: str) -> None:
    kind = gguf.GGMLQuantizationType[quant.upper()]
    data_bytes = 0
    for name, shape in tensors.items():
        is_quantised = len(shape) > 1 and not any(part in name for part in _KEPT_F32)
        dtype = kind if is_quantised else gguf.GGMLQuantizationType.F32
        block, block_bytes = gguf.GGML_QUANT_SIZES[dtype]
        nbytes = int(np.prod(shape)) * block_bytes // block
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=dtype)
        data_bytes += -(-nbytes // writer.data_alignment) * writer.data_alignment
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header_bytes = os.path.getsize(path)
    aligned = -(-header_bytes // writer.data_alignment) * writer.data_alignment
    os.truncate(path, aligned + data_bytes)
