"""Plans for a server's models: together, in turns, with replicas of their own, kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from fmedge.config import load_config
from fmedge.replica.sizing import Sizer
from fmedge.sched.provision.demand import Demand, Spread
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.memory import Sizing
from fmedge.sched.provision.plan import NoPlanError
from fmedge.sched.provision.replan import renamed
from fmedge.server.kept_plans import MAX_PLANS, KeptPlans
from fmedge.server.placements import Placements
from fmedge.server.plan import plan_models
from fmedge.server.state import StateStore
from tests.synthetic import cached

MIB = 1 << 20
CPU = Device(
    name="CPU", type="cpu", memory_bytes=4 << 30, bandwidth_gb_s=20, tflop_s=0.2, backend="CPU",
    source="measured",
)  # fmt: skip

SMALL = replace(CPU, memory_bytes=6 * MIB)
"""For either of two models, not for both."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    made = StateStore(tmp_path / "state")
    made.open()
    with contextlib.closing(made):
        yield made


def placements(folder: Path, text: str, store: StateStore | None = None) -> Placements:
    file = folder / "fmedge.toml"
    file.write_text(text)
    config = load_config(str(file), environ={})
    plans = plan_models(config.models, config.replicas)
    return Placements(config, plans, store or StateStore(None))


def two_models(folder: Path, extra: str = "", store: StateStore | None = None) -> Placements:
    return placements(
        folder,
        "[defaults]\nslots = 2\nctx_size = 1024\n[server]\nkv_store_mib = 0\n"
        f"[[model]]\nmodel = '{cached('tiny')}'\nname = 'one'\n{extra}"
        f"[[model]]\nmodel = '{cached('tiny', n_layers=3)}'\nname = 'two'\n",
        store,
    )


async def test_what_fits_together_is_planned_together(tmp_path: Path) -> None:
    plan = await two_models(tmp_path).make([CPU])
    assert [r.name for r in plan.replicas] == ["one/0", "two/0"]
    (use,) = plan.devices
    assert use.used_bytes <= use.capacity_bytes


async def test_what_does_not_takes_turns_with_all_the_memory_there_is(tmp_path: Path) -> None:
    plan = await two_models(tmp_path).make([SMALL])
    assert [r.name for r in plan.replicas] == ["one/0", "two/0"]
    (use,) = plan.devices
    assert all(part.memory.total <= use.capacity_bytes for part in use.breakdown)


async def test_pinned_ones_leave_the_others_the_rest(tmp_path: Path) -> None:
    with pytest.raises(NoPlanError):
        await two_models(tmp_path, "pinned = true\n").make([SMALL])


async def test_replicas_of_their_own_keep_their_names_and_settings(tmp_path: Path) -> None:
    made = placements(
        tmp_path,
        "[server]\nkv_store_mib = 0\n"
        f"[[model]]\nmodel = '{cached('tiny')}'\nname = 'chat'\nctx_size = 1024\n"
        "[[replica]]\nmodel = 'chat'\nname = 'wide'\nslots = 8\n"
        "[[replica]]\nmodel = 'chat'\nname = 'narrow'\nslots = 1\n",
    )
    plan = await made.make([CPU])
    found = {r.name: (r.model, r.slots) for r in plan.replicas}
    assert found == {"wide": ("chat", 8), "narrow": ("chat", 1)}
    assert {part.replica for part in plan.devices[0].breakdown} == set(found)
    demand = Demand(
        model="chat", rate_per_s=1.0, prompt_tokens=Spread(10, 20), output_tokens=Spread(10, 20)
    )
    again = await made.make([CPU], [demand], plan)
    assert {r.name: r.ranges for r in again.replicas} == {r.name: r.ranges for r in plan.replicas}


async def test_a_plan_is_kept_for_the_next_start_and_no_longer_than_it_holds(
    tmp_path: Path, store: StateStore
) -> None:
    plan = await two_models(tmp_path, store=store).make([CPU])
    kept = await two_models(tmp_path, store=store).make([replace(CPU, backend_bytes=5)])
    assert kept.solve_ms == plan.solve_ms  # not made again
    assert kept == plan
    faster = await two_models(tmp_path, store=store).make([replace(CPU, bandwidth_gb_s=40)])
    assert faster.solve_ms != plan.solve_ms
    less = await two_models(tmp_path, store=store).make(
        [replace(CPU, memory_bytes=faster.devices[0].used_bytes - 1, bandwidth_gb_s=40)]
    )
    assert less.solve_ms != faster.solve_ms


