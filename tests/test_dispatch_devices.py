"""Dispatch over a replica whose device goes away: its streams go on elsewhere, none is blamed."""

from __future__ import annotations

import asyncio

from fmedge.dispatch import Dispatcher, Generation
from fmedge.replica.local import LocalReplica
from fmedge.types import EngineSettings, GenerationRequest, SamplingParams
from tests import device_servers
from tests.replica.supervised import DEADLINE_S, QUICK_RESTART, pack
from tests.streams import assert_same
from tests.synthetic import cached

NUM_STREAMS = 4
NUM_TOKENS = 400


def _replica(name: str, path: str, rpc: tuple[str, ...]) -> LocalReplica:
    settings = EngineSettings(
        model_path=path,
        ctx_size=512,
        slots=NUM_STREAMS,
        threads=1,
        flash_attn="off",
        rpc=rpc,
        devices=rpc,
        gpu_layers=-1 if rpc else 0,
    )
    return LocalReplica(name, "m", settings, restart=QUICK_RESTART)


def _request(number: int) -> GenerationRequest:
    return GenerationRequest(
        model="m",
        prompt=pack(*range(20 + number, 60 + 2 * number)),
        max_tokens=NUM_TOKENS,
        sampling=SamplingParams(temperature=0.0),
        ignore_eos=True,
    )


async def _rest(generation: Generation) -> list[int]:
    tokens: list[int] = []
    async for batch in generation:
        tokens += batch.tokens
    assert batch.finish == "length"
    return tokens


async def _generate(dispatcher: Dispatcher, server=None) -> list[list[int]]:
    """Every stream's tokens; `server` is killed once all of them have begun."""
    generations = [await dispatcher.submit(_request(n)) for n in range(NUM_STREAMS)]
    outputs = [[*(await anext(generation)).tokens] for generation in generations]
    if server is not None:
        assert not any(generation.is_over for generation in generations)
        await asyncio.to_thread(server.kill)
    rests = await asyncio.gather(*(_rest(generation) for generation in generations))
    return [output + rest for output, rest in zip(outputs, rests, strict=True)]


async def test_streams_on_a_device_that_dies_go_on_elsewhere() -> None:
    path = str(cached("tiny"))
    with device_servers.device_servers((1, 0.2)) as (server,):
        dispatcher = Dispatcher()
        remote = _replica("remote", path, (server.endpoint,))
        dispatcher.add_replica(remote)
        await dispatcher.wait_ready(DEADLINE_S)
        try:
            async with asyncio.timeout(DEADLINE_S):
                undisturbed = await _generate(dispatcher)
                assert all(len(output) == NUM_TOKENS for output in undisturbed)
                again = asyncio.create_task(_generate(dispatcher, server))
                # Nobody else can take the streams until this one comes.
                host = _replica("host", path, ())
                dispatcher.add_replica(host)
                assert_same(await again, undisturbed)
            assert remote.status().failure == "device"
        finally:
            await dispatcher.close()
