"""`python -m training.export`: a checkpoint and its tokenizer as the GGUF that fmedge ships."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from training import tokenizer as vocabulary
from training.model import Shape

QUANTISATION = gguf.GGMLQuantizationType.Q8_0
DESCRIPTION = (
    "A tiny demonstration model, trained on text that fmedge's own generators wrote. "
    "docs/embedded-model.md says what it can do."
)


def write(
    path: Path, shape: Shape, weights: dict[str, torch.Tensor], tokenizer: Tokenizer, commit: str
) -> None:
    """The model at `path`: whole, or not at all. weights: as torch names them, float32."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        partial = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(partial, "qwen3")
        _add_metadata(writer, shape, commit)
        _add_vocabulary(writer, tokenizer)
        for name, tensor in tensors(shape, weights):
            if tensor.ndim == 1:
                writer.add_tensor(name, tensor)
            else:
                quantised = gguf.quantize(tensor, QUANTISATION)
                writer.add_tensor(name, quantised, raw_dtype=QUANTISATION)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(partial, path)


def tensors(shape: Shape, weights: dict[str, torch.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors under llama.cpp's names, matrices as [out, in]."""
    plain = {name: tensor.float().cpu().numpy() for name, tensor in weights.items()}
    inner = shape.head_count * shape.key_length
    kv = shape.head_count_kv * shape.key_length
    yield "token_embd.weight", plain["embedding.weight"]
    yield "output_norm.weight", plain["norm.weight"]
    for i in range(shape.block_count):
        ours, theirs = f"blocks.{i}.", f"blk.{i}."
        q, k, v = np.split(plain[ours + "attn.qkv.weight"], (inner, inner + kv))
        gate, up = np.split(plain[ours + "gate_up.weight"], 2)
        yield theirs + "attn_norm.weight", plain[ours + "attn_norm.weight"]
        yield theirs + "attn_q.weight", q
        yield theirs + "attn_k.weight", k
        yield theirs + "attn_v.weight", v
        yield theirs + "attn_q_norm.weight", plain[ours + "attn.q_norm.weight"]
        yield theirs + "attn_k_norm.weight", plain[ours + "attn.k_norm.weight"]
        yield theirs + "attn_output.weight", plain[ours + "attn.output.weight"]
        yield theirs + "ffn_norm.weight", plain[ours + "ffn_norm.weight"]
        yield theirs + "ffn_gate.weight", gate
        yield theirs + "ffn_up.weight", up
        yield theirs + "ffn_down.weight", plain[ours + "down.weight"]


def _add_metadata(writer: gguf.GGUFWriter, shape: Shape, commit: str) -> None:
    writer.add_name("fmedge embedded")
    writer.add_description(DESCRIPTION)
    writer.add_license("apache-2.0")
    writer.add_version(commit)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.embedding_length)
    writer.add_block_count(shape.block_count)
    writer.add_feed_forward_length(shape.feed_forward_length)
    writer.add_head_count(shape.head_count)
    writer.add_head_count_kv(shape.head_count_kv)
    writer.add_key_length(shape.key_length)
    writer.add_value_length(shape.key_length)
    writer.add_layer_norm_rms_eps(shape.rms_epsilon)
    writer.add_rope_freq_base(shape.rope_freq_base)
    writer.add_rope_dimension_count(shape.key_length)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_sampling_temp(0.0)  # one answer to each question is right
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0.value)


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    contents = vocabulary.contents(tokenizer)
    kinds = {
        **dict.fromkeys(vocabulary.CONTROL, gguf.TokenType.CONTROL),
        **dict.fromkeys(vocabulary.MARKUP, gguf.TokenType.USER_DEFINED),
    }
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.PRE)
    writer.add_token_list(contents.tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in contents.tokens])
    writer.add_token_merges([" ".join(merge) for merge in contents.merges])
    writer.add_bos_token_id(contents.tokens.index("<|endoftext|>"))
    writer.add_pad_token_id(contents.tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(contents.tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(vocabulary.TEMPLATE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("folder", type=Path, help="a training run's")
    parser.add_argument("output", type=Path, metavar="FILE.gguf")
    options = parser.parse_args()
    state = torch.load(options.folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    tokenizer = Tokenizer.from_file(str(options.folder / "tokenizer.json"))
    _, commit = state["commits"][-1]
    write(options.output, Shape(**state["shape"]), state["model"], tokenizer, commit)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes, {state['step']:,} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
