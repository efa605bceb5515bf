"""Dispatch over real worker processes: whatever dies, each client gets each token once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fmedge.dispatch import Dispatcher, Generation, TokenBatch
from fmedge.errors import (
    ContextLengthError,
    GenerationFailedError,
    ModelNotFoundError,
    RequestError,
    UnavailableError,
)
from fmedge.replica.local import RestartSettings
from fmedge.replica.process import WatchSettings
from fmedge.sched.core import CoreSettings
from fmedge.types import GenerationRequest, Grammar
from tests.replica.supervised import DEADLINE_S, make_replica, pack
from tests.replica.worker_engine import EOG, HANG, LATE_POISON, POISON, expected_output


def request(*prompt: int, model: str = "m", max_tokens: int = 50, **fields) -> GenerationRequest:
    return GenerationRequest(model=model, prompt=pack(*prompt), max_tokens=max_tokens, **fields)


@contextlib.asynccontextmanager
async def serving(*replicas, **settings: int):
    dispatcher = Dispatcher(CoreSettings(**settings))
    for replica in replicas:
        dispatcher.add_replica(replica)
    try:
        await dispatcher.wait_ready(DEADLINE_S, every_replica=True)
        yield dispatcher
    finally:
        await dispatcher.drain(0.0)
        await dispatcher.close()


async def read_all(generation: Generation) -> tuple[list[int], str | None]:
    tokens: list[int] = []
    finish = None
    async for batch in generation:
        assert finish is None, "nothing comes after the finish"
        tokens += batch.tokens
        finish = batch.finish
    return tokens, finish


async def read_until(generation: Generation, num_tokens: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < num_tokens:
        tokens += (await anext(generation)).tokens
    return tokens


def samples(dispatcher: Dispatcher) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(dispatcher.render_metrics().decode())
        for sample in family.samples
    }


async def test_a_generation_is_complete_and_counted():
    async with serving(make_replica()) as dispatcher:
        generation = await dispatcher.submit(request(1, 2, 3))
        tokens, finish = await read_all(generation)
        assert (tokens, finish) == (expected_output(pack(1, 2, 3), 50), "length")
        assert generation.timings is not None
        assert generation.is_over
        assert dispatcher.status().num_open == 0
        assert await read_all(generation) == ([], None)
        values = samples(dispatcher)
        assert values["fmedge_generated_tokens_total", "m"] == 50
        assert values["fmedge_prompt_tokens_total", "m"] == 3
        assert values["fmedge_requests_total", "m", "length"] == 1
        assert values["fmedge_replica_ready", "m", "r0"] == 1
        for name in ("time_to_first_token", "time_per_output_token", "request", "queue"):
            assert values[f"fmedge_{name}_seconds_count", "m"] == 1


async def test_a_shared_prefix_is_reported_as_cached():
    async with serving(make_replica()) as dispatcher:
        prompt = range(100, 400)
        await read_all(await dispatcher.submit(request(*prompt, max_tokens=4)))
        again = await dispatcher.submit(request(*prompt, max_tokens=4))
        assert (await read_all(again))[0] == expected_output(pack(*prompt), 4)
        assert 0 < again.num_cached_tokens < 300


@pytest.mark.parametrize("num_kills", [1, 2])
async def test_16_streams_survive_kill_9(num_kills, tmp_path):
    prompts = [(10 + number, 20, 30) for number in range(16)]
    replica = make_replica(
        options=f"step_ms=1,stalls={num_kills},stall={tmp_path},streams=16", slots=16
    )
    async with serving(replica) as dispatcher:
        generations = [
            await dispatcher.submit(request(*prompt, max_tokens=600)) for prompt in prompts
        ]
        outputs: list[list[int]] = [[] for _ in prompts]
        for _ in range(num_kills):
            for output, generation in zip(outputs, generations, strict=True):
                output += await read_until(generation, 10)
            assert not any(generation.is_over for generation in generations)
            os.kill(replica.status().pid, signal.SIGKILL)
        rests = await asyncio.gather(*(read_all(generation) for generation in generations))
        for prompt, output, (rest, finish) in zip(prompts, outputs, rests, strict=True):
            assert output + rest == expected_output(pack(*prompt), 600)
            assert finish == "length"
        assert replica.status().num_restarts == num_kills
        assert (
            samples(dispatcher)["fmedge_worker_restarts_total", "m", "crashed", "r0"] == num_kills
        )


async def test_streams_of_a_lost_replica_move_to_the_other(tmp_path):
    slow_restart = RestartSettings(initial_s=3600.0, max_s=3600.0)
    stalling = make_replica(
        "r0", f"step_ms=1,stalls=1,stall={tmp_path},streams=2", restart=slow_restart
    )
    replicas = [stalling, make_replica("r1", "step_ms=2")]
    async with serving(*replicas) as dispatcher:
        generations = [
            await dispatcher.submit(request(number + 1, max_tokens=600)) for number in range(4)
        ]
        outputs = [await read_until(generation, 5) for generation in generations]
        model = dispatcher.status().models[0]
        assert [load.num_assigned for load in model.replicas] == [2, 2]
        os.kill(replicas[0].status().pid, signal.SIGKILL)
        for number, (output, generation) in enumerate(zip(outputs, generations, strict=True)):
            assert output + (await read_all(generation))[0] == expected_output(
                pack(number + 1), 600
            )
        assert replicas[0].status().state == "restarting"


async def test_a_stopped_worker_is_a_pause_not_an_end(tmp_path):
    watch = WatchSettings(heartbeat_timeout_s=3.0, check_interval_s=0.1)
    replica = make_replica(options=f"stalls=1,stall={tmp_path}", watch=watch)
    async with serving(replica) as dispatcher:
        generation = await dispatcher.submit(request(1, max_tokens=100))
        output = await read_until(generation, 5)
        os.kill(replica.status().pid, signal.SIGSTOP)
        output += (await read_all(generation))[0]
        assert output == expected_output(pack(1), 100)
        counted = samples(dispatcher)
        assert counted["fmedge_worker_restarts_total", "m", "hung", "r0"] == 1
        assert counted["fmedge_worker_restarts_total", "m", "crashed", "r0"] == 0


@pytest.mark.parametrize("poison", [POISON, LATE_POISON])
async def test_a_poison_request_fails_alone(poison):
    replica = make_replica(options="step_ms=1", slots=8)
    async with serving(replica) as dispatcher:
        prompts = [(number + 1, 2) for number in range(6)]
        innocents = [await dispatcher.submit(request(*p, max_tokens=100)) for p in prompts]
        for generation in innocents:
            await read_until(generation, 1)
        poisoned = await dispatcher.submit(request(9, poison, max_tokens=100))
        with pytest.raises(GenerationFailedError, match="crashed 3 times"):
            await read_all(poisoned)
        for prompt, generation in zip(prompts, innocents, strict=True):
            _, finish = await read_all(generation)
            assert finish == "length"
            assert list(generation.emitted) == expected_output(pack(*prompt), 100)
        assert replica.status().num_restarts == 3
        # And it goes on serving.
        after = await dispatcher.submit(request(5, 5, max_tokens=5))
        assert (await read_all(after))[0] == expected_output(pack(5, 5), 5)


async def test_a_request_that_hangs_its_replica_fails_alone():
    watch = WatchSettings(step_timeout_s=0.2, check_interval_s=0.1)
    async with serving(make_replica(options="step_ms=1", watch=watch)) as dispatcher:
        hanging = await dispatcher.submit(request(1, HANG))
        with pytest.raises(GenerationFailedError):
            await read_all(hanging)


async def test_a_poisoned_embedding_fails_alone():
    async with serving(make_replica()) as dispatcher:
        with pytest.raises(GenerationFailedError):
            await dispatcher.embed("m", [pack(POISON)])
        assert len(await dispatcher.embed("m", [pack(1)])) == 1


async def test_embeddings_come_in_order():
    async with serving(make_replica()) as dispatcher:
        inputs = [pack(*range(1, 2 + number)) for number in range(100)]
        results = await dispatcher.embed("m", inputs)
        assert [num_tokens for _, num_tokens in results] == [len(i) // 4 for i in inputs]
        assert len({vector for vector, _ in results}) == 100
        assert len(struct.unpack("4f", results[0][0])) == 4
        assert dispatcher.status().num_open == 0
        assert await dispatcher.embed("m", []) == []


async def test_embeddings_survive_kill_9():
    replica = make_replica(options="step_ms=2")
    async with serving(replica) as dispatcher:
        alone = await dispatcher.embed("m", [pack(number + 1) for number in range(60)])
        task = asyncio.create_task(
            dispatcher.embed("m", [pack(number + 1) for number in range(60)])
        )
        stream = await dispatcher.submit(request(1, max_tokens=5))
        await read_until(stream, 1)
        os.kill(replica.status().pid, signal.SIGKILL)
        assert await asyncio.wait_for(task, DEADLINE_S) == alone


async def test_a_cancelled_embedding_leaves_nothing_behind():
    async with serving(make_replica(options="step_ms=5")) as dispatcher:
        task = asyncio.create_task(dispatcher.embed("m", [pack(1)] * 1000))
        stream = await dispatcher.submit(request(1, max_tokens=3))
        await read_until(stream, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await read_all(stream)
        assert dispatcher.status().num_open == 0


async def test_several_models_each_on_its_replica():
    async with serving(
        make_replica("a", model="one"), make_replica("b", model="two")
    ) as dispatcher:
        for name, where in (("one", "a"), ("two", "b")):
            generation = await dispatcher.submit(request(1, model=name))
            await read_all(generation)
            assert generation.replica == where
        with pytest.raises(ModelNotFoundError, match="three"):
            await dispatcher.submit(request(1, model="three"))


@pytest.mark.parametrize(
    ("fields", "error_type", "text"),
    [
        ({"prompt": ()}, RequestError, "empty"),
        ({"prompt": range(1, 1025)}, ContextLengthError, "1024 tokens"),
        ({"prompt": (1,), "grammar": Grammar("no grammar")}, RequestError, "grammar"),
    ],
)
async def test_bad_requests(fields, error_type, text):
    async with serving(make_replica()) as dispatcher:
        prompt = fields.pop("prompt")
        with pytest.raises(error_type, match=text):
            await read_all(await dispatcher.submit(request(*prompt, **fields)))
        assert dispatcher.status().num_open == 0


async def test_max_tokens_is_cut_to_the_context():
    async with serving(make_replica()) as dispatcher:
        generation = await dispatcher.submit(request(*range(1, 1001), max_tokens=9999))
        assert generation.max_tokens == 24
        assert len((await read_all(generation))[0]) == 24


async def test_cancel_frees_the_place_and_ends_the_iteration():
    async with serving(make_replica(options="step_ms=3", slots=1)) as dispatcher:
        first = await dispatcher.submit(request(1, max_tokens=1000))
        await read_until(first, 3)
        second = await dispatcher.submit(request(2, max_tokens=5))
        assert samples(dispatcher)["fmedge_requests_running", "m", "r0"] == 1
        first.cancel()
        first.cancel()
        rest, finish = await read_all(first)
        assert finish == "cancelled"
        assert len(rest) < 900
        assert (await read_all(second))[0] == expected_output(pack(2), 5)
        values = samples(dispatcher)
        assert values["fmedge_requests_total", "m", "cancelled"] == 1
        assert values["fmedge_requests_running", "m", "r0"] == 0


async def test_leaving_the_context_cancels():
    async with serving(make_replica(options="step_ms=1")) as dispatcher:
        async with await dispatcher.submit(request(1, max_tokens=1000)) as generation:
            await read_until(generation, 3)
        assert generation.is_over
        assert dispatcher.status().num_open == 0


async def test_a_slow_reader_stalls_only_itself_and_loses_nothing():
    async with serving(make_replica()) as dispatcher:
        slow = await dispatcher.submit(request(1, max_tokens=900))
        quick = await dispatcher.submit(request(2, max_tokens=900))
        assert len((await read_all(quick))[0]) == 900
        last = await dispatcher.submit(request(3, max_tokens=900))
        await read_all(last)
        assert slow.is_over
        batch = await anext(slow)
        assert batch == TokenBatch(tuple(expected_output(pack(1), 900)), None, "length")


async def test_a_cancelled_wait_loses_nothing():
    async with serving(make_replica(options="step_ms=3")) as dispatcher:
        generation = await dispatcher.submit(request(1, max_tokens=60))
        tokens: list[int] = []
        num_timeouts = 0
        finish = None
        while finish is None:
            try:
                batch = await asyncio.wait_for(anext(generation), 0.001)
            except TimeoutError:
                num_timeouts += 1
                continue
            tokens += batch.tokens
            finish = batch.finish
        assert tokens == expected_output(pack(1), 60)
        assert num_timeouts > 0


async def test_drain_lets_what_runs_finish_and_refuses_the_rest():
    async with serving(make_replica(options="step_ms=2")) as dispatcher:
        running = await dispatcher.submit(request(1, max_tokens=60))
        await read_until(running, 2)
        drained = asyncio.create_task(dispatcher.drain(DEADLINE_S))
        reader = asyncio.create_task(read_all(running))
        await read_turn()
        with pytest.raises(UnavailableError) as refused:
            await dispatcher.submit(request(2))
        assert refused.value.code == "draining"
        assert refused.value.retry_after_s > 0
        await drained
        assert list(running.emitted) == expected_output(pack(1), 60)
        assert (await reader)[1] == "length"


async def read_turn() -> None:
    """Let tasks that were just created run until they wait."""
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    await ran.wait()


async def test_drain_ends_what_is_left_at_its_deadline():
    async with serving(make_replica(options="step_ms=5")) as dispatcher:
        running = await dispatcher.submit(request(1, max_tokens=1000))
        embedding = asyncio.create_task(dispatcher.embed("m", [pack(1)] * 500))
        await read_until(running, 2)
        await dispatcher.drain(0.01)
        assert dispatcher.status().num_open == 0
        with pytest.raises(UnavailableError):
            await read_all(running)
        with pytest.raises(UnavailableError):
            await embedding


async def test_a_full_queue_is_an_overload():
    async with serving(make_replica(options="step_ms=5", slots=1), max_waiting=2) as dispatcher:
        for number in range(4):  # two in the replica, two at the front
            await dispatcher.submit(request(number + 1, max_tokens=1000))
        with pytest.raises(UnavailableError) as refused:
            await dispatcher.submit(request(9))
        assert refused.value.is_overload
        assert refused.value.code == "overloaded"
        assert refused.value.retry_after_s >= 1
        model = dispatcher.status().models[0]
        assert model.num_waiting == 2
        assert samples(dispatcher)["fmedge_requests_waiting", "m"] >= 2


async def test_while_it_loads_the_answer_is_503_and_then_a_failure_says_why(tmp_path):
    fifo = tmp_path / "halfway"
    os.mkfifo(fifo)
    dispatcher = Dispatcher()
    dispatcher.add_replica(make_replica(options=f"load=file_error,fifo={fifo}"))
    with pytest.raises(UnavailableError) as refused:
        await dispatcher.submit(request(1))
    assert refused.value.code == "loading"
    ready = asyncio.create_task(dispatcher.wait_ready(DEADLINE_S))
    assert await asyncio.to_thread(fifo.read_text) == "halfway"
    with pytest.raises(UnavailableError, match="not a GGUF: fix the file"):
        await ready
    with pytest.raises(UnavailableError, match="not a GGUF: fix the file"):
        await dispatcher.submit(request(1))
    await dispatcher.close()


async def test_waiting_for_a_load_is_bounded(tmp_path):
    dispatcher = Dispatcher()
    dispatcher.add_replica(make_replica(options="load=block"))
    with pytest.raises(UnavailableError, match="within 0 s"):
        await dispatcher.wait_ready(0.01)
    await dispatcher.close()


async def test_requests_wait_through_a_restart():
    replica = make_replica()
    async with serving(replica) as dispatcher:
        os.kill(replica.status().pid, signal.SIGKILL)
        generations = [await dispatcher.submit(request(n + 1, max_tokens=9)) for n in range(5)]
        for number, generation in enumerate(generations):
            assert (await read_all(generation))[0] == expected_output(pack(number + 1), 9)


async def test_a_stop_token_ends_with_stop():
    async with serving(make_replica()) as dispatcher:
        stop = expected_output(pack(1), 10)[-1]
        generation = await dispatcher.submit(request(1, stop_token_ids=(stop,)))
        assert await read_all(generation) == (expected_output(pack(1), 9), "stop")
        assert stop != EOG
