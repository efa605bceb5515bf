"""How well the estimates hold on engines that are not fmedge's own.

FMEDGE_BENCH_DATA names a folder with hardware/ENGINE/ for each engine; its limits are engine.toml
there or bench/foreign/engines/ENGINE.toml.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from bench.context import Bench, Outcome, Skipped
from bench.foreign.engine import read_limits
from bench.foreign.profile import ProfileError
from bench.foreign.report import evaluate

ROW = "foreign"
FILES = ("dense.csv", "attention.csv", "per_sequence.csv", "requests.jsonl")
LARGEST_ERROR = 0.05
JUDGED = ("TTFT", "end to end")


async def run(bench: Bench) -> list[Outcome | Skipped]:
    """Every engine below FMEDGE_BENCH_DATA/hardware that has all the files."""
    data = os.environ.get("FMEDGE_BENCH_DATA")
    if not data:
        return [Skipped(ROW, "FMEDGE_BENCH_DATA is not set")]
    folders = _engines(Path(data, "hardware"))
    if not folders:
        return [Skipped(ROW, f"no folder below {data}/hardware has {', '.join(FILES)}")]
    found: list[Outcome | Skipped] = []
    for folder in folders:
        found += _one(bench, folder)
    return found


def _one(bench: Bench, folder: Path) -> list[Outcome | Skipped]:
    row = f"{ROW}: {folder.name}"
    try:
        report = evaluate(folder, read_limits(stored_limits(folder), folder))
    except ProfileError as error:
        return [Skipped(row, f"failed: {error}")]
    bench.say(report.text())
    detail = msgspec.to_builtins(report)
    return [
        Outcome(row, f"{name}, median error", 100 * report.error(name).median, "%",
                100 * LARGEST_ERROR, False, detail=detail)
        for name in JUDGED
    ]  # fmt: skip


def _engines(hardware: Path) -> list[Path]:
    folders = sorted(path for path in hardware.glob("*") if path.is_dir())
    return [folder for folder in folders if all((folder / name).exists() for name in FILES)]


def stored_limits(folder: Path) -> Path:
    """The file beside the data, else the one kept here (which may be absent)."""
    own = folder / "engine.toml"
    return own if own.exists() else Path(__file__).parent / "engines" / f"{folder.name}.toml"
