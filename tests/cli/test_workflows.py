"""`fmedge workflows`: the report for people, made by the code that makes it for servers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from fmedge.cli import main
from fmedge.sched.workflows import CallObserved, Workflows
from fmedge.types import WorkflowCall, WorkflowSettings
from tests.cli.fake_openai import FakeServer, document

STAGES = ("plan", "search", "answer")


def reports(*settings: WorkflowSettings, num_runs: int = 12) -> list[Any]:
    """Runs of three calls in a row, 1 s each with 0.5 s of tools between; some are slow."""
    workflows = Workflows({each.name: each for each in settings})
    now_s, request_id = 0.0, 0
    for run in range(num_runs):
        for number, stage in enumerate(STAGES):
            request_id += 1
            call = WorkflowCall(
                workflow=settings[0].name, instance=f"run-{run}", stage=stage,
                is_last=number == len(STAGES) - 1,
            )  # fmt: skip
            workflows.begin(now_s, request_id, call, "ann")
            took_s = 4.0 if stage == "search" and run % 3 == 0 else 1.0
            now_s += took_s
            observed = CallObserved(
                l_q_s=0.1, l_x_s=took_s - 0.1, e2e_s=took_s, num_prompt=400, num_cached=20,
                num_output=50, finish="stop",
            )  # fmt: skip
            workflows.end(now_s, request_id, observed)
            now_s += 0.5
        now_s += 100.0
        workflows.tick(now_s)
    found: list[Any] = msgspec.json.decode(msgspec.json.encode(workflows.report(None)))
    return found


TRIAGE = WorkflowSettings(name="triage", e2e_s=5.0)
OTHER = WorkflowSettings(name="other")


async def shown(
    capsys: pytest.CaptureFixture[str], workflows: list[Any], *args: str
) -> tuple[str, list[str]]:
    paths: list[str] = []

    def answer(path: str, _: object) -> list[bytes]:
        paths.append(path)
        return [document(200, {"workflows": workflows})]

    async with FakeServer(answer).running() as server:
        assert await asyncio.to_thread(main, ["workflows", "--url", server.url, *args]) == 0
    return capsys.readouterr().out, paths


async def test_one_workflow_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    out, paths = await shown(capsys, reports(TRIAGE), "triage")
    assert paths == ["/admin/workflows?name=triage"]
    lines = out.splitlines()
    assert lines[0] == ("triage: 5.00 s from the first call to the last, for 90.0% of the runs")
    assert lines[1] == "  runs      12 over, of which 4 missed their promise; 0 open"
    assert "66.7% kept their promise (below the target)" in lines[2]
    search = next(line for line in lines if line.startswith("search"))
    cells = search.split()
    assert cells[:6] == ["search", "12", "1.00", "400", "20", "50"]
    assert cells[-1] == "4"
    assert "OF PROMISE" in out
    assert "what would help most" in out
    first = lines[lines.index("what would help most") + 1]
    assert first.startswith("  1. search: ")


async def test_without_runs_or_advice(capsys: pytest.CaptureFixture[str]) -> None:
    out, paths = await shown(capsys, reports(OTHER, num_runs=0))
    assert paths == ["/admin/workflows"]
    assert out.splitlines() == [
        "other: nothing is promised",
        "  runs      0 over, of which 0 missed their promise; 0 open",
    ]
    (report,) = reports(OTHER, num_runs=2)
    out, _ = await shown(capsys, [report | {"advice": []}])
    assert "OF WHOLE" in out
    assert out.endswith("nothing alone would make the recent runs much faster\n")


async def test_all_workflows(capsys: pytest.CaptureFixture[str]) -> None:
    both = reports(TRIAGE, OTHER)
    out, _ = await shown(capsys, both)
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["triage"][1:5] == ["5.00", "s", "90.0%", "66.7%"]
    assert rows["other"][1:4] == ["-", "90.0%", "-"]
    out, _ = await shown(capsys, both, "--json")
    assert json.loads(out) == both
    out, _ = await shown(capsys, both[:1], "triage", "--json")
    assert json.loads(out) == both[0]


async def test_no_workflows(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = await shown(capsys, [])
    assert "[workflows.NAME]" in out


async def test_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"error": {"message": "No workflow `x y` is configured", "code": "not_found"}}
    paths: list[str] = []

    def answer(path: str, _: object) -> list[bytes]:
        paths.append(path)
        return [document(404, error)]

    async with FakeServer(answer).running() as server:
        assert await asyncio.to_thread(main, ["workflows", "x y", "--url", server.url]) == 1
    assert paths == ["/admin/workflows?name=x%20y"]
    assert "No workflow `x y`" in capsys.readouterr().err
