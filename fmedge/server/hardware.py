"""What this machine is: the fingerprint that profiles are kept under, and how fast its parts are
where nothing has been measured on them yet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal

from fmedge.sched.profile import Hardware
from fmedge.sched.provision import catalogue
from fmedge.sched.provision.device import HOST, Device
from fmedge.types import DeviceInfo

# Of what is not in the catalogue: GB/s and TFLOP/s.
_GUESSES = {"gpu": (400.0, 60.0), "igpu": (60.0, 4.0), "rpc": (20.0, 0.1)}

_LINK_GB_S = 12.0

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
    from fmedge._native.cpu import identify
    from fmedge._native.threads import cgroup_cpu_quota, default_threads

    cpu, flags = identify(root)
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


def prior_devices(
    names: Iterable[str], devices: Sequence[DeviceInfo], threads: int
) -> dict[str, Device]:
    """What is known of the devices of these names without measuring them, by name: GPUs by the
    catalogue, the CPU by a quick probe."""
    infos = {info.name: info for info in devices}
    found: dict[str, Device] = {}
    for name in names:
        if name not in found:
            info = infos.get(name)
            is_cpu = name == HOST or info is None or info.kind == "cpu"
            found[name] = _host(name, threads) if is_cpu or info is None else _catalogued(info)
    return found


def _host(name: str, threads: int) -> Device:
    bandwidth_gb_s, tflop_s = _probe_cpu(threads)
    return Device(
        name=name,
        type="cpu",
        memory_bytes=0,
        bandwidth_gb_s=bandwidth_gb_s,
        tflop_s=tflop_s,
        source="measured",
    )


def _catalogued(info: DeviceInfo) -> Device:
    """A GPU by its name; a modest guess for one that is not known."""
    card = catalogue.find(info.description)
    kind: Literal["rpc", "igpu", "gpu"] = "igpu" if info.kind == "igpu" else "gpu"
    if info.backend == "RPC":
        kind = "rpc"
    bandwidth_gb_s, tflop_s = _GUESSES[kind]
    return Device(
        name=info.name,
        type=kind,
        kind=info.description if card else "",
        memory_bytes=info.memory_total,
        bandwidth_gb_s=card.bandwidth_gb_s if card else bandwidth_gb_s,
        tflop_s=card.fp16_tflop_s if card else tflop_s,
        link_gb_s=card.link_gb_s if card else _LINK_GB_S,
        source="catalogue" if card else "guess",
    )


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
