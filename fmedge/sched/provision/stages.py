"""A replica as the stages that a pass goes through: which layers, in which way, on which device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fmedge.sched.provision.device import Device
from fmedge.sched.provision.layers import Layers, hop_s
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.rates import LAW, Law
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.types import EngineSettings


class Stage:
    """The layers of one range: equal ones counted, those with experts on the host apart. source:
    the device before, whose activations it takes in; None where nobody described it."""

    def __init__(self, device: Device, source: Device | None, num_embd: int) -> None:
        self._device, self._source, self._num_embd = device, source, num_embd
        self._held: list[tuple[Layers, Counter[LayerShape]]] = []

    def hold(self, layers: Layers, held: Sequence[LayerShape]) -> None:
        if held:
            self._held.append((layers, Counter(held)))

    def pass_s(self, num_tokens: float) -> float:
        """A pass of so many tokens and the hop before it, caches and attention excluded."""
        into_s = 0.0
        if self._source is not None:
            into_s = hop_s(self._source, self._device, num_tokens, self._num_embd)
        return into_s + sum(
            count * layers.pass_s(layer, num_tokens)
            for layers, held in self._held
            for layer, count in held.items()
        )

    def kv_s(self, depth: float) -> float:
        """Reading the cache of one sequence."""
        return sum(
            count * layers.kv_s(layer, depth)
            for layers, held in self._held
            for layer, count in held.items()
        )

    def attention_s(self, chunk: float, past: float) -> float:
        """The attention of a prefill chunk behind `past` tokens."""
        return sum(
            count * layers.attention_s(layer, chunk, past)
            for layers, held in self._held
            for layer, count in held.items()
        )


class Stages:
    """All of a replica. KeyError for a device that is not among `devices`, ValueError for ranges
    that are not all layers and the head, in order, or whose experts have no host."""

    def __init__(
        self,
        shape: ModelShape,
        engine: EngineSettings,
        ranges: Sequence[Range],
        devices: Mapping[str, Device],
        law: Law = LAW,
    ) -> None:
        ends = [-1, *(span.last_layer for span in ranges)]
        starts = [span.first_layer for span in ranges]
        if starts != [end + 1 for end in ends[:-1]] or ends[-1] != shape.num_layers:
            raise ValueError(f"ranges hold layers 0 to {shape.num_layers} once each, in order")
        self._shape = shape
        held = [devices[span.device] for span in ranges]
        self._host = next((d for d in devices.values() if d.is_host), None)
        accelerator = next((d for d in held if not d.is_host), None)
        self.stages: list[Stage] = []
        sources = [self._host, *held[:-1]]
        for span, device, source in zip(ranges, held, sources, strict=True):
            stage = Stage(device, source, shape.num_embd)
            own = list(shape.layers[span.first_layer : span.last_layer + 1])
            if span.num_host_experts:
                if self._host is None:
                    raise ValueError("experts on the host need the host among the devices")
                num_moved = _up_to_experts(own, span.num_host_experts)
                moved, own = own[:num_moved], own[num_moved:]
                stage.hold(Layers(shape, engine, device, self._host, accelerator, law), moved)
            stage.hold(Layers(shape, engine, device, None, accelerator, law), own)
            self.stages.append(stage)
        self.last = held[-1]
        self._head = Layers(shape, engine, self.last, None, accelerator, law)
        # llama.cpp's conditions for it, where every backend computes asynchronously.
        self.is_pipelined = (
            len(held) > 1
            and all(device.type == "gpu" and not device.endpoint for device in held)
            and engine.split_mode == "layer"
            and engine.offload_kqv
            and not engine.tensor_overrides
            and not any(span.num_host_experts for span in ranges)
        )

    def passes_s(self, num_tokens: float) -> float:
        """A pass through all stages, one after the other."""
        return sum(stage.pass_s(num_tokens) for stage in self.stages)

    def head_s(self, num_outputs: float) -> float:
        return self._head.head_s(self._shape, num_outputs)


def _up_to_experts(layers: Sequence[LayerShape], num_with: int) -> int:
    """How many of the layers hold the first num_with that have experts."""
    for i, layer in enumerate(layers):
        num_with -= bool(layer.expert_bytes)
        if num_with <= 0:
            return i + 1
    return len(layers)
