"""Sizing by llama.cpp on planning devices: the bytes of a load, wherever the devices are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmedge._native.engine import Engine
from fmedge._native.gguf import read_header
from fmedge._native.sizing import HeaderCopy, PlanningDevice, size_model
from fmedge.errors import ModelFileError, ModelLoadError, NativeError
from fmedge.sched.provision.context import cells_of, layer_context_bytes
from fmedge.sched.provision.shapes import shape_of
from fmedge.types import DeviceMemory, EngineSettings
from tests import shapes, synthetic

NUM_LAYERS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


def model(folder: Path, architecture: str, quant: str = "q8_0") -> Path:
    path = folder / f"{architecture}-{quant}.gguf"
    if not path.exists():
        shapes.write_shape(path, architecture, num_layers=NUM_LAYERS, quant=quant)
    return path


def on_host(path: Path, **fields: Any) -> EngineSettings:
    defaults = {"ctx_size": 1024, "slots": 2, "threads": 1, "mmap": False, "gpu_layers": 0}
    return EngineSettings(model_path=str(path), devices=(), **{**defaults, **fields})


def sized(path: Path, engine: EngineSettings, *devices: PlanningDevice) -> dict[str, DeviceMemory]:
    with HeaderCopy([str(path)]) as header:
        return {row.device: row for row in size_model(header, engine, devices)}


@pytest.mark.parametrize("architecture", sorted(shapes.ARCHITECTURES))
def test_a_load_takes_what_sizing_said(folder: Path, architecture: str) -> None:
    path = model(folder, architecture)
    engine = on_host(path)
    loaded = Engine.load(engine)
    try:
        assert tuple(sized(path, engine).values()) == loaded.info.memory
    finally:
        loaded.close()


def test_of_a_mapped_file_what_lies_between_tensors_does_not_count(folder: Path) -> None:
    """q4_0: the matrices are repacked, so of the file only what is left between them is mapped."""
    path = model(folder, "llama", "q4_0")
    engine = on_host(path, mmap=True)
    loaded = Engine.load(engine)
    try:
        assert tuple(sized(path, engine).values()) == loaded.info.memory
    finally:
        loaded.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"kv_unified": True, "kv_tokens": 1500},
        {"type_k": "q8_0", "type_v": "q8_0"},
        {"flash_attn": "off", "ctx_size": 700},
    ],
)
@pytest.mark.parametrize("architecture", sorted(shapes.ARCHITECTURES))
def test_the_shape_tells_each_layers_bytes(
    folder: Path, architecture: str, fields: dict[str, Any]
) -> None:
    """A device for each layer: what llama.cpp puts there is what the header's shape says."""
    path = model(folder, architecture)
    shape = shape_of([read_header(path)])
    devices = [PlanningDevice(name=f"layer{i}") for i in range(NUM_LAYERS + 1)]
    engine = on_host(
        path, **fields, gpu_layers=NUM_LAYERS + 1, tensor_split=(1.0,) * (NUM_LAYERS + 1)
    )
    rows = sized(path, engine, *devices)
    cells = cells_of(shape, engine)
    for i, layer in enumerate(shape.layers):
        row = rows[f"layer{i}"]
        # rope_freqs lie beside each layer that uses them
        assert layer.weight_bytes <= row.weights <= layer.weight_bytes + shape.shared_bytes
        planned = layer_context_bytes(shape, i, cells)
        assert row.context <= planned <= row.context + 128 * (layer.state_bytes > 0)
    assert rows[f"layer{NUM_LAYERS}"].weights == shape.output_bytes
    assert rows["CPU"].weights == shape.input_bytes


def test_experts_go_to_the_host_where_they_are_sent(folder: Path) -> None:
    path = model(folder, "qwen3moe")
    shape = shape_of([read_header(path)])
    engine = on_host(
        path,
        gpu_layers=NUM_LAYERS + 1,
        tensor_split=(1.0,),
        tensor_overrides=((r"^blk\.(0|2)\.ffn_.*_exps", "CPU"),),
    )
    rows = sized(path, engine, PlanningDevice(name="gpu"))
    apart = shape.layers[0].expert_bytes + shape.layers[2].expert_bytes
    assert apart > 0
    assert rows["CPU"].weights == shape.input_bytes + apart
    layers = sum(layer.weight_bytes for layer in shape.layers)
    assert rows["gpu"].weights == layers + shape.output_bytes - apart


