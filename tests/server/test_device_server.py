"""A device server against clients that come, go, want too much, talk nonsense and crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fmedge._native.devices import list_devices
from fmedge.errors import ConfigError, DeviceError
from fmedge.replica.rpc import look_at
from fmedge.server.device_server import DeviceServer, DeviceServerSettings, limits_of
from tests import device_servers

MIB = 1 << 20
LIMIT = 64 * MIB
DEADLINE_S = 30.0
HELLO, ALLOC, FREE, MEMORY, COPY = 14, 0, 4, 11, 9


@contextlib.asynccontextmanager
async def _serving(limit: int = LIMIT, max_clients: int = 4) -> AsyncIterator[DeviceServer]:
    server = DeviceServer(
        DeviceServerSettings(
            host="127.0.0.1", port=0, threads=1, limits={"CPU": limit}, max_clients=max_clients
        )
    )
    try:
        await server.start()
        yield server
    finally:
        await server.close()


class Client:
    """One connection, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, endpoint: str) -> Client:
        host, port = endpoint.split(":")
        client = cls(*await asyncio.open_connection(host, int(port)))
        reply = await client.ask(HELLO, bytes(24))
        assert len(reply) == 28
        return client

    async def ask(self, command: int, request: bytes = b"") -> bytes:
        self.tell(command, request)
        async with asyncio.timeout(DEADLINE_S):
            (size,) = struct.unpack("<Q", await self._reader.readexactly(8))
            return await self._reader.readexactly(size)

    def tell(self, command: int, request: bytes = b"") -> None:
        self._writer.write(struct.pack("<BQ", command, len(request)) + request)

    async def allocate(self, nbytes: int) -> int:
        """The buffer; 0 if it was refused."""
        pointer, got = struct.unpack("<QQ", await self.ask(ALLOC, struct.pack("<IQ", 0, nbytes)))
        assert got >= nbytes or pointer == 0
        return pointer

    async def free_bytes(self) -> int:
        return struct.unpack("<QQ", await self.ask(MEMORY, struct.pack("<I", 0)))[0]

    async def is_closed(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                return await self._reader.read(1) == b""
        return True

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def _until(condition) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - of other processes, which tell nobody
            await asyncio.sleep(0.005)


async def test_clients_share_the_limit_and_see_what_is_left() -> None:
    async with _serving() as server:
        offer = await look_at(server.endpoint)
        assert offer.devices[0].memory_total == offer.devices[0].memory_free == LIMIT
        one = await Client.connect(server.endpoint)
        two = await Client.connect(server.endpoint)
        assert await one.allocate(40 * MIB)
        assert 20 * MIB < await two.free_bytes() <= 24 * MIB
        assert await two.allocate(25 * MIB) == 0
        assert await two.allocate(1 << 62) == 0
        assert await two.allocate(20 * MIB)
        assert await one.allocate(5 * MIB) == 0
        assert 60 * MIB <= server.used_bytes() <= LIMIT
        await one.close()
        await _until(lambda: server.used_bytes() < 21 * MIB)
        assert await two.allocate(40 * MIB)
        await two.close()
        await _until(lambda: server.used_bytes() == 0)


async def test_a_freed_buffer_is_free() -> None:
    async with _serving() as server:
        client = await Client.connect(server.endpoint)
        for _ in range(3):
            buffer = await client.allocate(60 * MIB)
            assert buffer
            client.tell(FREE, struct.pack("<Q", buffer))
        assert await client.free_bytes() == LIMIT
        await client.close()


async def test_a_client_that_crashes_its_process_takes_nobody_along() -> None:
    async with _serving() as server:
        good = await Client.connect(server.endpoint)
        bad = await Client.connect(server.endpoint)
        assert await good.allocate(10 * MIB)
        buffer = await bad.allocate(30 * MIB)
        # A tensor that claims to lie before its buffer: an assertion of llama.cpp's.
        tensor = struct.pack("<QIQ4I4I", 1, 0, buffer, *(1,) * 4, *(4,) * 4)
        tensor += bytes(4 + 64 + 4 + 80 + 8 + 8) + struct.pack("<Q", 1) + bytes(64 + 4)
        bad.tell(COPY, tensor * 2)
        assert await bad.is_closed()
        await _until(lambda: server.used_bytes() < 11 * MIB)
        assert server.num_clients == 1
        assert await good.allocate(50 * MIB)
        await good.close()
        await bad.close()


@pytest.mark.parametrize(
    "words", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\x0e" + b"\xff" * 32, b"\x0f" + bytes(8)]
)
async def test_what_is_no_client_is_turned_away_at_once(words: bytes) -> None:
    async with _serving() as server:
        host, port = server.endpoint.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(words)
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read(1) == b""
        assert server.num_clients == 0
        writer.close()
        assert (await look_at(server.endpoint)).devices


async def test_one_that_says_nothing_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fmedge.server.device_server.FIRST_WORDS_TIMEOUT_S", 0.2)
    async with _serving(max_clients=1) as server:
        host, port = server.endpoint.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x0e")  # the first of nine bytes
        await look_at(server.endpoint)
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read(1) == b""
        writer.close()


async def test_more_clients_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmedge.server.device_server.IDLE_TIMEOUT_S", 0.2)
    async with _serving(max_clients=2) as server:
        clients = [await Client.connect(server.endpoint) for _ in range(2)]
        with pytest.raises(DeviceError, match="as many clients as it takes"):
            await look_at(server.endpoint)
        await clients[0].close()
        await _until(lambda: server.num_clients == 1)
        await look_at(server.endpoint)
        await clients[1].close()


async def test_processes_serve_one_client_after_the_other() -> None:
    async with _serving() as server:
        for _ in range(20):
            await look_at(server.endpoint)
        await _until(lambda: server.num_clients == 0)
        assert server.num_processes <= 8  # after twenty clients


async def test_an_address_that_is_taken() -> None:
    async with _serving() as server:
        port = int(server.endpoint.split(":")[1])
        other = DeviceServer(
            DeviceServerSettings(host="127.0.0.1", port=port, threads=1, limits={"CPU": LIMIT})
        )
        with pytest.raises(ConfigError, match=r"cannot listen on .* choose another --listen"):
            await other.start()
        await other.close()


async def test_children_that_cannot_start_are_given_up() -> None:
    server = DeviceServer(
        DeviceServerSettings(host="127.0.0.1", port=0, threads=1, limits={"GPU7": LIMIT})
    )
    with pytest.raises(DeviceError, match="does not start"):
        await server.start()
    await server.close()


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_its_end_is_that_of_all_its_processes(number: signal.Signals) -> None:
    server = await asyncio.to_thread(device_servers.start, memory_gib=0.1)
    client = await Client.connect(server.endpoint)
    await client.allocate(MIB)
    children = _children(server.process.pid)
    assert children
    os.kill(server.process.pid, number)
    status = await asyncio.to_thread(server.process.wait, DEADLINE_S)
    assert status == (-number if number == signal.SIGKILL else 0)
    await _until(lambda: all(_has_ended(pid) for pid in children))
    assert await client.is_closed()
    await client.close()
    server.lifeline.close()


def _run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "fmedge", "device-server", *arguments],
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--listen", "nowhere"), "expected an IPv4 address and a port"),
        (("--listen", "[::1]:50052"), "expected an IPv4 address and a port"),
        (("--listen", "127.0.0.1:65536"), "the port must be a number from 0 to 65535"),
        (("--memory-gib", "nan"), "must be more than 0 GiB"),
        (("--memory-gib", "-1"), "must be more than 0 GiB"),
        (("--memory-gib", "900000"), "GiB of memory, not 900000"),
        (("--threads", "-1"), "must lie between 0 and 1024"),
        (("--devices", "CUDA7"), "there is no 'CUDA7'; there are CPU"),
        (("--listen", "127.0.0.1:0", "--max-clients", "0"), "--max-clients must lie between"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], said: str) -> None:
    status, text = _run(*arguments)
    assert status == 2
    assert said in text
    assert text.count("\n") == 1


def test_what_is_offered() -> None:
    devices = list_devices()
    (cpu,) = [device for device in devices if device.kind == "cpu"]
    assert limits_of([cpu], None, None) == {"CPU": cpu.memory_free}
    assert limits_of([cpu], ["CPU"], MIB) == {"CPU": MIB}
