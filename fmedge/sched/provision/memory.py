"""What a replica takes of each device's memory, before anything is loaded.

The rule: never under. Weights and what is kept of tokens follow from the shape exactly; compute
buffers are llama.cpp's own figures where it was asked (`Sizing`), else an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from fmedge.sched.provision.compute_bound import (
    bound_compute,
    bound_host_compute,
    num_output_rows,
)
from fmedge.sched.provision.context import Cells, cells_of, layer_context_bytes
from fmedge.sched.provision.device import HOST, Device
from fmedge.sched.provision.plan import MemoryUse, Range
from fmedge.sched.provision.shape import ModelShape
from fmedge.types import DeviceMemory, EngineSettings

_ROW_PADDING_BACKENDS = ("CUDA", "ROCm", "HIP", "MUSA")
_PIPELINE_COPIES = 4


class Sizing(Struct, frozen=True, kw_only=True):
    """Compute buffers in bytes that llama.cpp reserves for one model and engine, the most that was
    found of several layouts: on a device that is `alone` with all layers, one of `several` that
    have them, or one `behind` layers on the host; on the host, beside `alone` and `several`, with
    the embedding only (`host`), with the first layers (`host_layers`) or with all (`host_alone`).

    host_tied_bytes: of a tied embedding, what a host that holds the head has a second time.
    experts: the same where devices' experts lie on the host, None where there are none or it was
    not asked.
    """

    host: int
    host_layers: int
    host_alone: int
    alone: int
    several: int
    behind: int
    host_tied_bytes: int = 0
    experts: Sizing | None = None

    def with_experts(self) -> Sizing:
        """The most of both, for layers whose experts may lie on either."""
        other = self.experts
        if other is None:
            return self
        return Sizing(
            host=max(self.host, other.host),
            host_layers=max(self.host_layers, other.host_layers),
            host_alone=max(self.host_alone, other.host_alone),
            alone=max(self.alone, other.alone),
            several=max(self.several, other.several),
            behind=max(self.behind, other.behind),
            host_tied_bytes=max(self.host_tied_bytes, other.host_tied_bytes),
        )


_NO_COMPUTE = Sizing(host=0, host_layers=0, host_alone=0, alone=0, several=0, behind=0)


class RangeBytes(Struct, frozen=True, kw_only=True):
    """What holding layers costs beside them: always[d] whether or not d holds any (the host's
    embedding, its graph and the outputs), fixed[d] once it holds any, last[d] more where the head
    lies. int64 arrays over the devices, in their order."""

    always: np.ndarray
    fixed: np.ndarray
    last: np.ndarray


def layer_bytes(
    shape: ModelShape,
    engine: EngineSettings,
    device: Device | None = None,
    *,
    has_host_experts: bool = False,
) -> np.ndarray:
    """int64[num_layers + 1]: weights and context of each layer on a device (None: one that pads
    no rows), the head last; of layers with experts only the rest with has_host_experts."""
    cells = cells_of(shape, engine)
    pads = device is not None and device.backend.startswith(_ROW_PADDING_BACKENDS)
    is_host = device is not None and device.is_host
    out = np.zeros(shape.num_layers + 1, np.int64)
    for i, layer in enumerate(shape.layers):
        out[i] = layer.weight_bytes + (layer.pad_bytes if pads else 0)
        if has_host_experts:
            out[i] -= layer.expert_bytes
        if engine.offload_kqv or is_host:
            out[i] += layer_context_bytes(shape, i, cells)
    out[-1] = shape.output_bytes + (shape.output_pad_bytes if pads else 0)
    return out


def host_expert_bytes(shape: ModelShape, engine: EngineSettings) -> np.ndarray:
    """int64[num_layers + 1]: what the host holds of a layer whose experts stay there."""
    return np.array([*(layer.expert_bytes for layer in shape.layers), 0], np.int64)


def host_layer_bytes(shape: ModelShape, engine: EngineSettings) -> np.ndarray:
    """int64[num_layers + 1]: what the host holds of a layer that lies on a device: its context,
    where that is not offloaded."""
    out = np.zeros(shape.num_layers + 1, np.int64)
    if not engine.offload_kqv:
        cells = cells_of(shape, engine)
        for i in range(shape.num_layers):
            out[i] = layer_context_bytes(shape, i, cells)
    return out


def range_bytes(
    shape: ModelShape,
    engine: EngineSettings,
    devices: Sequence[Device],
    sizing: Sizing | None = None,
) -> RangeBytes:
    """Never below what replica_memory says of any ranges on these devices."""
    sizing = (sizing or bound_sizing(shape, engine, devices)).with_experts()
    always = np.zeros(len(devices), np.int64)
    fixed = np.zeros(len(devices), np.int64)
    last = np.zeros(len(devices), np.int64)
    num_others = sum(not device.is_host for device in devices)
    compute = max(sizing.alone, sizing.behind, sizing.several if num_others > 1 else 0)
    for d, device in enumerate(devices):
        if device.is_host:
            always[d] = shape.input_bytes + output_buffer_bytes(shape, engine)
            always[d] += sizing.host + device.backend_bytes
            fixed[d] = max(0, sizing.host_layers - sizing.host) + shape.shared_bytes
            last[d] = max(0, sizing.host_alone - max(sizing.host, sizing.host_layers))
            last[d] -= shape.tied_bytes - sizing.host_tied_bytes
        else:
            fixed[d] = compute + shape.shared_bytes + device.backend_bytes
    return RangeBytes(always=always, fixed=fixed, last=last)


def replica_memory(
    shape: ModelShape,
    engine: EngineSettings,
    ranges: Sequence[Range],
    devices: Mapping[str, Device],
    sizing: Sizing | None = None,
) -> tuple[MemoryUse, ...]:
    """What a replica with these ranges takes, a row for each of its devices and one for the host,
    if there is a description of it in `devices`. `context`, `weights` and `compute` are what
    llama.cpp reports; its output buffer, which it does not, is part of the host's `backend`."""
    sizing = sizing or bound_sizing(shape, engine, [devices[r.device] for r in ranges])
    if any(part.num_host_experts for part in ranges):
        sizing = sizing.with_experts()
    host = next((device for device in devices.values() if device.is_host), None)
    host_name = host.name if host is not None else HOST
    rest = host_layer_bytes(shape, engine)
    uses: list[MemoryUse] = []
    on_host = MemoryUse(
        device=host_name,
        weights=shape.input_bytes,
        compute=sizing.host,
        backend=output_buffer_bytes(shape, engine)
        + (host.backend_bytes if host is not None else 0),
    )
    others = [r for r in ranges if not devices[r.device].is_host]
    for part in ranges:
        device = devices[part.device]
        rows = slice(part.first_layer, part.last_layer + 1)
        weights, context, experts = _range_parts(shape, engine, part, device)
        has_head = part.last_layer == shape.num_layers
        if device.is_host:
            tied = shape.tied_bytes - sizing.host_tied_bytes if has_head else 0
            on_host = _plus(
                on_host,
                weights=weights + shape.shared_bytes - tied,
                context=context,
                compute=(sizing.host_layers if others else sizing.host_alone) - sizing.host,
            )
            continue
        if len(others) < len(ranges):
            compute = sizing.behind
        else:
            compute = sizing.several if len(others) > 1 else sizing.alone
        uses.append(
            MemoryUse(
                device=part.device,
                weights=weights + shape.shared_bytes,
                context=context,
                compute=compute,
                backend=device.backend_bytes,
            )
        )
        on_host = _plus(on_host, weights=experts, context=int(rest[rows].sum()))
    return ((on_host,) if host is not None else ()) + tuple(uses)


