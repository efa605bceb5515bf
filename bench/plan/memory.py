"""What a plan says that a replica takes of each device, beside what llama.cpp then reports.

Every case is a real load: on the CPU, and over two or three device servers on loopback, of ten
architectures (dense, sliding, latent, recurrent, hybrid, experts), KV types, contexts, slots and
layouts. The weights are holes in the files: what they compute is nothing, what they take is real.
Compared are weights, context and compute buffers on each device and in total.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.context import Bench, Outcome, Skipped
from fmedge._native.engine import Engine
from fmedge._native.gguf import read_header
from fmedge.replica.sizing import Sizer
from fmedge.sched.provision.apply import engine_of
from fmedge.sched.provision.device import HOST, Device
from fmedge.sched.provision.memory import exact_memory, replica_memory
from fmedge.sched.provision.plan import MemoryUse, Range
from fmedge.sched.provision.shapes import shape_of
from fmedge.types import DeviceMemory, EngineSettings
from tests import shapes
from tests.device_servers import device_servers

ROW = "plan-memory"
MOST_OVER = 2.0
MIN_LOADS = 30
SERVERS = ((1, 2.0), (1, 1.0), (1, 1.0))
"""Threads and memory in GiB of the device servers."""

NUM_LAYERS = 8
HOST_DEVICE = Device(name=HOST, type="cpu", memory_bytes=1 << 40, bandwidth_gb_s=10.0, tflop_s=0.5)


@dataclass(frozen=True)
class Case:
    """layers: of the host, then of each device server, the head counted."""

    architecture: str
    layers: tuple[int, ...]
    quant: str = "q8_0"
    engine: dict[str, Any] = field(default_factory=dict)
    num_host_experts: int = 0

    @property
    def name(self) -> str:
        how = ", ".join(f"{key}={value}" for key, value in self.engine.items())
        apart = f", experts of {self.num_host_experts} on the host" if self.num_host_experts else ""
        return f"{self.architecture} {self.quant} {self.layers}{apart}{', ' if how else ''}{how}"


@dataclass(frozen=True)
class Found:
    """Percent by which the exact prediction, and the one by roles, exceed what was reported: the
    least and the most over devices, and the total's."""

    name: str
    least: float
    most: float
    total: float
    role_least: float
    role_total: float


ALL = NUM_LAYERS + 1
CASES = (
    *(Case(name, (ALL,)) for name in shapes.ARCHITECTURES),
    Case("llama", (ALL,), "f16", {"slots": 1, "ctx_size": 16384}),
    Case("llama", (ALL,), "q4_0", {"type_k": "q8_0", "type_v": "q8_0"}),
    Case("llama", (ALL,), "q8_0", {"flash_attn": "off", "slots": 2}),
    Case("llama", (ALL,), "q8_0", {"kv_unified": True, "kv_tokens": 5000}),
    Case("llama", (ALL,), "q8_0", {"ubatch_size": 128, "batch_size": 256, "ctx_size": 1000}),
    Case("gemma3", (ALL,), "q8_0", {"kv_unified": True, "slots": 6}),
    Case("mamba", (ALL,), "q8_0", {"slots": 16}),
    Case("deepseek2", (ALL,), "q8_0", {"type_k": "q8_0", "type_v": "q8_0", "slots": 1}),
    *(Case(name, (0, 5, 4)) for name in ("llama", "qwen3moe", "gemma3", "gpt-oss", "jamba")),
    Case("llama", (0, ALL)),
    Case("llama", (0, 3, 3, 3), "q4_0", {"type_k": "q8_0", "type_v": "q8_0"}),
    Case("llama", (2, 4, 3)),
    Case("llama", (3, 6), "f16", {"kv_unified": True}),
    Case("llama", (0, 6, 3), "q8_0", {"flash_attn": "off"}),
    Case("llama", (0, 5, 4), "q8_0", {"offload_kqv": False}),
    Case("qwen3moe", (1, 4, 2, 2)),
    Case("qwen3moe", (0, 5, 4), "q4_0", num_host_experts=2),
    Case("qwen3moe", (0, ALL), "q8_0", num_host_experts=8),
    Case("deepseek2", (0, 3, 3, 3)),
    Case("mamba", (0, 4, 5), "q8_0", {"slots": 8}),
    Case("falcon-h1", (2, 3, 4)),
    Case("lfm2", (0, 4, 2, 3)),
    Case("qwen3next", (0, 4, 5), "q8_0", {"kv_unified": True}),
    Case("gpt-oss", (0, 1, 7, 1), "mxfp4"),
    Case("qwen3moe", (2, 4, 3), "q8_0", {"mmap": True}),
    Case("qwen3moe", (0, 5, 4), "q8_0", {"mmap": True}, num_host_experts=2),
    Case("llama", (ALL,), "q4_0", {"mmap": True}),
)


