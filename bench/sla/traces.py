"""Arrivals and lengths: of recorded traces where FMEDGE_BENCH_DATA names their folder, else drawn
from distributions of the same kind. Lengths are scaled down to what a small model on one core
serves in a fair time; the shape of the distribution and of the arrivals stays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fmedge.sim.load import load_workload

DATA = "FMEDGE_BENCH_DATA"
TRACE = "traces/azure_llm_2023_conv.csv"
FIRST = 1000
"""The trace's first minutes are a burst unlike the rest of it."""
DRAWN = "poisson:rate=1,prompt=900/3955,output=150/559"


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
        workload, source = load_workload(str(path), requests=count, skip=FIRST + skip), TRACE
    else:
        workload = load_workload(DRAWN, requests=count, seed=seed + skip)
        source = "synthetic (no recorded trace at hand)"
    return Trace(
        source,
        tuple(
            Item(
                call.at_s,
                min(longest, max(4, round(call.num_prompt * scale))),
                min(longest // 2, max(2, round(call.num_output * scale))),
            )
            for call in workload.calls
        ),
    )