def test_a_device_that_pads_rows_takes_what_the_shape_says_more(folder: Path) -> None:
    path = model(folder, "qwen3moe", "q4_0")
    shape = shape_of([read_header(path)])
    engine = on_host(path, gpu_layers=NUM_LAYERS + 1, tensor_split=(1.0,))
    plain = sized(path, engine, PlanningDevice(name="gpu"))["gpu"].weights
    padded = sized(path, engine, PlanningDevice(name="gpu", row_elements=512))["gpu"].weights
    pads = sum(layer.pad_bytes for layer in shape.layers) + shape.output_pad_bytes
    assert plain < padded <= plain + pads


def test_devices_that_take_host_weights_need_room_for_them(folder: Path) -> None:
    path = model(folder, "llama")
    engine = on_host(path, gpu_layers=2, tensor_split=(1.0,))
    frugal = PlanningDevice(name="gpu", takes_host_weights=False)
    needs = [sized(path, engine, device)["gpu"].compute for device in (frugal, _card())]
    assert needs[0] < needs[1]


def _card() -> PlanningDevice:
    return PlanningDevice(name="gpu", takes_host_weights=True)


def test_quantised_kv_is_widened_where_a_device_needs_that(folder: Path) -> None:
    path = model(folder, "llama")
    engine = on_host(
        path, gpu_layers=NUM_LAYERS + 1, tensor_split=(1.0,), type_k="q8_0", type_v="q8_0"
    )
    plain = sized(path, engine, PlanningDevice(name="gpu"))["gpu"].compute
    widened = sized(path, engine, PlanningDevice(name="gpu", widens_kv=True))["gpu"].compute
    assert plain < widened


def test_a_model_of_many_gigabytes_is_sized_from_its_header(tmp_path: Path) -> None:
    spec = synthetic.ModelSpec(
        vocab_size=4096, n_embd=8192, n_layers=80, n_heads=64, n_kv_heads=8, n_ff=28672, ctx=131072,
        quant="q8_0",
    )  # fmt: skip
    path = synthetic.write_sparse(tmp_path / "70b.gguf", spec)
    engine = on_host(path, ctx_size=8192, gpu_layers=81, tensor_split=(41.0, 40.0))
    rows = sized(path, engine, PlanningDevice(name="a"), PlanningDevice(name="b"))
    shape = shape_of([read_header(path)])
    assert rows["a"].weights == sum(layer.weight_bytes for layer in shape.layers[:41]) > 30 << 30
    assert rows["a"].context == 41 * 2 * 2 * 1024 * 8192 * 2


def test_parts_of_a_split_model_are_one(folder: Path, tmp_path: Path) -> None:
    """The header's copy joins what splits divided: here two files with half the tensors each."""
    whole = read_header(model(folder, "llama"))
    parts = shapes.write_split(tmp_path, "llama", num_layers=NUM_LAYERS)
    shape = shape_of([read_header(part) for part in parts])
    assert shape.layers == shape_of([whole]).layers
    engine = on_host(parts[0])
    with HeaderCopy([str(part) for part in parts]) as header:
        joined = size_model(header, engine, ())
    assert joined == tuple(sized(model(folder, "llama"), engine).values())


def test_what_cannot_be_says_so(folder: Path, tmp_path: Path) -> None:
    path = model(folder, "llama")
    twins = (PlanningDevice(name="gpu"), PlanningDevice(name="gpu"))
    with pytest.raises(NativeError, match="names of their own"):
        sized(path, on_host(path), *twins)
    with pytest.raises(NativeError, match="alignment"):
        sized(path, on_host(path), PlanningDevice(name="gpu", alignment=96))
    with pytest.raises(NativeError, match="longer than"):
        sized(path, on_host(path), PlanningDevice(name="g" * 80))
    with pytest.raises(NativeError, match="KV cache type"):
        sized(path, on_host(path, type_k="q2_k"))
    with pytest.raises(ModelLoadError, match="quantized V"):
        sized(path, on_host(path, type_v="q8_0", type_k="q8_0", flash_attn="off"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="broken"):
        HeaderCopy([str(broken)])
    with pytest.raises(ModelFileError, match="No such file"):
        HeaderCopy([str(tmp_path / "absent.gguf")])
