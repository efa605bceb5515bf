"""Promises with the real client, on a real server with two replicas of unequal speed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.server import ROOT, Server, serve
from tests.synthetic import cached

CONFIG = """
[server]
state_dir = "{state}"

[[model]]
model = "{model}"
name = "tiny"
slots = 2
threads = 1
ctx_size = 512

[[replica]]
model = "tiny"
name = "fast"

[[replica]]
model = "tiny"
name = "slow"
file = "{other}"

[sla.interactive]
ttft_ms = 20000
target = 0.8

[sla.impossible]
ttft_ms = 0.001
on_miss = "refuse"

[workflows.agent]
e2e_ms = 60000
idle_s = 30
"""
MESSAGES = [{"role": "user", "content": "Tell me about the sea."}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promises")
    text = CONFIG.format(
        state=folder / "state", model=cached("tiny"), other=cached("tiny", quant="q8_0")
    )
    (folder / "fmedge.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def promising(folder: Path) -> Iterator[Server]:
    with serve(folder, ["--config", str(folder / "fmedge.toml")]) as running:
        yield running


@pytest.fixture
def asking(promising: Server) -> Iterator[openai.OpenAI]:
    url = f"{promising.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def ask(client: openai.OpenAI, **kwargs):
    return client.chat.completions.with_raw_response.create(
        **{"model": "tiny", "messages": MESSAGES, "max_tokens": 12, "seed": 7, **kwargs}
    )


def fmedge(server: Server, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fmedge", *arguments, "--url", server.url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def fetch(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()


def test_an_answer_tells_what_was_estimated_and_why_explains_it(
    asking: openai.OpenAI, promising: Server
):
    answer = ask(asking, extra_body={"sla": {"class": "interactive"}})
    headers = answer.headers
    assert headers["x-fmedge-sla"] == "interactive"
    assert headers["x-fmedge-replica"] in ("fast", "slow")
    parts = [float(headers[f"x-fmedge-l-{part}-ms"]) for part in ("q", "x", "r")]
    assert float(headers["x-fmedge-l-est-ms"]) == pytest.approx(sum(parts), abs=0.05)
    assert answer.parse().choices[0].finish_reason in ("stop", "length")
    told = fmedge(promising, "why", headers["x-fmedge-request-id"])
    assert "the promise held" in told
    assert headers["x-fmedge-replica"] in told


def test_a_promise_that_nobody_can_keep_is_refused_by_its_class(
    asking: openai.OpenAI, promising: Server
):
    with pytest.raises(openai.RateLimitError) as caught:
        ask(asking, extra_headers={"x-fmedge-sla": "impossible"})
    assert caught.value.code == "sla_unattainable"
    assert int(caught.value.response.headers["retry-after"]) >= 1
    body = {"model": "tiny", "messages": MESSAGES, "sla": {"class": "impossible"}}
    answer = json.loads(fetch(f"{promising.url}/v1/estimate", json.dumps(body).encode()))
    assert answer["decision"]["action"] == "refuse"
    assert {estimate["replica"] for estimate in answer["estimates"]} <= {"fast", "slow"}
    metrics = fetch(f"{promising.url}/metrics").decode()
    assert 'fmedge_sla_requests_total{held="false",model="tiny",sla_class="impossible"}' in metrics


def test_a_workflow_is_reported_by_stage(asking: openai.OpenAI, promising: Server):
    for run in range(3):
        for stage in ("plan", "act"):
            headers = {
                "x-fmedge-workflow": "agent",
                "x-fmedge-workflow-id": f"run-{run}",
                "x-fmedge-stage": stage,
            }
            if stage == "act":
                headers["x-fmedge-workflow-last"] = "1"
            ask(asking, extra_headers=headers)
    report = json.loads(fmedge(promising, "workflows", "agent", "--json"))
    assert {stage["stage"]: stage["num_calls"] for stage in report["stages"]} == {
        "plan": 3, "act": 3,
    }  # fmt: skip
    shown = fmedge(promising, "workflows", "agent")
    assert "plan" in shown
    assert "act" in shown


def test_what_was_learned_is_there_after_a_restart(folder: Path, promising: Server):
    """Another server reads what the first one, which still runs, has stored of its profiles: all
    but those that on a busy machine are not worth it."""
    profiles = folder / "state" / "profiles"

    def num_stored() -> int:
        return len(list(profiles.glob("*.json")))

    def num_not_kept() -> int:
        return len(re.findall("steps vary so much|measuring ended early", promising.text()))

    # it answers from its first replica on
    wait(promising, lambda: num_stored() + num_not_kept() == 2)
    num_kept = num_stored()
    with serve(folder, ["--config", str(folder / "fmedge.toml")]) as again:
        wait(again, lambda: set(states(again)) == {"ready"})
        assert again.text().count("step times as stored") == num_kept


def wait(server: Server, is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60.0
    while not is_so():
        assert time.monotonic() < deadline_s
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.05)
            raise AssertionError(f"it ended:\n{server.text()}")


def states(server: Server) -> list[str]:
    """Of the replicas."""
    (model,) = json.loads(fetch(f"{server.url}/admin/status"))["load"]["models"]
    return [replica["status"]["state"] for replica in model["replicas"]]
