"""Devices and models of tests about cost."""

from __future__ import annotations

from typing import Any

from fmedge.sched.provision import catalogue
from fmedge.sched.provision.device import HOST, Device
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.shape import LayerShape, ModelShape

HOST_DEVICE = Device(
    name=HOST, type="cpu", memory_bytes=128 << 30, bandwidth_gb_s=80, tflop_s=1.5,
    source="measured",
)  # fmt: skip


def card_device(like: str, name: str = "gpu0", /, **changes: Any) -> Device:
    """A card of the catalogue; changes: fields to have otherwise."""
    card = catalogue.find(like)
    assert card is not None
    fields: dict[str, Any] = {
        "type": "gpu",
        "kind": like,
        "memory_bytes": int(card.memory_gib * 2**30),
        "bandwidth_gb_s": card.bandwidth_gb_s,
        "tflop_s": card.fp16_tflop_s,
        "link_gb_s": card.link_gb_s,
        "link_s": 1e-5,
        "source": "catalogue",
    }
    return Device(name=name, **(fields | changes))


def cards(kind: str, count: int, **changes: Any) -> dict[str, Device]:
    """gpu0, gpu1, ... of one kind, and the host."""
    named = {f"gpu{i}": card_device(kind, f"gpu{i}", **changes) for i in range(count)}
    return named | {HOST: HOST_DEVICE}


def evenly(shape: ModelShape, *names: str) -> tuple[Range, ...]:
    """About as many layers on each."""
    ends = [round((i + 1) * (shape.num_layers + 1) / len(names)) for i in range(len(names))]
    starts = [0, *ends[:-1]]
    return tuple(
        Range(device=name, first_layer=start, last_layer=end - 1)
        for name, start, end in zip(names, starts, ends, strict=True)
    )


def mixture(num_layers: int = 8, num_dense: int = 1) -> ModelShape:
    """Eight of 128 experts a token; the first layers are dense."""
    dense = LayerShape(
        weight_bytes=40_000_000, num_params=71e6, k_width=512, v_width=512, attention_width=4096,
        quant="q4_K",
    )  # fmt: skip
    sparse = LayerShape(
        weight_bytes=20_000_000 + 320_000_000,
        num_params=35e6 + 35e6,
        expert_bytes=320_000_000,
        active_expert_bytes=20_000_000,
        active_expert_params=35e6,
        k_width=512,
        v_width=512,
        attention_width=4096,
        quant="q4_K",
    )
    return ModelShape(
        name="mixture",
        file="mixture.gguf",
        architecture="qwen3moe",
        quant="Q4_K_M",
        ctx_train=32_768,
        num_vocab=150_000,
        num_embd=2048,
        num_params=num_layers * 600e6,
        layers=(dense,) * num_dense + (sparse,) * (num_layers - num_dense),
        input_bytes=170_000_000,
        output_bytes=250_000_000,
        output_params=150_000 * 2048,
        output_quant="q6_K",
        num_experts=128,
        num_experts_used=8,
    )
