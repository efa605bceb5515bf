"""A replica's step model from figures alone: its file's header, where llama.cpp put the layers, and
what is known of the devices there.

The rule: the planner's cost model is the only one; here it is asked about what has been loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from fmedge.sched.provision import cost
from fmedge.sched.provision.device import HOST
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.shape import ModelShape
from fmedge.sched.steptime import StepModel
from fmedge.types import DeviceMemory, EngineInfo, EngineSettings


def prior_model(engine: EngineSettings, info: EngineInfo) -> StepModel:
    """Of a loaded model on the devices that hold it. ModelFileError if its file is gone. Probes
    the CPU, which takes some 50 ms."""
    from fmedge._native.devices import list_devices
    from fmedge._native.gguf import read_header
    from fmedge.models.names import with_splits
    from fmedge.sched.provision.shapes import shape_of
    from fmedge.server.hardware import prior_devices

    shape = shape_of([read_header(path) for path in with_splits(engine.model_path)])
    held = info.layer_devices
    if len(held) != shape.num_layers + 1:
        held = by_weights(info.memory, shape.num_layers + 1)
    ranges = ranges_of(held, shape, engine)
    devices = prior_devices([HOST, *held], list_devices(), info.threads)
    return cost.step_model(shape, _as_loaded(engine, info), ranges, devices)


def by_weights(memory: Sequence[DeviceMemory], num_layers: int) -> tuple[str, ...]:
    """Which device holds each layer where llama.cpp did not say: in proportion to the weights, the
    host first."""
    rows = sorted((row for row in memory if row.weights), key=lambda row: row.device != HOST)
    total = sum(row.weights for row in rows)
    held: list[str] = []
    before = 0
    for row in rows:
        before += row.weights
        held += [row.device] * (round(num_layers * before / total) - len(held))
    return tuple(held) or (HOST,) * num_layers


def ranges_of(held: Sequence[str], shape: ModelShape, engine: EngineSettings) -> tuple[Range, ...]:
    """Layers in order, as ranges of equal devices. held: the device of each, the head's last."""
    patterns = [re.compile(name) for name, kind in engine.tensor_overrides if kind == HOST]
    ranges, first = [], 0
    for device, run in groupby(held):
        last = first + len(list(run)) - 1
        moved = sum(
            bool(layer.expert_bytes)
            and any(pattern.search(f"blk.{i}.ffn_up_exps.weight") for pattern in patterns)
            for i, layer in enumerate(shape.layers[first : last + 1], first)
        )
        ranges.append(
            Range(
                device=device,
                first_layer=first,
                last_layer=last,
                num_host_experts=0 if device == HOST else moved,
            )
        )
        first = last + 1
    return tuple(ranges)


def _as_loaded(engine: EngineSettings, info: EngineInfo) -> EngineSettings:
    """The settings with the sizes that llama.cpp gave instead of its defaults."""
    import msgspec

    return msgspec.structs.replace(
        engine,
        ctx_size=info.ctx_size,
        slots=info.slots,
        batch_size=info.batch_size,
        ubatch_size=info.ubatch_size,
    )
