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

from fmedge.errors import ModelNotFoundError
from fmedge.http.errors import errors_middleware
from fmedge.replica.interface import Replica
from fmedge.replica.local import LocalReplica
from fmedge.replica.protocol import Measured, Submit
from fmedge.sched.profile import StepProfile
from fmedge.server.profiles import Profiler, ProfileStore
from fmedge.server.profiling import ProfileList, profile_handler
from fmedge.types import EngineSettings
from tests.replica.supervised import DEADLINE_S, Recorder, pack
from tests.synthetic import cached

ENGINE = EngineSettings(model_path=str(cached("tiny")), slots=2, ctx_size=1024, threads=1)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Any, LocalReplica, Recorder, list[tuple[str, Any]]]]:
    """A client of the handler, before one real worker; what on_profile was told."""
    replica, recorder = LocalReplica("m/0", "m", ENGINE), Recorder()
    replica.start(recorder)
    told: list[tuple[str, StepProfile]] = []

    def replicas_of(model: str) -> Sequence[tuple[Replica, EngineSettings]]:
        if model not in ("m", "alias"):
            raise ModelNotFoundError(f"no model {model}")
        return [(replica, ENGINE)]

    app = web.Application(middlewares=[errors_middleware])
    handler = profile_handler(
        Profiler(ProfileStore(None)),
        replicas_of,
        lambda name, profile: told.append((name, profile)),
    )
    app.router.add_post("/admin/profile", handler)
    try:
        await recorder.until_count("ready", 1)
        async with TestClient(TestServer(app)) as client:
            yield client, replica, recorder, told
    finally:
        await replica.close()


async def test_a_replica_that_serves_is_measured_and_its_profile_told() -> None:
    async with serving() as (client, _, recorder, told):
        response = await client.post("/admin/profile", json={"model": "alias", "seconds": 0.5})
        assert response.status == 200
        found = msgspec.json.decode(await response.read(), type=ProfileList).profiles
        assert [one.replica for one in found] == ["m/0"]
        assert told == [("m/0", found[0].profile)]
        assert found[0].profile.source == "measured"
        assert recorder.of("step") == []


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
    handler = profile_handler(Profiler(ProfileStore(None)), _no_replicas, lambda *_: None)
    app = web.Application(middlewares=[errors_middleware])
    app.router.add_post("/", handler)
    async with TestClient(TestServer(app)) as client:
        response = await client.post("/", json=body)
        assert response.status == status
        assert words in (await response.json())["error"]["message"]


def _no_replicas(model: str) -> Sequence[tuple[Replica, EngineSettings]]:
    if model == "x":
        raise ModelNotFoundError("no model x")
    return [(LocalReplica("m/0", "m", ENGINE), ENGINE)]


async def test_a_busy_replica_is_left_alone() -> None:
    async with serving() as (client, replica, recorder, told):
        replica.submit(
            Submit(
                request_id=1,
                tokens=pack(5, 6, 7),
                num_prompt_tokens=3,
                max_tokens=1000,
                ignore_eos=True,
            )
        )
        await recorder.until(lambda: len(recorder.tokens(1)) >= 1)
        response = await client.post("/admin/profile", json={"model": "m"})
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert (await response.json())["error"]["code"] == "busy"
        assert told == []
        replica.cancel((1,))


async def test_a_request_comes_before_a_measuring() -> None:
    async with serving() as (client, replica, recorder, told):
        has_begun, plain = asyncio.Event(), replica.measure

        async def measure(points: Any, max_s: float, on_step: Any = None) -> Measured:
            return await plain(points, max_s, lambda _: has_begun.set())

        replica.measure = measure  # type: ignore[method-assign]
        asking = asyncio.create_task(
            client.post("/admin/profile", json={"model": "m", "seconds": 100})
        )
        await asyncio.wait_for(has_begun.wait(), DEADLINE_S)
        replica.submit(
            Submit(request_id=1, tokens=pack(5, 6, 7), num_prompt_tokens=3, max_tokens=4,
                   ignore_eos=True)
        )  # fmt: skip
        await recorder.until(lambda: len(recorder.tokens(1)) == 4)
        response = await asyncio.wait_for(asking, DEADLINE_S)
        assert response.status in (200, 503)  # as much as was measured may be enough
        assert len(told) == (response.status == 200)
