"""`python -m bench.cluster.report RESULTS... --docs docs/evaluation`: tables and figures of what
`python -m bench cluster cluster-simulated` has found, for docs/evaluation.md.

The rule: nothing is computed here that the rows did not find; a case that was measured several
times is shown as it was the last time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.cluster import store
from bench.cluster.plots import against_rate, utilisation
from bench.cluster.points import Point, best, by_system


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.report", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="folders of bench/results, in order")
    parser.add_argument("--docs", type=Path, help="where figures go; without it none are made")
    options = parser.parse_args()
    points = store.read(options.results)
    if not points:
        sys.stderr.write("no points there: run python -m bench cluster cluster-simulated\n")
        return 1
    measured = [p for p in points if not p.is_simulated]
    simulated = [p for p in points if p.is_simulated]
    for title, text in (
        ("measured", measured_table(measured)),
        ("simulated goodput", goodput_table(simulated)),
        ("without", ablation_table(simulated)),
    ):
        print(f"{title}\n\n{text}\n")
    if options.docs is not None:
        options.docs.mkdir(parents=True, exist_ok=True)
        figures(points, options.docs)
    return 0


def cases_of(points: Iterable[Point]) -> dict[tuple[str, str], list[Point]]:
    found: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.cluster, point.workload), []).append(point)
    return found


def measured_table(points: Sequence[Point]) -> str:
    """Each system at its highest rate that keeps 95 %."""
    rows = []
    for (cluster, workload), own in cases_of(points).items():
        for system, tried in by_system(own).items():
            top = best(tried)
            if top is None:
                lowest = tried[0]
                kept = f"{lowest.summary.attainment or 0:.1%} at {lowest.rate_per_s:.2f}"
                rows.append([cluster, workload, system, f"none ({kept})", "", "", "", ""])
                continue
            rows.append([cluster, workload, system, f"{top.rate_per_s:.2f}", *_figures(top)])
    header = ["cluster", "workload", "system", "highest rate /s", "goodput /s",
              "TTFT p50, p99, s", "end to end p50, p99, s", "busy"]  # fmt: skip
    return _markdown(header, rows)


def goodput_table(points: Sequence[Point]) -> str:
    """By case and policy, as its search found it: that point comes first."""
    systems = [s for s in by_system(points) if " without " not in s]
    rows = []
    for (cluster, workload), own in cases_of(points).items():
        tops: dict[str, Point] = {}
        for point in own:
            tops.setdefault(point.system, point)
        cells = []
        for system in systems:
            top = tops.get(system)
            is_found = top is not None and top.is_attained
            cells.append(f"{top.summary.goodput_per_s:.2f}" if top and is_found else "-")
        rows.append([cluster, workload, *cells])
    return _markdown(["cluster", "workload", *systems], rows)


def ablation_table(points: Sequence[Point]) -> str:
    """At fmedge's highest rate, what is kept without each part."""
    systems = ["fmedge", *(s for s in by_system(points) if " without " in s)]
    rows = []
    for (cluster, workload), own in cases_of(points).items():
        known = by_system(own)
        left_out = {s: known[s][0] for s in systems if " without " in s and s in known}
        if not left_out:
            continue
        rate = next(iter(left_out.values())).rate_per_s
        whole = next(p for p in known["fmedge"] if p.rate_per_s == rate)
        shares = [whole, *(left_out[s] for s in systems[1:])]
        rows.append([cluster, workload, f"{rate:.2f}",
                     *(f"{p.summary.attainment or 0:.1%}" for p in shares)])  # fmt: skip
    return _markdown(["cluster", "workload", "rate /s", *systems], rows)


def figures(points: Sequence[Point], folder: Path) -> None:
    for (cluster, workload), own in cases_of(points).items():
        name = f"{cluster}-{workload}".replace(", ", "-").replace(" ", "-")
        for kind, some in (
            ("simulated", [p for p in own if p.is_simulated and " without " not in p.system]),
            ("measured", [p for p in own if not p.is_simulated]),
        ):
            if len(some) > 1:
                title = f"{cluster}: {workload} ({kind})"
                against_rate(some, title, folder / f"{name}-{kind}.png")
        curves = [p for p in own if p.is_simulated and p.summary.utilisation]
        shown = {
            system: best(tried)
            for system, tried in by_system(curves).items()
            if system in ("fmedge", "least_outstanding", "power_of_two")
        }
        shares = {s: p.summary.utilisation for s, p in shown.items() if p is not None}
        if shares:
            title = f"{cluster}: {workload}, each at its highest rate (simulated)"
            utilisation(shares, title, folder / f"{name}-busy.png")


def _figures(point: Point) -> list[str]:
    s = point.summary
    ttft, e2e = point.reading_ttft, s.latencies.e2e
    busy = s.utilisation.values()
    return [
        f"{s.goodput_per_s:.2f}",
        "" if ttft is None else f"{ttft.p50_s:.2f}, {ttft.p99_s:.2f}",
        "" if e2e is None else f"{e2e.p50_s:.1f}, {e2e.p99_s:.1f}",
        f"{min(busy):.0%} to {max(busy):.0%}" if busy else "",
    ]


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
