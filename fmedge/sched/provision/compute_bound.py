"""An upper bound of compute buffers where llama.cpp could not be asked.

The rule: a graph's buffer is at most everything that one layer computes at once, plus the inputs
that all layers share, plus the logits; buffers are reused from layer to layer.
"""

from __future__ import annotations

from fmedge.sched.provision.context import MIN_ROWS, cells_of
from fmedge.sched.provision.shape import ModelShape
from fmedge.types import EngineSettings

_SLACK_BYTES = 1 << 20
_WIDTHS = 8
"""Values as wide as the embedding that are alive beside a layer's products: residuals, norms."""


def num_output_rows(engine: EngineSettings) -> int:
    """The most output rows of a step, as the worker's engine asks llama.cpp for."""
    cells = engine.slots + (16 if engine.kv_unified else 0)
    return max(MIN_ROWS, cells)


def bound_compute(shape: ModelShape, engine: EngineSettings, *, copies: int) -> int:
    """Bytes on a device that holds layers; copies: of its inputs, where steps overlap."""
    cells = cells_of(shape, engine)
    tokens = cells.ubatch_size
    embd = max(1, shape.num_embd)
    widest = 0.0
    for layer in shape.layers:
        # A product's output is as wide as its weights are many times the embedding.
        outputs = 2 * layer.num_params / embd + _WIDTHS * embd + 2 * layer.attention_width
        outputs += 3 * shape.num_experts_used * embd + 4 * shape.num_experts
        scores = 0.0
        if engine.flash_attn == "off" and layer.k_width:
            heads = max(1, layer.attention_width // 16)
            scores = 3.0 * heads * cells.num_cells
        states = 4 * layer.state_bytes * cells.num_seqs
        widest = max(widest, 4 * tokens * (outputs + scores) + states)
    staged = 0.0
    if engine.op_offload:
        # Products with weights on the host are computed here, for which those are copied.
        staged = max((layer.weight_bytes for layer in shape.layers), default=0)
    head = 4 * num_output_rows(engine) * (shape.num_vocab + 2 * embd)
    return int(widest + copies * _inputs(shape, engine) + staged + head) + _SLACK_BYTES


def bound_host_compute(shape: ModelShape, engine: EngineSettings, *, copies: int) -> int:
    """Bytes on the host where devices hold the layers: the inputs, and the embedded tokens."""
    tokens = cells_of(shape, engine).ubatch_size
    embedded = 4 * tokens * 4 * shape.num_embd * max(1, copies)
    return copies * _inputs(shape, engine) + embedded + _SLACK_BYTES


def _inputs(shape: ModelShape, engine: EngineSettings) -> int:
    """Masks (32 bit, and 16 bit for flash attention; one of all tokens, one of windows), positions
    and the values that pass from range to range."""
    cells = cells_of(shape, engine)
    tokens = cells.ubatch_size + 64
    num_masks = 2 if any(layer.window for layer in shape.layers) else 1
    masks = num_masks * 6 * cells.num_cells * tokens
    return masks + 4 * tokens * (3 * shape.num_embd + 64)
