"""Figures of an evaluation: each answers one question and can be read without the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cluster.points import ATTAINED, Point, by_system

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    "fmedge": "#0b6e4f",
    "oracle": "#7a7a7a",
    "ray, tuned": "#c8553d",
    "ray, tuned-haproxy": "#e7a977",
    "round_robin": "#8d6a9f",
    "least_outstanding": "#3a7ca5",
    "power_of_two": "#81a4cd",
    "speed_weighted": "#b08900",
    "highest_load": "#c71585",
}
_OTHERS = ("#444444", "#999933", "#aa4499", "#117733", "#882255", "#332288")


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def colour(system: str, systems: Sequence[str]) -> str:
    known = _COLOURS.get(system)
    if known is not None:
        return known
    others = [name for name in systems if name not in _COLOURS]
    return _OTHERS[others.index(system) % len(_OTHERS)]


def against_rate(points: Sequence[Point], title: str, path: Path) -> None:
    """Attainment, goodput, TTFT and end to end of every system over the rate of arrivals."""
    figure, axes = new_figure(2, 2, 10, 7)
    systems = by_system(points)
    for name, own in systems.items():
        rates = [point.rate_per_s for point in own]
        tone = colour(name, list(systems))
        look = {"color": tone, "marker": "o", "markersize": 3, "linewidth": 1.4}
        sums = [point.summary for point in own]
        axes[0][0].plot(rates, [s.attainment for s in sums], label=name, **look)
        axes[0][1].plot(rates, [s.goodput_per_s for s in sums], label=name, **look)
        for axis, spreads in (
            (axes[1][0], [point.reading_ttft for point in own]),
            (axes[1][1], [s.latencies.e2e for s in sums]),
        ):
            found = [(r, s) for r, s in zip(rates, spreads, strict=True) if s is not None]
            at = [r for r, _ in found]
            axis.plot(at, [s.p50_s for _, s in found], linestyle=":", color=tone, linewidth=1.2)
            axis.plot(at, [s.p99_s for _, s in found], **look)
    axes[0][0].axhline(ATTAINED, color="black", linewidth=0.6, linestyle="--")
    _name(axes[0][0], "promises kept", "share")
    _name(axes[0][1], "goodput", "promises kept per second")
    _name(axes[1][0], "TTFT, where one is promised: p99, dotted p50", "seconds", is_log=True)
    _name(axes[1][1], "end to end: p99, dotted p50", "seconds", is_log=True)
    axes[0][0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    save(figure, path)


def utilisation(shares: Mapping[str, Mapping[str, float]], title: str, path: Path) -> None:
    """By system, the share of its time in which each replica ran steps."""
    figure, axes = new_figure(1, 1, 8, 3.4)
    axis = axes[0][0]
    replicas = list(next(iter(shares.values())))
    width = 0.8 / len(shares)
    for number, (name, own) in enumerate(shares.items()):
        at = [i + number * width for i in range(len(replicas))]
        heights = [own.get(replica, 0.0) for replica in replicas]
        axis.bar(at, heights, width, label=name, color=colour(name, list(shares)))
    axis.set_xticks([i + 0.4 - width / 2 for i in range(len(replicas))])
    axis.set_xticklabels(replicas, fontsize=8)
    axis.set_ylim(0, 1.3)
    _name(axis, title, "share of time in steps", x="")
    axis.legend(fontsize=8, ncols=len(shares), loc="upper center")
    save(figure, path)


def _name(
    axis: Axes, title: str, y: str, *, x: str = "arrivals per second", is_log: bool = False
) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(visible=True, alpha=0.25)
    if is_log:
        axis.set_yscale("log")
