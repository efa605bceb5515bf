"""A plan's placement in llama.cpp's terms, and what llama.cpp did compared with it.

The rule: what was asked for is compared with where llama.cpp says that layers and buffers are; one
that it did not follow is never taken for one that it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from msgspec import structs

from fmedge.sched.provision.device import HOST, Device
from fmedge.sched.provision.plan import MemoryUse, PlannedReplica, Range
from fmedge.sched.provision.shape import ModelShape
from fmedge.types import DeviceMemory, EngineInfo, EngineSettings

MAX_DEVICES = 16
"""That llama.cpp splits a model over."""

_MIB = 1 << 20


def engine_of(
    ranges: Sequence[Range],
    shape: ModelShape,
    devices: Mapping[str, Device],
    base: EngineSettings,
) -> EngineSettings:
    """`base` with the devices, split, offload and tensor overrides that make llama.cpp put layers
    0..num_layers (the head last) where `ranges` say. Only the device servers that it needs are in
    `rpc`, so that no other can keep it from loading. ValueError for ranges that cannot be had:
    gaps, the host behind a device, a device twice, more than MAX_DEVICES."""
    _check(ranges, shape, devices)
    others = [part for part in ranges if not devices[part.device].is_host]
    endpoints = tuple(dict.fromkeys(e for part in others if (e := devices[part.device].endpoint)))
    patterns = _expert_overrides(others, shape)
    return structs.replace(
        base,
        rpc=endpoints,
        devices=tuple(name_in_worker(devices[part.device]) for part in others),
        split_mode="layer",
        tensor_split=tuple(float(part.num_layers) for part in others),
        gpu_layers=sum(part.num_layers for part in others),
        tensor_overrides=(*base.tensor_overrides, *patterns),
    )


def _check(ranges: Sequence[Range], shape: ModelShape, devices: Mapping[str, Device]) -> None:
    next_layer = 0
    for i, part in enumerate(ranges):
        if part.first_layer != next_layer or part.last_layer < part.first_layer:
            raise ValueError(f"layer {next_layer} is not where the ranges {ranges} continue")
        if devices[part.device].is_host and i > 0:
            raise ValueError("the host can only hold the first layers")
        next_layer = part.last_layer + 1
    if next_layer != shape.num_layers + 1:
        raise ValueError(f"{next_layer} of {shape.num_layers + 1} layers are placed")
    if len({part.device for part in ranges}) != len(ranges):
        raise ValueError("a device holds one range of layers, not two")
    if len(ranges) - devices[ranges[0].device].is_host > MAX_DEVICES:
        raise ValueError(f"llama.cpp splits a model over at most {MAX_DEVICES} devices")


def name_in_worker(device: Device) -> str:
    """What EngineSettings and EngineInfo call it: ggml's name, of a server's device its address."""
    index = index_at_server(device)
    return (
        f"{device.endpoint}/{index}"
        if device.endpoint and index
        else device.endpoint or device.name
    )


def index_at_server(device: Device) -> int:
    """Its number among its server's devices, which its name ends with: NAME, NAME/1, NAME/2."""
    number = device.name.rpartition("/")[2] if "/" in device.name else ""
    return int(number) if number.isdecimal() else 0


def _expert_overrides(ranges: Sequence[Range], shape: ModelShape) -> tuple[tuple[str, str], ...]:
    layers = [i for part in ranges for i in host_expert_layers(part, shape)]
    if not layers:
        return ()
    return ((rf"^blk\.({'|'.join(map(str, layers))})\.ffn_.*_exps", HOST),)


def host_expert_layers(part: Range, shape: ModelShape) -> tuple[int, ...]:
    """Of a range, the layers whose experts lie on the host."""
    last = min(part.last_layer, shape.num_layers - 1)
    with_experts = [
        i for i in range(part.first_layer, last + 1) if shape.layers[i].expert_bytes > 0
    ]
    return tuple(with_experts[: part.num_host_experts])


