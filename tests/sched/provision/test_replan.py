"""When to plan anew, and the way from plan to plan."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.provision.plan import (
    DeviceUse,
    MemoryUse,
    Plan,
    PlannedReplica,
    Predicted,
    Range,
    ReplicaUse,
)
from fmedge.sched.provision.replan import (
    ModelSignal,
    Replanner,
    ReplanSettings,
    bytes_by_replica,
    renamed,
)
from fmedge.types import EngineSettings

SETTINGS = ReplanSettings(cooldown_s=60, device_back_s=15, lasting_s=10, min_judged=20)


def replica(name: str, *devices: str, slots: int = 4) -> PlannedReplica:
    model = name.partition("/")[0]
    return PlannedReplica(
        model=model,
        name=name,
        file=f"{model}.gguf",
        placement=(),
        ctx_size=4096,
        slots=slots,
        batch=2048,
        kv_type="f16",
        predicted=Predicted(ttft_ms=1, tpot_ms=1, prefill_tok_s=1, decode_tok_s=1),
        ranges=tuple(Range(device=d, first_layer=i, last_layer=i) for i, d in enumerate(devices)),
        engine=EngineSettings(model_path=f"{model}.gguf", slots=slots),
    )


def plan(*held: tuple[PlannedReplica, dict[str, int]]) -> Plan:
    devices = sorted({device for _, uses in held for device in uses})
    return Plan(
        objective=1.0,
        solve_ms=1.0,
        replicas=tuple(r for r, _ in held),
        devices=tuple(
            DeviceUse(
                name=device,
                capacity_bytes=100,
                used_bytes=sum(uses.get(device, 0) for _, uses in held),
                breakdown=tuple(
                    ReplicaUse(
                        replica=r.name, memory=MemoryUse(device=device, weights=uses[device])
                    )
                    for r, uses in held
                    if device in uses
                ),
            )
            for device in devices
        ),
    )


# --- when ---


def test_nothing_new_leaves_the_plan_alone() -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {"chat": 2.0}, ["gpu0"])
    calm = ModelSignal(model="chat", rate_per_s=2.2, num_judged=100, num_missed=12)
    assert all(replanner.review(now_s, [calm], ["gpu0"]) == "" for now_s in range(0, 600, 5))


def test_a_lost_device_is_a_reason_at_once_even_in_the_cooldown() -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {}, ["gpu0", "gpu1"])
    assert replanner.review(1, [], ["gpu0"]) == "gpu1 is gone"


def test_a_device_that_comes_back_is_used_when_it_has_stayed() -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {}, ["gpu0"])
    assert replanner.review(100, [], ["gpu0", "gpu1"]) == ""
    assert replanner.review(105, [], ["gpu0"]) == ""  # gone again
    assert replanner.review(110, [], ["gpu0", "gpu1"]) == ""
    assert replanner.review(124, [], ["gpu0", "gpu1"]) == ""
    assert replanner.review(126, [], ["gpu0", "gpu1"]) == "gpu1 can be used"


def test_misses_count_when_there_are_enough_of_them_for_long_enough() -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {}, [])
    few = ModelSignal(model="chat", rate_per_s=1, num_judged=10, num_missed=10)
    many = ModelSignal(model="chat", rate_per_s=1, num_judged=40, num_missed=10)
    assert replanner.review(100, [few], []) == ""
    assert replanner.review(200, [few], []) == ""
    assert replanner.review(201, [many], []) == ""
    assert "misses 25% of its promises" in replanner.review(212, [many], [])


@pytest.mark.parametrize(("rate", "word"), [(5.0, "asked 5 times"), (0.5, "only 0.5 times")])
def test_demand_that_shifts_and_stays(rate: float, word: str) -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {"chat": 2.0}, [])
    shifted = ModelSignal(model="chat", rate_per_s=rate)
    assert replanner.review(100, [shifted], []) == ""
    assert word in replanner.review(111, [shifted], [])


def test_demand_that_nothing_was_known_of_is_a_reason_once_there_is_enough_of_it() -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {}, [])
    few = ModelSignal(model="chat", rate_per_s=0.1, num_requests=5)
    many = ModelSignal(model="chat", rate_per_s=0.5, num_requests=30)
    assert replanner.review(100, [few], []) == ""
    assert replanner.review(111, [few], []) == ""
    assert replanner.review(112, [many], []) == ""
    assert "nothing was known of" in replanner.review(123, [many], [])
    replanner.planned(123, {"chat": 0.5}, [])
    assert all(replanner.review(now_s, [many], []) == "" for now_s in range(124, 400, 5))


def test_a_burst_that_passes_is_no_reason() -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {"chat": 2.0}, [])
    for now_s in range(100, 400, 5):
        rate = 9.0 if now_s % 15 == 0 else 2.0
        assert replanner.review(now_s, [ModelSignal(model="chat", rate_per_s=rate)], []) == ""


def test_the_cooldown_holds_back_all_but_losses() -> None:
    replanner = Replanner(SETTINGS)
    replanner.planned(0, {"chat": 2.0}, [])
    shifted = [ModelSignal(model="chat", rate_per_s=9.0)]
    assert replanner.review(5, shifted, []) == ""
    assert replanner.review(59, shifted, []) == ""
    assert replanner.review(61, shifted, []) != ""


# --- how ---


def test_what_runs_as_it_is_wanted_keeps_its_name() -> None:
    running = [replica("chat/7", "gpu0")]
    wanted = plan((replica("chat/0", "gpu0"), {"gpu0": 60}))
    found = renamed(running, wanted)
    assert [r.name for r in found.replicas] == ["chat/7"]
    assert bytes_by_replica(found) == {"chat/7": {"gpu0": 60}}


def test_what_is_new_never_has_the_name_of_what_runs() -> None:
    running = [replica("chat/0", "gpu0"), replica("chat/1", "gpu1")]
    wanted = plan(
        (replica("chat/0", "gpu0", slots=8), {"gpu0": 60}), (replica("chat/1", "gpu0"), {"gpu0": 9})
    )
    found = renamed(running, wanted)
    assert [r.name for r in found.replicas] == ["chat/2", "chat/0"]


NAMES = st.sampled_from(["chat", "code", "embed"])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    held = []
    for number in range(draw(st.integers(0, 5))):
        device = draw(st.sampled_from(["gpu0", "gpu1"]))
        slots = draw(st.integers(1, 3))
        held.append((replica(f"{draw(NAMES)}/{number}", device, slots=slots), {device: slots}))
    return plan(*held)


@given(plans(), plans())
def test_names_are_one_to_one_and_equal_for_equals_alone(old: Plan, new: Plan) -> None:
    found = renamed(old.replicas, new)
    running = {r.name: r for r in old.replicas}
    assert len({r.name for r in found.replicas}) == len(new.replicas)
    for before, after in zip(new.replicas, found.replicas, strict=True):
        assert (after.model, after.ranges, after.slots) == (
            before.model, before.ranges, before.slots,
        )  # fmt: skip
        if after.name in running:
            assert running[after.name].ranges == after.ranges
            assert running[after.name].slots == after.slots
    kept = sum(r.name in running for r in found.replicas)

    def kinds(of: Plan) -> Counter[Any]:
        return Counter((r.model, r.ranges, r.slots) for r in of.replicas)

    assert kept == (kinds(old) & kinds(new)).total()


def test_nothing_gets_the_name_of_what_has_not_ended_yet() -> None:
    running = plan((replica("chat/1", "CPU"), {"CPU": 60}))
    wanted = plan((replica("chat/0", "CPU", "box"), {"CPU": 60}))
    assert renamed(running.replicas, wanted).replicas[0].name == "chat/0"
    (new,) = renamed(running.replicas, wanted, {"chat/0", "chat/2"}).replicas
    assert new.name == "chat/3"
