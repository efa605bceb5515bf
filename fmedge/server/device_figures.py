"""From what a device says of itself and what was measured of it to what plans reckon with.

The rule: a figure that was measured counts, else the catalogue's of its name, else a modest guess.
"""

from __future__ import annotations

from math import inf

import msgspec
from msgspec import Struct

from fmedge.config.rpc import RpcConfig
from fmedge.replica.rpc import RpcOffer
from fmedge.sched.provision import catalogue
from fmedge.sched.provision.device import HOST, Device
from fmedge.server.described import GIB, LINK_GB_S, context_bytes
from fmedge.server.device_cache import Entry
from fmedge.server.host import HostFacts
from fmedge.types import DeviceInfo

HOST_RESERVE_SHARE, MIN_HOST_RESERVE_BYTES, MAX_HOST_RESERVE_BYTES = 0.05, 512 << 20, 4 << 30
RESERVE_SHARE, MIN_RESERVE_BYTES = 0.02, 128 << 20
"""What plans leave to others of a device's memory: programs that start later, a display."""

# Where neither a measurement nor the catalogue says anything: GB/s, TFLOP/s.
_GUESSES = {"cpu": (20.0, 0.1), "igpu": (60.0, 4.0), "gpu": (400.0, 60.0), "rpc": (20.0, 0.1)}


class DeviceReport(Struct, frozen=True, kw_only=True):
    """A device and what only a person asks; memory in bytes. measured_s: when, by the wall clock;
    0 never. host: of the host alone."""

    device: Device
    memory_total: int
    memory_free: int
    measured_s: float = 0.0
    host: HostFacts | None = None


def host_report(
    info: DeviceInfo, entry: Entry | None, facts: HostFacts, resident_bytes: int
) -> DeviceReport:
    """resident_bytes: what a process that can run models takes before it loads one."""
    free = min(info.memory_free, facts.memory_free or info.memory_free)
    total = facts.memory_total or info.memory_total
    reserve = max(HOST_RESERVE_SHARE * total, MIN_HOST_RESERVE_BYTES)
    device = Device(
        name=HOST,
        type="cpu",
        kind=info.description,
        backend=info.backend,
        memory_bytes=free,
        reserve_bytes=int(min(reserve, MAX_HOST_RESERVE_BYTES)),
        backend_bytes=resident_bytes,
        bandwidth_gb_s=0.0,
        tflop_s=0.0,
        num_cores=facts.num_cores,
    )
    device = msgspec.structs.replace(_timed(device, entry), link_gb_s=inf, link_s=0.0)
    return _report(device, total, free, entry, facts)


def card_report(info: DeviceInfo, entry: Entry | None) -> DeviceReport:
    context = entry.context_bytes if entry is not None else 0
    used = entry.speed.used_bytes if entry is not None else 0
    # The process that asked had the device open itself.
    free = min(info.memory_free + context, info.memory_total)
    device = Device(
        name=info.name,
        type="igpu" if info.kind == "igpu" else "gpu",
        kind=info.description,
        backend=info.backend,
        memory_bytes=free,
        reserve_bytes=int(max(RESERVE_SHARE * info.memory_total, MIN_RESERVE_BYTES)),
        backend_bytes=context + used if entry is not None else context_bytes(info.backend),
        bandwidth_gb_s=0.0,
        tflop_s=0.0,
    )
    return _report(_timed(device, entry), info.memory_total, free, entry)


def remote_report(
    name: str, server: RpcConfig, info: DeviceInfo, entry: Entry | None, offer: RpcOffer
) -> DeviceReport:
    device = Device(
        name=name,
        type="rpc",
        backend="RPC",
        endpoint=server.endpoint,
        memory_bytes=info.memory_free,
        reserve_bytes=int(server.reserve_gib * GIB),
        bandwidth_gb_s=0.0,
        tflop_s=0.0,
        link_s=offer.round_trip_s / 2,
    )
    device = _timed(device, entry)
    if server.link_gb_s is not None:
        device = msgspec.structs.replace(device, link_gb_s=server.link_gb_s)
    return _report(device, info.memory_total, info.memory_free, entry)


def _timed(device: Device, entry: Entry | None) -> Device:
    """With the figures that were measured, else the catalogue's, else a modest guess."""
    if entry is not None:
        speed = entry.speed
        return msgspec.structs.replace(
            device,
            bandwidth_gb_s=speed.bandwidth_gb_s,
            tflop_s=speed.tflop_s,
            link_gb_s=speed.link_gb_s or inf,
            link_s=speed.link_s,
            speeds=speed.types,
            attention_gmac_s=speed.attention_gmac_s,
            kv_gb_s=speed.kv_gb_s,
            op_s=speed.op_s,
            source="measured",
        )
    card = catalogue.find(device.kind) if device.kind else None
    if card is not None:
        return msgspec.structs.replace(
            device,
            bandwidth_gb_s=card.bandwidth_gb_s,
            tflop_s=card.fp16_tflop_s,
            link_gb_s=card.link_gb_s or LINK_GB_S,
            source="catalogue",
        )
    bandwidth, tflops = _GUESSES[device.type]
    return msgspec.structs.replace(
        device, bandwidth_gb_s=bandwidth, tflop_s=tflops, link_gb_s=LINK_GB_S, source="guess"
    )


def _report(
    device: Device, total: int, free: int, entry: Entry | None, host: HostFacts | None = None
) -> DeviceReport:
    return DeviceReport(
        device=device,
        memory_total=total,
        memory_free=free,
        measured_s=entry.measured_s if entry is not None else 0.0,
        host=host,
    )
