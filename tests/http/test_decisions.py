"""What clients see of a decision: response headers, timings, estimates, /admin."""

from __future__ import annotations

import json
import time
from math import inf

import msgspec
import pytest

from fmedge.errors import UnavailableError
from fmedge.http.settings import ApiKey, HttpSettings
from fmedge.sched.decision import Decision, DecisionEvent, ReplicaEstimate
from fmedge.types import GenerationRequest, Promise, WorkflowSettings
from tests.http.conftest import Endpoint, error_of, events_of

SLOW = ReplicaEstimate(
    replica="tiny/1", l_q_s=0.5, l_x_s=2.0, l_r_s=0.25, ttft_s=1.0, ttft_p90_s=1.5, tpot_s=0.1,
    e2e_s=2.5, e2e_p90_s=4.0, p_hold=0.2, harm=0.5,
)  # fmt: skip
FAST = ReplicaEstimate(
    replica="tiny/0", num_cached_tokens=3, l_q_s=0.0, l_x_s=1.25, l_r_s=0.125, ttft_s=0.0123456,
    ttft_p90_s=0.02, tpot_s=0.05, e2e_s=1.25, e2e_p90_s=2.0, p_hold=0.97,
)  # fmt: skip
SETTINGS = HttpSettings(
    sla_classes={"interactive": Promise(sla_class="interactive", ttft_s=0.5, e2e_s=9.0)},
    class_of_tier={"priority": "interactive"},
    workflows={"triage": WorkflowSettings(name="triage", e2e_s=30.0)},
)
ESTIMATES = {
    "x-fmedge-l-est-ms": "1375.00",
    "x-fmedge-l-q-ms": "0.00",
    "x-fmedge-l-x-ms": "1250.00",
    "x-fmedge-l-r-ms": "125.00",
    "x-fmedge-ttft-est-ms": "12.35",
}


def decide(request_id: int, request: GenerationRequest) -> Decision:
    promise, call = request.promise, request.workflow
    return Decision(
        request_id=request_id, model=request.model, sla_class=promise.sla_class,
        arrived_s=time.monotonic() - 2.0, num_prompt_tokens=len(request.prompt) // 4,
        max_tokens=request.max_tokens, output_p50_tokens=20, output_p90_tokens=70,
        ttft_limit_s=promise.ttft_s, tpot_limit_s=promise.tpot_s, e2e_limit_s=promise.e2e_s,
        workflow=call.workflow if call else "", instance=call.instance if call else "",
        reason="the slowest on which it holds", chosen=1, estimates=(SLOW, FAST),
    )  # fmt: skip


@pytest.fixture
async def foreseen(start) -> Endpoint:
    endpoint: Endpoint = await start(SETTINGS)
    endpoint.dispatcher.decide = decide
    return endpoint


def ours(headers: object) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in headers.items()  # type: ignore[attr-defined]
        if name.lower().startswith("x-fmedge-")
    }


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", ["chat", "complete"])
async def test_estimates_are_in_the_head(foreseen: Endpoint, kind: str, is_stream: bool):
    response = await getattr(foreseen, kind)(
        stream=is_stream, sla={"class": "interactive", "ttft_ms": 400}, max_tokens=5, n=2
    )
    assert response.status == 200
    first_id = min(foreseen.dispatcher.told)
    assert ours(response.headers) == {
        "x-fmedge-request-id": str(first_id),
        "x-fmedge-sla": "interactive",
        "x-fmedge-replica": "tiny/0",
        **ESTIMATES,
    }
    (sent, other) = foreseen.dispatcher.requests
    assert sent.promise == other.promise == Promise(sla_class="interactive", ttft_s=0.4, e2e_s=9.0)
    assert len(sent.length_keys) == 3
    # Before tokenising; twice where a template takes long and moves to a thread.
    for promise, num_body_bytes in foreseen.dispatcher.checks:
        assert promise == sent.promise
        assert num_body_bytes > 50


async def test_the_head_does_not_promise_what_is_not_estimated(foreseen: Endpoint):
    def unknown(request_id: int, request: GenerationRequest) -> Decision:
        never = ReplicaEstimate(replica="tiny/0", l_x_s=inf, ttft_s=inf, e2e_s=inf)
        decision = decide(request_id, request)
        decision.estimates = (SLOW, never)
        return decision

    foreseen.dispatcher.decide = unknown
    response = await foreseen.complete()
    assert set(ours(response.headers)) == {"x-fmedge-request-id", "x-fmedge-replica"}
    timings = (await response.json())["timings"]
    assert "est_ttft_ms" not in timings
    assert timings["replica"] == "tiny/0"


