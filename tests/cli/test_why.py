"""`fmedge why`: every number behind a decision, readable; and what a server that has none gets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fmedge.cli import main
from fmedge.cli.table import duration
from tests.cli.fake_openai import FakeServer, document

ESTIMATE = {
    "replica": "tiny/0", "cached_tokens": 64, "l_est_ms": 1375.0, "l_q_ms": 0.0, "l_x_ms": 1250.0,
    "l_r_ms": 125.0, "ttft_ms": 12.35, "ttft_p90_ms": 20.0, "tpot_ms": 50.0, "e2e_ms": 1250.0,
    "e2e_p90_ms": 2000.0, "p_hold": 0.973, "harm": 0.25,
}  # fmt: skip
SLOW = ESTIMATE | {"replica": "tiny/1", "cached_tokens": 0, "ttft_ms": None, "p_hold": 0.2}
DECISION: dict[str, Any] = {
    "request_id": 77, "age_s": 75.0, "model": "tiny", "api_key": "ann", "workflow": "triage",
    "instance": "run-7", "stage": "plan", "prompt_tokens": 812, "max_tokens": 256,
    "output_tokens": {"p50": 96, "p90": 210},
    "promise": {"class": "interactive", "ttft_ms": 500.0, "tpot_ms": None, "e2e_ms": 9000.0},
    "estimates": [SLOW, ESTIMATE],
    "decision": {
        "action": "assign", "replica": "tiny/0", "reason": "the slowest on which it holds",
        "retry_after_s": None,
    },
    "events": [
        {"at_ms": 0.4, "what": "assigned", "detail": "tiny/0"},
        {"at_ms": 12.1, "what": "first_token", "detail": ""},
    ],
    "observed": {
        "l_q_ms": 0.2, "l_x_ms": 1100.0, "ttft_ms": 13.0, "e2e_ms": 1000.0, "output_tokens": 90,
        "held": True,
    },
}  # fmt: skip
REFUSED = DECISION | {
    "decision": {"action": "refuse", "replica": None, "reason": "too late", "retry_after_s": 2.5},
    "promise": {"class": None, "ttft_ms": None, "tpot_ms": None, "e2e_ms": None},
    "api_key": "", "workflow": "", "estimates": [], "events": [],
    "observed": {
        "l_q_ms": None, "l_x_ms": None, "ttft_ms": None, "e2e_ms": None, "output_tokens": 0,
        "held": None,
    },
}  # fmt: skip


async def shown(capsys: pytest.CaptureFixture[str], body: object, *args: str) -> str:
    async with FakeServer(lambda *_: [document(200, body)]).running() as server:
        assert await asyncio.to_thread(main, ["why", "--url", server.url, *args]) == 0
    return capsys.readouterr().out


async def test_one_request(capsys: pytest.CaptureFixture[str]) -> None:
    server_saw: list[str] = []

    def answer(path: str, _: object) -> list[bytes]:
        server_saw.append(path)
        return [document(200, {"decisions": [DECISION]})]

    async with FakeServer(answer).running() as server:
        assert await asyncio.to_thread(main, ["why", "--url", server.url, "77"]) == 0
    assert server_saw == ["/admin/decisions?request_id=77"]
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "request 77: tiny, key ann, came 1 min 15 s ago"
    assert (
        "  promised  first token within 500 ms, the end within 9.00 s (class interactive)"
    ) in lines
    assert "  workflow  triage, run run-7, stage plan" in lines
    assert "  decided   sent to tiny/0 at once" in lines
    assert "  why       the slowest on which it holds" in lines
    assert "96 tokens expected" in out
    chosen = next(line for line in lines if line.startswith("* "))
    assert " ".join(chosen.split()) == (
        "* tiny/0 64 1.38 s 0.00 ms 1.25 s 125 ms 12.3 ms 20.0 ms 50.0 ms 1.25 s 2.00 s 97.3% 0.25"
    )
    other = next(line for line in lines if line.startswith("  tiny/1"))
    assert " -  " in other
    assert "  +0.40 ms  assigned  tiny/0" in lines
    assert "  +12.1 ms  first token" in lines
    ttft = next(line for line in lines if line.startswith("ttft"))
    assert " ".join(ttft.split()) == "ttft 500 ms 12.3 ms 13.0 ms -5.0%"
    end = next(line for line in lines if line.startswith("end to end"))
    assert end.split()[-1] == "+25.0%"
    assert lines[-1] == "the promise held"


async def test_a_refused_request(capsys: pytest.CaptureFixture[str]) -> None:
    out = await shown(capsys, {"decisions": [REFUSED]}, "77")
    assert "refused, try again in 2.50 s" in out
    assert "nothing (best effort)" in out
    assert "estimates" not in out
    assert "observed" not in out
    never = REFUSED | {"decision": REFUSED["decision"] | {"retry_after_s": None}}
    assert "decided   refused\n" in await shown(capsys, {"decisions": [never]}, "77")


async def test_a_request_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    running = DECISION | {"observed": REFUSED["observed"], "events": []}
    out = await shown(capsys, {"decisions": [running]}, "77")
    assert out.endswith("nothing was observed yet\n")


async def test_the_latest(capsys: pytest.CaptureFixture[str]) -> None:
    out = await shown(capsys, {"decisions": [DECISION, REFUSED]})
    header, first, second = out.splitlines()
    assert header.split()[:3] == ["REQUEST", "AGE", "MODEL"]
    assert first.split()[-1] == "yes"
    assert "interactive" in first
    assert second.split()[-1] == "-"
    out = await shown(capsys, {"decisions": [DECISION, REFUSED]}, "--json")
    assert json.loads(out) == [DECISION, REFUSED]
    assert json.loads(await shown(capsys, {"decisions": [DECISION]}, "77", "--json")) == DECISION


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {}, "FMEDGE_API_KEY"),
        (404, {"error": {"message": "Nothing is known of request 9", "code": "x"}}, "request 9"),
        (404, {}, "no fmedge server"),
        (200, {"x": 1}, "no fmedge server"),
    ],
)
async def test_servers_that_do_not_tell(
    status: int, body: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeServer(lambda *_: [document(status, body)]).running() as server:
        assert await asyncio.to_thread(main, ["why", "9", "--url", server.url]) == 1
    assert words in capsys.readouterr().err


async def test_what_is_no_id_reaches_no_further_than_the_query(
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths: list[str] = []

    def answer(path: str, _: object) -> list[bytes]:
        paths.append(path)
        return [document(400, {"error": {"message": "a whole number", "code": "invalid_value"}})]

    async with FakeServer(answer).running() as server:
        assert await asyncio.to_thread(main, ["why", "a&b c/../\n", "--url", server.url]) == 1
    assert paths == ["/admin/decisions?request_id=a%26b%20c%2F..%2F"]
    assert "a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "-"),
        (0.0, "0.00 ms"),
        (9.994, "9.99 ms"),
        (85.24, "85.2 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (2314.0, "2.31 s"),
        (59_960.0, "60.0 s"),
        (200_000.0, "3 min 20 s"),
        (7_380_000.0, "2 h 3 min"),
    ],
)
def test_durations(milliseconds: float | None, text: str) -> None:
    assert duration(milliseconds) == text
