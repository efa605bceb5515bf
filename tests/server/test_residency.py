"""The model manager over a dispatcher and fake workers: what is asked for is loaded, everything is
served, nothing is loaded into memory that is not free."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from fmedge.dispatch import Dispatcher, Generation
from fmedge.errors import ConflictError, ModelNotFoundError, UnavailableError
from fmedge.sched.provision.plan import (
    DeviceUse,
    MemoryUse,
    Placed,
    Plan,
    PlannedReplica,
    Predicted,
    Range,
    ReplicaUse,
)
from fmedge.sched.resident import ModelRule, ResidencySettings
from fmedge.server.residency import ModelManager
from fmedge.types import EngineInfo, EngineSettings, GenerationRequest
from tests.replica.supervised import pack
from tests.replica.worker_engine import expected_output
from tests.resident import DEADLINE_S, ResidentReplica, until

PREDICTED = Predicted(ttft_ms=1.0, tpot_ms=1.0, prefill_tok_s=1.0, decode_tok_s=1.0)
EAGER = ResidencySettings(min_resident_s=0.0, payback=0.0, max_wait_s=0.0)


def planned(name: str, file: str = "f.gguf") -> PlannedReplica:
    return PlannedReplica(
        model=name.partition("/")[0],
        name=name,
        file=file,
        placement=(Placed(device="gpu0", first_layer=0, last_layer=3, tensors="all", bytes=900),),
        ctx_size=64,
        slots=2,
        batch=8,
        kv_type="f16",
        predicted=PREDICTED,
        ranges=(Range(device="gpu0", first_layer=0, last_layer=3),),
        engine=EngineSettings(model_path=file),
    )


def plan_of(*names: str, capacity: int, file: str = "f.gguf") -> Plan:
    """Each takes 1000 bytes of gpu0."""
    uses = tuple(
        ReplicaUse(replica=name, memory=MemoryUse(device="gpu0", weights=1000)) for name in names
    )
    device = DeviceUse(
        name="gpu0", capacity_bytes=capacity, used_bytes=1000 * len(names), breakdown=uses
    )
    replicas = tuple(planned(name, file) for name in names)
    return Plan(objective=1.0, solve_ms=1.0, replicas=replicas, devices=(device,))


class Managed:
    """A dispatcher, its manager, and every fake worker that was made."""

    def __init__(self, plan: Plan, rules: dict[str, ModelRule] | None = None, **fields) -> None:
        self.dispatcher = Dispatcher()
        self.made: list[ResidentReplica] = []
        self.loads_at_once = fields.pop("loads_at_once", True)
        self.num_up = self.most_up = 0
        fields.setdefault("settings", EAGER)
        self.manager = ModelManager(self.dispatcher, self.make, **fields)
        self.manager.apply(plan, rules or {})

    def make(self, replica: PlannedReplica) -> ResidentReplica:
        worker = ResidentReplica(replica.name, replica.model, loads_at_once=self.loads_at_once)
        worker.file = replica.file
        self.made.append(worker)
        self.most_up = max(self.most_up, len(self.up()))
        return worker

    def up(self) -> list[ResidentReplica]:
        return [worker for worker in self.made if worker.state not in ("closed", "failed")]

    def serving(self) -> set[str]:
        return {worker.model for worker in self.made if worker.state == "ready"}

    async def serve(self) -> None:
        """Every worker steps whenever it can, for as long as the test runs."""
        while True:
            for worker in self.made:
                if worker.state == "ready" and worker.running:
                    worker.step()
            await asyncio.sleep(0)  # other tasks' turn

    def state(self, model: str) -> str:
        return next(s.state for s in self.manager.status() if s.model == model)


@contextlib.asynccontextmanager
async def managing(plan: Plan, rules: dict[str, ModelRule] | None = None, **fields):
    managed = Managed(plan, rules, **fields)
    serving = asyncio.create_task(managed.serve())
    await managed.manager.start()
    try:
        yield managed
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await managed.manager.close()
        await managed.dispatcher.drain(0.0)
        await managed.dispatcher.close(0.1)


def request(number: int, model: str, max_tokens: int = 5) -> GenerationRequest:
    return GenerationRequest(model=model, prompt=pack(number + 1), max_tokens=max_tokens)


async def ended(generation: Generation) -> None:
    async for _ in generation:
        pass


async def test_requests_for_three_models_in_memory_for_one_are_all_served():
    patient = ResidencySettings(min_resident_s=0.0, payback=0.0)
    plan = plan_of("a/0", "b/0", "c/0", capacity=1000)
    async with managing(plan, settings=patient) as managed:
        await managed.dispatcher.wait_ready(DEADLINE_S)
        generations = [
            await managed.dispatcher.submit(request(number, "abc"[number % 3]))
            for number in range(30)
        ]
        async with asyncio.timeout(DEADLINE_S):
            for generation in generations:
                async for _ in generation:
                    pass
        for number, generation in enumerate(generations):
            assert list(generation.emitted) == expected_output(pack(number + 1), 5)
        assert managed.most_up == 1
        assert len(managed.made) <= 4, "requests were not grouped"


async def test_what_is_loaded_where_and_why():
    async with managing(plan_of("a/0", "b/0", capacity=1000)) as managed:
        await until(lambda: managed.state("a") == "loaded")
        first, second = managed.manager.status()
        assert (first.why, first.ready_in_s) == ("it fits beside the others", 0.0)
        assert first.replicas[0].placement[0].device == "gpu0"
        assert first.replicas[0].bytes == {"gpu0": 1000}
        assert (second.state, second.replicas[0].state) == ("unloaded", "unloaded")
        assert second.ready_in_s > 0


async def test_load_and_unload_on_command():
    rules = {"c": ModelRule(is_pinned=True)}
    async with managing(plan_of("a/0", "b/0", "c/0", capacity=2000), rules) as managed:
        await until(lambda: managed.serving() == {"a", "c"} or managed.serving() == {"b", "c"})
        assert (await managed.manager.load("a", DEADLINE_S)).state == "loaded"
        assert (await managed.manager.load("b", DEADLINE_S)).state == "loaded"
        assert managed.serving() == {"b", "c"}
        assert (await managed.manager.unload("b", DEADLINE_S)).state == "unloaded"
        assert managed.serving() == {"c"}
        with pytest.raises(ConflictError, match="pinned"):
            await managed.manager.unload("c")
        with pytest.raises(ModelNotFoundError):
            await managed.manager.load("d")
        generation = await managed.dispatcher.submit(request(1, "a"))
        async with asyncio.timeout(DEADLINE_S):
            async for _ in generation:
                pass
        assert managed.most_up == 2


async def test_a_command_does_not_wait_for_ever():
    async with managing(plan_of("a/0", capacity=1000), loads_at_once=False) as managed:
        with pytest.raises(UnavailableError, match="still loading after 0 s"):
            await managed.manager.load("a", 0.01)


async def test_what_fails_to_load_is_reported_and_tried_again():
    settings = ResidencySettings(backoff_s=0.01)
    async with managing(
        plan_of("a/0", capacity=1000), loads_at_once=False, settings=settings
    ) as managed:
        generation = await managed.dispatcher.submit(request(1, "a"))
        loading = asyncio.create_task(managed.manager.load("a"))
        await until(lambda: bool(managed.made))
        managed.made[0].fail("the file is broken")
        with pytest.raises(UnavailableError, match="the file is broken"):
            await anext(generation)
        with pytest.raises(UnavailableError, match="the file is broken"):
            await asyncio.wait_for(loading, DEADLINE_S)
        managed.loads_at_once = True
        await until(lambda: managed.state("a") == "unloaded")
        again = await managed.dispatcher.submit(request(1, "a"))
        async with asyncio.timeout(DEADLINE_S):
            async for _ in again:
                pass
        assert len(managed.made) == 2


async def test_a_replica_that_cannot_be_loaded_is_placed_otherwise():
    asked: list[str] = []
    learned: list[str] = []

    async def learn(name: str, info: EngineInfo) -> None:
        assert info.slots == 2
        learned.append(name)

    async def replan(replica: PlannedReplica, reason: str):
        asked.append(reason)
        return planned(replica.name, "smaller.gguf"), {"gpu0": 500}

    async with managing(
        plan_of("a/0", capacity=1000), loads_at_once=False, replan=replan, learn=learn
    ) as managed:
        generation = await managed.dispatcher.submit(request(1, "a"))
        managed.loads_at_once = True
        managed.made[0].fail("out of memory")
        async with asyncio.timeout(DEADLINE_S):
            async for _ in generation:
                pass
        assert asked == ["out of memory"]
        assert learned == ["a/0"]
        assert [worker.file for worker in managed.made] == ["f.gguf", "smaller.gguf"]
        assert managed.manager.status()[0].replicas[0].bytes == {"gpu0": 500}


async def test_another_plan_keeps_what_goes_on_and_starts_before_it_stops():
    async with managing(plan_of("a/0", "b/0", capacity=3000)) as managed:
        await until(lambda: managed.serving() == {"a", "b"})
        managed.manager.apply(plan_of("a/1", "b/0", capacity=3000, file="other.gguf"))
        await until(lambda: [w.name for w in managed.up()] == ["b/0", "a/1"])
        assert [worker.name for worker in managed.made] == ["a/0", "b/0", "a/1"]
        assert managed.most_up == 3
        assert [r.replica for s in managed.manager.status() for r in s.replicas] == ["a/1", "b/0"]


async def test_memory_of_a_process_that_has_not_ended_is_not_used():
    async with managing(plan_of("a/0", "b/0", capacity=1000)) as managed:
        await until(lambda: managed.serving() == {"a"})
        managed.made[0].may_end.clear()
        loading = asyncio.create_task(managed.manager.load("b", DEADLINE_S))
        await until(lambda: managed.made[0].state == "closing")
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(managed.made) == 1
        managed.made[0].may_end.set()
        assert (await loading).state == "loaded"


async def test_an_idle_model_is_unloaded_after_its_keep_alive():
    rules = {"a": ModelRule(keep_alive_s=0.02)}
    async with managing(plan_of("a/0", capacity=1000), rules) as managed:
        await until(lambda: managed.serving() == {"a"})
        managed.dispatcher.roster.stirred.set()
        await until(lambda: managed.state("a") == "unloaded")
        assert "nothing was asked of it" in managed.manager.status()[0].why


async def test_the_metrics_say_what_is_loaded_and_what_it_takes():
    async with managing(plan_of("a/0", capacity=2500)) as managed:

        def sample(name: str, **labels: str) -> float | None:
            managed.dispatcher.render_metrics()
            return managed.dispatcher.metrics.registry.get_sample_value(f"fmedge_{name}", labels)

        await until(lambda: managed.state("a") == "loaded")
        assert sample("device_capacity_bytes", device="gpu0") == 2500
        assert sample("device_used_bytes", device="gpu0") == 1000
        assert sample("model_ready", model="a") == 1
        assert sample("model_load_seconds_count", model="a") == 1
        await managed.manager.unload("a")
        assert sample("device_used_bytes", device="gpu0") == 0
        assert sample("model_unloads_total", model="a") == 1
        managed.loads_at_once = False
        loading = asyncio.create_task(managed.manager.load("a"))
        await until(lambda: len(managed.made) == 2)
        assert sample("device_used_bytes", device="gpu0") == 1000
        assert [sample(f"model_{state}", model="a") for state in ("ready", "failed")] == [0, 0]
        managed.made[1].fail("it is torn")
        with pytest.raises(UnavailableError, match="it is torn"):
            await loading
        assert sample("model_failed", model="a") == 1
        assert sample("model_load_seconds_count", model="a") == 1
        managed.manager.apply(plan_of("a/0", capacity=3500))
        assert sample("device_capacity_bytes", device="gpu0") == 3500


async def test_a_model_that_leaves_keeps_its_memory_until_nothing_of_it_is_open():
    async with managing(plan_of("a/0", "b/0", capacity=2000)) as managed:
        roster, manager = managed.dispatcher.roster, managed.manager
        await until(lambda: managed.serving() == {"a", "b"})
        generation = await managed.dispatcher.submit(request(1, "a", max_tokens=10_000_000))
        managed.dispatcher.let_go("a", is_replaced=False)
        manager.leave("a")
        rules = dict.fromkeys(("b", "c"), ModelRule(is_pinned=True))
        manager.apply(plan_of("b/0", "c/0", capacity=2000), rules)
        leaving = asyncio.create_task(manager.wait_left("a", DEADLINE_S))
        for _ in range(200):
            await asyncio.sleep(0)
        assert managed.state("a") == "loaded"
        assert managed.state("c") == "unloaded"  # pinned, and yet it waits
        with pytest.raises(ModelNotFoundError):
            await managed.dispatcher.submit(request(2, "a"))
        generation.cancel()
        assert await leaving
        roster.forget_model("a")
        manager.free("a")
        await until(lambda: managed.serving() == {"b", "c"})
        assert [status.model for status in manager.status()] == ["b", "c"]
        assert [model.name for model in managed.dispatcher.status().models] == ["b", "c"]
        with pytest.raises(ModelNotFoundError):
            await manager.load("a")
        with pytest.raises(ModelNotFoundError):
            await managed.dispatcher.submit(request(3, "a"))


async def test_what_replaces_a_model_is_loaded_when_that_has_left():
    async with managing(plan_of("a/0", capacity=3000)) as managed:
        roster, manager = managed.dispatcher.roster, managed.manager
        await until(lambda: managed.serving() == {"a"})
        old = managed.made[0]
        generation = await managed.dispatcher.submit(request(1, "a", max_tokens=10_000_000))
        managed.dispatcher.let_go("a", is_replaced=True)
        manager.leave("a")
        manager.apply(plan_of("a/0", capacity=3000, file="other.gguf"))
        with pytest.raises(UnavailableError, match="replaced") as refused:
            await managed.dispatcher.submit(request(2, "a"))
        assert refused.value.code == "loading"
        finishing = asyncio.create_task(managed.dispatcher.let_finish("a", 0.0))
        with pytest.raises(UnavailableError, match="taken out of service"):
            await ended(generation)
        assert managed.made == [old]
        await finishing
        assert await manager.wait_left("a", DEADLINE_S)
        roster.forget_model("a")
        manager.free("a")
        await until(lambda: len(managed.made) == 2 and managed.serving() == {"a"})
        assert [worker.file for worker in managed.made] == ["f.gguf", "other.gguf"]
        answer = await managed.dispatcher.submit(request(3, "a"))
        async with asyncio.timeout(DEADLINE_S):
            async for _ in answer:
                pass


async def test_what_waits_for_a_model_that_goes_unloaded_fails_at_once():
    async with managing(plan_of("a/0", "b/0", capacity=1000)) as managed:
        await until(lambda: managed.serving() == {"a"})
        managed.made[0].may_end.clear()  # so that b cannot come
        waiting = await managed.dispatcher.submit(request(1, "b"))
        managed.dispatcher.let_go("b", is_replaced=False)
        managed.manager.leave("b")
        managed.manager.apply(plan_of("a/0", capacity=1000))
        with pytest.raises(UnavailableError, match="it was removed"):
            await anext(waiting)
        assert await managed.manager.wait_left("b", DEADLINE_S)
        managed.dispatcher.roster.forget_model("b")
        managed.manager.free("b")
        managed.made[0].may_end.set()
        assert [model.name for model in managed.dispatcher.status().models] == ["a"]


async def test_a_process_that_does_not_end_keeps_its_model_from_leaving():
    async with managing(plan_of("a/0", capacity=1000)) as managed:
        await until(lambda: managed.serving() == {"a"})
        managed.made[0].may_end.clear()
        managed.dispatcher.let_go("a", is_replaced=False)
        managed.manager.leave("a")
        managed.manager.apply(plan_of("b/0", capacity=1000))
        assert not await managed.manager.wait_left("a", 0.05)
        managed.made[0].may_end.set()
        assert await managed.manager.wait_left("a", DEADLINE_S)