async def test_what_loads_taught_is_left_free(tmp_path: Path) -> None:
    made = two_models(tmp_path)
    made.learned.margins.on_failure(CPU)
    plan = await made.make([CPU])
    assert plan.devices[0].capacity_bytes < CPU.capacity_bytes


async def test_plans_are_kept_side_by_side_by_any_server_and_the_oldest_forgotten(
    tmp_path: Path,
) -> None:
    brief = StateStore(tmp_path / "state", is_writer=False)
    plan = await two_models(tmp_path, store=brief).make([CPU])
    faster = await two_models(tmp_path, store=brief).make([replace(CPU, bandwidth_gb_s=40)])
    again = await two_models(tmp_path, store=brief).make([CPU])
    assert again.solve_ms == plan.solve_ms != faster.solve_ms
    kept = KeptPlans(brief.folder)

    def key(number: int, rest: int = 0) -> str:
        return f"{number:032x}{rest:032x}"

    for number in range(MAX_PLANS):
        assert kept.save(key(number), plan)
    assert len(list((tmp_path / "state" / "plans").glob("*.json"))) == MAX_PLANS
    assert kept.load(key(1)) == plan
    assert kept.load(key(1, 2)) is None  # another key with the same beginning
    (tmp_path / "state" / "plans" / f"{1:032x}.json").write_bytes(b"{")
    assert kept.load(key(1)) is None
    assert KeptPlans(None).load(key(1)) is None
    assert not KeptPlans(None).save(key(1), plan)


async def test_a_plan_that_is_given_up_leaves_no_thread_task_or_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, was_asked = asyncio.Event(), 0
    sizing = Sizer.sizing

    async def noted(self: Sizer, *args: Any) -> Sizing:
        nonlocal was_asked
        was_asked += 1
        asked.set()
        return await sizing(self, *args)

    monkeypatch.setattr(Sizer, "sizing", noted)
    making = asyncio.create_task(two_models(tmp_path).make([CPU]))
    await asyncio.wait_for(asked.wait(), 30)
    making.cancel()
    await asyncio.wait((making,), timeout=30)
    assert making.cancelled()
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 30)
    assert was_asked == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    children = psutil.Process().children(recursive=True)
    assert not [c for c in children if any("sizing" in part for part in c.cmdline())]


async def test_another_configuration_leaves_alone_what_it_does_not_change(tmp_path: Path) -> None:
    one = f"[[model]]\nmodel = '{cached('tiny')}'\nname = 'one'\nslots = 2\n"
    two = f"[[model]]\nmodel = '{cached('tiny', n_layers=3)}'\nname = 'two'\n"
    before = placements(tmp_path, one)
    running = await before.make([CPU])
    both = placements(tmp_path, one + two)
    both.succeed(before, {"two"})
    made = renamed(running.replicas, await both.make_beside([CPU], (), running, {"two"}))
    assert [r for r in made.replicas if r.model == "one"] == list(running.replicas)
    assert [r.model for r in made.replicas if r not in running.replicas] == ["two"]
    assert both.knows("two")
    # Of what is gone nothing is planned, and what changed is planned anew.
    only = placements(tmp_path, one.replace("slots = 2", "slots = 3"))
    left = await only.make_beside([CPU], (), made, {"one", "two"})
    assert [(r.model, r.slots) for r in left.replicas] == [("one", 3)]
    assert not only.knows("two")


async def test_what_does_not_fit_beside_others_takes_turns_with_them(tmp_path: Path) -> None:
    text = "[server]\nkv_store_mib = 0\n[defaults]\nslots = 2\nctx_size = 1024\n"
    one = f"[[model]]\nmodel = '{cached('tiny')}'\nname = 'one'\n"
    two = f"[[model]]\nmodel = '{cached('tiny', n_layers=3)}'\nname = 'two'\n"
    running = await placements(tmp_path, text + one).make([SMALL])
    made = await placements(tmp_path, text + one + two).make_beside([SMALL], (), running, {"two"})
    assert {r.model for r in made.replicas} == {"one", "two"}
    (use,) = made.devices
    assert use.used_bytes > use.capacity_bytes
    huge = two + "gpu_layers = 0\nslots = 256\nkv_tokens = 0\nctx_size = 4096\n"
    with pytest.raises(NoPlanError):
        await placements(tmp_path, text + one + huge).make_beside([SMALL], (), running, {"two"})
