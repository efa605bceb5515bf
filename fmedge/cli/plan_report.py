"""A plan for people: who holds what, how fast that will be, and why not otherwise; and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from fmedge.cli import EXIT_NO_PLAN, say_error
from fmedge.cli.table import duration, print_table
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.plan import (
    DeviceUse,
    MemoryUse,
    NoPlanError,
    Placed,
    Plan,
    PlannedReplica,
)
from fmedge.sched.provision.words import gib, percent

BAR_WIDTH = 40
_PARTS = (("weights", "█"), ("context", "▓"), ("compute", "▒"))
_FREE = "·"
_MOST_UNUSED = 8
"""Devices that hold nothing are shown up to so many."""

_SHORT_LIST = 4
"""Reasons shown without --explain."""


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan's public form."""
    return {
        "objective": plan.objective,
        "solve_ms": plan.solve_ms,
        "gap": plan.gap,
        "replicas": [
            {
                "model": replica.model,
                "name": replica.name,
                "file": replica.file,
                "placement": [
                    {
                        "device": part.device,
                        "first_layer": part.first_layer,
                        "last_layer": part.last_layer,
                        "tensors": part.tensors,
                        "bytes": part.bytes,
                    }
                    for part in replica.placement
                ],
                "ctx_size": replica.ctx_size,
                "slots": replica.slots,
                "batch": replica.batch,
                "kv_type": replica.kv_type,
                "predicted": {
                    "ttft_ms": replica.predicted.ttft_ms,
                    "tpot_ms": replica.predicted.tpot_ms,
                    "prefill_tok_s": replica.predicted.prefill_tok_s,
                    "decode_tok_s": replica.predicted.decode_tok_s,
                    "total_decode_tok_s": replica.predicted.total_decode_tok_s,
                    "attainment": replica.predicted.attainment,
                },
            }
            for replica in plan.replicas
        ],
        "devices": [
            {
                "name": device.name,
                "capacity_bytes": device.capacity_bytes,
                "used_bytes": device.used_bytes,
                "breakdown": [
                    {
                        "replica": use.replica,
                        "weights": use.memory.weights,
                        "context": use.memory.context,
                        "compute": use.memory.compute,
                        "backend": use.memory.backend,
                    }
                    for use in device.breakdown
                ],
            }
            for device in plan.devices
        ],
        "rejected": [{"what": entry.what, "why": entry.why} for entry in plan.rejected],
        "warnings": list(plan.warnings),
    }


def show(plan: Plan, devices: Sequence[Device], *, is_explained: bool = False) -> None:
    _show_replicas(plan.replicas)
    print()
    kinds = {device.name: device.kind for device in devices}
    _show_devices(plan, kinds)
    reasons = plan.rejected if is_explained else plan.rejected[:_SHORT_LIST]
    if reasons:
        print("\nwhy not otherwise")
        for entry in reasons:
            print(f"  {entry.what}: {entry.why}")
        if len(reasons) < len(plan.rejected):
            print(f"  and {len(plan.rejected) - len(reasons)} more with --explain")
    for warning in plan.warnings:
        print(f"\nwarning: {warning}")
    print(f"\n{_proof(plan)}")


def _show_replicas(replicas: Sequence[PlannedReplica]) -> None:
    has_promise = any(replica.predicted.attainment is not None for replica in replicas)
    header = [
        "REPLICA", "FILE", "CONTEXT", "SLOTS", "KV", "FIRST TOKEN", "PROMPT", "DECODE", "ALL SLOTS",
    ]  # fmt: skip
    rows = []
    for replica in replicas:
        told = replica.predicted
        row = [
            replica.name,
            PurePath(replica.file).name,
            str(replica.ctx_size),
            str(replica.slots),
            replica.kv_type,
            duration(told.ttft_ms),
            speed(told.prefill_tok_s),
            speed(told.decode_tok_s),
            speed(told.total_decode_tok_s),
        ]
        if has_promise:
            row.append("-" if told.attainment is None else percent(told.attainment))
        rows.append(row)
    print_table([*header, "SLA HOLDS"] if has_promise else header, rows)


