"""Dispatch over workers that run llama.cpp: a killed worker changes nothing that a client sees."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from fmedge.dispatch import Dispatcher, Generation
from fmedge.errors import UnavailableError
from fmedge.replica.local import LocalReplica
from fmedge.types import EngineSettings, GenerationRequest, SamplingParams
from tests.replica.supervised import DEADLINE_S, QUICK_RESTART, pack
from tests.streams import assert_same
from tests.synthetic import cached

NUM_STREAMS = 16
NUM_TOKENS = 300


def make_replica(path: str, slots: int) -> LocalReplica:
    settings = EngineSettings(model_path=path, ctx_size=512, slots=slots, threads=1)
    return LocalReplica("r0", "m", settings, restart=QUICK_RESTART)


def make_request(number: int) -> GenerationRequest:
    return GenerationRequest(
        model="m",
        prompt=pack(*range(20 + number, 60 + 2 * number)),
        max_tokens=NUM_TOKENS,
        sampling=SamplingParams(temperature=0.8, seed=number),
        ignore_eos=True,
    )


async def read_all(generation: Generation) -> list[int]:
    tokens: list[int] = []
    async for batch in generation:
        tokens += batch.tokens
    assert batch.finish == "length"
    return tokens


async def test_16_streams_survive_kill_9_of_a_real_engine():
    dispatcher = Dispatcher()
    replica = make_replica(str(cached("tiny")), NUM_STREAMS)
    dispatcher.add_replica(replica)
    await dispatcher.wait_ready(DEADLINE_S)

    async def run_all(*, kill: bool) -> list[list[int]]:
        generations = [await dispatcher.submit(make_request(n)) for n in range(NUM_STREAMS)]
        outputs = [[*(await anext(generation)).tokens] for generation in generations]
        if kill:
            assert not any(generation.is_over for generation in generations)
            os.kill(replica.status().pid, signal.SIGKILL)
        rests = await asyncio.gather(*(read_all(generation) for generation in generations))
        return [output + rest for output, rest in zip(outputs, rests, strict=True)]

    undisturbed = await run_all(kill=False)
    assert all(len(output) == NUM_TOKENS for output in undisturbed)
    assert len({tuple(output) for output in undisturbed}) == NUM_STREAMS
    assert_same(await run_all(kill=True), undisturbed)
    assert replica.status().num_restarts == 1
    await dispatcher.close()


async def test_a_file_that_is_no_model_is_said_so(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    dispatcher = Dispatcher()
    replica = make_replica(str(path), 2)
    dispatcher.add_replica(replica)
    with pytest.raises(UnavailableError, match=r"broken\.gguf"):
        await dispatcher.wait_ready(DEADLINE_S)
    assert replica.status().state == "failed"
    await dispatcher.close()
