"""Connections that misbehave below HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from fmedge.dispatch import Dispatcher
from fmedge.http import build_app, build_runner
from fmedge.http.settings import HttpSettings
from tests.http.conftest import ScriptedReplica, served

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n"
DEADLINE_S = 20
Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@contextlib.asynccontextmanager
async def serving(settings: HttpSettings) -> AsyncIterator[Open]:
    dispatcher, model = Dispatcher(), served()
    replica = ScriptedReplica("tiny/0", "tiny")
    dispatcher.add_replica(replica)
    replica.become_ready()
    runner = build_runner(build_app(dispatcher, {"tiny": model}, settings))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    writers = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writers.append(writer)
        return reader, writer

    try:
        async with asyncio.timeout(DEADLINE_S):
            yield connect
    finally:
        for writer in writers:
            writer.close()
        await runner.cleanup()
        model.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("num_before", [0, 1, 2])
async def test_a_head_that_only_trickles_in_is_given_up(num_before: int) -> None:
    async with serving(HttpSettings(keepalive_timeout_s=0.3)) as connect:
        reader, writer = await connect()
        for _ in range(num_before):
            writer.write(GET + b"\r\n")
            assert (await answer(reader))[0] == 200
        writer.write(GET)
        dripping = asyncio.create_task(drip(writer))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        dripping.cancel()


async def test_a_connection_that_says_nothing_is_given_up() -> None:
    async with serving(HttpSettings(keepalive_timeout_s=0.1)) as connect:
        reader, _ = await connect()
        assert await reader.read() == b""


async def test_a_connection_too_many_is_closed_and_the_others_go_on() -> None:
    async with serving(HttpSettings(max_connections=2)) as connect:
        kept = [await connect() for _ in range(2)]
        for reader, writer in kept:
            writer.write(GET + b"\r\n")
            assert (await answer(reader))[0] == 200
        refused, _ = await connect()
        assert await refused.read() == b""
        reader, writer = kept[0]
        writer.write(GET + b"Connection: close\r\n\r\n")
        assert (await answer(reader))[0] == 200
        assert await reader.read() == b""
        while True:  # the server learns of it in its own time
            reader, writer = await connect()
            writer.write(GET + b"\r\n")
            with contextlib.suppress(ConnectionError):
                if await reader.read(1) == b"H":
                    break


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: " + b"x" * 20_000 + b"\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    ],
)
async def test_what_is_no_http_gets_json(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(HttpSettings()) as connect:
        reader, writer = await connect()
        writer.write(sent)
        status, body = await answer(reader)
    assert status == 400
    error = json.loads(body)["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]
    assert not [record for record in caplog.records if record.exc_info]
