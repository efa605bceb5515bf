"""Streams that do not go well: clients that leave or stall, generations that break off."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from fmedge.http.settings import HttpSettings
from fmedge.replica.protocol import Failed
from tests.http.conftest import Endpoint, error_of, events_of

DEADLINE_S = 20


@contextlib.asynccontextmanager
async def open_raw(endpoint: Endpoint, path: str, **fields):
    """A connection that has sent a request; broken off at the end."""
    body = json.dumps({"model": "tiny", **fields}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.client.port)
    try:
        writer.write(head.encode() + body)
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_leaves_cancels_its_generations(endpoint: Endpoint, stream, n):
    replica = endpoint.replica
    replica.never_finish = True
    fields = {"prompt": "x", "stream": stream, "n": n}
    async with open_raw(endpoint, "/v1/completions", **fields):
        await replica.wait_until(lambda: len(replica.submitted) == n)
    ids = {sent.request_id for sent in replica.submitted}
    await replica.wait_until(lambda: set(replica.cancelled) == ids)


async def test_a_client_that_leaves_while_waiting_cancels(endpoint: Endpoint):
    endpoint.replica.hold = True
    async with open_raw(endpoint, "/v1/completions", prompt="x", stream=True):
        await endpoint.replica.wait_until(lambda: bool(endpoint.replica.submitted))
    await endpoint.replica.wait_until(lambda: bool(endpoint.replica.cancelled))


@pytest.mark.parametrize(("code", "status"), [("invalid", 400), ("crashed", 500)])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("n", [1, 2])
async def test_failure_before_the_first_token_is_a_status(
    endpoint: Endpoint, code, status, stream, n
):
    endpoint.replica.fail = Failed(0, code, "the reason")
    error = await error_of(await endpoint.complete(stream=stream, n=n), status)
    assert "the reason" in error["message"]
    assert endpoint.dispatcher.status().num_open == 0


async def test_failure_in_mid_stream_is_an_event(endpoint: Endpoint):
    endpoint.replica.fail = Failed(0, "crashed", "the reason")
    endpoint.replica.fail_after = 3
    *chunks, last = await events_of(await endpoint.complete(stream=True))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hel"
    assert last["error"]["type"] == "server_error"
    assert "the reason" in last["error"]["message"]


async def test_failure_of_one_choice_ends_the_others(endpoint: Endpoint):
    endpoint.replica.never_finish = True
    endpoint.replica.scripts = ["a" * 6, "b" * 6]
    endpoint.replica.fail = Failed(0, "crashed", "the reason")
    endpoint.replica.fail_after = 3
    *_, last = await events_of(await endpoint.complete(stream=True, n=2))
    assert "the reason" in last["error"]["message"]
    assert endpoint.dispatcher.status().num_open == 0


async def test_shutdown_in_mid_stream_is_an_event(endpoint: Endpoint):
    endpoint.replica.never_finish = True
    response = await endpoint.complete(stream=True)
    await endpoint.dispatcher.drain(0)
    *_, last = await events_of(response)
    assert last["error"]["code"] == "draining"


async def test_a_silent_stream_gets_pings(start):
    endpoint = await start(HttpSettings(ping_interval_s=0.02))
    endpoint.replica.hold = True
    messages = [{"role": "user", "content": "x"}]
    path = "/v1/chat/completions"
    async with (
        asyncio.timeout(DEADLINE_S),
        open_raw(endpoint, path, stream=True, messages=messages) as (reader, _),
    ):
        for _ in range(3):
            await reader.readuntil(b": ping\n\n")
        endpoint.replica.release()
        await reader.readuntil(b"data: [DONE]\n\n")


async def test_a_client_that_takes_nothing_is_dropped(start):
    endpoint = await start(HttpSettings(write_timeout_s=0.1, ping_interval_s=0.05))
    endpoint.replica.scripts = ["x" * 480]
    endpoint.replica.never_finish = True
    fields = {"prompt": "x", "logprobs": 20, "stream": True, "n": 100}
    async with (
        asyncio.timeout(DEADLINE_S),
        open_raw(endpoint, "/v1/completions", **fields) as (_, writer),
    ):
        writer.transport.pause_reading()
        await endpoint.replica.wait_until(lambda: bool(endpoint.replica.cancelled))


async def test_a_stalled_client_does_not_stall_others(endpoint: Endpoint):
    endpoint.replica.scripts = ["x" * 480]
    fields = {"prompt": "x", "logprobs": 20, "stream": True, "n": 50}
    async with (
        asyncio.timeout(DEADLINE_S),
        open_raw(endpoint, "/v1/completions", **fields) as (_, writer),
    ):
        writer.transport.pause_reading()
        await endpoint.replica.wait_until(lambda: len(endpoint.replica.submitted) == 50)
        assert (await endpoint.complete()).status == 200
