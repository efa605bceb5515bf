"""A model's shape from its GGUF's header: what each layer weighs, multiplies and keeps of a token.

The rule: bytes are what llama.cpp allocates for a tensor with its alignment, never the file's size
divided; where an architecture is not known, they are an upper bound.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

from fmedge.errors import ModelFileError
from fmedge.sched.provision import attention
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.types import GgufHeader, GgufTensor

ALIGNMENT = 128
"""Bytes to which every backend but a few pads a tensor's place (CUDA and RPC 128, CPU 64)."""

_CUDA_ROW = 512
"""CUDA and HIP pad a quantised tensor's last row to so many elements."""

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_BLOCK = re.compile(r"^(?:(?:enc|dec)\.)?blk\.(\d+)\.")
EXPERTS = re.compile(r"ffn_.*_exps")
_INPUTS = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")
_ON_EVERY_DEVICE = ("rope_freqs.", "rope_factors_long.", "rope_factors_short.")
_WITH_LAYER_0 = ("token_embd_norm.", "per_layer_model_proj.", "per_layer_proj_norm.", "conv1d.")
_UNUSED = ("masked_embd_",)
_NO_HEAD = (
    "bert", "eurobert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert",
    "nomic-bert-moe", "t5encoder",
)  # fmt: skip


def shape_of(headers: Sequence[GgufHeader], name: str = "") -> ModelShape:
    """The shape of the model whose file has this header, or whose parts have these, the first
    part first. ModelFileError where the header lacks what it takes."""
    if not headers:
        raise ValueError("a model has at least one header")
    first = headers[0]
    keys = attention.Keys(first.metadata)
    num_blocks = keys.number("block_count")
    if not keys.architecture or not 1 <= num_blocks <= _MAX_LAYERS:
        raise ModelFileError(f"{first.path} does not say its architecture or its layers.")
    blocks: list[list[GgufTensor]] = [[] for _ in range(num_blocks)]
    inputs: list[GgufTensor] = []
    outputs: list[GgufTensor] = []
    shared: list[GgufTensor] = []
    for tensor in (tensor for header in headers for tensor in header.tensors):
        match = _BLOCK.match(tensor.name)
        if match is not None:
            if int(match[1]) < num_blocks:
                blocks[int(match[1])].append(tensor)
        elif tensor.name.startswith(_UNUSED):
            continue
        elif tensor.name.startswith(_INPUTS):
            inputs.append(tensor)
        elif tensor.name.startswith(_ON_EVERY_DEVICE):
            shared.append(tensor)
        elif tensor.name.startswith(_WITH_LAYER_0) and not _is_output_norm(keys, tensor.name):
            blocks[0].append(tensor)
        else:
            outputs.append(tensor)
    embedding = next((t for t in inputs if t.name == "token_embd.weight"), None)
    is_tied = (
        embedding is not None
        and keys.architecture not in _NO_HEAD
        and not any(t.name == "output.weight" for t in outputs)
    )
    if is_tied and embedding is not None:
        outputs.append(embedding)
    layers = _layers(keys, blocks)
    num_vocab = embedding.shape[1] if embedding is not None and len(embedding.shape) > 1 else 0
    everything = [t for header in headers for t in header.tensors]
    return ModelShape(
        name=name,
        file=first.path,
        architecture=keys.architecture,
        quant=_quant(everything),
        ctx_train=keys.number("context_length"),
        num_vocab=num_vocab or keys.number("vocab_size"),
        num_embd=keys.number("embedding_length"),
        num_params=float(sum(prod(t.shape) for t in everything)),
        layers=layers,
        input_bytes=_padded(inputs),
        output_bytes=_padded(outputs),
        output_params=float(sum(prod(t.shape) for t in outputs)),
        output_quant=_quant(outputs),
        num_experts=keys.number("expert_count"),
        num_experts_used=max(keys.array("expert_used_count", num_blocks)),
        is_known=attention.is_known(keys.architecture),
        tied_bytes=_padded([embedding]) if is_tied and embedding is not None else 0,
        shared_bytes=_padded(shared),
        output_pad_bytes=_row_pads(outputs),
    )


def _is_output_norm(keys: attention.Keys, name: str) -> bool:
    """LFM2 calls the norm before its head what others call the one behind the embedding."""
    return keys.architecture in ("lfm2", "lfm2moe") and name.startswith("token_embd_norm.")


def _layers(keys: attention.Keys, blocks: list[list[GgufTensor]]) -> tuple[LayerShape, ...]:
    num_blocks = len(blocks)
    caches = attention.layer_caches(keys, num_blocks)
    num_loaded = num_blocks - attention.num_skipped(keys)
    num_used = keys.array("expert_used_count", num_blocks)
    num_experts = keys.number("expert_count")
    layers = []
    for i, (block, cache) in enumerate(zip(blocks, caches, strict=True)):
        tensors = block if i < num_loaded else []
        experts = [t for t in tensors if EXPERTS.search(t.name)]
        share = min(1.0, num_used[i] / num_experts) if num_experts and num_used[i] else 1.0
        params = sum(prod(t.shape) for t in tensors)
        expert_params = sum(prod(t.shape) for t in experts)
        expert_bytes = _padded(experts)
        layers.append(
            LayerShape(
                weight_bytes=_padded(tensors),
                num_params=float(params - expert_params) + share * expert_params,
                expert_bytes=expert_bytes,
                active_expert_bytes=share * expert_bytes,
                active_expert_params=share * expert_params,
                k_width=cache.k_width,
                v_width=cache.v_width,
                head_width=cache.head_width,
                window=cache.window,
                state_bytes=cache.state_bytes,
                attention_width=cache.query_width,
                quant=_quant(tensors),
                pad_bytes=_row_pads(tensors),
            )
        )
    loops = keys.number("num_loops", 1) if keys.architecture == "nanbeige" else 1
    if loops * num_blocks > _MAX_LAYERS:
        raise ModelFileError("the model runs its layers more often than llama.cpp can.")
    if keys.architecture == "graniteswitch":
        # Its router is one more layer, of one head.
        head = max((layer.attention_width for layer in layers), default=0)
        layers.append(LayerShape(weight_bytes=0, num_params=0.0, k_width=head, v_width=head))
    return tuple(layers) * max(1, loops)


def _padded(tensors: Sequence[GgufTensor]) -> int:
    return sum(-(-t.nbytes // ALIGNMENT) * ALIGNMENT for t in tensors)


def _row_pads(tensors: Sequence[GgufTensor]) -> int:
    """What padding rows to 512 elements adds, bounded: the alignment of it included."""
    total = 0
    for tensor in tensors:
        elements = prod(tensor.shape)
        past = tensor.shape[0] % _CUDA_ROW
        if past and len(tensor.shape) > 1 and tensor.type not in ("f32", "f16", "bf16"):
            pad = (_CUDA_ROW - past) * tensor.nbytes // max(1, elements)
            total += -(-pad // ALIGNMENT) * ALIGNMENT
    return total


def _quant(tensors: Sequence[GgufTensor]) -> str:
    bytes_by_type: dict[str, int] = {}
    for tensor in tensors:
        bytes_by_type[tensor.type] = bytes_by_type.get(tensor.type, 0) + tensor.nbytes
    return max(bytes_by_type, key=bytes_by_type.__getitem__) if bytes_by_type else ""
