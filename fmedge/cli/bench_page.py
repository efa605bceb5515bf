"""Runs as one HTML page that needs nothing else: tables, and drawings where matplotlib is there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape

from fmedge.cli.bench_table import middle_and_tail
from fmedge.cli.table import percent, size
from fmedge.sim.run import Run
from fmedge.sim.summary import Latencies

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em;
  color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1em 0 2em; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; border-bottom: 2px solid #888; }
.scroll { overflow-x: auto; }
.partial { background: #fff0d8; padding: .6em 1em; border-left: 4px solid #d08000; }
pre { overflow-x: auto; background: #f5f5f5; padding: .8em 1em; }
svg { max-width: 100%; height: auto; }
"""


def page(runs: Sequence[Run], labels: Sequence[str], drawing: str) -> str:
    """drawing: an <svg> element, or "" where none could be made."""
    named = list(zip(runs, labels, strict=True))
    parts = [f"<h1>{_title(labels)}</h1>"]
    parts += [
        f'<p class="partial"><b>{escape(label)}</b> is partial: {escape(run.ended)}</p>'
        for run, label in named
        if run.ended
    ]
    parts.append(_runs_table(named))
    parts.append(drawing or "<p>Drawings need matplotlib: pip install 'fmedge[plot]'</p>")
    parts += [_classes_table(named), _workflows_table(named), _replicas_table(named)]
    parts.append("<h2>How it was made</h2>")
    parts += [_origin(run, label) for run, label in named]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_title(labels)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def _title(labels: Sequence[str]) -> str:
    names = list(dict.fromkeys(labels))
    return escape(", ".join(names[:4]) + (", ..." if len(names) > 4 else ""))


def _runs_table(named: Sequence[tuple[Run, str]]) -> str:
    header = ("run", "", "calls", "answered", "refused", "failed", "attainment", "goodput",
              *_LATENCY_HEADER, "replica-seconds")  # fmt: skip
    rows = []
    for run, label in named:
        summary = run.summary
        counts = summary.counts
        held_s = summary.replica_s
        rows.append((
            label, run.kind, str(summary.num_calls), str(counts.get("ok", 0)),
            str(counts.get("refused", 0)),
            str(sum(counts.get(status, 0) for status in ("failed", "timeout"))),
            percent(summary.attainment), f"{summary.goodput_per_s:.3f}/s",
            *_latency_cells(summary.latencies),
            "-" if held_s is None else f"{held_s:.0f}",
        ))  # fmt: skip
    return _table(header, rows)


_LATENCY_HEADER = ("TTFT p50", "p99", "TPOT p50", "p99", "end to end p50", "p99")


def _latency_cells(latencies: Latencies) -> list[str]:
    cells: list[str] = []
    for measure in (latencies.ttft, latencies.tpot, latencies.e2e):
        cells += middle_and_tail(measure)
    return cells


def _classes_table(named: Sequence[tuple[Run, str]]) -> str:
    rows = [
        (label, name or "(none)", str(one.num_calls), percent(one.attainment),
         *_latency_cells(one.latencies))
        for run, label in named
        for name, one in run.summary.classes.items()
        if len(run.summary.classes) > 1
    ]  # fmt: skip
    if not rows:
        return ""
    return "<h2>Classes</h2>" + _table(
        ("run", "class", "calls", "attainment", *_LATENCY_HEADER), rows
    )


def _workflows_table(named: Sequence[tuple[Run, str]]) -> str:
    rows = [
        (label, name, str(one.num_instances), str(one.num_ok), percent(one.attainment),
         *middle_and_tail(one.e2e))
        for run, label in named
        for name, one in run.summary.workflows.items()
    ]  # fmt: skip
    if not rows:
        return ""
    return "<h2>Workflows</h2>" + _table(
        ("run", "workflow", "tasks", "ended", "held", "end to end p50", "p99"), rows
    )


def _replicas_table(named: Sequence[tuple[Run, str]]) -> str:
    rows = [
        (label, name, percent(busy))
        for run, label in named
        for name, busy in run.summary.utilisation.items()
    ]
    return "<h2>Replicas</h2>" + _table(("run", "replica", "busy"), rows) if rows else ""


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}\n</table></div>'


def _origin(run: Run, label: str) -> str:
    machine = run.machine
    memory = machine.get("memory_bytes")
    facts = [
        ("made", f"{run.kind} by fmedge {run.fmedge}, {run.started_at}"),
        ("on", f"{machine.get('cpu')}, {machine.get('num_cpus')} processors, "
               f"{size(memory) if isinstance(memory, int) else '?'}, {machine.get('system')}, "
               f"Python {machine.get('python')}"),
        ("asked", run.target),
        ("policy", run.policy),
        ("cluster", run.cluster),
        ("workload", f"{run.workload.source} (what was asked and when: {run.asked})"),
        ("seed", str(run.seed)),
        ("files", "; ".join(f"{file.path} (SHA-256 {file.sha256[:16]})" for file in run.files)),
        *(("note", note) for note in run.notes),
    ]  # fmt: skip
    rows = "\n".join(f"{name + ':':10}{value}" for name, value in facts if value)
    options = json.dumps(run.options, indent=1, default=str)
    return (
        f"<h3>{escape(label)}</h3>\n<pre>{escape(rows)}</pre>\n"
        f"<details><summary>options</summary><pre>{escape(options)}</pre></details>"
    )
