"""Bytes of what is kept of tokens: cells x widths, as llama.cpp rounds them.

The rule: the same arithmetic as the worker's engine and llama.cpp do at load, from the same
settings; only flash attention's "auto" is taken for granted.
"""

from __future__ import annotations

from msgspec import Struct

from fmedge.sched.provision.shape import ModelShape
from fmedge.types import EngineSettings

DEFAULT_CTX_SIZE = 8192
EXTRA_UNIFIED_SEQS = 16
MIN_ROWS = 64
"""A step may have that many output rows, or one for each sequence (the worker's engine)."""

_CELL_PADDING = 256
_ALIGNMENT = 128
_BYTES_OF_32 = {
    "f32": 128, "f16": 64, "bf16": 64, "q8_0": 34, "q4_0": 18, "q4_1": 20, "q5_0": 22, "q5_1": 24,
    "iq4_nl": 18,
}  # fmt: skip


class Cells(Struct, frozen=True, kw_only=True):
    """Of one context: cells in each stream, streams, sequence ids, tokens of a batch and of a
    graph, and bytes of 32 elements of K and V."""

    num_cells: int
    num_streams: int
    num_seqs: int
    batch_size: int
    ubatch_size: int
    k_bytes: int
    v_bytes: int
    v_width_max: int = 0


def ctx_size_of(shape: ModelShape, engine: EngineSettings) -> int:
    """Longest sequence in tokens."""
    return engine.ctx_size or min(shape.ctx_train or DEFAULT_CTX_SIZE, DEFAULT_CTX_SIZE)


def cells_of(shape: ModelShape, engine: EngineSettings) -> Cells:
    """KeyError for a KV type that is none."""
    ctx_size = ctx_size_of(shape, engine)
    num_seqs = engine.slots + (EXTRA_UNIFIED_SEQS if engine.kv_unified else 0)
    if engine.kv_unified:
        total = engine.kv_tokens or ctx_size * engine.slots
        num_cells, num_streams = _pad(total, _CELL_PADDING), 1
    else:
        total = _pad(ctx_size * num_seqs, _CELL_PADDING)
        num_cells, num_streams = _pad(total // num_seqs, _CELL_PADDING), num_seqs
    batch_size = min(engine.batch_size, total)
    # Without flash attention V lies transposed, all layers as wide as the widest.
    widest = max((layer.v_width for layer in shape.layers), default=0)
    return Cells(
        num_cells=num_cells,
        num_streams=num_streams,
        num_seqs=num_seqs,
        batch_size=batch_size,
        ubatch_size=min(engine.ubatch_size, batch_size),
        k_bytes=_BYTES_OF_32[engine.type_k],
        v_bytes=_BYTES_OF_32[engine.type_v],
        v_width_max=widest if engine.flash_attn == "off" else 0,
    )


def layer_context_bytes(shape: ModelShape, index: int, cells: Cells) -> int:
    """K, V and states of all sequences in one layer. A layer that slides over a window keeps as
    much as others: the worker's engine wants its prefixes back, so llama.cpp keeps them whole."""
    layer = shape.layers[index]
    num_cells, num_streams = cells.num_cells, cells.num_streams
    if shape.architecture == "deepseek4":  # keeps a stream for each sequence whatever is asked
        num_streams = cells.num_seqs
    v_width = max(layer.v_width, cells.v_width_max) if layer.v_width else 0
    total = 0
    for width, of_32 in ((layer.k_width, cells.k_bytes), (v_width, cells.v_bytes)):
        row = -(-width * of_32 // 32)
        total += _pad(row * num_cells * num_streams, _ALIGNMENT)
    if layer.state_bytes:
        total += _pad(layer.state_bytes * cells.num_seqs, _ALIGNMENT) + _ALIGNMENT
    return total


def _pad(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
