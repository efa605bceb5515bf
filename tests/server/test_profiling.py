"""POST /admin/profile on a real worker, and what it answers to those that ask for too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from fmedge.dispatch import Dispatcher
from fmedge.errors import ModelNotFoundError
from fmedge.http.errors import errors_middleware
from fmedge.replica.interface import Replica
from fmedge.replica.local import LocalReplica
from fmedge.sched.profile import StepProfile
from fmedge.server.profiles import Profiler, ProfileStore
from fmedge.server.profiling import ProfileList, profile_handler
from fmedge.types import EngineInfo, EngineSettings, GenerationRequest, SamplingParams
from tests.replica.supervised import DEADLINE_S, pack
from tests.streams import assert_same
from tests.synthetic import cached

ENGINE = EngineSettings(model_path=str(cached("tiny")), slots=2, ctx_size=1024, threads=1)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Any, Dispatcher]]:
    """A client of the handler, and the dispatcher of one real worker."""
    profiler = Profiler(ProfileStore(None))
    dispatcher = Dispatcher()
    dispatcher.add_replica(LocalReplica("m/0", "m", ENGINE))

    async def measure(name: str, engine: EngineSettings, budget_s: float) -> StepProfile:
        async def measured(replica: Replica, _: EngineInfo) -> StepProfile:
            return await profiler.measure(replica, engine, budget_s=budget_s)

        return await dispatcher.measure(name, measured)

    app = web.Application(middlewares=[errors_middleware])
    app.router.add_post("/admin/profile", profile_handler(measure, replicas_of))
    try:
        await dispatcher.wait_ready(DEADLINE_S)
        async with TestClient(TestServer(app)) as client:
            yield client, dispatcher
    finally:
        await dispatcher.drain(0.0)
        await dispatcher.close()


def replicas_of(model: str) -> Sequence[tuple[str, EngineSettings]]:
    if model not in ("m", "alias"):
        raise ModelNotFoundError(f"no model {model}")
    return [("m/0", ENGINE)]


async def test_a_replica_that_serves_is_measured_and_serves_with_its_profile() -> None:
    async with serving() as (client, dispatcher):
        response = await client.post("/admin/profile", json={"model": "alias", "seconds": 0.5})
        assert response.status == 200
        found = msgspec.json.decode(await response.read(), type=ProfileList).profiles
        assert [one.replica for one in found] == ["m/0"]
        assert found[0].profile.source == "measured"
        decision = dispatcher.estimate(
            GenerationRequest(model="m", prompt=pack(5, 6, 7), max_tokens=10)
        )
        assert decision.estimate is not None
        assert decision.estimate.e2e_s > 0


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "model"),
        ({"model": "x"}, 404, "no model x"),
        ({"model": "m", "replica": "m/7"}, 404, "it has m/0"),
        ({"model": "m", "seconds": 0}, 400, "seconds"),
        ({"model": "m", "seconds": 1e9}, 400, "seconds"),
        ({"model": "m", "secs": 1}, 400, "secs"),
    ],
)
async def test_bad_bodies(body: dict[str, Any], status: int, words: str) -> None:
    async def never(name: str, engine: EngineSettings, budget_s: float) -> StepProfile:
        raise AssertionError(name)

    app = web.Application(middlewares=[errors_middleware])
    app.router.add_post("/", profile_handler(never, replicas_of))
    async with TestClient(TestServer(app)) as client:
        response = await client.post("/", json=body)
        assert response.status == status
        assert words in (await response.json())["error"]["message"]


async def test_what_a_replica_runs_waits_for_the_measuring_and_loses_nothing() -> None:
    request = GenerationRequest(
        model="m", prompt=pack(5, 6, 7), max_tokens=400, min_tokens=400, ignore_eos=True,
        sampling=SamplingParams(temperature=0.0),
    )  # fmt: skip
    async with serving() as (client, dispatcher), asyncio.timeout(DEADLINE_S):
        undisturbed = [t async for batch in await dispatcher.submit(request) for t in batch.tokens]
        generation = await dispatcher.submit(request)
        tokens = list((await anext(generation)).tokens)
        measuring = asyncio.create_task(
            client.post("/admin/profile", json={"model": "m", "seconds": 0.5})
        )
        async for batch in generation:
            tokens += batch.tokens
        assert (await measuring).status == 200
        assert len(tokens) == 400
        assert_same([tokens], [undisturbed])
