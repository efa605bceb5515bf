"""How fast a replica is whose layers lie as planned, from figures alone.

The rule: a pass over a split model is the sum of its layers' (layers.py), one device after the
other, of the hops between them, and of what a step costs once. Only where all layers are on GPUs
of this machine do a batch's later ubatches overlap: llama.cpp then fills them in as in a pipeline,
and each after the first one adds no more than the slowest device's share.

So layer_s, hop_s and pass_s add up to what predict says, but for that overlap; step_model says
the same as a function of what a step holds, for replays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fmedge.sched.provision.device import Device
from fmedge.sched.provision.layers import VALUE_BYTES, Layers, hop_s, link_s
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.rates import CPU_PASS_S, LAW, PASS_S, Law, rates
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.sched.provision.stages import Stages
from fmedge.sched.steptime import Curve, StepModel
from fmedge.types import EngineSettings

__all__ = ["OperatingPoint", "Speed", "hop_s", "layer_s", "pass_s", "predict", "step_model"]

Seconds: TypeAlias = NDArray[np.float64]


class OperatingPoint(Struct, frozen=True, kw_only=True):
    """What is asked of a replica: prompts and answers of so many tokens; num_decoding sequences
    decode together, with `depth` tokens each in the cache (0: the prompt and half the output)."""

    prompt_tokens: int = 512
    output_tokens: int = 128
    depth: int = 0
    num_decoding: int = 1

    @property
    def decode_depth(self) -> int:
        return self.depth or self.prompt_tokens + self.output_tokens // 2


class Speed(NamedTuple):
    """TTFT of a prompt on an idle replica, TPOT at the point's batch; prefill of the prompt and
    decode of one of the batch's streams in tokens/s."""

    ttft_s: float
    tpot_s: float
    prefill_tok_s: float
    decode_tok_s: float


def layer_s(
    shape: ModelShape,
    engine: EngineSettings,
    device: Device,
    point: OperatingPoint,
    *,
    expert_host: Device | None = None,
    accelerator: Device | None = None,
) -> tuple[Seconds, Seconds]:
    """(prefill_s, decode_s), float64[num_layers + 1] each, the head last: what each layer adds to
    a whole prompt's prefill, and to one decode step of the point's batch, when it is on `device`.

    expert_host: the host, where it holds the layers' experts; layers without are as always.
    accelerator: the replica's first GPU, which computes large passes of layers on the host.
    ValueError if a device's figure is not above 0.
    """
    layers = Layers(shape, engine, device, expert_host, accelerator)
    chunks = _chunks(engine, point.prompt_tokens)
    known: dict[LayerShape, tuple[float, float]] = {}
    for layer in shape.layers:
        if layer not in known:
            prefill = (layers.pass_s(layer, n) + layers.attention_s(layer, n, p) for n, p in chunks)
            decode_s = layers.pass_s(layer, point.num_decoding)
            decode_s += point.num_decoding * layers.kv_s(layer, point.decode_depth)
            known[layer] = sum(prefill), decode_s
    head = layers.head_s(shape, 1), layers.head_s(shape, point.num_decoding)
    table = np.array([*(known[layer] for layer in shape.layers), head])
    return table[:, 0].copy(), table[:, 1].copy()


def pass_s(shape: ModelShape, last: Device, num_outputs: float = 1) -> float:
    """What a step costs once beside layers and hops: its inputs, the logits of num_outputs tokens
    on their way from the device of the head, the samplers."""
    once_s = PASS_S if rates(last).is_gpu else CPU_PASS_S
    return once_s + link_s(last, num_outputs * shape.num_vocab * VALUE_BYTES)


