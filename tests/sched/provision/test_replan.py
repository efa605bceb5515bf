"""When to plan anew, and the way from plan to plan."""

from __future__ import annotations

from collections import Counter

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
    after,
    transition,
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


def test_a_plan_must_pay_for_its_change() -> None:
    replanner = Replanner(SETTINGS)
    assert not replanner.is_worth(1.0, 0.95)
    assert replanner.is_worth(1.0, 0.85)


# --- how ---


def test_the_same_plan_needs_no_change() -> None:
    same = plan((replica("chat/0", "gpu0"), {"gpu0": 60}))
    renamed = plan((replica("chat/7", "gpu0"), {"gpu0": 60}))
    assert transition(same, renamed, {"gpu0": 100}) == ()
    assert [r.name for r in after(same, renamed, ()).replicas] == ["chat/0"]


def test_new_starts_before_old_stops_where_both_fit() -> None:
    old = plan((replica("chat/0", "gpu0"), {"gpu0": 40}))
    new = plan((replica("chat/0", "gpu0", slots=8), {"gpu0": 60}))
    changes = transition(old, new, {"gpu0": 100})
    assert [(c.action, c.name) for c in changes] == [("start", "chat/1"), ("stop", "chat/0")]
    assert [r.name for r in after(old, new, changes).replicas] == ["chat/1"]


def test_old_stops_first_where_they_do_not() -> None:
    old = plan((replica("chat/0", "gpu0"), {"gpu0": 60}))
    new = plan((replica("chat/0", "gpu0", slots=8), {"gpu0": 70}))
    changes = transition(old, new, {"gpu0": 100})
    assert [(c.action, c.name) for c in changes] == [("stop", "chat/0"), ("start", "chat/1")]


def test_a_model_with_another_replica_makes_room_before_one_without() -> None:
    old = plan(
        (replica("code/0", "gpu0"), {"gpu0": 50}),
        (replica("chat/0", "gpu0"), {"gpu0": 50}),
        (replica("chat/1", "gpu1"), {"gpu1": 50}),
    )
    new = plan(
        (replica("code/0", "gpu0", slots=8), {"gpu0": 50}),
        (replica("chat/0", "gpu1"), {"gpu1": 50}),
    )
    changes = transition(old, new, {"gpu0": 100, "gpu1": 50})
    assert [(c.action, c.name) for c in changes] == [
        ("stop", "chat/0"), ("start", "code/1"), ("stop", "code/0"),
    ]  # fmt: skip


NAMES = st.sampled_from(["chat", "code", "embed"])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    held = []
    free = {"gpu0": 100, "gpu1": 60}
    for number in range(draw(st.integers(0, 4))):
        device = draw(st.sampled_from(sorted(free)))
        num_bytes = draw(st.integers(1, 50))
        if num_bytes <= free[device]:
            free[device] -= num_bytes
            name = f"{draw(NAMES)}/{number}"
            held.append((replica(name, device, slots=num_bytes), {device: num_bytes}))
    return plan(*held)


@given(plans(), plans())
def test_every_way_ends_at_the_plan_and_never_holds_more_than_there_is(
    old: Plan, new: Plan
) -> None:
    capacity = {"gpu0": 100, "gpu1": 60}
    running = {r.name: (r.ranges[0].device, r.slots, r.model) for r in old.replicas}
    for change in transition(old, new, capacity):
        if change.action == "stop":
            del running[change.name]
            continue
        started = change.replica
        assert isinstance(started, PlannedReplica)
        assert started.name not in running
        running[started.name] = (started.ranges[0].device, started.slots, started.model)
        for device, available in capacity.items():
            assert sum(size for d, size, _ in running.values() if d == device) <= available
    wanted = Counter((r.ranges[0].device, r.slots, r.model) for r in new.replicas)
    assert Counter(running.values()) == wanted
    final = after(old, new, transition(old, new, capacity))
    assert {r.name for r in final.replicas} == set(running)
    uses = {use.replica for device in final.devices for use in device.breakdown}
    assert uses == set(running)
