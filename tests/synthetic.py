"""Writes GGUF models with random weights and a real tokenizer: same arguments, same bytes.

The weights are random, yet shaped so that the model behaves like one: each token's logit is its
log-frequency in the tokenizer's text plus noise that depends on the context, so sampling yields
varied, mostly valid text, and control tokens (end of sequence among them) are improbable.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers

from tests import synthetic_vocab
from tests.synthetic_vocab import CONTROL_TOKENS, FIM_TOKENS, MARKUP_TOKENS, SyntheticVocab

CHATML_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n\\nYou may call functions. Their signatures:\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\n\\nFor each call return a JSON object within <tool_call></tool_call> tags:\\n' }}
{{- '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.role != 'system' or not tools or not loop.first %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{%- if call.function.arguments is string %}{{- call.function.arguments }}
{%- else %}{{- call.function.arguments | tojson }}{%- endif %}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

_KEPT_F32 = ("token_types.weight", "position_embd.weight")  # ggml adds these to f32 only
_DECODERS = ("llama", "qwen2", "qwen3")
_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "synthetic"
_LOGIT_NOISE = 2.5  # standard deviation of the part of a logit that depends on the context
_UNSEEN_LOGIT = -12.0  # of a token that the text lacks, below the most frequent token's
_CONTROL_LOGIT = -20.0
_CONSTANT = 4.0  # what dimension 0 of every embedding holds


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model to write. Sizes in GGUF's terms; pooling is "", "mean", "cls" or "last"."""

    name: str = "synthetic"
    arch: str = "llama"
    vocab_size: int = 512
    n_embd: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 2
    n_ff: int = 128
    ctx: int = 2048
    quant: str = "f16"
    chat_template: str | None = CHATML_TEMPLATE
    special_tokens: tuple[str, ...] = CONTROL_TOKENS + MARKUP_TOKENS
    fim: bool = True
    add_bos: bool = False
    pooling: str = ""
    seed: int = 0


PRESETS: dict[str, ModelSpec] = {
    "tiny": ModelSpec(name="fmedge synthetic tiny"),
    "demo": ModelSpec(
        name="fmedge synthetic demo (random weights)",
        vocab_size=2048,
        n_embd=256,
        n_layers=4,
        n_ff=704,
        ctx=4096,
        quant="q8_0",
    ),
    "bench40m": ModelSpec(
        name="fmedge synthetic 40M",
        vocab_size=32000,
        n_embd=512,
        n_layers=8,
        n_heads=8,
        n_kv_heads=4,
        n_ff=1376,
        ctx=8192,
        quant="q8_0",
    ),
    "embedding": ModelSpec(
        name="fmedge synthetic embedding",
        arch="bert",
        n_kv_heads=4,
        ctx=512,
        pooling="mean",
        chat_template=None,
        fim=False,
        add_bos=True,
    ),
}


