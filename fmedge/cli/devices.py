"""`fmedge devices`: what models can run on here, with how much memory and how fast."""

from __future__ import annotations

import argparse
import sys
import time
from math import isfinite
from typing import TYPE_CHECKING, Any

from fmedge.cli.options import add_config_file, read_config
from fmedge.cli.table import duration, print_table

if TYPE_CHECKING:
    from fmedge.server.device_figures import DeviceReport
    from fmedge.server.devices import Survey
    from fmedge.server.host import HostFacts

GIB = 1 << 30
_SOURCES = {
    "measured": "measured", "catalogue": "catalogue", "file": "device file", "guess": "guessed",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--refresh", action="store_true", help="measure again instead of taking what is cached"
    )
    parser.add_argument(
        "--devices", metavar="FILE", help="device file to show instead of what is here"
    )
    add_config_file(parser)


def run(args: argparse.Namespace) -> int:
    config = read_config(args)
    import asyncio

    from fmedge.config import state_dir
    from fmedge.server.devices import survey

    folder = state_dir(config.server.state_dir)
    found = asyncio.run(survey(args.devices or "", config.rpc, folder=folder, refresh=args.refresh))
    if args.json:
        import msgspec

        print(msgspec.json.encode(as_json(found)).decode())
    else:
        show(found, time.time())
    for problem in found.problems:
        sys.stderr.write(f"fmedge: warning: {problem}\n")
    return 0


def as_json(found: Survey) -> dict[str, Any]:
    """bandwidth_gb_s and link_gb_s: 1e9 bytes/s; fp16_tflop_s: 1e12 flops/s; link null: none."""
    return {"devices": [_row(report) for report in found.devices], "problems": found.problems}


def _row(report: DeviceReport) -> dict[str, Any]:
    device = report.device
    row = {
        "name": device.name,
        "type": device.type,
        "kind": device.kind,
        "backend": device.backend,
        "endpoint": device.endpoint,
        "memory_total_bytes": report.memory_total,
        "memory_free_bytes": report.memory_free,
        "reserve_bytes": device.reserve_bytes,
        "backend_bytes": device.backend_bytes,
        "bandwidth_gb_s": _round(device.bandwidth_gb_s),
        "fp16_tflop_s": _round(device.tflop_s),
        "link_gb_s": _round(device.link_gb_s) if isfinite(device.link_gb_s) else None,
        "link_us": _round(device.link_s * 1e6),
        "source": device.source,
        "measured_s": report.measured_s or None,
        "speeds": {
            speed.quant: {
                "bandwidth_gb_s": _round(speed.bandwidth_gb_s), "tflop_s": _round(speed.tflop_s),
            }
            for speed in device.speeds
        },
    }  # fmt: skip
    if device.num_cores:
        row["cores"] = device.num_cores
    if report.host is not None:
        row["host"] = report.host
    return row


def _round(value: float) -> float:
    """To four digits: no measurement has more."""
    return float(f"{value:.4g}")


def show(found: Survey, now_s: float) -> None:
    """A table, and the host in words. now_s: by the wall clock."""
    rows = []
    for report in found.devices:
        device = report.device
        source = _SOURCES[device.source]
        if device.source == "measured" and report.measured_s:
            source += f" {_ago(now_s - report.measured_s)}"
        rows.append(
            [
                device.name,
                device.type,
                device.kind or device.endpoint or "-",
                f"{report.memory_total / GIB:.1f} GiB",
                f"{report.memory_free / GIB:.1f} GiB",
                f"{device.bandwidth_gb_s:.4g} GB/s",
                f"{device.tflop_s:.3g} TFLOP/s",
                f"{device.link_gb_s:.3g} GB/s" if isfinite(device.link_gb_s) else "-",
                source,
            ]
        )
    header = ["NAME", "TYPE", "KIND", "MEMORY", "FREE", "BANDWIDTH", "COMPUTE", "LINK", "FIGURES"]
    print_table(header, rows)
    for report in found.devices:
        if report.host is not None:
            print()
            for line in _host_lines(report.device.name, report.host):
                print(line)


def _host_lines(name: str, host: HostFacts) -> list[str]:
    text = f"{name}: {_count(host.num_cores, 'core')} ({_count(host.num_cpus, 'CPU')}"
    if host.num_cpus != host.num_cpus_there:
        text += f" of {host.num_cpus_there} allowed"
    text += f"), models take {_count(host.num_threads, 'thread')}"
    limits = []
    if host.cpu_quota is not None:
        limits.append(f"{host.cpu_quota:g} CPUs' time")
    if host.memory_limit is not None:
        limits.append(f"{host.memory_limit / GIB:.1f} GiB")
    if limits:
        text += f"; the cgroup allows {' and '.join(limits)}"
    lines = [text]
    if len(host.nodes) > 1:
        lines += [
            f"  NUMA node {node.number}: {_count(node.num_cores, 'core')}, "
            f"{node.memory_free / GIB:.1f} of {node.memory_total / GIB:.1f} GiB free"
            + ("" if node.has_memory else ", not ours to take")
            for node in host.nodes
        ]
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _ago(seconds: float) -> str:
    if seconds < 60:
        return "just now"
    if seconds < 2 * 86_400:
        return f"{duration(seconds * 1e3)} ago"
    return f"{seconds / 86_400:.0f} days ago"
