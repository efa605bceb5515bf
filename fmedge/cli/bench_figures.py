"""Runs as pictures, by matplotlib: the same for a page and for an image."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fmedge.sim.outcome import Row, has_promise, is_held
from fmedge.sim.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_PARTS = 24
"""Of a run's time, for what is shown over it."""
MAX_POINTS = 400
"""Of a curve: more are not seen."""


def figure(runs: Sequence[Run], labels: Sequence[str]) -> Figure:
    """Four drawings: how TTFT and end to end are distributed, promises kept over the run, and
    goodput against the rate of arrivals; a colour for each run, or for each label of several."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    made = Figure(figsize=(11, 8), layout="constrained")
    (ttft, e2e), (kept, goodput) = made.subplots(2, 2)
    names = list(dict.fromkeys(labels))
    colours = {name: f"C{n % 10}" for n, name in enumerate(names)}
    curves = [(run, label) for run, label in zip(runs, labels, strict=True) if run.rows]
    _distribution(ttft, curves, colours, lambda row: row.ttft_s, "TTFT")
    _distribution(e2e, curves, colours, lambda row: row.e2e_s, "end to end")
    _over_time(kept, curves, colours)
    _against_rate(goodput, curves, colours)
    handles = [mpl.lines.Line2D([], [], color=colours[name]) for name in names]
    made.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)), frameon=False)
    return made


def svg(made: Figure) -> str:
    """The <svg> element alone, the same for the same runs."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "fmedge", "svg.fonttype": "none"}):
        buffer = io.StringIO()
        made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


Curves = Sequence[tuple[Run, str]]
Colours = dict[str, str]


def _distribution(
    axes: Any, curves: Curves, colours: Colours, of: Callable[[Row], float], title: str
) -> None:
    for run, label in curves:
        values = np.sort([of(row) for row in run.rows if row.status == "ok"])
        if not len(values):
            continue
        places = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS), dtype=int))
        axes.plot(
            np.maximum(values[places], 1e-6), 100 * (places + 1) / len(values),
            color=colours[label], alpha=0.8,
        )  # fmt: skip
    axes.set(xlabel="s", ylabel="% of answered calls", title=title, xscale="log", ylim=(0, 101))
    axes.grid(alpha=0.3)


def _over_time(axes: Any, curves: Curves, colours: Colours) -> None:
    """Of the calls that arrived in each part of the time: the share that kept their promise, or
    were answered where nothing is promised."""
    is_promised = any(has_promise(call) for run, _ in curves for call in run.workload.calls)
    for run, label in curves:
        points = [
            (row.at_s, is_held(run.workload.calls[row.call], row))
            for row in run.rows
            if row.status != "unsent" and (has_promise(run.workload.calls[row.call]) or
                                           not is_promised)
        ]  # fmt: skip
        if not points:
            continue
        at_s, held = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        edges = np.linspace(0, at_s.max() + 1e-9, NUM_PARTS + 1)
        part = np.clip(np.digitize(at_s, edges) - 1, 0, NUM_PARTS - 1)
        counts = np.bincount(part, minlength=NUM_PARTS)
        sums = np.bincount(part, weights=held, minlength=NUM_PARTS)
        there = counts > 0
        middles = (edges[:-1] + edges[1:]) / 2
        axes.plot(middles[there], 100 * sums[there] / counts[there], ".-", color=colours[label],
                  alpha=0.8)  # fmt: skip
    title = "Promises of calls kept" if is_promised else "Calls answered"
    axes.set(xlabel="arrival, s", ylabel="%", title=title, ylim=(0, 103))
    axes.grid(alpha=0.3)


def _against_rate(axes: Any, curves: Curves, colours: Colours) -> None:
    by_label: dict[str, list[tuple[float, float]]] = {}
    for run, label in curves:
        summary = run.summary
        if summary.arrival_s > 0:
            rate = (summary.num_promises or summary.num_calls) / summary.arrival_s
            by_label.setdefault(label, []).append((rate, summary.goodput_per_s))
    most = 0.0
    for label, points in by_label.items():
        rates, goods = zip(*sorted(points), strict=True)
        axes.plot(rates, goods, "o-", color=colours[label], alpha=0.8)
        most = max(most, *rates)
    axes.plot((0, most), (0, most), ":", color="grey")
    axes.set(xlabel="promises asked for, 1/s", ylabel="held, 1/s", title="Goodput against rate")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
