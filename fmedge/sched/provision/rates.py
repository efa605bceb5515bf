"""What llama.cpp reaches of a device's figures.

The rule: one law with few constants holds for all GPUs. A matrix-vector product reads weights at

    1 / rate(bytes)^4 = 1 / (READ_EFFICIENCY * bandwidth)^4 + 1 / (SM_BYTES * SMs * clock)^4

the second term being what the multiprocessors keep in flight (Little's law), which is what binds
where memory is stacked; and each layer of a pass costs its kernels' launches. A device whose
figures were measured reaches them.
"""

from __future__ import annotations

from functools import cache
from math import inf

from msgspec import Struct

from fmedge.sched.provision import catalogue
from fmedge.sched.provision.device import Device

READ_EFFICIENCY = 0.953
SM_BYTES = 6.48
"""Bytes that a multiprocessor takes in a clock cycle, at most."""

LAYER_S = 82.5e-6
"""Launches of a layer's kernels."""

COMPUTE_EFFICIENCY = 0.42
ATTENTION_EFFICIENCY = 0.12
KV_EFFICIENCY = 0.45

CPU_READ_EFFICIENCY = 0.75
CPU_COMPUTE_EFFICIENCY = 0.5
CPU_LAYER_S = 20e-6

HOP_S = 150e-6
"""From one device to the next one: the scheduler waits, copies and launches anew."""

PASS_S = 100e-6
"""Once a step: the graph's inputs, the logits' way back, the samplers."""

_NVIDIA = frozenset(
    ("pascal", "volta", "turing", "ampere", "ampere-dc", "ada", "hopper", "blackwell")
) | {"blackwell-dc"}


class Rates(Struct, frozen=True, kw_only=True):
    """What a device reaches: seconds for each byte of weights and of KV cache read, for each
    floating-point operation of matrix products and of attention; layer_s: for each layer of a
    pass; is_gpu: it works asynchronously, and llama.cpp may lend it the host's weights."""

    byte_s: float
    kv_byte_s: float
    flop_s: float
    attention_flop_s: float
    layer_s: float
    is_gpu: bool


@cache
def rates(device: Device) -> Rates:
    """ValueError where a figure is not above 0."""
    if not (0 < device.bandwidth_gb_s < inf and 0 < device.tflop_s < inf):
        raise ValueError(f"{device.name} needs a bandwidth and a compute rate above 0")
    card = catalogue.find(device.kind) if device.kind else None
    is_gpu = device.type in ("gpu", "igpu") or (device.type == "rpc" and card is not None)
    read = device.bandwidth_gb_s * 1e9
    flops = device.tflop_s * 1e12
    if device.source == "measured":
        return Rates(
            byte_s=1 / read,
            kv_byte_s=1 / read,
            flop_s=1 / flops,
            attention_flop_s=1 / flops,
            layer_s=LAYER_S if is_gpu else CPU_LAYER_S,
            is_gpu=is_gpu,
        )
    if not is_gpu:
        return Rates(
            byte_s=1 / (CPU_READ_EFFICIENCY * read),
            kv_byte_s=1 / (CPU_READ_EFFICIENCY * read),
            flop_s=1 / (CPU_COMPUTE_EFFICIENCY * flops),
            attention_flop_s=1 / (CPU_COMPUTE_EFFICIENCY * flops),
            layer_s=CPU_LAYER_S,
            is_gpu=False,
        )
    card = card or catalogue.closest(device.bandwidth_gb_s, device.tflop_s)
    in_flight = inf
    if card.generation in _NVIDIA:
        in_flight = SM_BYTES * card.num_sms * card.boost_ghz * 1e9
    byte_s = ((READ_EFFICIENCY * read) ** -4 + in_flight**-4) ** 0.25
    return Rates(
        byte_s=byte_s,
        kv_byte_s=1 / (KV_EFFICIENCY * read),
        flop_s=1 / (COMPUTE_EFFICIENCY * flops),
        attention_flop_s=1 / (ATTENTION_EFFICIENCY * flops),
        layer_s=LAYER_S,
        is_gpu=True,
    )
