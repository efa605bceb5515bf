"""The points of an evaluation on disk, for the report: added to as they are found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench.cluster.points import Point
from bench.context import Bench

NAME = "points.jsonl"


def add(bench: Bench, points: Iterable[Point]) -> None:
    with (bench.folder / NAME).open("ab") as file:
        for point in points:
            file.write(msgspec.json.encode(point) + b"\n")


def read(folders: Iterable[Path]) -> list[Point]:
    """A later folder's points of a case replace the earlier ones'."""
    found: dict[tuple[str, str, bool], list[Point]] = {}
    for folder in folders:
        path = folder / NAME
        lines = path.read_bytes().splitlines() if path.exists() else []
        fresh: dict[tuple[str, str, bool], list[Point]] = {}
        for line in lines:
            point = msgspec.json.decode(line, type=Point)
            key = (point.cluster, point.workload, point.is_simulated)
            fresh.setdefault(key, []).append(point)
        found |= fresh
    return [point for points in found.values() for point in points]