async def test_timings_have_what_was_observed_and_what_was_estimated(foreseen: Endpoint):
    chunks = await events_of(await foreseen.chat(stream=True))
    assert chunks[-1] == "[DONE]"
    assert all("timings" not in chunk for chunk in chunks[:-2])
    timings = chunks[-2]["timings"]
    assert timings["est_ttft_ms"] == 12.346
    assert timings["est_e2e_ms"] == 1250.0
    assert timings["replica"] == "tiny/0"
    assert 0 <= timings["queue_ms"] <= timings["ttft_ms"] <= timings["e2e_ms"] < 20_000
    # What llama-server's clients read is as it was.
    assert timings["prompt_ms"] == 500.0
    assert timings["predicted_ms"] == 1000.0


async def test_terms_reach_the_scheduler(foreseen: Endpoint):
    headers = {
        "x-fmedge-workflow": "triage", "x-fmedge-workflow-id": "run-7", "x-fmedge-stage": "plan",
        "X-Fmedge-Deadline-Ms": "1500", "x-llm-d-slo-ttft-ms": "250",
    }  # fmt: skip
    body = {"model": "tiny", "prompt": "Once"}
    response = await foreseen.post("/v1/completions", body, headers=dict(headers))
    assert response.status == 200
    sent = foreseen.dispatcher.requests[-1]
    assert sent.promise == Promise(ttft_s=0.25)
    assert sent.workflow is not None
    assert (sent.workflow.workflow, sent.workflow.instance) == ("triage", "run-7")
    assert (sent.workflow.stage, sent.workflow.deadline_s) == ("plan", 1.5)
    assert sent.length_keys[0] == "stage triage/plan"
    embedded = await foreseen.post(
        "/v1/embeddings", {"model": "tiny", "input": "x"}, headers=dict(headers)
    )
    assert embedded.status == 200
    assert foreseen.dispatcher.checks[-1][0] == Promise(ttft_s=0.25)


async def test_a_service_tier_is_a_class_or_a_priority(foreseen: Endpoint):
    for tier in ("priority", "fast", "flex", "auto"):
        await foreseen.chat(service_tier=tier)
    seen = [(sent.promise.sla_class, sent.priority) for sent in foreseen.dispatcher.requests]
    assert seen == [("interactive", 0), ("", 10), ("", -10), ("", 0)]
    await foreseen.chat(service_tier="priority", priority=7)
    assert foreseen.dispatcher.requests[-1].priority == 7


@pytest.mark.parametrize(
    ("sla", "param"),
    [
        ({"ttft_ms": 0}, "sla.ttft_ms"),
        ({"tpot_ms": -1}, "sla.tpot_ms"),
        ({"e2e_ms": "5"}, "sla.e2e_ms"),
        ({"e2e_ms": 1e10}, "sla.e2e_ms"),
        ({"ttft_ms": 10, "e2e_ms": 9}, "sla.ttft_ms"),
        ({"class": "gold"}, "sla.class"),
        ({"class": 5}, "sla.class"),
        ({"ttft": 10}, "sla.ttft"),
        ("interactive", "sla"),
    ],
)
async def test_promises_that_cannot_be(foreseen: Endpoint, sla: object, param: str):
    for send in (foreseen.chat, foreseen.complete):
        error = await error_of(await send(sla=sla), 400)
        assert error["param"] == param
        assert f"`{param.rpartition('.')[2] if param == 'sla.ttft' else param}`" in error["message"]
    assert not foreseen.dispatcher.requests


async def test_nan_is_no_json(foreseen: Endpoint):
    body = b'{"model": "tiny", "prompt": "x", "sla": {"ttft_ms": NaN}}'
    error = await error_of(await foreseen.post("/v1/completions", body), 400)
    assert error["code"] == "invalid_json"


async def test_bad_headers_are_named(foreseen: Endpoint):
    for path in ("/v1/completions", "/v1/estimate"):
        response = await foreseen.post(
            path, {"model": "tiny", "prompt": "x"}, headers={"x-fmedge-slo-ttft-ms": "nan"}
        )
        assert (await error_of(response, 400))["param"] == "x-fmedge-slo-ttft-ms"
    response = await foreseen.post(
        "/v1/embeddings", {"model": "tiny", "input": "x"}, headers={"x-fmedge-workflow": "nope"}
    )
    assert (await error_of(response, 400))["code"] == "unknown_workflow"


