"""Device servers that are down, strangers, of another version, liars: one sentence each."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import sysconfig
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fmedge.errors import DeviceError
from fmedge.replica.rpc import PROTOCOL, guard_connections, look_at, look_at_all, parse_endpoint

GIB = 1 << 30


@contextlib.asynccontextmanager
async def _listening(serve: Callable) -> AsyncIterator[str]:
    """`serve(reader, writer)` for each connection; gives the endpoint."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


def _rpc_server(
    version: tuple[int, int, int] = PROTOCOL,
    memory: tuple[tuple[int, int], ...] = ((GIB, 2 * GIB),),
    count: int | None = None,
    silent_on: int | None = None,
) -> Callable:
    """A server that says this: memory is (free, total) of each device."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.closing(writer),
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError),
        ):
            while True:
                command, size = struct.unpack("<BQ", await reader.readexactly(9))
                request = await reader.readexactly(size)
                if command == silent_on:
                    await reader.read()
                    return
                if command == 14:
                    reply = bytes((*version, 0)) + bytes(24)
                elif command == 15:
                    reply = struct.pack("<I", len(memory) if count is None else count)
                else:
                    reply = struct.pack("<QQ", *memory[struct.unpack("<I", request)[0]])
                writer.write(struct.pack("<Q", len(reply)) + reply)

    return serve


def test_the_protocol_is_the_installed_llama_cpps() -> None:
    header = Path(sysconfig.get_paths()["purelib"], "include", "ggml-rpc.h").read_text()
    found = re.findall(r"RPC_PROTO_\w+_VERSION\s+(\d+)", header)
    assert tuple(map(int, found)) == PROTOCOL


async def test_an_offer() -> None:
    async with _listening(_rpc_server(memory=((GIB, 2 * GIB), (0, GIB)))) as endpoint:
        offer = await look_at(endpoint)
    assert offer.endpoint == endpoint
    assert offer.version == ".".join(map(str, PROTOCOL))
    assert [(d.memory_total, d.memory_free) for d in offer.devices] == [(2 * GIB, GIB), (GIB, 0)]
    assert 0 < offer.round_trip_s < 3


async def test_several_are_asked_at_once_and_kept_in_order() -> None:
    one, two = _rpc_server(memory=((1, 10),)), _rpc_server(memory=((2, 20),))
    async with _listening(one) as first, _listening(two) as second:
        offers = await look_at_all((second, first))
    assert [offer.devices[0].memory_total for offer in offers] == [20, 10]


async def test_one_that_is_down() -> None:
    async with _listening(_rpc_server()) as endpoint:
        pass
    with pytest.raises(DeviceError, match=rf"{endpoint} cannot be reached .*start it there"):
        await look_at(endpoint)


@pytest.mark.parametrize("silent_on", [14, 15, 11])
async def test_one_that_says_nothing(silent_on: int) -> None:
    async with _listening(_rpc_server(silent_on=silent_on)) as endpoint:
        with pytest.raises(DeviceError, match=r"did not answer within 0\.1 s"):
            await look_at(endpoint, 0.1)


@pytest.mark.parametrize("version", [(6, 0, 0), (7, 1, 0), (8, 0, 0), (7, 0, 1)])
async def test_one_of_another_version(version: tuple[int, int, int]) -> None:
    said = ".".join(map(str, version))
    async with _listening(_rpc_server(version=version)) as endpoint:
        with pytest.raises(DeviceError, match=f"speaks version {said} .* run the same fmedge"):
            await look_at(endpoint)


@pytest.mark.parametrize(
    ("free", "total"), [(0, 0), (2 * GIB, GIB), (0, 1 << 60), (2**64 - 1, 2**64 - 1)]
)
async def test_one_that_lies_about_its_memory(free: int, total: int) -> None:
    async with _listening(_rpc_server(memory=((GIB, GIB), (free, total)))) as endpoint:
        with pytest.raises(DeviceError, match=f"device 1 has {free} of {total} bytes"):
            await look_at(endpoint)


@pytest.mark.parametrize("count", [0, 17, 2**32 - 1])
async def test_one_with_an_absurd_number_of_devices(count: int) -> None:
    async with _listening(_rpc_server(count=count)) as endpoint:
        with pytest.raises(DeviceError, match=f"says that it has {count} devices"):
            await look_at(endpoint)


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(64), b"\xff" * 64, b"", b"\x1c"]
)
async def test_one_that_is_no_rpc_server(reply: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(33)
        writer.write(reply)
        writer.close()

    async with _listening(serve) as endpoint:
        with pytest.raises(DeviceError, match=f"{endpoint} (is not|hung up: it is not) llama"):
            await look_at(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["", "host", "host:", ":50052", "host:0", "host:65536", "host:x", "::1:50052", "a b:1",
     "http://host:1", "host:-1", "host:\u0661"],
)  # fmt: skip
def test_what_is_no_endpoint(endpoint: str) -> None:
    with pytest.raises(DeviceError, match=r"no address of a device server|the port must be"):
        parse_endpoint(endpoint)


def test_endpoints() -> None:
    assert parse_endpoint("127.0.0.1:50052") == ("127.0.0.1", 50052)
    assert parse_endpoint("gpu-box.local:1") == ("gpu-box.local", 1)


def test_connections_do_not_wait_for_ever() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        assert guard_connections(2.5) >= 1
        unheard_ms = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert unheard_ms == 2500
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
