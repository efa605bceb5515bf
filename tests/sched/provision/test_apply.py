"""Placements in llama.cpp's terms, against its rule for who gets which layer, and what differs."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.provision.apply import differences, engine_of, excess_bytes, reported
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.plan import MemoryUse, PlannedReplica, Predicted, Range
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.types import DeviceMemory, EngineInfo, EngineSettings

BASE = EngineSettings(model_path="m.gguf", ctx_size=512)
MIB = 1 << 20


def _device(name: str, endpoint: str = "") -> Device:
    kind = "cpu" if name == "CPU" else "rpc" if endpoint else "gpu"
    return Device(
        name=name, type=kind, memory_bytes=1 << 30, bandwidth_gb_s=10, tflop_s=1, endpoint=endpoint
    )


DEVICES = {
    d.name: d
    for d in (
        _device("CPU"),
        _device("CUDA0"),
        _device("a:1", "a:1"),
        _device("box", "b:1"),
        _device("box/1", "b:1"),
        _device("c:1", "c:1"),
    )
}


def _shape(num_layers: int, experts_from: int | None = None) -> ModelShape:
    layers = [
        LayerShape(
            weight_bytes=100,
            num_params=50,
            expert_bytes=60 if experts_from is not None and i >= experts_from else 0,
        )
        for i in range(num_layers)
    ]
    return ModelShape(
        name="m", file="m.gguf", architecture="llama", quant="q8_0", ctx_train=512, num_vocab=10,
        num_embd=4, num_params=1, layers=tuple(layers), input_bytes=10, output_bytes=10,
        output_params=1,
    )  # fmt: skip


def _ranges(*parts: tuple[str, int] | tuple[str, int, int]) -> tuple[Range, ...]:
    """(device, number of layers[, host experts]) one behind the other."""
    made, first = [], 0
    for name, count, *experts in parts:
        made.append(
            Range(
                device=name,
                first_layer=first,
                last_layer=first + count - 1,
                num_host_experts=experts[0] if experts else 0,
            )
        )
        first += count
    return tuple(made)


def _by_llama_cpp(engine: EngineSettings, num_layers: int) -> list[str]:
    """Where llama.cpp puts each layer and the head (load_tensors): the last gpu_layers of them on
    devices, by the cumulated shares of the split."""
    on_devices = min(engine.gpu_layers, num_layers + 1) if engine.devices else 0
    first = num_layers + 1 - on_devices
    total = sum(engine.tensor_split)
    ends = [end / total for end in accumulate(engine.tensor_split)]
    return ["CPU"] * first + [
        engine.devices[bisect_right(ends, i / on_devices)] for i in range(on_devices)
    ]


@st.composite
def _placements(draw: st.DrawFn) -> tuple[tuple[str, int], ...]:
    others = draw(st.permutations([name for name in DEVICES if name != "CPU"]))
    used = others[: draw(st.integers(0, len(others)))]
    names = (["CPU"] if not used or draw(st.booleans()) else []) + used
    return tuple((name, draw(st.integers(1, 40))) for name in names)


@given(_placements())
def test_llama_cpps_rule_gives_the_ranges(parts: tuple[tuple[str, int], ...]) -> None:
    ranges = _ranges(*parts)
    num_layers = ranges[-1].last_layer
    engine = engine_of(ranges, _shape(num_layers), DEVICES, BASE)
    wanted = [name for name, count in parts for _ in range(count)]
    planned = _planned(ranges, engine)
    info = _info(_by_llama_cpp(engine, num_layers))
    assert list(reported(planned, info).layer_devices) == wanted
    assert differences(planned, info) == ()


def test_only_the_servers_that_are_needed() -> None:
    ranges = _ranges(("c:1", 2), ("box/1", 3))
    engine = engine_of(ranges, _shape(4), DEVICES, BASE)
    assert engine.rpc == ("c:1", "b:1")
    assert engine.devices == ("c:1", "b:1/1")
    assert engine.tensor_split == (2.0, 3.0)
    assert engine.gpu_layers == 5
    assert engine.ctx_size == 512


def test_the_host_alone() -> None:
    engine = engine_of(_ranges(("CPU", 5)), _shape(4), DEVICES, BASE)
    assert (engine.devices, engine.gpu_layers, engine.rpc, engine.tensor_split) == ((), 0, (), ())


def test_experts_on_the_host() -> None:
    ranges = _ranges(("CPU", 2), ("CUDA0", 4, 2), ("a:1", 3, 1))
    engine = engine_of(ranges, _shape(8, experts_from=1), DEVICES, BASE)
    ((pattern, buffer),) = engine.tensor_overrides
    assert buffer == "CPU"
    names = [f"blk.{i}.ffn_{kind}_exps.weight" for i in range(9) for kind in ("up", "gate_up")]
    moved = {int(n.split(".")[1]) for n in names if re.search(pattern, n)}
    assert moved == {2, 3, 6}
    assert not re.search(pattern, "blk.2.ffn_up_shexp.weight")
    assert not re.search(pattern, "blk.22.ffn_up_exps.weight")


def test_the_users_overrides_come_first() -> None:
    base = EngineSettings(model_path="m", tensor_overrides=(("x", "CPU"),))
    engine = engine_of(_ranges(("CUDA0", 3, 2)), _shape(2, 0), DEVICES, base)
    assert engine.tensor_overrides[0] == ("x", "CPU")
    assert len(engine.tensor_overrides) == 2


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        (_ranges(("CUDA0", 4)), "4 of 5 layers"),
        (_ranges(("CUDA0", 2), ("CPU", 3)), "the host can only hold the first"),
        (_ranges(("CUDA0", 2), ("a:1", 1), ("CUDA0", 2)), "one range of layers"),
        (_ranges(("CUDA0", 2))[:1] + _ranges(("a:1", 5)), "layer 2 is not where"),
    ],
)
def test_ranges_that_cannot_be_had(ranges: tuple[Range, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        engine_of(ranges, _shape(4), DEVICES, BASE)


def test_more_devices_than_llama_cpp_splits_over() -> None:
    devices = {f"GPU{i}": _device(f"GPU{i}") for i in range(17)}
    with pytest.raises(ValueError, match="at most 16 devices"):
        engine_of(_ranges(*((n, 1) for n in devices)), _shape(16), devices, BASE)


def _planned(ranges: tuple[Range, ...], engine: EngineSettings) -> PlannedReplica:
    return PlannedReplica(
        model="m", name="m", file="m.gguf", placement=(), ctx_size=512, slots=1, batch=512,
        kv_type="f16", predicted=Predicted(ttft_ms=1, tpot_ms=1, prefill_tok_s=1, decode_tok_s=1),
        ranges=ranges, engine=engine,
    )  # fmt: skip


def _info(
    layers: list[str], experts: list[str] | None = None, memory: tuple[DeviceMemory, ...] = ()
) -> EngineInfo:
    return EngineInfo(
        ctx_size=512, slots=1, batch_size=512, ubatch_size=512, num_vocab=10, num_embd=4,
        num_layers=len(layers) - 1, num_params=1, model_bytes=1, ctx_train=512, threads=1,
        kv_unified=False, kv_tokens=512, pooling="none", has_encoder=False, has_decoder=True,
        is_recurrent=False, can_shift=True, description="", memory=memory,
        layer_devices=tuple(layers), expert_devices=tuple(experts or [""] * len(layers)),
    )  # fmt: skip


def test_layers_that_went_elsewhere() -> None:
    ranges = _ranges(("box/1", 3), ("a:1", 3))
    planned = _planned(ranges, engine_of(ranges, _shape(5), DEVICES, BASE))
    info = _info(["b:1/1", "CPU", "CPU", "a:1", "b:1/1", "b:1/1"])
    assert differences(planned, info) == (
        "layers 1-2 are on CPU, planned on box/1",
        "layer 4 and the output head are on box/1, planned on a:1",
    )
    assert differences(planned, _info(["b:1/1"] * 3)) == ("llama.cpp has 2 layers, 5 were planned",)


def test_experts_that_went_elsewhere() -> None:
    ranges = _ranges(("CUDA0", 4, 2))
    planned = _planned(ranges, engine_of(ranges, _shape(3, 0), DEVICES, BASE))
    as_planned = ["CPU", "CPU", "CUDA0", ""]
    assert differences(planned, _info(["CUDA0"] * 4, as_planned)) == ()
    assert differences(planned, _info(["CUDA0"] * 4, ["CPU", "CUDA0", "CUDA0", ""])) == (
        "of the layers on CUDA0, 1 have their experts on the host, 2 were planned",
    )


def test_more_bytes_than_planned() -> None:
    ranges = _ranges(("box/1", 3))
    planned = _planned(ranges, engine_of(ranges, _shape(2), DEVICES, BASE))
    uses = (
        MemoryUse(device="box/1", weights=10 * MIB, context=2 * MIB, compute=MIB, backend=MIB),
        MemoryUse(device="CPU", weights=MIB),
    )
    memory = (DeviceMemory("b:1/1", 10 * MIB, 2 * MIB, 3 * MIB), DeviceMemory("CPU", MIB, 0, 0))
    info = _info(["b:1/1"] * 3, memory=memory)
    assert differences(planned, info, uses) == (
        "box/1 holds 15.0 MiB of it, 2.0 MiB more than planned",
    )
    assert excess_bytes(planned, info, uses) == {"box/1": 2 * MIB, "CPU": 0}