def reported(planned: PlannedReplica, info: EngineInfo) -> EngineInfo:
    """`info` with the plan's names of devices instead of the worker's."""
    names = _plan_names(planned)
    return structs.replace(
        info,
        memory=tuple(
            DeviceMemory(names.get(row.device, row.device), row.weights, row.context, row.compute)
            for row in info.memory
        ),
        layer_devices=tuple(names.get(name, name) for name in info.layer_devices),
        expert_devices=tuple(names.get(name, name) for name in info.expert_devices),
    )


def _plan_names(planned: PlannedReplica) -> dict[str, str]:
    engine = planned.engine
    others = planned.ranges[len(planned.ranges) - len(engine.devices or ()) :]
    return {name: part.device for name, part in zip(engine.devices or (), others, strict=True)}


def differences(
    planned: PlannedReplica, info: EngineInfo, uses: Iterable[MemoryUse] = ()
) -> tuple[str, ...]:
    """What llama.cpp did otherwise than planned, as sentences: layers and experts elsewhere, and
    more bytes on a device than its MemoryUse says. () where all is as planned."""
    info = reported(planned, info)
    return (
        *_layers_elsewhere(planned, info),
        *_experts_elsewhere(planned, info),
        *(
            f"{use.device} holds {_mib(held)} of it, {_mib(held - asked)} more than planned"
            for use, held in _held(uses, info)
            if held > (asked := use.total - use.backend)
        ),
    )


def excess_bytes(
    planned: PlannedReplica, info: EngineInfo, uses: Iterable[MemoryUse]
) -> dict[str, int]:
    """By device, the bytes that it holds beyond its MemoryUse (not positive: that many less)."""
    info = reported(planned, info)
    return {use.device: held - (use.total - use.backend) for use, held in _held(uses, info)}


def _held(uses: Iterable[MemoryUse], info: EngineInfo) -> list[tuple[MemoryUse, int]]:
    rows = {row.device: row.weights + row.context + row.compute for row in info.memory}
    return [(use, rows.get(use.device, 0)) for use in uses]


def _layers_elsewhere(planned: PlannedReplica, info: EngineInfo) -> list[str]:
    if not info.layer_devices:
        return []
    wanted = {i: r.device for r in planned.ranges for i in range(r.first_layer, r.last_layer + 1)}
    num_layers = len(info.layer_devices)
    if len(wanted) != num_layers:
        return [f"llama.cpp has {num_layers - 1} layers, {len(wanted) - 1} were planned"]
    wrong = [
        (i, is_at, wanted[i]) for i, is_at in enumerate(info.layer_devices) if is_at != wanted[i]
    ]
    # Neighbours that went the same way are one sentence.
    runs = groupby(enumerate(wrong), lambda item: (item[1][0] - item[0], *item[1][1:]))
    return [
        f"{_layers([item[1][0] for item in run], num_layers - 1)} on {is_at}, planned on {was_for}"
        for (_, is_at, was_for), run in ((key, list(run)) for key, run in runs)
    ]


def _experts_elsewhere(planned: PlannedReplica, info: EngineInfo) -> list[str]:
    found = []
    for part in planned.ranges:
        here = info.expert_devices[part.first_layer : part.last_layer + 1]
        num_on_host = sum(device == HOST for device in here)
        num_wanted = sum(bool(d) for d in here) if part.device == HOST else part.num_host_experts
        if info.expert_devices and num_on_host != num_wanted:
            found.append(
                f"of the layers on {part.device}, {num_on_host} have their experts on the host, "
                f"{num_wanted} were planned"
            )
    return found


def _layers(layers: Sequence[int], head: int) -> str:
    first, last = layers[0], layers[-1]
    if first == head:
        return "the output head is"
    end = f"{last - 1} and the output head" if last == head else str(last)
    if last == head and last - 1 == first:
        return f"layer {end} are"
    return f"layer {first} is" if first == last else f"layers {first}-{end} are"


def _mib(nbytes: int) -> str:
    return f"{nbytes / _MIB:.1f} MiB"
