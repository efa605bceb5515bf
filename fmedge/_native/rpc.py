"""llama.cpp's RPC backend: devices of other processes and machines, and the serving of ours.

The rule: add_servers only after `replica.rpc.look_at` has shown each endpoint to be what it should;
llama.cpp ends the process otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from fmedge._native.binding import check, ffi, lib
from fmedge.errors import NativeError

_MAX_DEVICES = 64


def add_servers(endpoints: Sequence[str]) -> tuple[str, ...]:
    """ggml's names of the servers' devices, in order. The first servers that a process adds have
    the devices RPC0, RPC1, ...; adding one again gives the same names."""
    found: list[str] = []
    names = ffi.new("fm_rpc_name[]", _MAX_DEVICES)
    for endpoint in endpoints:
        num_devices = check(lib.fm_rpc_add_server(endpoint.encode(), names, _MAX_DEVICES))
        found += [ffi.string(names[i].name).decode() for i in range(min(num_devices, _MAX_DEVICES))]
    return tuple(found)


def device_names(endpoints: Sequence[str]) -> dict[str, str]:
    """ggml's name by each name that a server's device has in EngineSettings: RPC0, RPC1, ... over
    all servers, and its address: HOST:PORT, HOST:PORT/1, ..."""
    if len(set(endpoints)) != len(endpoints):
        raise NativeError("a device server is named twice: " + ", ".join(endpoints))
    names: dict[str, str] = {}
    num_devices = 0
    for endpoint in endpoints:
        for index, name in enumerate(add_servers((endpoint,))):
            names[f"RPC{num_devices}"] = name
            names[f"{endpoint}/{index}" if index else endpoint] = name
            num_devices += 1
    return names


def serve(threads: int, devices: Sequence[str]) -> None:
    """Serves what `handover` gives until that ends the process; raises NativeError where llama.cpp
    cannot start."""
    kept = [ffi.new("char[]", name.encode()) for name in devices]
    check(lib.fm_rpc_serve(threads, ffi.new("char *[]", kept), len(kept)))