def exact_memory(
    shape: ModelShape,
    engine: EngineSettings,
    ranges: Sequence[Range],
    devices: Mapping[str, Device],
    rows: Sequence[DeviceMemory],
) -> tuple[MemoryUse, ...]:
    """As replica_memory, from what llama.cpp itself says of this very placement (`Sizer.size` with
    the ranges' devices)."""
    uses = replica_memory(shape, engine, ranges, devices, _NO_COMPUTE)
    by_name = {row.device: row for row in rows}
    found = []
    for use in uses:
        row = by_name.get(HOST if devices[use.device].is_host else use.device)
        if row is not None:
            found.append(
                MemoryUse(
                    device=use.device,
                    weights=row.weights,
                    context=row.context,
                    compute=row.compute,
                    backend=use.backend,
                )
            )
    return tuple(found)


def output_buffer_bytes(shape: ModelShape, engine: EngineSettings) -> int:
    """Logits and embeddings of every row that a step can have, on the host."""
    return 4 * num_output_rows(engine) * (shape.num_vocab + shape.num_embd)


def bound_sizing(shape: ModelShape, engine: EngineSettings, devices: Sequence[Device]) -> Sizing:
    """An upper bound of what llama.cpp's own sizing would say."""
    others = [device for device in devices if not device.is_host]
    copies = _PIPELINE_COPIES if len(others) > 1 else 1
    whole = bound_compute(shape, engine, copies=copies)
    host = bound_host_compute(shape, engine, copies=copies)
    return Sizing(
        host=host,
        host_layers=whole + host,
        host_alone=whole + host,
        alone=whole,
        several=whole,
        behind=whole,
        host_tied_bytes=shape.tied_bytes,
    )


def _range_parts(
    shape: ModelShape, engine: EngineSettings, part: Range, device: Device
) -> tuple[int, int, int]:
    """(weights, context, weights of it on the host) in bytes."""
    cells: Cells = cells_of(shape, engine)
    pads = device.backend.startswith(_ROW_PADDING_BACKENDS)
    weights = context = experts = 0
    num_host_experts = part.num_host_experts
    for i in range(part.first_layer, part.last_layer + 1):
        if i == shape.num_layers:
            weights += shape.output_bytes + (shape.output_pad_bytes if pads else 0)
            continue
        layer = shape.layers[i]
        weights += layer.weight_bytes + (layer.pad_bytes if pads else 0)
        if layer.expert_bytes and num_host_experts > 0 and not device.is_host:
            num_host_experts -= 1
            weights -= layer.expert_bytes
            experts += layer.expert_bytes
        if engine.offload_kqv or device.is_host:
            context += layer_context_bytes(shape, i, cells)
    return weights, context, experts


def _plus(use: MemoryUse, *, weights: int = 0, context: int = 0, compute: int = 0) -> MemoryUse:
    return MemoryUse(
        device=use.device,
        weights=use.weights + weights,
        context=use.context + context,
        compute=use.compute + compute,
        backend=use.backend,
    )
