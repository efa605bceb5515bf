"""[[rpc]]: device servers whose devices are used as if they were here.

The rule: an address is checked here as far as that goes without asking it; what is there is asked
when devices are gathered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fmedge.config.promises import check_name
from fmedge.config.values import typed
from fmedge.errors import ConfigError

MAX_SERVERS = 64
DEFAULT_PORT = 50052


class RpcConfig(Struct, frozen=True, kw_only=True):
    """One device server. name: what to call its devices; "" is the endpoint. link_gb_s: None is
    measured. `where`: its place, for messages."""

    where: str
    endpoint: Annotated[str, Meta(description="its address, HOST:PORT")]
    name: Annotated[str, Meta(description="what to call it")] = ""
    reserve_gib: Annotated[
        Annotated[float, Meta(ge=0, le=65_536)],
        Meta(description="memory of each of its devices that plans leave free"),
    ] = 0.0
    link_gb_s: Annotated[
        Annotated[float, Meta(gt=0, le=10_000)] | None,
        Meta(description="bandwidth to it, in 1e9 bytes a second, instead of a measurement"),
    ] = None


_KEYS = {f.name: f.type for f in msgspec.structs.fields(RpcConfig) if f.name != "where"}
_MEANT = {"host": "endpoint", "address": "endpoint", "url": "endpoint", "server": "endpoint"}


def parse_endpoint(endpoint: str, where: str = "") -> tuple[str, int]:
    """Host and port of "HOST:PORT"; ConfigError else. llama.cpp knows IPv4 and names alone."""
    place = f"{where}: " if where else ""
    host, separator, port = endpoint.rpartition(":")
    if not separator or not host or ":" in host or any(c.isspace() or c == "/" for c in host):
        raise ConfigError(
            f"{place}{endpoint!r} is no address of a device server: write HOST:PORT, such as "
            f"192.168.1.20:{DEFAULT_PORT}"
        )
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(f"{place}{endpoint!r}: the port must be a number from 1 to 65535")
    return host, int(port)


def rpc_block(block: dict[str, Any], number: int, path: Path) -> RpcConfig:
    """One [[rpc]] of a file."""
    where = f"{path}: [[rpc]] number {number}"
    if "endpoint" not in block:
        raise ConfigError(f'{where}: needs endpoint = "HOST:PORT"')
    values = typed(block, _KEYS, where, _MEANT)
    parse_endpoint(values["endpoint"], f"{where}: endpoint")
    if values.get("name"):
        check_name(values["name"], f"{where}: name")
    return RpcConfig(where=f"{where} ({values['endpoint']})", **values)


def check_servers(servers: tuple[RpcConfig, ...]) -> None:
    """ConfigError for what cannot stand side by side."""
    if len(servers) > MAX_SERVERS:
        raise ConfigError(f"{servers[-1].where}: at most {MAX_SERVERS} device servers are possible")
    for key in ("endpoint", "name"):
        seen: dict[str, str] = {}
        for server in servers:
            value = getattr(server, key).lower()
            if value and value in seen:
                raise ConfigError(f"{server.where}: another [[rpc]] has that {key}: {seen[value]}")
            seen[value] = server.where
