"""A model's layers on the devices, as the optimiser wants them: seconds and bytes in arrays.

The rule: costs are cost.py's and bytes memory.py's; here they are only laid out. A problem's cost
is the time of one request at the operating point: its prefill, and a step for each output token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fmedge.sched.provision import cost, memory
from fmedge.sched.provision.cost import OperatingPoint
from fmedge.sched.provision.device import HOST, Device
from fmedge.sched.provision.plan import MemoryUse, Range
from fmedge.sched.provision.request import Choice, ModelRequest, SizingOf, engine_of
from fmedge.sched.provision.shape import ModelShape
from fmedge.sched.provision.split import Problem
from fmedge.sched.steptime import StepModel
from fmedge.types import EngineSettings

_NOBODY = Device(name=HOST, type="cpu", memory_bytes=0, bandwidth_gb_s=20.0, tflop_s=0.5)
"""The host as the end of links, where none is described."""

Hop = Callable[[Device, Device], float]


def problem_of(
    model: ModelRequest,
    choice: Choice,
    devices: Sequence[Device],
    is_allowed: NDArray[np.bool_],
    point: OperatingPoint,
    sizing_of: SizingOf | None,
) -> Problem:
    """Of one replica of the choice. is_allowed: bool[D], what may hold layers."""
    shape, engine = model.shapes[choice.shape], engine_of(model, choice)
    num_layers, num_devices = shape.num_layers + 1, len(devices)
    host = next((d for d, device in enumerate(devices) if device.is_host), -1)
    num_variants = 2 if host >= 0 and any(layer.expert_bytes for layer in shape.layers) else 1
    sizes = (num_variants, num_layers, num_devices)
    costs, nbytes = np.zeros(sizes), np.zeros(sizes, np.int64)
    host_nbytes = np.zeros(sizes, np.int64)
    accelerator = _fastest(devices, is_allowed)
    columns: dict[tuple[object, ...], int] = {}
    for d, device in enumerate(devices):
        same = columns.setdefault(signature(device), d)
        if same != d:
            for array in (costs, nbytes, host_nbytes):
                array[:, :, d] = array[:, :, same]
            continue
        for v in range(num_variants):
            is_apart = v == 1 and d != host
            costs[v, :, d] = _layer_s(
                shape, engine, device, point, devices[host] if is_apart else None, accelerator
            )
            nbytes[v, :, d] = memory.layer_bytes(shape, engine, device, has_host_experts=is_apart)
            if d != host:
                host_nbytes[v, :, d] = memory.host_layer_bytes(shape, engine)
                if is_apart:
                    host_nbytes[v, :, d] += memory.host_expert_bytes(shape, engine)
    fixed = memory.range_bytes(
        shape, engine, devices, None if sizing_of is None else sizing_of(shape, engine)
    )
    return Problem(
        cost_s=costs,
        nbytes=np.maximum(nbytes, 0),
        host_nbytes=host_nbytes if host >= 0 else np.zeros_like(host_nbytes),
        fixed_s=np.zeros(num_devices),
        fixed_bytes=np.maximum(fixed.fixed, 0),
        last_bytes=np.maximum(fixed.last, 0),
        hop_s=_hops(shape, engine, devices, point),
        host=host,
        is_allowed=is_allowed,
        base_bytes=np.maximum(fixed.always, 0),
    )


def memory_of(
    shape: ModelShape,
    engine: EngineSettings,
    ranges: Sequence[Range],
    devices: Mapping[str, Device],
    sizing_of: SizingOf | None,
) -> tuple[MemoryUse, ...]:
    """The whole of what a replica takes, by device."""
    sizing = None if sizing_of is None else sizing_of(shape, engine)
    return memory.replica_memory(shape, engine, ranges, devices, sizing)


def steps_of(
    shape: ModelShape,
    engine: EngineSettings,
    ranges: Sequence[Range],
    devices: Mapping[str, Device],
) -> StepModel:
    """Seconds of steps of a replica that has the devices to itself."""
    if not any(device.is_host for device in devices.values()):
        devices = {**devices, HOST: _NOBODY}
    return cost.step_model(shape, engine, ranges, devices)


def _layer_s(
    shape: ModelShape,
    engine: EngineSettings,
    device: Device,
    point: OperatingPoint,
    expert_host: Device | None,
    accelerator: Device | None,
) -> NDArray[np.float64]:
    """float64[num_layers + 1]: what each layer adds to one request."""
    prefill_s, decode_s = cost.layer_s(
        shape,
        engine,
        device,
        point,
        expert_host=expert_host,
        accelerator=accelerator if device.is_host else None,
    )
    return prefill_s + point.output_tokens * decode_s


def _fastest(devices: Sequence[Device], is_allowed: NDArray[np.bool_]) -> Device | None:
    """The one that is likely to compute large passes over what lies on the host."""
    found = [
        device
        for device, allowed in zip(devices, is_allowed, strict=True)
        if allowed and device.type in ("gpu", "igpu")
    ]
    return max(found, key=lambda device: device.tflop_s, default=None)


def signature(device: Device) -> tuple[object, ...]:
    """Equal for devices on which everything costs the same."""
    return (
        device.type, device.kind, device.backend, device.bandwidth_gb_s, device.tflop_s,
        device.link_gb_s, device.link_s, device.num_cores, device.source,
    )  # fmt: skip


def _hops(
    shape: ModelShape,
    engine: EngineSettings,
    devices: Sequence[Device],
    point: OperatingPoint,
) -> NDArray[np.float64]:
    """float64[D + 1, D + 1]: from device to device over the whole request; the last index is where
    the input comes from and the logits go."""
    host = next((device for device in devices if device.is_host), _NOBODY)
    num_prompt = point.prompt_tokens
    num_whole, rest = divmod(num_prompt, engine.ubatch_size)
    known: dict[tuple[object, ...], float] = {}

    def whole_s(source: Device, target: Device) -> float:
        if source.name == target.name:  # to another one that is alike in everything
            target = structs.replace(target, name=f"{target.name} again")
        key = (signature(source), signature(target))
        if key not in known:
            embd = shape.num_embd
            step_s = cost.hop_s(source, target, point.num_decoding, embd)
            known[key] = point.output_tokens * step_s
            known[key] += num_whole * cost.hop_s(source, target, engine.ubatch_size, embd)
            known[key] += cost.hop_s(source, target, rest, embd) if rest else 0.0
        return known[key]

    out = np.zeros((len(devices) + 1, len(devices) + 1))
    for i, source in enumerate(devices):
        for j, target in enumerate(devices):
            out[i, j] = whole_s(source, target)
        out[-1, i] = whole_s(host, source)
        out[i, -1] = cost.pass_s(shape, source) + point.output_tokens * cost.pass_s(
            shape, source, point.num_decoding
        )
    return out
