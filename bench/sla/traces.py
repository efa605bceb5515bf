"""Arrivals and lengths: of recorded traces where FMEDGE_BENCH_DATA names their folder, else drawn
from distributions of the same kind. Lengths are scaled down to what a small model on one core
serves in a fair time; the shape of the distribution and of the arrivals stays."""

from __future__ import annotations

import csv
import math
import os
import random
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

DATA = "FMEDGE_BENCH_DATA"
TRACE = "traces/azure_llm_2023_conv.csv"
FIRST = 1000
"""The trace's first minutes are a burst unlike the rest of it."""


@dataclass(frozen=True)
class Item:
    """One request: when it arrives (s from the start), its tokens in and out."""

    at_s: float
    num_prompt_tokens: int
    num_output_tokens: int


@dataclass(frozen=True)
class Trace:
    """`source` says where it is from."""

    source: str
    items: tuple[Item, ...]

    def at_rate(self, per_s: float) -> Trace:
        """The same arrivals, stretched to this mean rate."""
        first = self.items[0].at_s
        span_s = self.items[-1].at_s - first
        factor = len(self.items) / per_s / span_s
        items = tuple(
            Item((item.at_s - first) * factor, item.num_prompt_tokens, item.num_output_tokens)
            for item in self.items
        )
        return Trace(self.source, items)


def load(count: int, *, skip: int = 0, scale: float, longest: int, seed: int = 0) -> Trace:
    """`count` consecutive requests after the first `skip`; tokens times `scale`, at most
    `longest` in and half of that out."""
    folder = os.environ.get(DATA)
    path = Path(folder) / TRACE if folder else None
    if path is not None and path.is_file():
        raw, source = _azure(path, skip, count), TRACE
    else:
        raw, source = _synthetic(count, seed + skip), "synthetic (no recorded trace at hand)"
    return Trace(
        source,
        tuple(
            Item(
                at_s,
                min(longest, max(4, round(num_in * scale))),
                min(longest // 2, max(2, round(num_out * scale))),
            )
            for at_s, num_in, num_out in raw
        ),
    )


def _azure(path: Path, skip: int, count: int) -> list[tuple[float, int, int]]:
    found: list[tuple[float, int, int]] = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number < FIRST + skip:
                continue
            if len(found) == count:
                break
            at_s = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
            found.append((at_s, int(row["ContextTokens"]), int(row["GeneratedTokens"])))
    if len(found) < count:
        raise ValueError(f"{path}: has no {count} requests after the first {FIRST + skip}")
    return found


def _synthetic(count: int, seed: int) -> list[tuple[float, int, int]]:
    """Poisson arrivals, log-normal lengths."""
    rng = random.Random(seed)
    at_s = 0.0
    found = []
    for _ in range(count):
        at_s += rng.expovariate(1.0)
        num_in = round(rng.lognormvariate(math.log(900), 0.9))
        num_out = round(rng.lognormvariate(math.log(150), 0.8))
        found.append((at_s, num_in, num_out))
    return found
