"""Llama 3's shapes by hand, as its GGUF files have them: 8B and 70B, F16, Q4_K_M, Q8_0."""

from __future__ import annotations

from functools import cache

from fmedge.sched.provision.shape import LayerShape, ModelShape

_NUM_VOCAB = 128_256
_SIZES = {"8B": (32, 4096, 14_336), "70B": (80, 8192, 28_672)}  # layers, width, hidden
_KV_WIDTH = 1024
_BITS = {"F16": (16.0, 16.0), "Q8_0": (8.5, 8.5), "Q4_K_M": (4.5, 6.5625)}  # most, the others
_TYPES = {"F16": ("f16", "f16"), "Q8_0": ("q8_0", "q8_0"), "Q4_K_M": ("q4_K", "q6_K")}


@cache
def llama3(size: str = "8B", quant: str = "Q4_K_M") -> ModelShape:
    num_layers, width, hidden = _SIZES[size]
    most, more = _BITS[quant]
    layers = []
    for i in range(num_layers):
        # Q4_K_M: values and the down projection of half the layers have more bits.
        eighth = num_layers // 8
        is_more = i < eighth or i >= 7 * eighth or (i - eighth) % 3 == 2
        better = width * _KV_WIDTH + width * hidden
        num_params = 2 * width * width + width * _KV_WIDTH + 2 * width * hidden + better
        bits = (num_params - better) * most + better * (more if is_more else most)
        layers.append(
            LayerShape(
                weight_bytes=int(bits / 8) + 2 * 4 * width,
                num_params=num_params,
                k_width=_KV_WIDTH,
                v_width=_KV_WIDTH,
                attention_width=width,
                quant=_TYPES[quant][0],
            )
        )
    table = _NUM_VOCAB * width
    return ModelShape(
        name="llama3",
        file=f"llama3-{size}-{quant}.gguf",
        architecture="llama",
        quant=quant,
        ctx_train=8192,
        num_vocab=_NUM_VOCAB,
        num_embd=width,
        num_params=sum(layer.num_params for layer in layers) + 2 * table,
        layers=tuple(layers),
        input_bytes=int(table * most / 8),
        output_bytes=int(table * more / 8),
        output_params=table,
        output_quant=_TYPES[quant][1],
    )
