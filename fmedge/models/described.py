"""A model that is described by its figures, as a GGUF whose weights are a hole on disk: header,
tensor list and vocabulary are a model's, so that all that reads files plans and sizes it alike.

The rule: equal figures give equal bytes, under a name made of them; a file is there whole or not
at all. Nothing can be computed with it: its weights read as zeros.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fmedge.config.cluster import Figures
from fmedge.errors import ConfigError
from fmedge.models.plain_vocab import CONTROL_TOKENS, TEMPLATE, PlainVocab, plain_vocab

if TYPE_CHECKING:
    import gguf

FORMAT = 1
"""Of these files: another one is written under another name."""

QUANTS: dict[str, tuple[str, str, str]] = {
    "F32": ("F32", "F32", "F32"),
    "F16": ("F16", "F16", "F16"),
    "BF16": ("BF16", "BF16", "BF16"),
    "Q8_0": ("Q8_0", "Q8_0", "Q8_0"),
    "Q6_K": ("Q6_K", "Q6_K", "Q6_K"),
    "Q5_K_M": ("Q5_K", "Q6_K", "Q6_K"),
    "Q5_K_S": ("Q5_K", "Q5_K", "Q6_K"),
    "Q5_0": ("Q5_0", "Q5_0", "Q6_K"),
    "Q4_K_M": ("Q4_K", "Q6_K", "Q6_K"),
    "Q4_K_S": ("Q4_K", "Q4_K", "Q6_K"),
    "Q4_0": ("Q4_0", "Q4_0", "Q6_K"),
    "Q3_K_M": ("Q3_K", "Q4_K", "Q6_K"),
    "Q2_K": ("Q2_K", "Q3_K", "Q6_K"),
}
"""By file type, ggml's types of most matrices, of those that llama.cpp's quantiser gives more bits
in half of the layers (values, and the way down), and of the head."""


def described_model(figures: Figures, folder: Path, where: str) -> Path:
    """The file of these figures in `folder`, written if it is not there. `where`: whose they are,
    for messages. ConfigError where no GGUF can have them, or the folder cannot be written."""
    key = msgspec.json.encode((FORMAT, figures), order="deterministic")
    quant = figures.quant.upper()
    path = folder / f"described-{quant}-{hashlib.sha256(key).hexdigest()[:16]}.gguf"
    if path.is_file():
        return path
    tensors = _tensors(figures, where)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A folder of its own: whoever else writes the same file does not meet this one.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".described-") as own:
            partial = Path(own) / path.name
            _write(partial, figures, tensors)
            os.replace(partial, path)
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot write the described model to {folder}: {error.strerror}"
        ) from error
    return path


def _architecture(figures: Figures) -> str:
    """One of llama.cpp's that has just these parts."""
    if figures.experts:
        return "gpt-oss" if figures.window else "qwen3moe"
    return "gemma3" if figures.window else "llama"


def _tensors(figures: Figures, where: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape (rows of the last dimension contiguous) and ggml type by name."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    types = QUANTS.get(figures.quant.upper())
    if types is None:
        raise ConfigError(f"{where}: quant: {figures.quant!r} is not one of {', '.join(QUANTS)}")
    most, more, head = types
    made: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, shape, has_more in _shapes(figures):
        kind = more if has_more else most
        if name == "output.weight":
            kind = head
        if len(shape) == 1 or name.endswith("ffn_gate_inp.weight"):
            kind = "F32"
        block = GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0]
        if shape[-1] % block:
            raise ConfigError(
                f"{where}: {name} has rows of {shape[-1]}, which {kind} (of quant "
                f"{figures.quant}) cannot hold: make it a multiple of {block}, or take another "
                "quant, such as F16"
            )
        made[name] = shape, kind
    return made