async def run(bench: Bench) -> list[Outcome | Skipped]:
    with (
        tempfile.TemporaryDirectory(dir=bench.folder) as folder,
        device_servers(*SERVERS) as servers,
    ):
        async with Sizer() as sizer:
            devices = {HOST: HOST_DEVICE}
            for i, server in enumerate(servers):
                devices[f"server{i}"] = _server_device(f"server{i}", server.endpoint)
            found = [await measure(case, Path(folder), devices, sizer) for case in CASES]
    for one in found:
        bench.say(
            f"  {one.name}: {one.least:+.3f} to {one.most:+.3f} % on a device, {one.total:+.3f} % "
            f"in all; by roles {one.role_total:+.1f} %"
        )
    totals = [one.total for one in found]
    detail = {
        "loads": len(found),
        "most_on_a_device": max(one.most for one in found),
        "by_roles_least_on_a_device": min(one.role_least for one in found),
        "by_roles_total": max(one.role_total for one in found),
    }
    return [
        Outcome(ROW, "loads", len(found), "", MIN_LOADS, True),
        Outcome(ROW, "worst over", max(totals), "%", MOST_OVER, False, tuple(totals), detail),
        Outcome(ROW, "worst under", max(0.0, -min(one.least for one in found)), "%", 0.0, False),
        Outcome(
            ROW, "worst under by roles", max(0.0, -detail["by_roles_least_on_a_device"]), "%",
            0.0, False,
        ),
    ]  # fmt: skip


def _server_device(name: str, endpoint: str) -> Device:
    return Device(
        name=name, type="rpc", memory_bytes=1 << 30, bandwidth_gb_s=10.0, tflop_s=0.5,
        endpoint=endpoint, backend="RPC",
    )  # fmt: skip


async def measure(case: Case, folder: Path, devices: dict[str, Device], sizer: Sizer) -> Found:
    path = folder / f"{case.architecture}-{case.quant}.gguf"
    if not path.exists():
        shapes.write_shape(path, case.architecture, num_layers=NUM_LAYERS, quant=case.quant)
    shape = shape_of([read_header(path)], case.architecture)
    ranges = _ranges(case, devices)
    defaults: dict[str, Any] = {"ctx_size": 4096, "slots": 3, "threads": 1, "mmap": False}
    base = EngineSettings(model_path=str(path), **{**defaults, **case.engine})
    engine = engine_of(ranges, shape, devices, base)
    others = [devices[part.device] for part in ranges if part.device != HOST]
    rows = await sizer.size(str(path), engine, others)
    exact = exact_memory(shape, engine, ranges, devices, rows)
    sizing = await sizer.sizing(shape, base, others)
    by_roles = replica_memory(shape, engine, ranges, devices, sizing)
    real = await asyncio.to_thread(_load, engine, [device.name for device in others])
    least, most, total = _compare(exact, real)
    role_least, _, role_total = _compare(by_roles, real)
    return Found(case.name, least, most, total, role_least, role_total)


def _ranges(case: Case, devices: dict[str, Device]) -> tuple[Range, ...]:
    ranges, first = [], 0
    for name, count in zip(devices, case.layers, strict=False):
        if count:
            ranges.append(
                Range(
                    device=name,
                    first_layer=first,
                    last_layer=first + count - 1,
                    num_host_experts=case.num_host_experts if name != HOST else 0,
                )
            )
        first += count
    return tuple(ranges)


def _load(engine: EngineSettings, names: list[str]) -> dict[str, DeviceMemory]:
    """What llama.cpp reports, by the plan's names of devices."""
    loaded = Engine.load(engine)
    try:
        own = dict(zip(engine.devices or (), names, strict=True))
        return {own.get(row.device, row.device): row for row in loaded.info.memory}
    finally:
        loaded.close()


def _compare(
    uses: tuple[MemoryUse, ...], real: dict[str, DeviceMemory]
) -> tuple[float, float, float]:
    """Percent over what was reported: the least and the most of a device, and in all."""
    overs, planned_sum, held_sum = [], 0, 0
    for name in {use.device for use in uses} | set(real):
        planned = sum(use.total - use.backend for use in uses if use.device == name)
        held = 0
        if name in real:
            held = real[name].weights + real[name].context + real[name].compute
        planned_sum += planned
        held_sum += held
        if planned or held:
            overs.append(100.0 * (planned - held) / max(held, 1))
    return min(overs), max(overs), 100.0 * (planned_sum - held_sum) / held_sum
