"""Writes fmedge.json, the Grafana dashboard, from panels.toml: `python packaging/grafana/build.py`.

The rule: what is shown stands in panels.toml, how it looks stands here, and nobody edits the JSON.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PANELS, PAGE = FOLDER / "panels.toml", FOLDER / "fmedge.json"
SCHEMA_VERSION = 41
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SERVER = 'job=~"$job", instance=~"$instance"'
CHOSEN = {"@server": SERVER, "@model": SERVER + ', model=~"$model"'}
GRID, WIDTH, HEIGHT = 24, 8, 8
STATES = [
    {"color": "red", "value": None},
    {"color": "text", "value": 0},
    {"color": "green", "value": 1},
]


def chosen(query: str) -> str:
    for word, matchers in CHOSEN.items():
        query = query.replace(word, matchers)
    return query


def target(index: int, query: str, legend: str) -> dict[str, Any]:
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": chosen(query),
        "legendFormat": legend,
        "range": True,
        "refId": chr(ord("A") + index),
    }


def timeline(spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Field defaults and options."""
    defaults = {
        "color": {"mode": "thresholds"},
        "custom": {"fillOpacity": 70, "lineWidth": 0},
        "thresholds": {"mode": "absolute", "steps": STATES},
        "unit": spec["unit"],
    }
    return defaults, {"mergeValues": True, "rowHeight": 0.8, "showValue": "never"}


def timeseries(spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    custom = {
        "fillOpacity": 10,
        "lineWidth": 1,
        "showPoints": "never",
        "stacking": {"group": "A", "mode": "normal" if spec.get("stacked") else "none"},
    }
    defaults = {"custom": custom, "min": 0, "unit": spec["unit"]}
    if "most" in spec:
        defaults["max"] = spec["most"]
    return defaults, {"tooltip": {"mode": "multi", "sort": "desc"}}


def panel(number: int, spec: dict[str, Any], x: int, y: int) -> dict[str, Any]:
    kind = spec.get("kind", "timeseries")
    defaults, options = (timeline if kind == "state-timeline" else timeseries)(spec)
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {
        "id": number,
        "type": kind,
        "title": spec["title"],
        "description": spec.get("note", ""),
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": legend, **options},
        "targets": [target(index, *query) for index, query in enumerate(spec["queries"])],
    }


def panels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        place = {"h": 1, "w": GRID, "x": 0, "y": y}
        made.append({
            "id": len(made) + 1, "type": "row", "title": row["title"], "collapsed": False,
            "gridPos": place, "panels": [],
        })  # fmt: skip
        y += 1
        x = 0
        for spec in row["panel"]:
            if x == GRID:
                x, y = 0, y + HEIGHT
            made.append(panel(len(made) + 1, spec, x, y))
            x += WIDTH
        y += HEIGHT
    return made


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 1,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def dashboard() -> dict[str, Any]:
    starts = {
        "name": "Starts",
        "datasource": SOURCE,
        "enable": True,
        "expr": f"process_start_time_seconds{{{SERVER}}} * 1000",
        "iconColor": "blue",
        "titleFormat": "{{instance}} started",
        "useValueForTime": True,
    }
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }
    instances = 'label_values(fmedge_build_info{job=~"$job"}, instance)'
    variables = [
        source,
        variable("job", "Job", "label_values(fmedge_build_info, job)"),
        variable("instance", "Server", instances),
        variable("model", "Model", f"label_values(fmedge_model_ready{{{SERVER}}}, model)"),
    ]
    return {
        "uid": "fmedge",
        "title": "fmedge",
        "description": "Promises, latency, load, replicas and memory of fmedge servers.",
        "tags": ["fmedge"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [starts]},
        "templating": {"list": variables},
        "links": [],
        "panels": panels(tomllib.loads(PANELS.read_text())["row"]),
    }


def page() -> str:
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