def _shapes(figures: Figures) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Name, shape, whether it is of those with more bits."""
    d = figures.embedding
    head = figures.head_size or d // figures.heads
    q, kv = figures.heads * head, figures.kv_heads * head
    architecture = _architecture(figures)
    yield "token_embd.weight", (figures.vocab, d), False
    yield "output_norm.weight", (d,), False
    if not figures.tied:
        yield "output.weight", (figures.vocab, d), False
    for i in range(figures.layers):
        # llama.cpp's quantiser: the first and the last eighth, and every third between.
        eighth = figures.layers // 8
        has_more = i < eighth or i >= figures.layers - eighth or (i - eighth) % 3 == 2
        prefix = f"blk.{i}."
        yield prefix + "attn_norm.weight", (d,), False
        yield prefix + "attn_q.weight", (q, d), False
        yield prefix + "attn_k.weight", (kv, d), False
        yield prefix + "attn_v.weight", (kv, d), has_more
        yield prefix + "attn_output.weight", (d, q), False
        if architecture in ("qwen3moe", "gemma3"):
            yield prefix + "attn_q_norm.weight", (head,), False
            yield prefix + "attn_k_norm.weight", (head,), False
        if architecture in ("gpt-oss", "gemma3"):
            yield prefix + "post_attention_norm.weight", (d,), False
        if architecture == "gemma3":
            yield prefix + "post_ffw_norm.weight", (d,), False
        if architecture == "gpt-oss":
            yield prefix + "attn_sinks.weight", (figures.heads,), False
        else:
            yield prefix + "ffn_norm.weight", (d,), False
        if figures.experts:
            yield from _experts(figures, prefix, has_more)
        else:
            ff = figures.feed_forward
            yield prefix + "ffn_gate.weight", (ff, d), False
            yield prefix + "ffn_up.weight", (ff, d), False
            yield prefix + "ffn_down.weight", (d, ff), has_more


def _experts(
    figures: Figures, prefix: str, has_more: bool
) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    d, experts, ff = figures.embedding, figures.experts, figures.expert_feed_forward
    yield prefix + "ffn_gate_inp.weight", (experts, d), False
    yield prefix + "ffn_gate_exps.weight", (experts, ff, d), False
    yield prefix + "ffn_up_exps.weight", (experts, ff, d), False
    yield prefix + "ffn_down_exps.weight", (experts, d, ff), has_more
    if figures.window:  # gpt-oss, whose experts and outputs have biases
        yield prefix + "attn_output.bias", (d,), False
        yield prefix + "ffn_gate_inp.bias", (experts,), False
        yield prefix + "ffn_gate_exps.bias", (experts, ff), False
        yield prefix + "ffn_up_exps.bias", (experts, ff), False
        yield prefix + "ffn_down_exps.bias", (experts, d), False


def _write(path: Path, figures: Figures, tensors: dict[str, tuple[tuple[int, ...], str]]) -> None:
    import gguf
    import numpy as np

    logging.getLogger("gguf").setLevel(logging.WARNING)  # it tells everybody what it writes
    writer = gguf.GGUFWriter(path, _architecture(figures))
    try:
        _add_keys(writer, figures)
        _add_vocab(writer, plain_vocab(figures.vocab))
        data_bytes = 0
        for name, (shape, kind) in tensors.items():
            dtype = gguf.GGMLQuantizationType[kind]
            block, block_bytes = gguf.GGML_QUANT_SIZES[dtype]
            num_bytes = prod(shape) * block_bytes // block
            writer.add_tensor_info(name, shape, np.dtype(np.float32), num_bytes, raw_dtype=dtype)
            data_bytes += -(-num_bytes // writer.data_alignment) * writer.data_alignment
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    header_bytes = path.stat().st_size
    aligned = -(-header_bytes // writer.data_alignment) * writer.data_alignment
    os.truncate(path, aligned + data_bytes)


def _add_keys(writer: gguf.GGUFWriter, figures: Figures) -> None:
    import gguf

    head = figures.head_size or figures.embedding // figures.heads
    writer.add_name(f"described model, {figures.quant.upper()}")
    writer.add_context_length(figures.ctx)
    writer.add_embedding_length(figures.embedding)
    writer.add_block_count(figures.layers)
    writer.add_feed_forward_length(figures.feed_forward)
    writer.add_head_count(figures.heads)
    writer.add_head_count_kv(figures.kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(figures.vocab)
    if figures.window:
        writer.add_sliding_window(figures.window)
    if figures.experts:
        writer.add_expert_count(figures.experts)
        writer.add_expert_used_count(figures.experts_used)
        writer.add_expert_feed_forward_length(figures.expert_feed_forward)
    file_types: dict[str, Any] = {
        name.removeprefix("MOSTLY_").removeprefix("ALL_"): kind
        for name, kind in gguf.LlamaFileType.__members__.items()
    }
    writer.add_file_type(file_types[figures.quant.upper()])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocab(writer: gguf.GGUFWriter, vocab: PlainVocab) -> None:
    import gguf

    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(list(vocab.tokens))
    num_control = len(vocab.tokens) - vocab.num_text
    kinds = [gguf.TokenType.NORMAL] * vocab.num_text + [gguf.TokenType.CONTROL] * num_control
    writer.add_token_types(kinds)
    end, _, turn_end = range(vocab.num_text, vocab.num_text + len(CONTROL_TOKENS))
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(turn_end)
    writer.add_eot_token_id(turn_end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
