"""The devices that llama.cpp can compute on here, from ggml's registry."""

from __future__ import annotations

from typing import Any, Literal

from fmedge._native.binding import ffi, lib
from fmedge._native.threads import host_bytes_free
from fmedge.types import DeviceInfo

_MAX_DEVICES = 256
_KINDS: tuple[Literal["cpu", "gpu", "igpu", "accel", "meta"], ...] = (
    "cpu",
    "gpu",
    "igpu",
    "accel",
    "meta",
)


def list_devices() -> tuple[DeviceInfo, ...]:
    """Every device, in ggml's order. `name` is what EngineSettings.devices takes."""
    raw = ffi.new("fm_device[]", _MAX_DEVICES)
    num_devices = min(lib.fm_probe_devices(raw, _MAX_DEVICES), _MAX_DEVICES)
    return tuple(
        DeviceInfo(
            name=_text(device.name),
            description=_text(device.description).strip(),
            kind=_KINDS[device.kind],
            backend=_text(device.backend),
            memory_total=device.memory_total,
            memory_free=_memory_free(device),
            device_id=_text(device.device_id),
        )
        for device in raw[0:num_devices]
    )


def _memory_free(device: Any) -> int:
    """ggml says of the CPU that all of its memory is free; the kernel knows better."""
    free = int(device.memory_free)
    return min(free, host_bytes_free() or free) if _KINDS[device.kind] == "cpu" else free


def _text(raw: Any) -> str:
    return str(ffi.string(raw).decode("utf-8", "replace"))
