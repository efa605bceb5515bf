"""A step model of hardware that nobody has measured yet.

The rule: a pass takes the longer of reading the weights and computing with them (Williams et al.,
Roofline, CACM 2009), at what llama.cpp reaches of the data sheet's figures.

    a pass over n tokens    max(weight_bytes / bandwidth, n * 2 * params / flops)
    decoding                kv_bytes_per_token / bandwidth for each cached token read
    prefill attention       4 * layers * attention_width / flops for each unit of A (steptime.py):
                            two products of 2 flops for each of the width's elements

and an overhead for each layer of a step. Where layers lie on several devices, each does its share
of every pass, one after the other.

The defaults fit 16 GPUs with Llama 3 8B as Q4_K_M and F16 best (bench/roofline.py): there the
decode step is within 7 % in the median and 18 % for nine of ten, prefill within 20 % and 51 %. It
is a prior: the first steps that are timed correct it (live.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from msgspec import Struct

from fmedge.sched.steptime import NUM_KNOTS, Curve, StepModel

LAYER_OVERHEAD_S = 0.000125
BANDWIDTH_EFFICIENCY = 1.0
COMPUTE_EFFICIENCY = 0.36


class DeviceSpeed(Struct, frozen=True, kw_only=True):
    """A device by its data sheet or by a probe: memory bandwidth in GB/s, dense 16-bit TFLOP/s,
    and the share of the model that it holds."""

    bandwidth_gb_s: float
    tflop_s: float
    share: float = 1.0


def roofline(
    devices: Sequence[DeviceSpeed],
    *,
    weight_bytes: float,
    num_params: float,
    num_layers: int,
    attention_width: int,
    kv_bytes_per_token: float,
    layer_overhead_s: float = LAYER_OVERHEAD_S,
    bandwidth_efficiency: float = BANDWIDTH_EFFICIENCY,
    compute_efficiency: float = COMPUTE_EFFICIENCY,
) -> StepModel:
    """The prior for a model on these devices.

    weight_bytes, num_params: what one pass reads and multiplies (without the embedding table; of
    experts those that are active). attention_width: query heads * head size. kv_bytes_per_token:
    over all layers. ValueError if a speed, a size or an efficiency is not above 0, or where
    shares do not sum to 1.
    """
    if not devices or abs(sum(device.share for device in devices) - 1) > 0.01:
        raise ValueError("the devices' shares of a model sum to 1")
    sizes = (weight_bytes, num_params, num_layers, attention_width, kv_bytes_per_token)
    speeds = [speed for device in devices for speed in (device.bandwidth_gb_s, device.tflop_s)]
    for value in (*sizes, *speeds, bandwidth_efficiency, compute_efficiency):
        if not (isfinite(value) and value > 0):
            raise ValueError(f"a roofline needs sizes and speeds above 0, not {value}")
    base_s, kv_s, attention_s = layer_overhead_s * num_layers, 0.0, 0.0
    bends: list[tuple[float, float]] = []  # (tokens from which a device computes longer, s a token)
    for device in devices:
        if device.share <= 0:
            continue
        byte_s = device.share / (device.bandwidth_gb_s * 1e9 * bandwidth_efficiency)
        flop_s = device.share / (device.tflop_s * 1e12 * compute_efficiency)
        base_s += weight_bytes * byte_s
        kv_s += kv_bytes_per_token * byte_s
        attention_s += 4 * num_layers * attention_width * flop_s
        bends.append((weight_bytes * byte_s / (2 * num_params * flop_s), 2 * num_params * flop_s))
    return StepModel(base_s=base_s, tokens=_hinges(bends), kv_s=kv_s, attention_s=attention_s)


def _hinges(bends: list[tuple[float, float]]) -> Curve:
    """The sum of max(0, n - knee) * slope over (knee, slope)."""
    knees = sorted({knee for knee, _ in bends})
    knots = [0.0, *knees[: NUM_KNOTS - 3], knees[-1], 2 * knees[-1]]
    knots = sorted(set(knots))
    values = [sum(max(0.0, x - knee) * slope for knee, slope in bends) for x in knots]
    return Curve(tuple(knots), tuple(values))
