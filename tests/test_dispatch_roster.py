"""Models that are loaded on demand and replicas that retire: every token once, nothing lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from fmedge.dispatch import Dispatcher
from fmedge.errors import ConflictError, ContextLengthError, ModelNotFoundError, UnavailableError
from fmedge.types import GenerationRequest
from tests.replica.supervised import pack
from tests.replica.worker_engine import expected_output
from tests.resident import DEADLINE_S, ResidentReplica, until


def request(*prompt: int, model: str = "m", max_tokens: int = 6) -> GenerationRequest:
    return GenerationRequest(model=model, prompt=pack(*prompt), max_tokens=max_tokens)


def make(load_s: float = 1.0, ctx_size: int = 0) -> Dispatcher:
    dispatcher = Dispatcher()
    dispatcher.roster.add_model("m", load_s=load_s, ctx_size=ctx_size)
    return dispatcher


async def finish(replica: ResidentReplica, *generations) -> list[list[int]]:
    for _ in range(100):
        if all(generation.is_over for generation in generations):
            break
        replica.step()
    return [list(generation.emitted) for generation in generations]


async def test_a_request_waits_for_its_model():
    dispatcher = make(ctx_size=64)
    await dispatcher.wait_ready(DEADLINE_S)
    (model,) = dispatcher.status().models
    assert (model.name, model.is_ready, model.can_load, model.replicas) == ("m", False, True, ())
    generation = await dispatcher.submit(request(1, 2))
    with pytest.raises(ContextLengthError):
        await dispatcher.submit(request(*range(1, 100)))
    assert dispatcher.status().models[0].num_waiting == 1
    replica = ResidentReplica("m/0", "m")
    dispatcher.add_replica(replica)
    assert dispatcher.roster.open_work()["m"].num_arrived == 1
    replica.load()
    assert await finish(replica, generation) == [expected_output(pack(1, 2), 6)]
    await dispatcher.close()


async def test_retiring_lets_what_runs_finish_and_then_ends_the_process():
    dispatcher = make()
    replica = ResidentReplica("m/0", "m", slots=1)
    replica.may_end.clear()
    dispatcher.add_replica(replica)
    replica.load()
    running = await dispatcher.submit(request(1))
    replica.step()
    retiring = asyncio.create_task(dispatcher.roster.retire("m/0", DEADLINE_S, save_kv=True))
    await asyncio.sleep(0)
    waiting = await dispatcher.submit(request(2))
    assert dispatcher.status().models[0].replicas[0].status.state == "retiring"
    with pytest.raises(ConflictError):
        await dispatcher.roster.retire("m/0", 1.0)
    assert len(replica.running) == 1
    assert await finish(replica, running) == [expected_output(pack(1), 6)]
    await until(lambda: replica.state == "closing")
    # Its process has not ended, so it is not gone and its memory not free.
    await asyncio.sleep(0)
    assert not retiring.done()
    assert len(dispatcher.status().models[0].replicas) == 1
    replica.may_end.set()
    await asyncio.wait_for(retiring, DEADLINE_S)
    assert replica.was_saved
    assert dispatcher.status().models[0].replicas == ()
    assert not waiting.is_over
    again = ResidentReplica("m/0", "m")
    dispatcher.add_replica(again)
    again.load()
    assert await finish(again, waiting) == [expected_output(pack(2), 6)]
    with pytest.raises(ModelNotFoundError):
        await dispatcher.roster.retire("m/7", 1.0)
    await dispatcher.close()


async def test_at_its_deadline_what_runs_goes_on_elsewhere_with_its_tokens():
    dispatcher = make()
    first, second = ResidentReplica("m/0", "m", slots=1), ResidentReplica("m/1", "m", slots=1)
    dispatcher.add_replica(first)
    first.load()
    generations = [await dispatcher.submit(request(number + 1)) for number in range(2)]
    first.step()
    first.step()
    await dispatcher.roster.retire("m/0", 0.0)
    assert not first.running
    dispatcher.render_metrics()
    dispatcher.add_replica(second)
    second.load()
    assert await finish(second, *generations) == [
        expected_output(pack(number + 1), 6) for number in range(2)
    ]
    assert b'replica="m/0"' not in b"".join(
        line for line in dispatcher.render_metrics().splitlines() if b"_ready{" in line
    )
    await dispatcher.close()


async def test_what_cannot_be_loaded_fails_and_may_be_tried_again():
    dispatcher = make()
    generation = await dispatcher.submit(request(1))
    dispatcher.roster.fail_model("m", "no memory", 5.0)
    with pytest.raises(UnavailableError, match="no memory") as failed:
        await anext(generation)
    assert (failed.value.code, failed.value.retry_after_s) == ("model_failed", 5.0)
    assert dispatcher.status().models[0].error == "no memory"
    with pytest.raises(UnavailableError, match="no memory"):
        await dispatcher.submit(request(1))
    with pytest.raises(UnavailableError, match="no memory"):
        await dispatcher.wait_ready(1.0)
    dispatcher.roster.add_model("m", load_s=1.0, ctx_size=0)
    waiting = await dispatcher.submit(request(1))
    assert dispatcher.status().models[0].error == ""
    waiting.cancel()
    await dispatcher.close()


async def test_the_load_in_progress_is_what_decisions_say():
    dispatcher = make(load_s=30.0)
    dispatcher.add_replica(ResidentReplica("m/0", "m"))
    dispatcher.roster.expect("m", time.monotonic() + 12.0, 30.0)
    generation = await dispatcher.submit(request(1))
    decision = dispatcher.decision(generation.request_id)
    assert decision.action == "queue"
    assert 11.0 < decision.estimates[0].l_r_s <= 12.0
    generation.cancel()
    await dispatcher.close()


async def test_a_replica_that_retires_while_it_loads_never_serves():
    dispatcher = make()
    replica = ResidentReplica("m/0", "m")
    replica.may_end.clear()
    dispatcher.add_replica(replica)
    retiring = asyncio.create_task(dispatcher.roster.retire("m/0", 0.0))
    await asyncio.sleep(0)
    generation = await dispatcher.submit(request(1))
    replica.state = "loading"
    replica.load()
    assert not replica.running
    replica.may_end.set()
    await asyncio.wait_for(retiring, DEADLINE_S)
    generation.cancel()
    await dispatcher.close()


async def test_waiting_for_replicas_by_name():
    dispatcher = make()
    first, second = ResidentReplica("m/0", "m"), ResidentReplica("m/1", "m")
    dispatcher.add_replica(first)
    dispatcher.add_replica(second)
    first.load()
    await dispatcher.roster.wait_serving(["m/0"], 1.0)
    with pytest.raises(UnavailableError, match="Not every replica was ready within 0 s"):
        await dispatcher.roster.wait_serving(["m/0", "m/1"], 0.0)
    second.fail("it is torn")
    with pytest.raises(UnavailableError, match="Replica m/1 could not be loaded: it is torn"):
        await dispatcher.roster.wait_serving(["m/0", "m/1"], 1.0)
    assert dispatcher.roster.of("m") == ["m/0", "m/1"]
    await dispatcher.close()


async def test_a_model_is_forgotten_only_when_nothing_of_it_is_there():
    dispatcher = make()
    replica = ResidentReplica("m/0", "m", loads_at_once=True)
    dispatcher.add_replica(replica)
    await dispatcher.wait_ready(1.0)
    dispatcher.let_go("m", is_replaced=False)
    with pytest.raises(ValueError, match="has replicas or requests"):
        dispatcher.roster.forget_model("m")
    await dispatcher.roster.retire("m/0", 0.0)
    dispatcher.roster.forget_model("m")
    assert not dispatcher.status().models
    dispatcher.roster.add_model("m", load_s=1.0, ctx_size=0)
    waiting = await dispatcher.submit(request(1))  # another of its name
    waiting.cancel()
    await dispatcher.close()


async def test_the_limit_of_waiting_requests_can_change():
    dispatcher = make()
    waiting = await dispatcher.submit(request(1))
    dispatcher.set_max_waiting(1)
    with pytest.raises(UnavailableError) as refused:
        await dispatcher.submit(request(2))
    assert refused.value.code == "overloaded"
    dispatcher.set_max_waiting(2)
    (await dispatcher.submit(request(2))).cancel()
    waiting.cancel()
    await dispatcher.close()