def _decoder_tensors(
    spec: ModelSpec, vocab: SyntheticVocab, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors of a pre-norm decoder with tied embeddings; matrices are [out, in].

    The residual stream carries noise in all dimensions but two, which no layer writes: 0 holds a
    constant, and 1 each token's log-frequency. The last layer's neuron 0 turns the constant into a
    large one in dimension 1, where the tied output then finds log-frequency x constant.
    """
    d, head = spec.n_embd, spec.n_embd // spec.n_heads
    kv = head * spec.n_kv_heads
    gain = 1.0 / np.sqrt(2 * spec.n_layers)  # the layers together add about unit variance
    pushed = np.sqrt(d) * 2.0
    rms = np.sqrt(2.0 + (_CONSTANT**2 + pushed**2) / d)
    noise = np.sqrt(2.0) / rms

    def matrix(out: int, into: int, scale: float) -> np.ndarray:
        return rng.standard_normal((out, into), dtype=np.float32) * np.float32(
            scale / np.sqrt(into)
        )

    seen = vocab.frequency > 0
    wanted = np.full(spec.vocab_size, _UNSEEN_LOGIT)
    wanted[seen] = np.maximum(0.8 * np.log(vocab.frequency[seen] / vocab.frequency.max()), -9.0)
    wanted[vocab.num_plain :] = _CONTROL_LOGIT
    embedding = rng.standard_normal((spec.vocab_size, d), dtype=np.float32)
    embedding[:, 0] = _CONSTANT
    embedding[:, 1] = (wanted + 4.5) / (pushed / rms)
    yield "token_embd.weight", embedding

    ones = np.ones(d, dtype=np.float32)
    for i in range(spec.n_layers):
        prefix = f"blk.{i}."
        yield prefix + "attn_norm.weight", ones
        yield prefix + "attn_q.weight", matrix(d, d, 2.0)
        yield prefix + "attn_k.weight", matrix(kv, d, 2.0)
        yield prefix + "attn_v.weight", matrix(kv, d, 1.0)
        if spec.arch == "qwen2":
            yield prefix + "attn_q.bias", matrix(1, d, 0.1)[0]
            yield prefix + "attn_k.bias", matrix(1, kv, 0.1)[0]
            yield prefix + "attn_v.bias", matrix(1, kv, 0.1)[0]
        if spec.arch == "qwen3":
            sharpness = np.full(head, 2.0**0.5, dtype=np.float32)
            yield prefix + "attn_q_norm.weight", sharpness
            yield prefix + "attn_k_norm.weight", sharpness
        output = matrix(d, d, 2.0 * gain)
        gate, up, down = matrix(spec.n_ff, d, 1.0), matrix(spec.n_ff, d, 1.0), None
        down = matrix(d, spec.n_ff, 3.0 * gain)
        output[:2] = 0.0
        down[:2] = 0.0
        if i == spec.n_layers - 1:
            constant = _CONSTANT / np.sqrt(2.0 + _CONSTANT**2 / d)  # after the norm, about
            gate[0], up[0], down[:, 0] = 0.0, 0.0, 0.0
            gate[0, 0], up[0, 0] = 3.0 / constant, 1.0 / constant
            down[1, 0] = pushed / (3.0 / (1.0 + np.exp(-3.0)))
        yield prefix + "attn_output.weight", output
        yield prefix + "ffn_norm.weight", ones
        yield prefix + "ffn_gate.weight", gate
        yield prefix + "ffn_up.weight", up
        yield prefix + "ffn_down.weight", down
    # Random signs keep a token's own embedding in the residual from voting for that token again.
    sign = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), size=d)
    final = sign * np.float32(_LOGIT_NOISE / (np.sqrt(d) * noise))
    final[0], final[1] = 0.0, 1.0
    yield "output_norm.weight", final.astype(np.float32)


def _bert_tensors(
    spec: ModelSpec, vocab: SyntheticVocab, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors of a post-norm encoder with learned positions; matrices are [out, in]."""
    del vocab
    d = spec.n_embd

    def matrix(out: int, into: int, scale: float = 1.0) -> np.ndarray:
        return rng.standard_normal((out, into), dtype=np.float32) * np.float32(
            scale / np.sqrt(into)
        )

    def norm(name: str) -> Iterator[tuple[str, np.ndarray]]:
        yield name + ".weight", np.ones(d, dtype=np.float32)
        yield name + ".bias", np.zeros(d, dtype=np.float32)

    yield "token_embd.weight", rng.standard_normal((spec.vocab_size, d), dtype=np.float32)
    yield "token_types.weight", np.zeros((2, d), dtype=np.float32)
    yield "position_embd.weight", rng.standard_normal((spec.ctx, d), dtype=np.float32) * 0.1
    yield from norm("token_embd_norm")
    for i in range(spec.n_layers):
        prefix = f"blk.{i}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield prefix + part + ".weight", matrix(d, d)
            yield prefix + part + ".bias", np.zeros(d, dtype=np.float32)
        yield from norm(prefix + "attn_output_norm")
        yield prefix + "ffn_up.weight", matrix(spec.n_ff, d)
        yield prefix + "ffn_up.bias", np.zeros(spec.n_ff, dtype=np.float32)
        yield prefix + "ffn_down.weight", matrix(d, spec.n_ff)
        yield prefix + "ffn_down.bias", np.zeros(d, dtype=np.float32)
        yield from norm(prefix + "layer_output_norm")


def _add_metadata(writer: gguf.GGUFWriter, spec: ModelSpec, vocab: SyntheticVocab) -> None:
    writer.add_name(spec.name)
    writer.add_context_length(spec.ctx)
    writer.add_embedding_length(spec.n_embd)
    writer.add_block_count(spec.n_layers)
    writer.add_feed_forward_length(spec.n_ff)
    writer.add_head_count(spec.n_heads)
    writer.add_vocab_size(spec.vocab_size)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType["MOSTLY_" + spec.quant.upper()].value)
    if spec.arch == "bert":
        writer.add_layer_norm_eps(1e-12)
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)
    else:
        writer.add_head_count_kv(spec.n_kv_heads)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(spec.n_embd // spec.n_heads)
        if spec.arch == "qwen3":
            writer.add_key_length(spec.n_embd // spec.n_heads)
            writer.add_value_length(spec.n_embd // spec.n_heads)
    if spec.pooling:
        writer.add_pooling_type(gguf.PoolingType[spec.pooling.upper()])
    kinds = [gguf.TokenType.NORMAL] * vocab.num_plain
    kinds += [
        gguf.TokenType.USER_DEFINED if token in MARKUP_TOKENS else gguf.TokenType.CONTROL
        for token in vocab.specials
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if spec.arch.startswith("qwen") else "gpt-2")
    writer.add_token_list(list(vocab.tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges(list(vocab.merges))
    writer.add_bos_token_id(vocab.id("<|endoftext|>"))
    writer.add_eos_token_id(vocab.id("<|im_end|>"))
    writer.add_pad_token_id(vocab.id("<|endoftext|>"))
    writer.add_add_bos_token(spec.add_bos)
    if spec.fim:
        for key, token in zip(("fim_pre", "fim_suf", "fim_mid"), FIM_TOKENS, strict=True):
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", vocab.id(token))
    if spec.chat_template is not None:
        writer.add_chat_template(spec.chat_template)


def write_model(path: Path | str, spec: ModelSpec | None = None, **fields: Any) -> Path:
    """Write the model at `path` through a temporary file beside it: whole, or not at all.

    Fields given by name replace the spec's. ValueError for a spec that no GGUF can hold.
    """
    spec = ModelSpec(**{**asdict(spec or ModelSpec()), **fields})
    if spec.arch not in (*_DECODERS, "bert"):
        raise ValueError(f"arch must be one of {', '.join(_DECODERS)}, bert; got {spec.arch!r}")
    missing = {"<|endoftext|>", "<|im_end|>"}.difference(spec.special_tokens)
    if missing:
        raise ValueError(f"special_tokens must contain {', '.join(sorted(missing))}")
    specials = spec.special_tokens + (FIM_TOKENS if spec.fim else ())
    vocab = synthetic_vocab.train(spec.vocab_size, specials)
    kind = gguf.GGMLQuantizationType[spec.quant.upper()]
    tensors = (_bert_tensors if spec.arch == "bert" else _decoder_tensors)(
        spec, vocab, np.random.default_rng(spec.seed)
    )
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".synthetic-") as folder:
        partial = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(partial, spec.arch)
        _add_metadata(writer, spec, vocab)
        for name, tensor in tensors:
            if tensor.ndim == 1 or name in _KEPT_F32:
                writer.add_tensor(name, tensor)
            else:
                writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(partial, path)
    return path


def cached(preset: str, folder: Path | None = None, **fields: Any) -> Path:
    """The preset's file, written once per content: parallel test processes may race for it."""
    spec = ModelSpec(**{**asdict(PRESETS[preset]), **fields})
    identity = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode())
    for source in (Path(__file__), Path(synthetic_vocab.__file__)):
        identity.update(source.read_bytes())
    identity.update(f"{sys.version}{tokenizers.__version__}".encode())
    folder = folder or _CACHE
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{preset}-{identity.hexdigest()[:16]}.gguf"
    if not path.exists():
        write_model(path, spec)
    return path


def write_sparse(path: Path | str, spec: ModelSpec) -> Path:
    """A file whose header names a decoder's real tensors and whose data is a hole on disk.

    Enough to plan placement for a model of any size; its weights read as zeros.
    """
    d, head = spec.n_embd, spec.n_embd // spec.n_heads
    kv, ff = head * spec.n_kv_heads, spec.n_ff
    shapes = {"token_embd.weight": (spec.vocab_size, d), "output_norm.weight": (d,)}
    for i in range(spec.n_layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (d,),
            f"blk.{i}.attn_q.weight": (d, d),
            f"blk.{i}.attn_k.weight": (kv, d),
            f"blk.{i}.attn_v.weight": (kv, d),
            f"blk.{i}.attn_output.weight": (d, d),
            f"blk.{i}.ffn_norm.weight": (d,),
            f"blk.{i}.ffn_gate.weight": (ff, d),
            f"blk.{i}.ffn_up.weight": (ff, d),
            f"blk.{i}.ffn_down.weight": (d, ff),
        }
    vocab = synthetic_vocab.train(512, CONTROL_TOKENS)
    filler = tuple(f"<unused{n}>" for n in range(spec.vocab_size - len(vocab.tokens)))
    vocab = SyntheticVocab(
        vocab.tokens + filler, vocab.merges, vocab.num_plain, vocab.specials + filler, np.empty(0)
    )
    kind = gguf.GGMLQuantizationType[spec.quant.upper()]
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    writer = gguf.GGUFWriter(path, spec.arch)
    _add_metadata(writer, ModelSpec(**{**asdict(spec), "fim": False}), vocab)
    data_bytes = 0
    for name, shape in shapes.items():
        matrix = len(shape) == 2
        nbytes = int(np.prod(shape)) * block_bytes // block_size if matrix else 4 * shape[0]
        dtype = kind if matrix else gguf.GGMLQuantizationType.F32
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=dtype)
        data_bytes += -(-nbytes // writer.data_alignment) * writer.data_alignment
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header_bytes = os.path.getsize(path)
    aligned = -(-header_bytes // writer.data_alignment) * writer.data_alignment
    os.truncate(path, aligned + data_bytes)
    return Path(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.synthetic", description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="demo")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        path = write_model(options.output, PRESETS[options.preset])
    except OSError as error:
        print(f"cannot write {options.output}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{path}: random weights, preset {options.preset}, {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
