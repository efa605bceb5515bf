"""A file that describes devices, [[device]] for each: those of a machine that is not here.

The rule: a device is described well enough to plan for it, or refused with file, place and key.
Whether `kind` is a card of the catalogue is asked where the figures are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from os.path import expanduser  # pathlib's raises where it knows no home
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from fmedge.config.blocks import blocks
from fmedge.config.files import read_toml
from fmedge.config.promises import check_name
from fmedge.config.values import nearest, typed
from fmedge.errors import ConfigError

MAX_DEVICES = 256

DeviceType = Literal["gpu", "igpu", "cpu"]
Backend = Literal["CUDA", "ROCm", "Vulkan", "SYCL", "MTL", "CANN", "OpenCL", "MUSA", "CPU"]

# The bounds are some ten times what is the best there is: beyond them a unit is wrong.
Gib = Annotated[float, Meta(gt=0, le=65_536)]
Bandwidth = Annotated[float, Meta(gt=0, le=100_000)]
Tflops = Annotated[float, Meta(gt=0, le=50_000)]
Link = Annotated[float, Meta(gt=0, le=10_000)]


class DeviceConfig(Struct, frozen=True, kw_only=True):
    """One [[device]]. None: the catalogue's figure for `kind`. `where`: its place, for messages."""

    where: str
    name: Annotated[str, Meta(description="what plans call it")]
    type: Annotated[
        DeviceType | None, Meta(description="gpu, igpu (shares the host's memory) or cpu; "
                                            "gpu where its name is not CPU")
    ] = None  # fmt: skip
    kind: Annotated[str, Meta(description="a card of the catalogue, such as RTX 4090")] = ""
    memory_gib: Annotated[Gib | None, Meta(description="its memory, in GiB")] = None
    bandwidth_gb_s: Annotated[
        Bandwidth | None, Meta(description="memory bandwidth, in 1e9 bytes a second")
    ] = None
    fp16_tflop_s: Annotated[
        Tflops | None, Meta(description="dense 16-bit matrix products, in 1e12 flops a second")
    ] = None
    link_gb_s: Annotated[
        Link | None, Meta(description="bandwidth to the host, in 1e9 bytes a second")
    ] = None
    link_us: Annotated[
        Annotated[float, Meta(ge=0, le=10_000_000)],
        Meta(description="what a transfer to or from the host takes at least, in microseconds"),
    ] = 0.0
    reserve_gib: Annotated[
        Annotated[float, Meta(ge=0, le=65_536)], Meta(description="memory that plans leave free")
    ] = 0.0
    cores: Annotated[
        Annotated[int, Meta(ge=0, le=65_536)], Meta(description="physical cores of a cpu")
    ] = 0
    backend: Annotated[
        Backend | None, Meta(description="ggml's backend for it; None: the maker's own")
    ] = None

    @property
    def is_cpu(self) -> bool:
        return self.type == "cpu"


_KEYS = {f.name: f.type for f in msgspec.structs.fields(DeviceConfig) if f.name != "where"}
_FIGURES = ("memory_gib", "bandwidth_gb_s", "fp16_tflop_s")
_MEANT = {
    "memory": "memory_gib", "memory_gb": "memory_gib", "vram": "memory_gib",
    "vram_gib": "memory_gib", "bandwidth": "bandwidth_gb_s", "tflops": "fp16_tflop_s",
    "tflop_s": "fp16_tflop_s", "link": "link_gb_s", "reserve": "reserve_gib", "model": "kind",
    "card": "kind", "id": "name", "threads": "cores",
}  # fmt: skip


def load_devices(file: str | Path) -> tuple[DeviceConfig, ...]:
    """The devices that `file` describes, in its order. ConfigError names file, device and key."""
    path = Path(expanduser(file))
    table = read_toml(path, "device file")
    for key in table:
        if key != "device":
            hint = nearest(key, ["device"]) or ": a device file holds [[device]] blocks alone"
            raise ConfigError(f"{path}: unknown key {key!r}{hint}")
    return devices_of(table, path)


def devices_of(table: Mapping[str, Any], path: Path) -> tuple[DeviceConfig, ...]:
    """The [[device]] blocks of a file's top table, one at least."""
    found = blocks(table, "device", path)
    if not found:
        raise ConfigError(f"{path}: describes no device: write a [[device]] for each")
    if len(found) > MAX_DEVICES:
        raise ConfigError(f"{path}: {len(found)} devices are too many: at most {MAX_DEVICES}")
    devices = tuple(_device(block, number, path) for number, block in enumerate(found, 1))
    _check_together(devices)
    return devices


def _device(block: dict[str, Any], number: int, path: Path) -> DeviceConfig:
    where = f"{path}: [[device]] number {number}"
    if "name" not in block:
        raise ConfigError(f'{where}: needs name = "..."')
    values = typed(block, _KEYS, where, _MEANT)
    check_name(values["name"], f"{where}: name")
    if values.get("type") is None:
        values["type"] = "cpu" if values["name"].upper() == "CPU" else "gpu"
    device = DeviceConfig(where=f"{where} ({values['name']})", **values)
    missing = [key for key in _FIGURES if getattr(device, key) is None]
    if device.kind == "" and missing:
        raise ConfigError(
            f"{device.where}: needs {', '.join(missing)}"
            + ("" if device.is_cpu else " (or the kind of a known card)")
        )
    return device


def _check_together(devices: tuple[DeviceConfig, ...]) -> None:
    names: dict[str, str] = {}
    for device in devices:
        # Whatever reads a plan may not tell them apart by case.
        other = names.setdefault(device.name.lower(), device.where)
        if other != device.where:
            raise ConfigError(f"{device.where}: another device has that name: {other}")
        if device.memory_gib is not None and device.reserve_gib >= device.memory_gib:
            raise ConfigError(
                f"{device.where}: reserve_gib ({device.reserve_gib:g}) leaves nothing of "
                f"memory_gib ({device.memory_gib:g})"
            )
        if device.name.upper() == "CPU" and not device.is_cpu:
            raise ConfigError(f'{device.where}: CPU is the host\'s name: give type = "cpu"')
        if device.is_cpu and device.backend not in (None, "CPU"):
            raise ConfigError(f"{device.where}: backend: a cpu's is CPU, not {device.backend}")
        if device.backend == "CPU" and not device.is_cpu:
            raise ConfigError(f'{device.where}: backend: CPU is for type = "cpu" alone')
    hosts = [device for device in devices if device.is_cpu]
    if len(hosts) > 1:
        raise ConfigError(
            f"{hosts[1].where}: a machine has one host: {hosts[0].where} is a cpu too (describe "
            "all sockets as one)"
        )
