"""Priors of loaded models: where their layers are, on which devices, as the planner reckons."""

from __future__ import annotations

import msgspec
import pytest

from fmedge.errors import ModelFileError
from fmedge.sched.provision.device import HOST
from fmedge.server.hardware import prior_devices
from fmedge.server.prior import by_weights, prior_model, ranges_of
from fmedge.types import DeviceInfo, DeviceMemory, EngineSettings
from tests import synthetic
from tests.fakes import FakeEngine
from tests.sched.provision.cost_devices import mixture


@pytest.fixture(scope="module")
def engine() -> EngineSettings:
    return EngineSettings(model_path=str(synthetic.cached("tiny")), slots=4, ctx_size=1024)


def device(description: str, name: str = "X0", kind: str = "gpu", backend: str = "") -> DeviceInfo:
    return DeviceInfo(
        name=name, description=description, kind=kind, backend=backend,  # type: ignore[arg-type]
        memory_total=1, memory_free=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("description", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 3350),
        ("NVIDIA A100-PCIE-40GB", 1555),
        ("NVIDIA GeForce RTX 4070 Ti", 504),
        ("NVIDIA L4", 300),
        ("AMD Instinct MI300X", 5300),
    ],
)
def test_gpus_are_known_by_name(description: str, bandwidth: float) -> None:
    found = prior_devices(["X0"], [device(description)], threads=1)
    assert found["X0"].bandwidth_gb_s == bandwidth
    assert found["X0"].source == "catalogue"


def test_an_unknown_gpu_is_taken_for_a_modest_one() -> None:
    infos = [
        device("Graphics", "X0", "igpu"),
        device("Something new", "X1"),
        device("10.0.0.1:50052", "RPC0", "gpu", "RPC"),
    ]
    found = prior_devices(["X0", "X1", "RPC0"], infos, threads=1)
    speeds = [found[name].bandwidth_gb_s for name in ("RPC0", "X0", "X1")]
    assert speeds == sorted(speeds)
    assert speeds[-1] < 1000
    assert {one.source for one in found.values()} == {"guess"}
    assert found["RPC0"].type == "rpc"


def test_the_host_is_probed() -> None:
    found = prior_devices([HOST, HOST], [], threads=1)
    assert list(found) == [HOST]
    assert found[HOST].is_host
    assert 0.5 < found[HOST].bandwidth_gb_s < 2000
    assert 0.0005 < found[HOST].tflop_s < 100


def test_layers_are_shared_as_the_weights_are() -> None:
    memory = [
        DeviceMemory("X0", weights=750, context=1, compute=1),
        DeviceMemory(HOST, weights=250, context=0, compute=9),
        DeviceMemory("X1", weights=0, context=0, compute=9),
    ]
    assert by_weights(memory, 9) == (HOST,) * 2 + ("X0",) * 7
    assert by_weights([], 3) == (HOST,) * 3


def test_ranges_are_runs_of_layers_with_the_experts_that_were_moved() -> None:
    shape = mixture()
    held = [HOST] * 2 + ["X0"] * 4 + ["X1"] * 3
    overrides = ((r"blk\.[0-3]\.ffn_.*_exps", HOST), (r"blk\.7\.ffn_.*_exps", "X1"))
    engine = EngineSettings(model_path="", tensor_overrides=overrides)
    found = [
        (r.device, r.first_layer, r.last_layer, r.num_host_experts)
        for r in ranges_of(held, shape, engine)
    ]
    assert found == [(HOST, 0, 1, 0), ("X0", 2, 5, 2), ("X1", 6, 8, 0)]


def test_a_prior_needs_nothing_but_a_loaded_model(engine: EngineSettings) -> None:
    info = FakeEngine(slots=4, ctx_size=1024).info
    for layers in ((), (HOST,) * 3, (HOST,) * 99):
        loaded = msgspec.structs.replace(info, memory=(), layer_devices=layers)
        model = prior_model(engine, loaded)
        assert 0 < model.step_s(0, 1, 0) < model.step_s(0, 1, 1000)
        assert model.step_s(512, 0) > model.step_s(256, 0)


def test_a_file_that_is_gone(engine: EngineSettings) -> None:
    gone = msgspec.structs.replace(engine, model_path="/nowhere/model.gguf")
    with pytest.raises(ModelFileError):
        prior_model(gone, FakeEngine(slots=4, ctx_size=1024).info)
