"""What this machine is: the fingerprint that profiles are kept under, and how fast its parts are
where nothing has been measured on them yet."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from fmedge.sched.profile import Hardware
from fmedge.sched.roofline import DeviceSpeed
from fmedge.types import DeviceInfo, DeviceMemory

# Memory bandwidth in GB/s and dense FP16 tensor TFLOP/s, by the makers' data sheets. The first
# match counts.
_GPUS: tuple[tuple[str, float, float], ...] = (
    (r"\bb200\b", 8000, 2250), (r"\bh200\b", 4800, 989), (r"\bh100.*pcie", 2000, 756),
    (r"\bh100\b", 3350, 989), (r"\ba100.*80", 2039, 312), (r"\ba100\b", 1555, 312),
    (r"\bl40s\b", 864, 362), (r"\bl40\b", 864, 181), (r"\bl4\b", 300, 121),
    (r"\ba10g?\b", 600, 125), (r"\bt4\b", 320, 65), (r"\bv100\b", 900, 125),
    (r"rtx 6000 ada", 960, 364), (r"rtx a6000", 768, 155), (r"rtx a4000", 448, 77),
    (r"rtx 5090", 1792, 419), (r"rtx 5080", 960, 225), (r"rtx 4090", 1008, 330),
    (r"rtx 4080", 717, 195), (r"rtx 4070 ti", 504, 160), (r"rtx 4070", 504, 117),
    (r"rtx 4060", 272, 60), (r"rtx 3090", 936, 142), (r"rtx 3080 ti", 912, 136),
    (r"rtx 3080", 760, 119), (r"rtx 3070", 448, 81), (r"rtx 3060", 360, 51),
    (r"mi300x", 5300, 1307), (r"mi250", 3277, 362), (r"rx 7900 xtx", 960, 123),
    (r"rx 7900 xt\b", 800, 103),
)  # fmt: skip
_UNKNOWN_GPU = (400.0, 60.0)
_UNKNOWN_IGPU = (60.0, 4.0)

_COPY_BYTES = 64 << 20  # more than caches hold
_WINDOW = 1 << 16  # numbers copied in one try
_MATRIX_SIZE = 64  # small enough for numpy to stay in one thread
_PRODUCTS = 50  # in one try
_TRIES = 40
_BANDWIDTH_THREADS = 4
"""So many threads take all that most memories give."""


def hardware(devices: Sequence[DeviceInfo], root: Path = Path("/")) -> Hardware:
    """The fingerprint of this machine, as far as this process may use it.

    devices: ggml's. root: where `proc` and `sys` lie.
    """
    from fmedge._native.threads import cgroup_cpu_quota, default_threads

    cpu, flags = _cpu(root)
    return Hardware(
        cpu=cpu,
        cpu_flags=hashlib.sha256(" ".join(sorted(flags)).encode()).hexdigest()[:16],
        num_cores=default_threads(root),
        num_cpus=len(os.sched_getaffinity(0)),
        cpu_quota=cgroup_cpu_quota(root),
        devices=tuple(
            f"{device.name}: {device.description}, {device.memory_total >> 20} MiB"
            for device in devices
            if device.kind != "cpu"
        ),
    )


def _cpu(root: Path) -> tuple[str, list[str]]:
    """Model name and flags of the first CPU; ARM kernels have other names for them."""
    fields: dict[str, str] = {}
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return "unknown", []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    parts = ("CPU implementer", "CPU part", "CPU variant")
    name = fields.get("model name") or " ".join(fields[p] for p in parts if p in fields)
    return name or "unknown", (fields.get("flags") or fields.get("Features") or "").split()


def device_speeds(
    memory: Sequence[DeviceMemory], devices: Sequence[DeviceInfo], threads: int
) -> list[DeviceSpeed]:
    """The speed of each device that holds weights, with its share of them. GPUs are looked up by
    name; the CPU is probed, which takes some 50 ms."""
    held = {row.device: row.weights for row in memory if row.weights > 0} or {"CPU": 1}
    total = sum(held.values())
    by_name = {device.name: device for device in devices}
    speeds = []
    for name, weights in held.items():
        device = by_name.get(name)
        if device is None or device.kind == "cpu":
            bandwidth, tflops = _probe_cpu(threads)
        else:
            bandwidth, tflops = gpu_speed(device)
        speeds.append(DeviceSpeed(bandwidth_gb_s=bandwidth, tflop_s=tflops, share=weights / total))
    return speeds


def gpu_speed(device: DeviceInfo) -> tuple[float, float]:
    """GB/s and TFLOP/s by the device's name; a modest guess for one that is not known."""
    text = device.description.lower()
    for pattern, bandwidth, tflops in _GPUS:
        if re.search(pattern, text):
            return bandwidth, tflops
    return _UNKNOWN_IGPU if device.kind == "igpu" else _UNKNOWN_GPU


def _probe_cpu(threads: int) -> tuple[float, float]:
    """What `threads` threads read (GB/s) and multiply (TFLOP/s, float32), from one thread's best.

    The best of many short tries is what the machine can do, also where other programs run on it.
    """
    import numpy as np

    source = np.ones(_COPY_BYTES // 8)
    target = np.empty_like(source)
    windows = [slice(i, i + _WINDOW) for i in range(0, len(source), _WINDOW)]

    def copy(window: slice) -> float:
        start_s = perf_counter()
        target[window] = source[window]
        return perf_counter() - start_s

    left = np.ones((_MATRIX_SIZE, _MATRIX_SIZE), dtype=np.float32)
    out = np.empty_like(left)

    def multiply() -> float:
        start_s = perf_counter()
        for _ in range(_PRODUCTS):
            np.dot(left, left, out=out)
        return perf_counter() - start_s

    for window in windows:
        copy(window)  # the pages come in
    copy_s = max(min(copy(window) for window in windows), 1e-9)
    product_s = max(min(multiply() for _ in range(_TRIES)), 1e-9)
    count = max(1, threads)
    bandwidth = min(count, _BANDWIDTH_THREADS) * 2 * 8 * _WINDOW / copy_s / 1e9
    return bandwidth, count * _PRODUCTS * 2 * _MATRIX_SIZE**3 / product_s / 1e12
