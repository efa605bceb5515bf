"""Memory of replicas: the arithmetic by hand, and arrays for the optimiser that never say less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.provision.context import cells_of, ctx_size_of, layer_context_bytes
from fmedge.sched.provision.device import HOST, Device
from fmedge.sched.provision.memory import (
    Sizing,
    bound_sizing,
    exact_memory,
    host_expert_bytes,
    host_layer_bytes,
    layer_bytes,
    output_buffer_bytes,
    range_bytes,
    replica_memory,
)
from fmedge.sched.provision.plan import MemoryUse, Range
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.types import DeviceMemory, EngineSettings

MIB = 1 << 20
NUM_LAYERS = 4


def model(*layers: LayerShape, **fields: Any) -> ModelShape:
    defaults: dict[str, Any] = {
        "name": "m", "file": "m.gguf", "architecture": "llama", "quant": "Q8_0",
        "ctx_train": 32768, "num_vocab": 1000, "num_embd": 256, "num_params": 1e6,
        "input_bytes": 5 * MIB, "output_bytes": 6 * MIB, "output_params": 1e5,
    }  # fmt: skip
    return ModelShape(layers=layers or (LAYER,) * NUM_LAYERS, **{**defaults, **fields})


LAYER = LayerShape(weight_bytes=10 * MIB, num_params=1e7, k_width=128, v_width=64)
MOE = LayerShape(
    weight_bytes=10 * MIB, num_params=1e6, expert_bytes=8 * MIB, active_expert_bytes=MIB,
    active_expert_params=5e5, k_width=128, v_width=64, pad_bytes=1024,
)  # fmt: skip


def engine(**fields: Any) -> EngineSettings:
    return EngineSettings(model_path="m.gguf", **{"ctx_size": 1024, "slots": 2, **fields})


def device(name: str, **fields: Any) -> Device:
    kind = {"type": "gpu", "backend": "Vulkan", **fields}
    return Device(name=name, memory_bytes=1 << 34, bandwidth_gb_s=500.0, tflop_s=50.0, **kind)


DEVICES = {
    HOST: device(HOST, type="cpu", backend_bytes=3000),
    "gpu0": device("gpu0", backend_bytes=2000),
    "gpu1": device("gpu1", backend="CUDA", backend_bytes=1000),
}
SIZING = Sizing(host=1, host_layers=20, host_alone=300, alone=4000, several=50000, behind=600000)


def span(name: str, first: int, last: int, num_host_experts: int = 0) -> Range:
    return Range(device=name, first_layer=first, last_layer=last, num_host_experts=num_host_experts)


def by_device(uses: tuple[MemoryUse, ...]) -> dict[str, MemoryUse]:
    return {use.device: use for use in uses}


@pytest.mark.parametrize(
    ("fields", "cells", "streams", "seqs"),
    [
        ({}, 1024, 2, 2),
        ({"ctx_size": 1000, "slots": 3}, 1024, 3, 3),
        ({"ctx_size": 0}, 8192, 2, 2),
        ({"kv_unified": True}, 2048, 1, 18),
        ({"kv_unified": True, "kv_tokens": 5000}, 5120, 1, 18),
    ],
)
def test_cells_are_rounded_as_llama_cpp_rounds_them(
    fields: dict[str, Any], cells: int, streams: int, seqs: int
) -> None:
    found = cells_of(model(), engine(**fields))
    assert (found.num_cells, found.num_streams, found.num_seqs) == (cells, streams, seqs)


def test_context_without_a_size_is_the_models_or_8192() -> None:
    assert ctx_size_of(model(ctx_train=2048), engine(ctx_size=0)) == 2048
    assert ctx_size_of(model(), engine(ctx_size=0)) == 8192
    assert ctx_size_of(model(), engine(ctx_size=100000)) == 100000


def test_context_by_type_and_state() -> None:
    shape = model(LAYER, LayerShape(weight_bytes=0, num_params=0.0, state_bytes=1000))
    assert layer_context_bytes(shape, 0, cells_of(shape, engine())) == 2 * 1024 * 192 * 2
    quantised = cells_of(shape, engine(type_k="q8_0", type_v="q4_0"))
    assert layer_context_bytes(shape, 0, quantised) == 2048 * (128 * 34 + 64 * 18) // 32
    assert layer_context_bytes(shape, 1, quantised) == 2048 + 128
    # a window saves nothing: the engine keeps what slid out of it
    slides = model(LayerShape(weight_bytes=0, num_params=0.0, k_width=64, v_width=64, window=16))
    assert layer_context_bytes(slides, 0, cells_of(slides, engine())) == 2 * 1024 * 128 * 2


def test_without_flash_attention_all_layers_have_the_widest_v() -> None:
    wide = LayerShape(weight_bytes=0, num_params=0.0, k_width=64, v_width=256)
    shape = model(LAYER, wide)
    plain = [layer_context_bytes(shape, i, cells_of(shape, engine())) for i in (0, 1)]
    off = cells_of(shape, engine(flash_attn="off"))
    assert layer_context_bytes(shape, 0, off) - plain[0] == 2048 * (256 - 64) * 2
    assert layer_context_bytes(shape, 1, off) == plain[1]


def test_a_replica_over_host_and_two_cards() -> None:
    shape = model(shared_bytes=256)
    ranges = (span(HOST, 0, 0), span("gpu0", 1, 2), span("gpu1", 3, 4))
    uses = by_device(replica_memory(shape, engine(), ranges, DEVICES, SIZING))
    kv = 2 * 1024 * 192 * 2
    outputs = output_buffer_bytes(shape, engine())
    assert outputs == 4 * 64 * 1256
    assert uses == {
        HOST: MemoryUse(
            device=HOST, weights=15 * MIB + 256, context=kv, compute=20, backend=3000 + outputs
        ),
        "gpu0": MemoryUse(
            device="gpu0", weights=20 * MIB + 256, context=2 * kv, compute=600000, backend=2000
        ),
        "gpu1": MemoryUse(
            device="gpu1", weights=16 * MIB + 256, context=kv, compute=600000, backend=1000
        ),
    }


def test_compute_buffers_depend_on_what_a_device_does() -> None:
    def compute(*ranges: Range) -> dict[str, int]:
        uses = replica_memory(model(), engine(), ranges, DEVICES, SIZING)
        return {use.device: use.compute for use in uses}

    assert compute(span(HOST, 0, 4)) == {HOST: 300}
    assert compute(span("gpu0", 0, 4)) == {HOST: 1, "gpu0": 4000}
    assert compute(span("gpu0", 0, 1), span("gpu1", 2, 4)) == {
        HOST: 1, "gpu0": 50000, "gpu1": 50000,
    }  # fmt: skip


def test_a_host_that_holds_embedding_and_tied_head_holds_them_once() -> None:
    shape = model(tied_bytes=5 * MIB)
    (whole,) = replica_memory(shape, engine(), (span(HOST, 0, 4),), DEVICES, SIZING)
    assert whole.weights == (5 + 40 + 6 - 5) * MIB
    repacked = Sizing(
        host=1, host_layers=1, host_alone=1, alone=1, several=1, behind=1,
        host_tied_bytes=5 * MIB,
    )  # fmt: skip
    (twice,) = replica_memory(shape, engine(), (span(HOST, 0, 4),), DEVICES, repacked)
    assert twice.weights == (5 + 40 + 6) * MIB


def test_experts_on_the_host_leave_the_device() -> None:
    shape = model(LAYER, MOE, MOE, MOE)
    (host, gpu) = replica_memory(
        shape, engine(), (span("gpu0", 0, 4, num_host_experts=2),), DEVICES, SIZING
    )
    assert host.weights == (5 + 2 * 8) * MIB
    assert gpu.weights == (40 + 6 - 2 * 8) * MIB


def test_rows_are_padded_where_the_backend_pads_them() -> None:
    shape = model(MOE, output_pad_bytes=512)
    for name, more in (("gpu0", 0), ("gpu1", 1024 + 512)):
        uses = by_device(replica_memory(shape, engine(), (span(name, 0, 1),), DEVICES, SIZING))
        assert uses[name].weights == 16 * MIB + more


def test_kv_that_is_not_offloaded_is_the_hosts() -> None:
    settings = engine(offload_kqv=False)
    (host, gpu) = replica_memory(model(), settings, (span("gpu0", 0, 4),), DEVICES, SIZING)
    assert gpu.context == 0
    assert host.context == 4 * 2 * 1024 * 192 * 2
    assert host_layer_bytes(model(), settings).sum() == host.context


def test_without_a_described_host_only_devices_are_counted() -> None:
    devices = {"gpu0": DEVICES["gpu0"]}
    uses = replica_memory(model(), engine(), (span("gpu0", 0, 4),), devices)
    assert [use.device for use in uses] == ["gpu0"]


def test_llama_cpps_own_answer_takes_the_place_of_the_bound() -> None:
    rows = (DeviceMemory("gpu0", 1, 2, 3), DeviceMemory(HOST, 4, 5, 6))
    uses = exact_memory(model(), engine(), (span("gpu0", 0, 4),), DEVICES, rows)
    assert [(use.weights, use.context, use.compute) for use in uses] == [(4, 5, 6), (1, 2, 3)]
    assert uses[0].backend == 3000 + output_buffer_bytes(model(), engine())


LAYERS = st.sampled_from(
    [
        LAYER,
        MOE,
        LayerShape(weight_bytes=MIB, num_params=1e6, state_bytes=5000),
        LayerShape(weight_bytes=3 * MIB, num_params=1e6, k_width=64, v_width=512, pad_bytes=512),
    ]
)


@st.composite
def placements(draw: st.DrawFn) -> tuple[ModelShape, EngineSettings, tuple[Range, ...]]:
    shape = model(
        *draw(st.lists(LAYERS, min_size=3, max_size=6)),
        shared_bytes=draw(st.sampled_from([0, 256])),
        tied_bytes=draw(st.sampled_from([0, 5 * MIB])),
    )
    settings = engine(
        offload_kqv=draw(st.booleans()),
        kv_unified=draw(st.booleans()),
        flash_attn=draw(st.sampled_from(["auto", "off"])),
    )
    cuts = sorted(draw(st.lists(st.integers(0, shape.num_layers + 1), min_size=2, max_size=2)))
    ends = (0, *cuts, shape.num_layers + 1)
    order = draw(st.permutations(["gpu0", "gpu1"]))
    ranges = tuple(
        span(name, first, end - 1, draw(st.integers(0, 2)) if name != HOST else 0)
        for name, first, end in zip((HOST, *order), ends, ends[1:], strict=False)
        if end > first
    )
    return shape, settings, ranges


@given(placements(), st.booleans())
def test_what_the_optimiser_adds_up_is_never_less(
    placement: tuple[ModelShape, EngineSettings, tuple[Range, ...]], is_sized: bool
) -> None:
    shape, settings, ranges = placement
    sizing = SIZING if is_sized else None
    devices = list(DEVICES.values())
    uses = by_device(replica_memory(shape, settings, ranges, DEVICES, sizing))
    once = range_bytes(shape, settings, devices, sizing)
    added = dict(zip(DEVICES, once.always.tolist(), strict=True))
    index = {name: d for d, name in enumerate(DEVICES)}
    experts, on_host = host_expert_bytes(shape, settings), host_layer_bytes(shape, settings)
    for part in ranges:
        d = index[part.device]
        added[part.device] += int(once.fixed[d])
        if part.last_layer == shape.num_layers:
            added[part.device] += int(once.last[d])
        whole = layer_bytes(shape, settings, devices[d])
        apart = layer_bytes(shape, settings, devices[d], has_host_experts=True)
        left = part.num_host_experts
        for i in range(part.first_layer, part.last_layer + 1):
            is_apart = left > 0 and bool(experts[i])
            left -= is_apart
            added[part.device] += int(apart[i] if is_apart else whole[i])
            if part.device != HOST:
                added[HOST] += int(on_host[i]) + (int(experts[i]) if is_apart else 0)
    for name, use in uses.items():
        assert use.total <= added[name]


@given(placements())
def test_bounds_are_above_what_is_there_once(
    placement: tuple[ModelShape, EngineSettings, tuple[Range, ...]],
) -> None:
    """A graph holds at least a ubatch's embedded tokens and its masks."""
    shape, settings, _ = placement
    cells = cells_of(shape, settings)
    bound = bound_sizing(shape, settings, list(DEVICES.values()))
    tokens = 4 * cells.ubatch_size * shape.num_embd
    assert bound.host >= tokens
    assert bound.alone >= tokens + 4 * cells.num_cells * cells.ubatch_size
    assert bound.several >= bound.alone - 4 * 64 * shape.num_vocab
    assert bound.host_alone >= bound.host


def test_arrays_have_an_entry_for_the_head() -> None:
    found = layer_bytes(model(), engine())
    assert found.dtype == np.int64
    assert found.tolist() == [10 * MIB + 2 * 1024 * 192 * 2] * 4 + [6 * MIB]
