"""What runs amount to, as tables of text for a terminal."""

from __future__ import annotations

from fmedge.cli.table import aligned, duration, percent
from fmedge.sim.run import Run
from fmedge.sim.summary import Latencies, Spread

_MEASURES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("end to end", "e2e"))


def run_text(run: Run) -> str:
    """One run: what became of its calls, promises, latencies."""
    summary = run.summary
    counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items())
    lines = [
        f"calls          {counts or 'none'} in {summary.duration_s:.1f} s",
        f"throughput     {summary.calls_per_s:.2f} calls/s, "
        f"{summary.output_tokens_per_s:.1f} tokens/s out, {summary.prompt_tokens_per_s:.1f} in"
        + (f" ({summary.num_cached} cached in all)" if summary.num_cached else ""),
        f"goodput        {summary.goodput_per_s:.3f}/s over {summary.arrival_s:.1f} s of arrivals",
    ]
    if summary.attainment is not None:
        lines.append(
            f"promises       {summary.num_held} of {summary.num_promises} held "
            f"({percent(summary.attainment)})"
        )
    if summary.utilisation:
        busy = ", ".join(f"{name} {percent(x)}" for name, x in summary.utilisation.items())
        lines.append(f"utilisation    {busy}")
    lines += [f"note           {note}" for note in run.notes]
    if run.ended:
        lines.append(f"PARTIAL        {run.ended}")
    return "\n".join([*lines, "", *_latency_lines(run)])


def _latency_lines(run: Run) -> list[str]:
    summary = run.summary
    rows = _rows("", summary.latencies)
    if len(summary.classes) > 1:
        for name, one in summary.classes.items():
            kept = "" if one.attainment is None else f", {percent(one.attainment)} kept"
            rows += _rows(f"{name or 'no class'}{kept}", one.latencies)
    for name, task in summary.workflows.items():
        label = f"{name}, {task.num_instances} tasks, {percent(task.attainment)} kept"
        rows.append((label, "end to end", *_cells(task.e2e)))
    return aligned(("", "", "mean", "p50", "p90", "p99"), rows)


def _rows(label: str, latencies: Latencies) -> list[tuple[str, ...]]:
    rows = []
    for name, field in _MEASURES:
        rows.append((label, name, *_cells(getattr(latencies, field))))
        label = ""
    return rows


def _cells(measure: Spread | None) -> tuple[str, ...]:
    if measure is None:
        return ("-",) * 4
    values = (measure.mean_s, measure.p50_s, measure.p90_s, measure.p99_s)
    return tuple(duration(1e3 * value) for value in values)


def middle_and_tail(measure: Spread | None) -> tuple[str, str]:
    """p50 and p99."""
    if measure is None:
        return "-", "-"
    return duration(1e3 * measure.p50_s), duration(1e3 * measure.p99_s)
