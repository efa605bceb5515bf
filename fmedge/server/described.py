"""Devices of a device file, with the catalogue's figures where the file gives none."""

from __future__ import annotations

from math import inf

from fmedge.config.devices import DeviceConfig
from fmedge.errors import ConfigError
from fmedge.sched.provision import catalogue
from fmedge.sched.provision.catalogue import Card
from fmedge.sched.provision.device import Device

GIB = 1 << 30

CONTEXT_BYTES = {"CUDA": 512 << 20, "ROCm": 512 << 20, "MUSA": 512 << 20}
"""What a process that opens such a device is taken to cost there until it was measured: drivers
load a context with the kernels. Meant as a bound from above."""

OTHER_CONTEXT_BYTES = 256 << 20

LINK_GB_S = 12.0
"""A link of which nothing is known: PCIe 3.0 with 16 lanes, as the catalogue counts it."""

_MAKERS = (("rdna", "ROCm"), ("gcn", "ROCm"), ("cdna", "ROCm"), ("xe", "SYCL"), ("apple", "MTL"))


def described(devices: tuple[DeviceConfig, ...]) -> tuple[Device, ...]:
    """In the file's order. ConfigError where a kind is not known and the figures are not all
    given."""
    return tuple(_described(device) for device in devices)


def _described(device: DeviceConfig) -> Device:
    card = catalogue.find(device.kind) if device.kind else None
    memory_gib = _figure(device, card, "memory_gib")
    bandwidth = _figure(device, card, "bandwidth_gb_s")
    tflops = _figure(device, card, "fp16_tflop_s")
    if device.reserve_gib >= memory_gib:
        raise ConfigError(
            f"{device.where}: reserve_gib ({device.reserve_gib:g}) leaves nothing of the "
            f"{memory_gib:g} GiB of the {device.kind}"
        )
    link = device.link_gb_s or (card.link_gb_s if card is not None else 0.0) or LINK_GB_S
    backend = device.backend or backend_of(card, is_cpu=device.is_cpu)
    own = (device.bandwidth_gb_s, device.fp16_tflop_s)
    return Device(
        name=device.name,
        type=device.type or "gpu",
        kind=device.kind,
        backend=backend,
        memory_bytes=int(memory_gib * GIB),
        reserve_bytes=int(device.reserve_gib * GIB),
        backend_bytes=0 if device.is_cpu else context_bytes(backend),
        bandwidth_gb_s=bandwidth,
        tflop_s=tflops,
        link_gb_s=inf if device.is_cpu else link,
        link_s=device.link_us * 1e-6,
        num_cores=device.cores,
        source="catalogue" if own == (None, None) else "file",
    )


def _figure(device: DeviceConfig, card: Card | None, key: str) -> float:
    """Device files and the catalogue call them alike."""
    given = getattr(device, key)
    if given is not None:
        return float(given)
    if card is None:
        near = ", ".join(catalogue.nearest(device.kind))
        raise ConfigError(
            f"{device.where}: kind: no card {device.kind!r} is known"
            + (f" (near it: {near})" if near else "")
            + "; give memory_gib, bandwidth_gb_s and fp16_tflop_s instead"
        )
    value = float(getattr(card, key))
    if value <= 0:
        raise ConfigError(f"{device.where}: needs {key}: the {card.name} shares the host's memory")
    return value


def backend_of(card: Card | None, *, is_cpu: bool = False) -> str:
    """ggml's backend by the maker; CUDA for what is not known, which takes most memory."""
    if is_cpu:
        return "CPU"
    generation = card.generation if card is not None else ""
    return next((name for start, name in _MAKERS if generation.startswith(start)), "CUDA")


def context_bytes(backend: str) -> int:
    """Taken for granted of a device that was not measured."""
    return CONTEXT_BYTES.get(backend, OTHER_CONTEXT_BYTES)
