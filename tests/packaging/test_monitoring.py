"""The dashboard, the alert rules and the page about metrics: all of what a real server exports."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.server import ROOT, Server, serve
from tests.packaging.promql import QueryError, Samples, labels_of
from tests.synthetic import cached

GRAFANA = ROOT / "packaging" / "grafana"
ALERTS = ROOT / "packaging" / "prometheus" / "alerts.yml"
PLAYED = Path(__file__).with_name("alerts_test.yml")
GUIDE = ROOT / "docs" / "operations.md"
CONFIG = """
[server]
state_dir = "{state}"
profile = "prior"
max_queued_requests = 1

[[model]]
model = "{model}"
name = "tiny"
replicas = 1
slots = 1
threads = 1
ctx_size = 512

[sla.easy]
e2e_ms = 600000

[sla.impossible]
ttft_ms = 0.001
on_miss = "refuse"
"""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Of a server that has answered, refused and been overloaded."""
    folder = tmp_path_factory.mktemp("monitored")
    config = folder / "fmedge.toml"
    config.write_text(CONFIG.format(state=folder / "state", model=cached("tiny")))
    with serve(folder, ["--config", str(config)]) as server:
        assert ask(server, sla={"class": "easy"}) == 200
        assert ask(server, sla={"class": "impossible"}) == 429
        # Eight answers at once, more than one slot and a queue of one can take.
        assert any(ask(server, n=8, max_tokens=400) == 429 for _ in range(20))
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as response:
            text = response.read().decode()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(family.name, [])
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


def ask(server: Server, **fields: Any) -> int:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 8, "ignore_eos": True, **fields}
    request = urllib.request.Request(
        f"{server.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def panels() -> list[dict[str, Any]]:
    page = json.loads((GRAFANA / "fmedge.json").read_text())
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def test_the_dashboard_is_what_its_panels_say() -> None:
    page = runpy.run_path(str(GRAFANA / "build.py"))["page"]()
    assert (GRAFANA / "fmedge.json").read_text() == page, "run: python packaging/grafana/build.py"


def test_panels_lie_beside_each_other_and_are_told_apart() -> None:
    page = json.loads((GRAFANA / "fmedge.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    ids = [panel["id"] for panel in page["panels"]]
    assert len(set(ids)) == len(ids)


def test_each_panel_shows_what_a_server_exports(samples: Samples) -> None:
    shown = panels()
    assert len(shown) > 20
    for panel in shown:
        for target in panel["targets"]:
            labels = labels_of(target["expr"], samples)
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert named <= labels, f"{panel['title']}: {target['legendFormat']} of {labels}"


def test_the_dashboards_choices_and_annotations_are_exported(samples: Samples) -> None:
    page = json.loads((GRAFANA / "fmedge.json").read_text())
    queries = [v for v in page["templating"]["list"] if v["type"] == "query"]
    assert {v["name"] for v in queries} == {"job", "instance", "model"}
    for variable in queries:
        query = variable["query"]["query"]
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found, query
        assert found[2] in labels_of(found[1], samples)
    for annotation in page["annotations"]["list"]:
        labels_of(annotation["expr"], samples)


def test_each_rule_asks_for_what_a_server_exports(samples: Samples) -> None:
    for rule in rules():
        labels = labels_of(rule["expr"], samples)
        text = " ".join(rule["annotations"].values())
        named = set(re.findall(r"\$labels\.(\w+)", text))
        assert named <= labels, f"{rule['alert']}: {named - labels}"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("fmedge_no_such_thing > 0", "no server exports fmedge_no_such_thing"),
        ('fmedge_replica_ready{phase="x"}', "no label phase"),
        ('fmedge_estimate_ratio_bucket{le="2"}', "le is one of"),
        ("sum by (sla_class) (fmedge_model_ready)", "no label sla_class"),
        ("fmedge_kv_used_tokens / fmedge_requests_waiting", "never equal"),
        ("histogram_quantile(0.9, sum by (model) (fmedge_queue_seconds_bucket))", "no label le"),
        ("rate(fmedge_requests_total)", "rate"),
        ("sum by (model) (fmedge_requests_total", "fmedge_requests_total"),
    ],
)
def test_a_query_that_would_show_nothing_is_found(samples: Samples, query: str, words: str) -> None:
    with pytest.raises(QueryError, match=re.escape(words)):
        labels_of(query, samples)


def test_the_rules_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here: it is part of Debian's package prometheus")
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(PLAYED, tmp_path)
    for arguments in (["check", "rules", ALERTS.name], ["test", "rules", PLAYED.name]):
        done = subprocess.run(
            [promtool, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_played() -> None:
    played = set(re.findall(r'alertname="(\w+)"', PLAYED.read_text()))
    assert played == {rule["alert"] for rule in rules()}


def test_the_page_explains_every_metric_and_no_other(samples: Samples) -> None:
    explained = set(re.findall(r"`((?:fmedge|process)_[a-z0-9_]+)(?:{[^`]*})?`", GUIDE.read_text()))
    assert explained <= set(samples), explained - set(samples)
    endings = ("_bucket", "_count", "_sum", "_created")
    counted = {name.removesuffix("_total") for name in samples if name.endswith("_total")}
    wanted = {name for name in samples if not name.endswith(endings)} - counted
    assert wanted <= explained, wanted - explained


def test_the_page_names_every_alert() -> None:
    page = GUIDE.read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in page] == []