def predict(
    shape: ModelShape,
    engine: EngineSettings,
    ranges: Sequence[Range],
    devices: Mapping[str, Device],
    point: OperatingPoint,
    *,
    law: Law = LAW,
) -> Speed:
    """A replica alone on its devices. ranges: in the order of layers. devices by name, the host
    among them. KeyError for a device that is not there; ValueError for ranges that are not all
    layers and the head, and for a device's figure that is not above 0."""
    replica = Stages(shape, engine, ranges, devices, law)
    chunks = _chunks(engine, point.prompt_tokens)
    num_batches = -(-point.prompt_tokens // engine.batch_size)
    stages_s = [
        sum(stage.pass_s(n) + stage.attention_s(n, past) for n, past in chunks)
        for stage in replica.stages
    ]
    ttft_s = sum(stages_s)
    if replica.is_pipelined:
        ttft_s -= (sum(stages_s) - max(stages_s)) * (1 - num_batches / len(chunks))
    ttft_s += replica.head_s(1) + num_batches * pass_s(shape, replica.last)
    tpot_s = replica.passes_s(point.num_decoding) + replica.head_s(point.num_decoding)
    tpot_s += point.num_decoding * sum(s.kv_s(point.decode_depth) for s in replica.stages)
    tpot_s += pass_s(shape, replica.last, point.num_decoding)
    return Speed(ttft_s, tpot_s, point.prompt_tokens / ttft_s, 1 / tpot_s)


def step_model(
    shape: ModelShape,
    engine: EngineSettings,
    ranges: Sequence[Range],
    devices: Mapping[str, Device],
    *,
    depth: int = 0,
) -> StepModel:
    """predict's figures for whatever a step holds. depth: tokens in a sequence's cache at which
    windowed layers are weighed against others (0: half of ctx_size). Errors: as predict."""
    replica = Stages(shape, engine, ranges, devices)
    depth = depth or max(1, (engine.ctx_size or shape.ctx_train) // 2)
    ubatch = max(1, min(engine.ubatch_size, engine.batch_size))

    def head_s(num_outputs: float) -> float:
        return replica.head_s(num_outputs) + pass_s(shape, replica.last, num_outputs)

    state_s = sum(stage.kv_s(0) for stage in replica.stages)
    kv_s = sum(stage.kv_s(depth) for stage in replica.stages) - state_s

    def later_s(num_tokens: float) -> float:
        """Of an ubatch that is not a step's first one."""
        stages_s = [stage.pass_s(num_tokens) for stage in replica.stages]
        return max(stages_s) if replica.is_pipelined else sum(stages_s)

    knots = _powers(ubatch, 9)
    values = [replica.passes_s(n) for n in knots]
    num_more = max(1, -(-engine.batch_size // ubatch) - 1)
    if num_more > 3:
        knots.append(ubatch * (1.0 + num_more))
        values.append(values[-1] + num_more * later_s(ubatch))
    else:
        bend = _bend(knots, values)
        for _ in range(num_more):
            values += [values[-1] + later_s(bend), values[-1] + later_s(ubatch)]
            knots += [knots[-1] + bend, knots[-1] + ubatch]
    tokens = _curve(knots, values)
    slots = _powers(max(2, engine.slots), 13)
    decode = _curve(slots, [head_s(n) + (n - 1) * state_s for n in slots])
    return StepModel(
        base_s=replica.passes_s(1) + head_s(1) + state_s,
        tokens=tokens,
        decode=decode,
        kv_s=kv_s / depth,
        attention_s=sum(stage.attention_s(1, depth) for stage in replica.stages) / (depth + 0.5),
    )


def _chunks(engine: EngineSettings, num_tokens: int) -> list[tuple[int, int]]:
    """(tokens, tokens before them) of each ubatch of a prompt."""
    chunks, past = [], 0
    for start in range(0, num_tokens, engine.batch_size):
        end = min(start + engine.batch_size, num_tokens)
        while past < end:
            chunk = min(engine.ubatch_size, end - past)
            chunks.append((chunk, past))
            past += chunk
    return chunks


def _powers(most: int, count: int) -> list[float]:
    """1, 2, 4, ... and `most`, at most `count` of them: 1 and the first ones, and the last."""
    powers = [float(2**i) for i in range(most.bit_length()) if 2**i < most]
    return [*powers[: count - 1], float(most)]


def _bend(knots: Sequence[float], values_s: Sequence[float]) -> float:
    """The knot that serves best where a curve may have but one: between 0 and the last one."""

    def worst_s(bend: int) -> float:
        corners = [0, bend, len(knots) - 1]
        line = np.interp(knots, [knots[i] for i in corners], [values_s[i] for i in corners])
        return float(np.abs(line - values_s).max())

    inner = range(1, len(knots) - 1)
    return knots[min(inner, key=worst_s)] if inner else knots[-1] / 2


def _curve(knots: Sequence[float], values_s: Sequence[float]) -> Curve:
    """Through these points less the first one's value, and 0 before it. Where more tokens take
    less time, fewer take no more: what is lent to a GPU in larger passes could be."""
    least = np.minimum.accumulate(np.array(values_s)[::-1])[::-1]
    return Curve((0.0, *knots), (0.0, *(float(v) for v in least - least[0])))
