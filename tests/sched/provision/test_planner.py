"""Plans: what fits, where it lies, what is chosen and why not otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fmedge.sched.provision import evaluate, kernels, pricing
from fmedge.sched.provision.memory import replica_memory
from fmedge.sched.provision.plan import NoPlanError, Plan, Range
from fmedge.sched.provision.planner import plan, rescore
from fmedge.sched.provision.request import PlanRequest
from tests.sched.provision.plan_cases import (
    cpu,
    dense,
    devices_of,
    gpu,
    model,
    request,
    stream,
)


def _is_sound(made: Plan, asked: PlanRequest) -> None:
    """Every layer is placed once, and memory.py says that all of it fits."""
    devices = {device.name: device for device in asked.devices}
    shapes = {shape.file: shape for m in asked.models for shape in m.shapes}
    used = dict.fromkeys(devices, 0)
    for replica in made.replicas:
        shape = shapes[replica.file]
        layers = [i for r in replica.ranges for i in range(r.first_layer, r.last_layer + 1)]
        assert layers == list(range(shape.num_layers + 1))
        for use in replica_memory(shape, replica.engine, replica.ranges, devices):
            used[use.device] += use.total
        assert replica.engine.model_path == shape.file
        assert replica.engine.ctx_size == replica.ctx_size
        assert replica.engine.slots == replica.slots
    for device in made.devices:
        assert device.used_bytes == used[device.name] <= device.capacity_bytes
        assert device.used_bytes == sum(use.memory.total for use in device.breakdown)


def test_one_card_takes_all_of_a_model_that_fits() -> None:
    asked = request(model(dense()), devices=(gpu("gpu0", 24), cpu()))
    made = plan(asked)
    _is_sound(made, asked)
    assert devices_of(made, "chat/0") == ["gpu0"]
    assert made.replicas[0].slots >= 4
    assert made.replicas[0].predicted.attainment is None


def test_a_slow_card_is_left_out_with_figures() -> None:
    asked = request(model(dense()), devices=(gpu("gpu0", 24), gpu("gpu1", 8, speed=0.2), cpu()))
    made = plan(asked)
    assert devices_of(made, "chat/0") == ["gpu0"]
    why = {entry.what: entry.why for entry in made.rejected}
    assert why["gpu1"].startswith("left out: with it decode falls from ")
    before, after = (float(word) for word in why["gpu1"].split() if word[0].isdigit())
    assert before > after
    assert before == pytest.approx(made.replicas[0].predicted.decode_tok_s, rel=0.02)


def test_unequal_cards_share_what_neither_holds() -> None:
    big = dense(layer_mib=600, num_layers=24)
    asked = request(model(big), devices=(gpu("gpu0", 12), gpu("gpu1", 8, speed=0.5), cpu()))
    made = plan(asked)
    _is_sound(made, asked)
    assert set(devices_of(made, "chat/0")) == {"gpu0", "gpu1"}
    held = {part.device: part.num_layers for part in made.replicas[0].ranges}
    assert held["gpu0"] > held["gpu1"]


def test_experts_go_to_the_host_rather_than_layers() -> None:
    moe = dense(layer_mib=60, num_layers=24, experts_mib=500)
    asked = request(model(moe), devices=(gpu("gpu0", 8), cpu()))
    made = plan(asked)
    _is_sound(made, asked)
    (replica,) = made.replicas
    placed = {(part.device, part.tensors) for part in replica.placement}
    on_host = [part for part in replica.placement if part.device == "CPU"]
    assert ("CPU", "input") in placed
    assert sum(part.bytes for part in on_host) > 4 << 30
    if ("CPU", "experts") in placed:
        assert ("gpu0", "dense") in placed
        assert replica.engine.tensor_overrides
    total = sum(part.bytes for part in replica.placement)
    assert total == moe.weight_bytes


def test_the_largest_quantisation_that_is_fast_enough() -> None:
    shapes = (dense(quant="F16", layer_mib=430), dense(quant="Q4_0"))
    fast = plan(request(model(*shapes), devices=(gpu("gpu0", 24), cpu())))
    assert fast.replicas[0].file == shapes[0].file
    small = plan(request(model(*shapes), devices=(gpu("gpu0", 6), cpu(16))))
    assert small.replicas[0].file == shapes[1].file
    assert any("F16" in entry.what and "too slow" in entry.why for entry in small.rejected)


def test_what_is_given_is_kept() -> None:
    asked = request(
        model(
            dense(),
            given=("ctx_size", "slots", "type_k", "type_v"),
            engine={"ctx_size": 5000, "slots": 3, "type_k": "q8_0", "type_v": "q8_0"},
        ),
        devices=(gpu("gpu0", 24), cpu()),
    )
    made = plan(asked)
    _is_sound(made, asked)
    (replica,) = made.replicas
    assert (replica.ctx_size, replica.slots, replica.kv_type) == (5000, 3, "q8_0")


def test_ranges_by_hand_are_kept_and_only_memory_is_left_for_others() -> None:
    ranges = (
        Range(device="CPU", first_layer=0, last_layer=3),
        Range(device="gpu0", first_layer=4, last_layer=16),
    )
    asked = request(
        model(dense(), ranges=ranges, min_replicas=1, max_replicas=1),
        model(dense("other")),
        devices=(gpu("gpu0", 12), cpu()),
    )
    made = plan(asked)
    _is_sound(made, asked)
    assert made.replicas[0].ranges == ranges


def test_excluded_devices_hold_no_layer() -> None:
    asked = request(
        model(dense()),
        devices=(gpu("gpu0", 24), gpu("gpu1", 24), cpu()),
        excluded=frozenset({"gpu0"}),
    )
    made = plan(asked)
    assert devices_of(made, "chat/0") == ["gpu1"]
    assert ("gpu0", "excluded") in {(entry.what, entry.why) for entry in made.rejected}


def test_two_models_share_what_is_there() -> None:
    asked = request(
        model(dense("chat")), model(dense("code")), devices=(gpu("gpu0", 6), gpu("gpu1", 6), cpu())
    )
    made = plan(asked)
    _is_sound(made, asked)
    assert {replica.model for replica in made.replicas} == {"chat", "code"}
    assert "CPU" not in {part.device for r in made.replicas for part in r.ranges}


def test_demand_brings_replicas_on_devices_of_their_own() -> None:
    cards = tuple(gpu(f"gpu{i}", 12) for i in range(3))
    asked = request(model(dense()), devices=(*cards, cpu()), demand=(stream(rate_per_s=12.0),))
    made = plan(asked)
    _is_sound(made, asked)
    used = [part.device for replica in made.replicas for part in replica.ranges]
    assert len(made.replicas) > 1
    assert len(used) == len(set(used))
    assert made.replicas[0].predicted.attainment is not None
    little = plan(replace(asked, demand=(stream(rate_per_s=0.05),)))
    assert len(little.replicas) == 1
    assert little.replicas[0].predicted.attainment == 1.0


def test_a_demand_that_nothing_meets_is_planned_with_a_warning() -> None:
    asked = request(model(dense()), devices=(gpu("gpu0", 8), cpu()), demand=(stream(ttft_s=0.001),))
    made = plan(asked)
    _is_sound(made, asked)
    assert made.replicas[0].predicted.attainment == 0.0
    assert any("promises hold for 0 %" in warning for warning in made.warnings)


def test_the_same_request_gives_the_same_plan() -> None:
    asked = request(
        model(dense(), dense(quant="Q8_0", layer_mib=230)),
        devices=(gpu("gpu0", 12), gpu("gpu1", 8, speed=0.4), cpu()),
        demand=(stream(rate_per_s=3.0),),
    )
    assert plan(asked) == plan(asked)


def test_cards_that_are_alike_are_used_in_their_order() -> None:
    asked = request(model(dense()), devices=(cpu(), *(gpu(f"gpu{i}", 24) for i in range(3))))
    assert devices_of(plan(asked), "chat/0") == ["gpu0"]


def test_without_a_host_nothing_lies_there() -> None:
    made = plan(request(model(dense()), devices=(gpu("gpu0", 24),)))
    assert {part.device for part in made.replicas[0].placement} == {"gpu0"}
    assert any("no CPU is among the devices" in warning for warning in made.warnings)


def test_an_unknown_architecture_is_planned_with_a_warning() -> None:
    made = plan(request(model(dense(is_known=False)), devices=(gpu("gpu0", 24), cpu())))
    assert any("upper bound" in warning for warning in made.warnings)


def test_a_plan_in_force_stays_where_nothing_better_is_found() -> None:
    asked = request(model(dense()), devices=(gpu("gpu0", 24), cpu()))
    first = plan(asked)
    running = replace(
        first, replicas=tuple(replace(r, slots=2, engine=replace(r.engine, slots=2))
                              for r in first.replicas)
    )  # fmt: skip
    assert plan(replace(asked, running=running)).replicas[0].slots == 2
    slow = Range(device="CPU", first_layer=0, last_layer=16)
    bad = replace(first, replicas=tuple(replace(r, ranges=(slow,)) for r in first.replicas))
    assert devices_of(plan(replace(asked, running=bad)), "chat/0") == ["gpu0"]


def test_rescore_tells_a_plan_in_force_what_new_demand_makes_of_it() -> None:
    asked = request(model(dense()), devices=(gpu("gpu0", 24), cpu()))
    first = plan(asked)
    again = rescore(asked, first)
    assert again is not None
    assert again.objective == pytest.approx(first.objective)
    assert again.replicas == first.replicas
    busy = rescore(replace(asked, demand=(stream(rate_per_s=50.0),)), first)
    assert busy is not None
    assert busy.objective > 2 * first.objective
    assert rescore(replace(asked, devices=(cpu(),)), first) is None
    assert rescore(replace(asked, devices=(gpu("gpu0", 2), cpu())), first) is None


def test_nothing_fits_and_each_change_that_is_named_helps() -> None:
    asked = request(
        model(dense(layer_mib=700, num_layers=24), given=("ctx_size",), engine={"ctx_size": 32768}),
        devices=(gpu("gpu0", 12), cpu(4)),
    )
    with pytest.raises(NoPlanError) as caught:
        plan(asked)
    assert "needs at least" in str(caught.value)
    assert caught.value.changes
    assert caught.value.changes[0] in str(caught.value)
    more = next(change for change in caught.value.changes if "more memory on" in change)
    total_gib = float(more.split("(")[1].split()[0])
    name = more.split(" more memory on ")[1].split()[0]
    devices = tuple(
        replace(d, memory_bytes=int((total_gib + 0.06) * (1 << 30))) if d.name == name else d
        for d in asked.devices
    )
    enough = replace(asked, devices=devices)
    _is_sound(plan(enough), enough)


def test_fewer_slots_and_a_shorter_context_are_the_first_changes() -> None:
    fixed = ("ctx_size", "slots", "type_k", "type_v")
    asked = request(
        model(dense(), given=fixed, engine={"ctx_size": 32768, "slots": 8}),
        devices=(gpu("gpu0", 12),),
    )
    with pytest.raises(NoPlanError) as caught:
        plan(asked)
    fewer, shorter = caught.value.changes[:2]
    assert "slots for chat instead of 8" in fewer
    slots, tokens = int(fewer.split()[0]), int(shorter.split()[3])
    for engine in ({"ctx_size": tokens, "slots": 8}, {"ctx_size": 32768, "slots": slots}):
        plan(replace(asked, models=(model(dense(), given=fixed, engine=engine),)))
    one_more = model(dense(), given=fixed, engine={"ctx_size": 32768, "slots": slots + 1})
    with pytest.raises(NoPlanError):
        plan(replace(asked, models=(one_more,)))


def test_no_device_at_all() -> None:
    with pytest.raises(NoPlanError, match="no device"):
        plan(request(model(dense()), devices=()))


@settings(max_examples=15, deadline=None)
@given(
    memory_gib=st.lists(st.floats(0.5, 30), min_size=1, max_size=3),
    speeds=st.lists(st.floats(0.1, 2), min_size=3, max_size=3),
    layer_mib=st.integers(30, 600),
    is_moe=st.booleans(),
    host_gib=st.sampled_from([0.0, 2.0, 64.0]),
)
def test_whatever_is_planned_fits(
    memory_gib: list[float], speeds: list[float], layer_mib: int, is_moe: bool, host_gib: float
) -> None:
    devices = [gpu(f"gpu{i}", m, speed=speeds[i]) for i, m in enumerate(memory_gib)]
    if host_gib:
        devices.append(cpu(host_gib))
    shape = dense(layer_mib=layer_mib, experts_mib=200 if is_moe else 0)
    asked = request(model(shape), devices=tuple(devices))
    try:
        made = plan(asked)
    except NoPlanError:
        return
    if host_gib:
        _is_sound(made, asked)
    assert all(d.used_bytes <= d.capacity_bytes for d in made.devices)


def test_one_device_is_planned_for_as_compiled_code_would_and_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = request(model(dense(num_layers=32)), model(dense("small")), devices=(cpu(12.0),))
    plain = plan(asked)
    monkeypatch.setattr(pricing, "Plain", kernels)
    monkeypatch.setattr(evaluate, "Plain", None)
    assert plan(asked) == plain
    code = (
        "import sys\n"
        "from fmedge.sched.provision.planner import plan\n"
        "from tests.sched.provision.plan_cases import cpu, dense, model, request\n"
        "assert plan(request(model(dense()), devices=(cpu(),))).replicas\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
