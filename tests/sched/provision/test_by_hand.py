"""Engine settings that somebody gave mean to a plan what they mean to llama.cpp."""

from __future__ import annotations

from typing import Any

import pytest

from fmedge.errors import ConfigError
from fmedge.sched.provision.by_hand import ByHand, by_hand
from fmedge.sched.provision.plan import Range
from fmedge.types import EngineSettings
from tests.sched.provision.plan_cases import cpu, dense, gpu

SHAPE = dense(num_layers=16)
DEVICES = (gpu("gpu0", 16), gpu("gpu1", 8), cpu())


def _of(**given: Any) -> ByHand:
    return by_hand(EngineSettings(model_path="", **given), frozenset(given), SHAPE, DEVICES)


def test_nothing_given_leaves_all_to_the_planner() -> None:
    assert _of() == ByHand()


def test_all_layers_off_the_host() -> None:
    assert _of(gpu_layers=-1) == ByHand(excluded=frozenset({"CPU"}))
    assert _of(gpu_layers=17) == ByHand(excluded=frozenset({"CPU"}))


def test_no_layer_off_the_host() -> None:
    everything = ByHand(excluded=frozenset({"gpu0", "gpu1"}))
    assert _of(gpu_layers=0) == everything
    assert _of(devices=()) == everything


def test_chosen_devices_alone() -> None:
    assert _of(devices=("gpu1",)) == ByHand(excluded=frozenset({"gpu0"}))
    assert _of(split_mode="none", main_gpu=1) == ByHand(excluded=frozenset({"gpu0"}))


def test_some_layers_are_split_by_memory() -> None:
    assert _of(gpu_layers=6).ranges == (
        Range(device="CPU", first_layer=0, last_layer=10),
        Range(device="gpu0", first_layer=11, last_layer=14),
        Range(device="gpu1", first_layer=15, last_layer=16),
    )


def test_shares_are_those_of_the_devices_in_the_order_given() -> None:
    assert _of(devices=("gpu1", "gpu0"), tensor_split=(1.0, 3.0)).ranges == (
        Range(device="gpu1", first_layer=0, last_layer=4),
        Range(device="gpu0", first_layer=5, last_layer=16),
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split_mode": "row"}, "split_mode row"),
        ({"tensor_overrides": (("exps", "CPU"),)}, "tensor_overrides"),
        ({"devices": ("CUDA0",)}, "no device 'CUDA0'; there are gpu0, gpu1"),
        ({"split_mode": "none", "main_gpu": 2}, "main_gpu 2"),
    ],
)
def test_what_no_plan_can_follow(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _of(**given)


def test_layers_on_a_host_that_is_not_there() -> None:
    engine = EngineSettings(model_path="", gpu_layers=4)
    with pytest.raises(ConfigError, match="no CPU is among"):
        by_hand(engine, frozenset({"gpu_layers"}), SHAPE, DEVICES[:2])
