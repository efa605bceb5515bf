"""GPUs that the system has, their drivers, and whether llama.cpp was built for them.

The rule: what the system says is read from files; only `native` opens a device, elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from fmedge._native.pin import rebuild_command
from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.cli.checks.native import Build

_DISPLAY = ("0x0300", "0x0302", "0x0380", "0x1200")
"""PCI classes: VGA, 3D and other display controllers, processing accelerators."""


class Vendor(Struct, frozen=True):
    """backends: llama.cpp's for its GPUs, the best first, with CMake's option for each. drivers:
    the kernel's that can compute. nodes: what programs open, as patterns below /dev."""

    name: str
    backends: dict[str, str]
    drivers: tuple[str, ...]
    nodes: tuple[str, ...]
    driver_advice: str


_VENDORS = {
    "0x10de": Vendor(
        "NVIDIA", {"cuda": "GGML_CUDA", "vulkan": "GGML_VULKAN"}, ("nvidia",),
        ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm"),
        "install NVIDIA's driver (Debian: apt install nvidia-driver), then restart",
    ),
    "0x1002": Vendor(
        "AMD", {"hip": "GGML_HIP", "vulkan": "GGML_VULKAN"}, ("amdgpu",),
        ("kfd", "dri/renderD*"), "load the kernel's driver: modprobe amdgpu",
    ),
    "0x8086": Vendor(
        "Intel", {"vulkan": "GGML_VULKAN", "sycl": "GGML_SYCL"}, ("i915", "xe"),
        ("dri/renderD*",), "load the kernel's driver: modprobe xe (older: i915)",
    ),
}  # fmt: skip


class Card(Struct, frozen=True):
    """A GPU on the bus. address: such as 0000:01:00.0. driver: the kernel's, "" for none."""

    address: str
    vendor: str
    device: str
    driver: str


def cards(root: Path = Path("/")) -> list[Card]:
    """Of the vendors that llama.cpp has backends for. root: where `sys` lies."""
    found = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor = _read(folder / "vendor")
        if vendor in _VENDORS and _read(folder / "class")[:6] in _DISPLAY:
            driver = folder / "driver"
            name = os.path.basename(os.readlink(driver)) if driver.is_symlink() else ""
            found.append(Card(folder.name, vendor, _read(folder / "device"), name))
    return found


def check_gpus(build: Build, *, is_bundled: bool, root: Path = Path("/")) -> Iterator[Finding]:
    """is_bundled: llama.cpp is part of one file with fmedge."""
    found = cards(root)
    usable = [info for info in build.devices if info.kind in ("gpu", "igpu")]
    for info in usable:
        text = f"{info.name}: {info.description}, {info.memory_total / (1 << 30):.1f} GiB"
        yield ok("gpu", f"{text}, by {info.backend}")
    for key, vendor in _VENDORS.items():
        own = [card for card in found if card.vendor == key]
        if own:
            yield from _check_vendor(vendor, own, build, is_bundled=is_bundled, root=root)
    built = build.backends & {backend for v in _VENDORS.values() for backend in v.backends}
    if not found and not usable:
        if (root / "dev/dxg").exists():  # Windows' subsystem for Linux has no GPUs on the bus
            yield _of_windows(build)
        elif built:
            yield warning(
                "gpu", f"llama.cpp was built for {', '.join(sorted(built))}, but no GPU is here",
                "in a container or a virtual machine: hand the GPU in (docker run --gpus all, or "
                "--device /dev/kfd --device /dev/dri)",
            )  # fmt: skip
        else:
            yield ok("gpu", "none here: models run on the processor")


def _of_windows(build: Build) -> Finding:
    if "cuda" in build.backends:
        return warning(
            "gpu", "Windows offers a GPU, which llama.cpp's CUDA backend does not find",
            "update NVIDIA's driver in Windows; nothing is to be installed here",
        )  # fmt: skip
    return warning(
        "gpu", "Windows offers a GPU (/dev/dxg), but llama.cpp was built without CUDA",
        f"if it is NVIDIA's: {rebuild_command('GGML_CUDA')}",
    )  # fmt: skip


def _check_vendor(
    vendor: Vendor, own: list[Card], build: Build, *, is_bundled: bool, root: Path
) -> Iterator[Finding]:
    check = f"gpu {vendor.name}"
    names = f"{len(own)} {vendor.name} GPU{'s' if len(own) > 1 else ''}"
    names += f" ({', '.join(_model(card, root) for card in own)})"
    idle = [card for card in own if card.driver not in vendor.drivers]
    if len(idle) == len(own):
        by = idle[0].driver
        held = f"held by the driver {by}, which cannot compute" if by else "without a driver"
        if by == "vfio-pci":
            yield ok(check, f"{names}, handed to a virtual machine")
        else:
            yield warning(check, f"{names}, {held}", vendor.driver_advice)
        return
    version = _driver_version(own[0].driver, root)
    text = f"{names}, driver {version or own[0].driver}"
    backends = [backend for backend in vendor.backends if backend in build.backends]
    if not backends:
        option = next(iter(vendor.backends.values()))
        how = (
            "this single file computes on the processor alone: install fmedge with pip, and then: "
            if is_bundled
            else ""
        )
        wanted = next(iter(vendor.backends)).upper()
        yield warning(
            check, f"{text}, but llama.cpp was built without {wanted}",
            how + rebuild_command(option),
        )  # fmt: skip
        return
    nodes = [node for node in vendor.nodes if node != "kfd" or "hip" in backends]
    closed = _closed_nodes(nodes, root)
    if closed:
        yield error(check, f"{text}: {closed[0]}", closed[1])
    elif not build.problem and not any(_is_of(i.backend, backends) for i in build.devices):
        yield error(
            check, f"{text}, and llama.cpp has {', '.join(backends)}, but finds no device",
            "the driver and the library do not fit: see nvidia-smi, rocminfo or vulkaninfo, and "
            "CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES in the environment",
        )  # fmt: skip
    else:
        yield ok(check, f"{text}, used through {', '.join(backends)}")


def _is_of(backend: str, names: list[str]) -> bool:
    """ggml calls its HIP backend ROCm."""
    own = {"rocm": "hip"}.get(backend.lower(), backend.lower())
    return own in names


def _closed_nodes(patterns: list[str], root: Path) -> tuple[str, str] | None:
    """What is wrong with the files that programs open, and what to do; None for nothing."""
    for pattern in patterns:
        nodes = sorted((root / "dev").glob(pattern))
        if not nodes:
            return (
                f"there is no /dev/{pattern}",
                "in a container: hand it in (docker run --gpus all, or --device /dev/kfd --device "
                "/dev/dri); else load the driver, for NVIDIA's: nvidia-modprobe -c0 -u",
            )
        if not any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
            group = _group_of(nodes[0])
            return (
                f"/dev/{nodes[0].relative_to(root / 'dev')} cannot be opened by this user",
                f"add the user to the group {group} and log in anew: usermod -aG {group} USER "
                "(a systemd unit: SupplementaryGroups=)",
            )
    return None


def _group_of(node: Path) -> str:
    import grp

    number = node.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _model(card: Card, root: Path) -> str:
    text = _read(root / "proc/driver/nvidia/gpus" / card.address / "information")
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Model":
            return value.strip()
    return f"{card.device} at {card.address}"


def _driver_version(driver: str, root: Path) -> str:
    """Such as "nvidia 550.54"; "" where the driver is the kernel's own."""
    text = _read(root / "sys/module" / driver.replace("-", "_") / "version")
    return f"{driver} {text}" if text else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