async def test_a_refusal_can_be_looked_up(foreseen: Endpoint, monkeypatch: pytest.MonkeyPatch):
    async def refuse(request: GenerationRequest) -> None:
        raise UnavailableError(
            "The promise cannot be kept.", retry_after_s=3.2, code="sla_unattainable",
            is_overload=True, request_id=77,
        )  # fmt: skip

    monkeypatch.setattr(foreseen.dispatcher, "submit", refuse)
    response = await foreseen.chat(stream=True)
    error = await error_of(response, 429)
    assert error["code"] == "sla_unattainable"
    assert response.headers["Retry-After"] == "4"
    assert response.headers["x-fmedge-request-id"] == "77"


async def test_anothers_instance_is_a_conflict(start):
    keys = (ApiKey("ann", "secret-one"), ApiKey("bob", "secret-two"))
    endpoint = await start(msgspec.structs.replace(SETTINGS, api_keys=keys))
    call = {"x-fmedge-workflow": "triage", "x-fmedge-workflow-id": "run-7"}
    for secret, status in (("secret-one", 200), ("secret-two", 409), ("secret-one", 200)):
        response = await endpoint.post(
            "/v1/completions",
            {"model": "tiny", "prompt": "x"},
            headers=call | {"x-api-key": secret},
        )
        assert response.status == status, await response.text()
        if status == 409:
            error = await error_of(response, 409)
            assert error["code"] == "workflow_instance_owned"
            assert error["param"] == "x-fmedge-workflow-id"
            assert "run-7" in error["message"]


async def test_a_workflow_is_reported(start):
    endpoint = await start(SETTINGS)
    for number, stage in enumerate(("plan", "act")):
        headers = {
            "x-fmedge-workflow": "triage", "x-fmedge-workflow-id": "run-7",
            "x-fmedge-stage": stage, "x-fmedge-workflow-last": str(number),
        }  # fmt: skip
        response = await endpoint.post(
            "/v1/completions", {"model": "tiny", "prompt": "x"}, headers=headers
        )
        assert response.status == 200
    for query in ("", "?name=triage"):
        response = await endpoint.client.get(f"/admin/workflows{query}")
        assert response.status == 200
        (report,) = (await response.json())["workflows"]
        assert (report["workflow"], report["promise_ms"]) == ("triage", 30_000.0)
        assert (report["num_instances"], report["num_missed"]) == (1, 0)
        assert {stage["stage"] for stage in report["stages"]} == {"plan", "act"}
    error = await error_of(await endpoint.client.get("/admin/workflows?name=triag"), 404)
    assert (error["param"], error["code"]) == ("name", "not_found")
    assert "`triage`" in error["message"]


async def test_without_workflows_there_is_nothing_to_report(endpoint: Endpoint):
    response = await endpoint.client.get("/admin/workflows")
    assert await response.json() == {"workflows": []}


async def test_estimate_runs_nothing(foreseen: Endpoint):
    chat = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    response = await foreseen.post("/v1/estimate", chat | {"sla": {"e2e_ms": 3000}})
    assert response.status == 200
    body = await response.json()
    num_prompt = len(foreseen.dispatcher.requests[-1].prompt) // 4
    assert body["model"] == "tiny"
    assert body["prompt_tokens"] == num_prompt > 5
    assert body["output_tokens"] == {"p50": 20, "p90": 70}
    assert body["promise"] == {"class": None, "ttft_ms": None, "tpot_ms": None, "e2e_ms": 3000.0}
    assert body["estimates"][0] == {
        "replica": "tiny/1", "cached_tokens": 0, "l_est_ms": 2750.0, "l_q_ms": 500.0,
        "l_x_ms": 2000.0, "l_r_ms": 250.0, "ttft_ms": 1000.0, "ttft_p90_ms": 1500.0,
        "tpot_ms": 100.0, "e2e_ms": 2500.0, "e2e_p90_ms": 4000.0, "p_hold": 0.2, "harm": 0.5,
    }  # fmt: skip
    assert body["decision"] == {
        "action": "assign", "replica": "tiny/0", "reason": "the slowest on which it holds",
        "retry_after_s": None,
    }  # fmt: skip
    response = await foreseen.post("/v1/estimate", {"model": "tiny", "prompt": [1, 2, 3]})
    assert (await response.json())["prompt_tokens"] == 3
    assert not foreseen.replica.submitted
    assert not foreseen.dispatcher.checks


