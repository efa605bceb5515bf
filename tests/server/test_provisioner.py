"""Planning anew: what makes the provisioner look, and what it does then. Plans are scripted here;
device servers are sockets that listen or do not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence

import pytest
from msgspec.structs import replace

from fmedge.config import Config
from fmedge.config.rpc import RpcConfig
from fmedge.sched.decision import Decision
from fmedge.sched.fit import FitReport
from fmedge.sched.provision.corrections import Corrections
from fmedge.sched.provision.cost import step_model
from fmedge.sched.provision.demand import Demand
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.margins import Margins
from fmedge.sched.provision.plan import NoPlanError, Plan, PlannedReplica, Range
from fmedge.sched.provision.replan import Replanner, ReplanSettings
from fmedge.sched.provision.shape import ModelShape
from fmedge.sched.steptime import StepModel
from fmedge.server import provisioner as module
from fmedge.server.placements import Learned
from fmedge.server.provisioner import Provisioner
from fmedge.types import DeviceMemory, EngineInfo, Promise
from tests.sched.provision.llama3 import llama3
from tests.sched.provision.test_replan import plan, replica
from tests.test_dispatch_promises import PROFILE

DEADLINE_S = 20.0


class Script:
    """Stands for Placements: answers with what is scripted for the devices that it is asked for."""

    def __init__(self) -> None:
        self.learned = Learned(Margins(), Corrections())
        self.answers: dict[frozenset[str], Plan] = {}
        self.asked: list[tuple[frozenset[str], tuple[Demand, ...]]] = []
        self.num_saved = 0
        self.was_asked = asyncio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Looked at whenever a plan was asked for."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                self.was_asked.clear()
                await self.was_asked.wait()

    def expected(self) -> list[Demand]:
        return []

    def knows(self, model: str) -> bool:
        return model == "chat"

    async def make(
        self, devices: Sequence[Device], demand: Sequence[Demand] = (), running: Plan | None = None
    ) -> Plan:
        names = frozenset(device.name for device in devices)
        self.asked.append((names, tuple(demand)))
        self.was_asked.set()
        if names not in self.answers:
            raise NoPlanError("no plan: chat needs more", ("1 GiB more",))
        return self.answers[names]

    async def make_beside(
        self,
        devices: Sequence[Device],
        demand: Sequence[Demand],
        running: Plan,
        changed: Collection[str],
    ) -> Plan:
        return await self.make(devices, demand, running)

    def shape_of(self, planned: PlannedReplica) -> ModelShape:
        return llama3()

    async def save(self) -> None:
        self.num_saved += 1


class Manager:
    """Stands for ModelManager."""

    def __init__(self) -> None:
        self.applied: asyncio.Queue[Plan] = asyncio.Queue()
        self.names: set[str] = set()

    def apply(self, made: Plan) -> None:
        self.applied.put_nowait(made)


class Decisions:
    """Stands for the dispatcher."""

    def __init__(self) -> None:
        self.kept: list[Decision] = []

    def recent(self) -> list[Decision]:
        return self.kept


class World:
    """A provisioner with the CPU and one device server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LOST_REVIEW_S", 0.01)
        self.script, self.manager, self.decisions = Script(), Manager(), Decisions()
        self.server: asyncio.Server | None = None
        self.port = 0
        self.script.answers = {
            frozenset({"CPU", "box"}): plan((replica("chat/0", "CPU", "box"), {"box": 60})),
            frozenset({"CPU"}): plan((replica("chat/0", "CPU"), {"CPU": 60})),
        }

    async def listen(self) -> None:
        async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        self.server = await asyncio.start_server(leave, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        assert self.server is not None
        self.server.close()
        await self.server.wait_closed()

    async def start(self, monkeypatch: pytest.MonkeyPatch, settings: ReplanSettings) -> Provisioner:
        endpoint = f"127.0.0.1:{self.port}"
        cpu = Device(name="CPU", type="cpu", memory_bytes=100 << 20, bandwidth_gb_s=1, tflop_s=1)
        box = replace(cpu, name="box", type="rpc", endpoint=endpoint)

        async def look(_: Provisioner, config: Config, *, is_serving: bool = False) -> list[Device]:
            return [cpu, box] if config.rpc else [cpu]

        monkeypatch.setattr(Provisioner, "_look", look)
        config = Config(rpc=(RpcConfig(where="test", endpoint=endpoint, name="box"),))
        made = Provisioner(config, self.script, {}, Replanner(settings))  # type: ignore[arg-type]
        await made.plan()
        made.watch(self.decisions, self.manager)  # type: ignore[arg-type]
        return made

    async def applied(self) -> Plan:
        return await asyncio.wait_for(self.manager.applied.get(), DEADLINE_S)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World(monkeypatch)
    await made.listen()
    yield made
    with contextlib.suppress(AssertionError):
        await made.vanish()


QUICK = ReplanSettings(cooldown_s=0, device_back_s=0, lasting_s=0, min_requests=2)


async def test_a_lost_device_is_left_and_used_again_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner = await world.start(monkeypatch, QUICK)
    assert provisioner.status().devices == {"CPU": True, "box": True}
    await world.vanish()
    left = await world.applied()
    assert [r.ranges[0].device for r in left.replicas] == ["CPU"]
    assert "is gone" in provisioner.status().why
    assert provisioner.status().devices == {"CPU": True, "box": False}
    await world.listen()
    back = await world.applied()
    assert {part.device for r in back.replicas for part in r.ranges} == {"CPU", "box"}
    assert "can be used" in provisioner.status().why
    assert provisioner.status().num_plans == 3
    await provisioner.close()


async def test_where_nothing_else_is_possible_things_stay_and_say_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world.script.answers[frozenset({"CPU"})]
    provisioner = await world.start(monkeypatch, QUICK)
    await world.vanish()
    await world.script.until(lambda: bool(provisioner.status().problems))
    assert provisioner.status().problems == ("no plan: chat needs more", "1 GiB more")
    assert world.manager.applied.empty()
    await provisioner.close()


async def test_demand_is_what_the_decisions_say_and_the_same_plan_is_not_applied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner = await world.start(monkeypatch, QUICK)
    now_s = asyncio.get_running_loop().time()
    world.decisions.kept = [
        Decision(request_id=i, model="chat", arrived_s=now_s, num_prompt_tokens=100 + i,
                 num_output_tokens=10)
        for i in range(8)
    ]  # fmt: skip
    await world.script.until(lambda: any(demand for _, demand in world.script.asked))
    (stream,) = world.script.asked[-1][1]
    assert stream.model == "chat"
    assert (stream.prompt_tokens.p50, stream.output_tokens.p95) == (103, 10)
    await provisioner.close()
    assert world.manager.applied.empty()


async def test_a_load_that_failed_for_memory_is_placed_anew_with_a_margin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner = await world.start(monkeypatch, ReplanSettings())
    (planned,) = world.script.answers[frozenset({"CPU", "box"})].replicas
    other = replica("chat/0", "CPU", slots=2)
    world.script.answers[frozenset({"CPU", "box"})] = plan((other, {"CPU": 30}))
    reason = f"unable to allocate RPC0[127.0.0.1:{world.port}] buffer"
    found = await provisioner.replan(planned, reason)
    assert found is not None
    assert (found[0].name, found[0].slots, found[1]) == ("chat/0", 2, {"CPU": 30})
    assert world.script.num_saved == 1
    again = await provisioner.replan(found[0], reason)
    assert again is None  # the same would come out
    assert await provisioner.replan(planned, "the file is broken") is None
    await provisioner.close()


async def test_what_a_load_took_beyond_its_plan_is_learned_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provisioner = await world.start(monkeypatch, ReplanSettings())
    info = EngineInfo(
        ctx_size=4096, slots=4, batch_size=1, ubatch_size=1, num_vocab=1, num_embd=1,
        num_layers=1, num_params=1, model_bytes=1, ctx_train=1, threads=1, kv_unified=False,
        kv_tokens=1, pooling="", has_encoder=False, has_decoder=True, is_recurrent=False,
        can_shift=True, description="", layer_devices=("CPU", "CPU"),
        memory=(DeviceMemory("box", 0, 0, 0),),
    )  # fmt: skip
    await provisioner.loaded("chat/0", info)
    await provisioner.loaded("chat/0", info)
    assert world.script.num_saved == 1
    assert "is not as planned" in caplog.text
    await provisioner.close()


async def test_how_fast_a_replica_proves_to_be_corrects_its_devices(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(replica("chat/0"), ranges=(Range(device="CPU", first_layer=0, last_layer=32),))
    world.script.answers[frozenset({"CPU", "box"})] = plan((whole, {"CPU": 60}))
    provisioner = await world.start(monkeypatch, ReplanSettings())
    cpu, box = provisioner._devices.values()
    foretold = step_model(llama3(), whole.engine, whole.ranges, {"CPU": cpu}).step_s(0, 1, 256)
    slower = FitReport(
        model=StepModel(base_s=foretold * 1.44), num_samples=50, median_error=0.02, p90_error=0.1,
        noise=0.01, mean_ratio=1.0, regions=(),
    )  # fmt: skip
    profile = replace(PROFILE, prior=None, fitted=slower)
    await provisioner.measured("chat/0", replace(profile, fitted=replace(slower, median_error=0.5)))
    speeds = world.script.learned.speeds
    assert speeds.of(cpu).decode == 1.0  # too uncertain
    await provisioner.measured("chat/0", profile)
    assert speeds.of(cpu).decode == pytest.approx(1.2)
    assert speeds.of(box).decode == 1.0
    await provisioner.close()


async def test_another_configuration_is_foreseen_and_then_adopted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner = await world.start(monkeypatch, QUICK)
    await provisioner.close()
    before = provisioner.planned("chat")
    assert [part.device for part in before[0].ranges] == ["CPU", "box"]
    other = Script()
    other.answers = {frozenset({"CPU"}): plan((replica("chat/0", "CPU"), {"CPU": 60}))}
    promises = {"fast": Promise(sla_class="fast", ttft_s=1.0)}
    async with provisioner.planning:
        prospect = await provisioner.foresee(
            Config(), other, promises, changed=(), taken={"chat/1"}, recent=()  # type: ignore[arg-type]
        )  # fmt: skip
        assert other.asked == [(frozenset({"CPU"}), ())]
        assert provisioner.planned("chat") == before
        assert provisioner.status().devices == {"CPU": True, "box": True}
        provisioner.adopt(prospect)
    (now,) = provisioner.planned("chat")
    assert [part.device for part in now.ranges] == ["CPU"]
    assert now.name == "chat/2"
    status = provisioner.status()
    assert (status.devices, status.num_plans) == ({"CPU": True}, 2)
    assert status.why == "the configuration was read anew"
    async with provisioner.planning:
        same = await provisioner.foresee(
            Config(), Script(), {}, changed=None, taken=(), recent=()  # type: ignore[arg-type]
        )  # fmt: skip
        provisioner.adopt(same)
    assert provisioner.planned("chat") == [now]
    assert provisioner.status().num_plans == 2
    other.answers.clear()
    with pytest.raises(NoPlanError):
        await provisioner.foresee(
            Config(), other, {}, changed={"chat"}, taken=(), recent=()  # type: ignore[arg-type]
        )  # fmt: skip
    assert provisioner.planned("chat") == [now]
