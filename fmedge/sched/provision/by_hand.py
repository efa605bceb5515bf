"""What engine settings that somebody gave leave the planner to decide of a model's place.

The rule: a setting means here what it means to llama.cpp; what a plan cannot honour is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, groupby

from msgspec import Struct

from fmedge.errors import ConfigError
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.shape import ModelShape
from fmedge.types import EngineSettings


class ByHand(Struct, frozen=True, kw_only=True):
    """ranges: () leaves them to the planner. excluded: devices that shall hold no layer."""

    ranges: tuple[Range, ...] = ()
    excluded: frozenset[str] = frozenset()


def by_hand(
    engine: EngineSettings, given: frozenset[str], shape: ModelShape, devices: Sequence[Device]
) -> ByHand:
    """given: keys of `engine` that somebody set. ConfigError for a device that is not there, and
    for settings that no plan can follow."""
    if "split_mode" in given and engine.split_mode == "row":
        raise ConfigError(
            f"{shape.name}: split_mode row cannot be planned: leave it out, or set placement = "
            '"manual"'
        )
    if "tensor_overrides" in given and engine.tensor_overrides:
        raise ConfigError(
            f"{shape.name}: tensor_overrides and a plan contradict each other: leave them out, or "
            'set placement = "manual"'
        )
    host = next((device for device in devices if device.is_host), None)
    others = _chosen(engine, given, shape, devices)
    if not others:
        return ByHand(excluded=frozenset(d.name for d in devices if not d.is_host))
    excluded = frozenset(d.name for d in devices if not d.is_host and d not in others)
    num_layers = engine.gpu_layers if "gpu_layers" in given else -1
    everything = shape.num_layers + 1
    if num_layers < 0 or num_layers >= everything:
        if "gpu_layers" in given and host is not None:
            excluded |= {host.name}
        num_layers = everything
    is_split = "tensor_split" in given and any(engine.tensor_split)
    if num_layers == everything and not is_split:
        return ByHand(excluded=excluded)
    if num_layers == 0:
        return ByHand(excluded=frozenset(d.name for d in devices if not d.is_host))
    if host is None and num_layers < everything:
        raise ConfigError(
            f"{shape.name}: gpu_layers {num_layers} leaves layers on the host, and no CPU is among "
            "the devices"
        )
    shares = engine.tensor_split if is_split else [float(d.memory_bytes) for d in others]
    return ByHand(ranges=_split(shape, num_layers, others, shares, host), excluded=excluded)


def _chosen(
    engine: EngineSettings, given: frozenset[str], shape: ModelShape, devices: Sequence[Device]
) -> list[Device]:
    others = [device for device in devices if not device.is_host]
    if "devices" in given and engine.devices is not None:
        by_name = {device.name: device for device in others}
        missing = [name for name in engine.devices if name not in by_name]
        if missing:
            known = ", ".join(by_name) or "only the CPU"
            raise ConfigError(
                f"{shape.name}: devices: there is no device {missing[0]!r}; there are {known}"
            )
        others = [by_name[name] for name in engine.devices]
    if "split_mode" in given and engine.split_mode == "none" and others:
        if engine.main_gpu >= len(others):
            raise ConfigError(
                f"{shape.name}: main_gpu {engine.main_gpu}: there are {len(others)} devices, the "
                "first is 0"
            )
        return [others[engine.main_gpu]]
    return others


def _split(
    shape: ModelShape,
    num_layers: int,
    others: Sequence[Device],
    shares: Sequence[float],
    host: Device | None,
) -> tuple[Range, ...]:
    """The last num_layers, the head among them, by the shares as llama.cpp rounds them."""
    first = shape.num_layers + 1 - num_layers
    padded = [*shares, *[0.0] * len(others)][: len(others)]
    total = sum(padded)
    if total <= 0:
        raise ConfigError(f"{shape.name}: tensor_split leaves nothing for its devices")
    ends = [end / total for end in accumulate(padded)]
    homes = [
        others[min(bisect_right(ends, i / num_layers), len(others) - 1)].name
        for i in range(num_layers)
    ]
    ranges = []
    if first > 0 and host is not None:
        ranges.append(Range(device=host.name, first_layer=0, last_layer=first - 1))
    for name, layers in groupby(enumerate(homes, first), key=lambda pair: pair[1]):
        held = [layer for layer, _ in layers]
        ranges.append(Range(device=name, first_layer=held[0], last_layer=held[-1]))
    return tuple(ranges)