async def test_estimate_of_a_refusal_is_no_error(foreseen: Endpoint):
    def refused(request_id: int, request: GenerationRequest) -> Decision:
        decision = decide(request_id, request)
        decision.action, decision.chosen, decision.retry_after_s = "refuse", -1, 2.5
        return decision

    foreseen.dispatcher.decide = refused
    response = await foreseen.post("/v1/estimate", {"model": "tiny", "prompt": "x"})
    assert response.status == 200
    verdict = (await response.json())["decision"]
    assert (verdict["action"], verdict["replica"], verdict["retry_after_s"]) == (
        "refuse", None, 2.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[1]", None),
        (b"{", None),
        (b"\xff", None),
        (b"{" * 5000, None),
        (b'{"model": "tiny", "messages": []}', "messages"),
        (
            b'{"model": "tiny", "messages": [{"role": "user", "content": ""}], "prompt": 1}',
            "prompt",
        ),
        (b'{"model": "tiny", "tools": []}', "tools"),
        (b'{"messages": 5}', "messages"),
    ],
)
async def test_estimates_of_bad_bodies(foreseen: Endpoint, body: bytes, param: str | None):
    error = await error_of(await foreseen.post("/v1/estimate", body), 400)
    assert error["param"] == param


async def test_estimate_of_an_unknown_model(foreseen: Endpoint):
    await error_of(await foreseen.post("/v1/estimate", {"model": "no", "prompt": "x"}), 404)


async def test_decisions_tell_how_it_went(foreseen: Endpoint):
    ids = []
    for number in range(3):
        response = await foreseen.complete(sla={"class": "interactive"}, max_tokens=number + 1)
        ids.append(int(response.headers["x-fmedge-request-id"]))
    decision = foreseen.dispatcher.told[ids[1]]
    decision.events.append(DecisionEvent(0.0015, "assigned", "tiny/0"))
    decision.observed_ttft_s, decision.observed_e2e_s, decision.held = 0.25, 1.5, True
    decision.num_output_tokens = 2

    async def asked(query: str) -> list[dict[str, object]]:
        response = await foreseen.client.get(f"/admin/decisions{query}")
        assert response.status == 200, await response.text()
        found: list[dict[str, object]] = json.loads(await response.text())["decisions"]
        return found

    assert [each["request_id"] for each in await asked("")] == ids[::-1]
    assert [each["request_id"] for each in await asked("?limit=2")] == ids[:0:-1]
    assert len(await asked("?limit=2000")) == 3
    (one,) = await asked(f"?request_id={ids[1]}")
    assert one["max_tokens"] == 2
    assert 2.0 <= one["age_s"] < 60.0  # type: ignore[operator]
    assert one["events"] == [{"at_ms": 1.5, "what": "assigned", "detail": "tiny/0"}]
    assert one["observed"] == {
        "l_q_ms": None, "l_x_ms": None, "ttft_ms": 250.0, "e2e_ms": 1500.0, "output_tokens": 2,
        "held": True,
    }  # fmt: skip
    assert one["promise"] == {
        "class": "interactive", "ttft_ms": 500.0, "tpot_ms": None, "e2e_ms": 9000.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("request_id=12345", 404, "request_id"),
        ("request_id=x", 400, "request_id"),
        ("request_id=", 400, "request_id"),
        ("request_id=-1", 400, "request_id"),
        ("request_id=%D9%A5", 400, "request_id"),
        ("request_id=" + "9" * 5000, 400, "request_id"),
        ("limit=0", 400, "limit"),
        ("limit=2001", 400, "limit"),
        ("limit=1.5", 400, "limit"),
    ],
)
async def test_decisions_that_cannot_be_shown(
    foreseen: Endpoint, query: str, status: int, param: str
):
    error = await error_of(await foreseen.client.get(f"/admin/decisions?{query}"), status)
    assert error["param"] == param


async def test_browsers_may_send_and_read_the_headers(start):
    endpoint = await start(HttpSettings(cors_origins=("https://a.example",)))
    origin = {"Origin": "https://a.example"}
    preflight = await endpoint.client.options(
        "/v1/completions", headers=origin | {"Access-Control-Request-Method": "POST"}
    )
    assert "x-fmedge-slo-ttft-ms" in preflight.headers["Access-Control-Allow-Headers"]
    answer = await endpoint.client.get("/health", headers=origin)
    assert "x-fmedge-l-est-ms" in answer.headers["Access-Control-Expose-Headers"]
