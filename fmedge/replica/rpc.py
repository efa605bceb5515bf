"""What a device server offers, asked in llama.cpp's own RPC protocol before ggml meets it.

The rule: nothing that a server says is believed before it was checked, and every wait is bounded:
ggml ends the process where a server is down, speaks another version or is none.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from typing import NoReturn

from msgspec import Struct

from fmedge.config import rpc as config
from fmedge.errors import ConfigError, DeviceError

PROTOCOL = (7, 0, 0)
"""Of the pinned llama.cpp. The last number changes with the set of operations, whose numbers
travel; llama.cpp itself overlooks that."""

MAX_DEVICES = 16
MAX_MEMORY_BYTES = 1 << 50
LOOK_TIMEOUT_S = 3.0
UNHEARD_S = 20.0

_MEMORY, _HELLO, _COUNT = 11, 14, 15
_CAPS = bytes(24)
_HEAD = struct.Struct("<BQ")
_SIZE = struct.Struct("<Q")


class RpcDevice(Struct, frozen=True):
    """One device of a server, as it says; bytes."""

    memory_total: int
    memory_free: int


class RpcOffer(Struct, frozen=True, kw_only=True):
    """What a server offers now. round_trip_s: of one small question, a link's latency."""

    endpoint: str
    version: str
    devices: tuple[RpcDevice, ...]
    round_trip_s: float


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT"; DeviceError else. llama.cpp knows IPv4 and names alone."""
    try:
        return config.parse_endpoint(endpoint)
    except ConfigError as error:
        raise DeviceError(str(error)) from None


async def look_at(endpoint: str, timeout_s: float = LOOK_TIMEOUT_S) -> RpcOffer:
    """Ask a server for its version and devices, in timeout_s all told. DeviceError, one sentence,
    where it is down, is no RPC server, speaks another version or says what cannot be."""
    host, port = parse_endpoint(endpoint)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(endpoint, host, port)
            try:
                return await _ask(endpoint, reader, writer)
            finally:
                writer.close()
    except TimeoutError:
        raise DeviceError(
            f"the device server at {endpoint} did not answer within {timeout_s:g} s: is it "
            "running, and is it llama.cpp's RPC protocol that is spoken there?"
        ) from None


async def look_at_all(
    endpoints: tuple[str, ...], timeout_s: float = LOOK_TIMEOUT_S
) -> tuple[RpcOffer, ...]:
    """All of them at once, in order. DeviceError of the first that fails."""
    return tuple(await asyncio.gather(*(look_at(endpoint, timeout_s) for endpoint in endpoints)))


def checked(endpoints: tuple[str, ...]) -> tuple[RpcOffer, ...]:
    """look_at_all for a process without an event loop."""
    return asyncio.run(look_at_all(endpoints))


def guard_connections(unheard_s: float = UNHEARD_S) -> int:
    """Bound how long this process's TCP connections may go unheard, after which ggml's wait on
    them fails; it sets none itself. For a worker, which has no others. Returns how many."""
    num_guarded = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.stat(int(entry)).st_mode):
                continue
            connection = socket.socket(fileno=os.dup(int(entry)))
        except OSError:  # closed meanwhile
            continue
        with connection:
            if connection.family != socket.AF_INET or connection.type != socket.SOCK_STREAM:
                continue
            unheard_ms = round(unheard_s * 1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unheard_ms)
            num_guarded += 1
    return num_guarded


async def _connect(
    endpoint: str, host: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(host, port, family=socket.AF_INET)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeviceError(
            f"the device server at {endpoint} cannot be reached ({reason}): start it there with "
            f"`fmedge device-server --listen {endpoint}`, or take it out of the configuration"
        ) from None


async def _ask(
    endpoint: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> RpcOffer:
    loop = asyncio.get_running_loop()

    async def call(command: int, request: bytes, num_bytes: int) -> bytes:
        writer.write(_HEAD.pack(command, len(request)) + request)
        try:
            (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
            if size != num_bytes:
                _not_a_server(endpoint)
            return await reader.readexactly(num_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            if command != _HELLO:
                raise DeviceError(
                    f"the device server at {endpoint} broke off: it may just have been stopped"
                ) from None
            raise DeviceError(
                f"what listens at {endpoint} hung up: it is not llama.cpp's RPC server, or it "
                "has as many clients as it takes"
            ) from None

    hello = await call(_HELLO, _CAPS, 28)
    version = (hello[0], hello[1], hello[2])
    text = ".".join(map(str, version))
    if version != PROTOCOL:
        raise DeviceError(
            f"the device server at {endpoint} speaks version {text} of llama.cpp's RPC protocol, "
            f"this fmedge {'.'.join(map(str, PROTOCOL))}: run the same fmedge on both machines"
        )
    started_s = loop.time()
    (num_devices,) = struct.unpack("<I", await call(_COUNT, b"", 4))
    round_trip_s = loop.time() - started_s
    if not 1 <= num_devices <= MAX_DEVICES:
        raise DeviceError(
            f"the device server at {endpoint} says that it has {num_devices} devices; between 1 "
            f"and {MAX_DEVICES} are possible"
        )
    devices = []
    for index in range(num_devices):
        free, total = struct.unpack("<QQ", await call(_MEMORY, struct.pack("<I", index), 16))
        if not 0 < total <= MAX_MEMORY_BYTES or free > total:
            raise DeviceError(
                f"the device server at {endpoint} says that device {index} has {free} of {total} "
                "bytes of memory free, which cannot be"
            )
        devices.append(RpcDevice(memory_total=total, memory_free=free))
    return RpcOffer(
        endpoint=endpoint, version=text, devices=tuple(devices), round_trip_s=round_trip_s
    )


def _not_a_server(endpoint: str) -> NoReturn:
    raise DeviceError(
        f"what listens at {endpoint} is not llama.cpp's RPC server: start one there with "
        f"`fmedge device-server --listen {endpoint}`"
    )
