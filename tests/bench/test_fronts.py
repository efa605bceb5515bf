"""What the fronts are told; and those that are installed here before two endpoints."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from bench.fronts import FRONTS, front, why_absent
from bench.fronts.commands import Place
from bench.ray_serve.ingress import listening
from bench.servers import ServerError, free_port

ENDPOINTS = ("http://127.0.0.1:9001", "http://127.0.0.1:9002")


def place(folder: Path) -> Place:
    return Place(
        folder=folder, port=8000, metrics_port=8001, endpoints=ENDPOINTS, slots=12, model="chat",
        key="sk-1",
    )  # fmt: skip


@pytest.mark.parametrize("name", FRONTS)
def test_every_front_knows_its_endpoints_and_its_port(name: str, tmp_path: Path) -> None:
    launch = FRONTS[name].launch(place(tmp_path))
    told = " ".join([*launch.arguments, *launch.files.values()])
    assert all(endpoint.removeprefix("http://") in told for endpoint in ENDPOINTS)
    assert "127.0.0.1:8000" in told or "--port 8000" in told
    assert ("maxconn 12" in told) == (name == "haproxy-queue")


def test_litellm_balances_one_model_over_all(tmp_path: Path) -> None:
    document = json.loads(FRONTS["litellm"].launch(place(tmp_path)).files["config.json"])
    assert {model["model_name"] for model in document["model_list"]} == {"chat"}
    bases = [model["litellm_params"]["api_base"] for model in document["model_list"]]
    assert bases == [f"{endpoint}/v1" for endpoint in ENDPOINTS]


@pytest.mark.parametrize("name", ["nginx", "haproxy", "haproxy-queue"])
async def test_least_connections_sends_to_the_idle_one(name: str) -> None:
    """Two requests at once go to two endpoints, and a stream goes through as it comes."""
    if reason := why_absent(name):
        pytest.skip(reason)
    ports = [free_port(), free_port()]
    begun: list[int] = []
    both = asyncio.Event()

    def endpoint(port: int):  # type: ignore[no-untyped-def]
        async def pieces(body: bytes):  # type: ignore[no-untyped-def]
            begun.append(port)
            yield b"data: " + body + b"\n\n"
            if len(begun) == 2:
                both.set()
            async with asyncio.timeout(10):
                await both.wait()
            yield b"data: [DONE]\n\n"

        return pieces

    async with (
        listening(ports[0], "m", endpoint(ports[0])),
        listening(ports[1], "m", endpoint(ports[1])),
        front(name, [f"http://127.0.0.1:{port}" for port in ports], model="m") as address,
        aiohttp.ClientSession() as session,
        session.post(f"{address.url}/v1/completions", data=b"1") as first,
    ):
        assert await first.content.readuntil(b"\n\n") == b"data: 1\n\n"
        async with session.post(f"{address.url}/v1/completions", data=b"2") as second:
            assert await second.read() == b"data: 2\n\ndata: [DONE]\n\n"
        assert await first.content.read() == b"data: [DONE]\n\n"
    assert sorted(begun) == sorted(ports)


async def test_a_front_that_cannot_start_says_why() -> None:
    if reason := why_absent("haproxy"):
        pytest.skip(reason)
    with pytest.raises(ServerError, match="haproxy ended with 1"):
        async with front("haproxy", ["http://not a host"], model="m"):
            pytest.fail("it started")


async def test_a_front_that_is_not_here_says_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("FMEDGE_BENCH_FRONTS", str(tmp_path))
    assert "litellm is not installed" in why_absent("litellm")
    with pytest.raises(ServerError, match="requirements"):
        async with front("litellm", ENDPOINTS, model="m"):
            pytest.fail("it started")