def _show_devices(plan: Plan, kinds: dict[str, str]) -> None:
    rows: list[tuple[str, str, str]] = []
    by_name = {replica.name: replica for replica in plan.replicas}
    unused = [device.name for device in plan.devices if not device.used_bytes]
    hidden = unused if len(unused) > _MOST_UNUSED else []
    for device in plan.devices:
        if device.name in hidden:
            continue
        name = f"{device.name}  {kinds.get(device.name, '')}".rstrip()
        rows.append((name, _bar(device), _used(device)))
        for use in device.breakdown:
            replica = by_name.get(use.replica)
            held = "" if replica is None else holds(replica, device.name)
            rows.append((f"  {use.replica}", held, _memory(use.memory)))
    width = max(len(row[0]) for row in rows)
    held_width = max(len(row[1]) for row in rows)
    for name, held, used in rows:
        print(f"{name:{width}}  {held:{held_width}}  {used}".rstrip())
    if hidden:
        print(f"{len(hidden)} more devices are unused")
    print(f"{'':{width}}  █ weights  ▓ KV cache  ▒ compute  {_FREE} free")


def holds(replica: PlannedReplica, device: str) -> str:
    """What of a replica lies on a device, such as "layers 0-19" or "layers 20-31, head"."""
    num_layers = replica.ranges[-1].last_layer if replica.ranges else 0
    parts = [_part(p, num_layers) for p in replica.placement if p.device == device]
    return ", ".join(part for part in parts if part)


def _part(placed: Placed, num_layers: int) -> str:
    """num_layers: of the model, which is the head's number too."""
    if placed.tensors == "input":
        return "embedding"
    first, last = placed.first_layer, min(placed.last_layer, num_layers - 1)
    layers = ""
    if first <= last:
        layers = f"layer {first}" if first == last else f"layers {first}-{last}"
    if placed.tensors == "experts":
        return f"experts of {layers}"
    if placed.tensors == "dense":
        layers += " without experts"
    if placed.last_layer < num_layers:
        return layers
    return f"{layers}, head" if layers else "head"


def _bar(device: DeviceUse) -> str:
    """Of the device's memory: each eighth or so of a character goes to whom most of it belongs."""
    if device.capacity_bytes <= 0:
        return "─" * BAR_WIDTH
    text, end = "", 0.0
    for part, character in _PARTS:
        for use in device.breakdown:
            size = getattr(use.memory, part)
            size += use.memory.backend if part == "compute" else 0
            end += size / device.capacity_bytes * BAR_WIDTH
        text += character * (round(end) - len(text))
    if device.used_bytes and not text:
        text = _PARTS[0][1]
    return text[:BAR_WIDTH] + _FREE * (BAR_WIDTH - len(text))


def _used(device: DeviceUse) -> str:
    free = device.capacity_bytes - device.used_bytes
    if not device.used_bytes:
        return f"unused, {gib(device.capacity_bytes)}"
    return f"{gib(device.used_bytes)} of {gib(device.capacity_bytes)}, {gib(free)} free"


def _memory(memory: MemoryUse) -> str:
    parts = (
        ("weights", memory.weights),
        ("KV", memory.context),
        ("compute", memory.compute + memory.backend),
    )
    return "  " + ", ".join(f"{name} {gib(size)}" for name, size in parts if size)


def _proof(plan: Plan) -> str:
    text = f"planned in {duration(plan.solve_ms)}"
    return text if plan.gap < 0.0005 else f"{text}; at most {plan.gap:.1%} from the best split"


def speed(tokens_per_s: float) -> str:
    digits = 0 if tokens_per_s >= 99.5 else 1
    return f"{tokens_per_s:.{digits}f} tok/s"


def refuse(error: NoPlanError, *, is_json: bool) -> int:
    """The error in one line, with the smallest change; and below it what else would help. The exit
    code. is_json: an object on standard output too."""
    if is_json:
        print(json.dumps({"error": str(error), "changes": list(error.changes)}))
    say_error(str(error))
    for change in error.changes[1:]:
        sys.stderr.write(f"  or: {change}\n")
    return EXIT_NO_PLAN
