"""POST /admin/models/load and unload, and /admin/status, over a manager with fake workers."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from fmedge.errors import ModelNotFoundError
from fmedge.http.errors import errors_middleware
from fmedge.server import admin
from fmedge.server.residency_routes import add_routes
from tests.server.test_residency import managing, plan_of


def resolve(name: str) -> str:
    if name not in ("a", "first"):
        raise ModelNotFoundError(f"The model `{name}` is not served here.")
    return "a"


async def test_load_unload_and_status():
    async with managing(plan_of("a/0", capacity=1000)) as managed:
        app = web.Application(middlewares=[errors_middleware])
        add_routes(app, managed.manager, resolve)
        admin.add_routes(app, managed.dispatcher.status, list, managed.manager.status)
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/admin/models/unload", json={"model": "first"})
            body = await answer.json()
            assert (answer.status, body["model"], body["state"]) == (200, "a", "unloaded")
            answer = await client.post("/admin/models/load", json={"model": "a", "timeout_s": 5})
            body = await answer.json()
            assert (answer.status, body["state"]) == (200, "loaded")
            assert body["replicas"][0]["placement"][0]["device"] == "gpu0"
            status = await (await client.get("/admin/status")).json()
            assert status["residency"][0]["state"] == "loaded"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "x"}, 404, "is not served here"),
        ({"model": ""}, 400, "model"),
        ({"model": "a", "wait": 1}, 400, "wait"),
        ({"model": "a", "timeout_s": -1}, 400, "timeout_s"),
        ({}, 400, "model"),
    ],
)
async def test_bad_commands(body, status, words):
    async with managing(plan_of("a/0", capacity=1000)) as managed:
        app = web.Application(middlewares=[errors_middleware])
        add_routes(app, managed.manager, resolve)
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/admin/models/load", json=body)
            assert answer.status == status
            assert words in (await answer.json())["error"]["message"]
