"""/openapi.json: one source with the decoders, true under generated requests."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS

from fmedge.dispatch import Dispatcher
from fmedge.http import build_app, build_runner
from fmedge.http.openapi import OPERATIONS, build_openapi
from fmedge.http.promises import HEADERS, LIMITS
from fmedge.http.schemas import ChatRequest, CompletionRequest, EmbeddingRequest
from fmedge.http.settings import HttpSettings
from fmedge.types import Promise, WorkflowSettings
from tests.http.conftest import ScriptedReplica, served

SETTINGS = HttpSettings(
    sla_classes={"interactive": Promise(sla_class="interactive", ttft_s=0.5)},
    workflows={"triage": WorkflowSettings(name="triage", e2e_s=30.0)},
)


async def _serve(started: threading.Event, found: dict[str, object]) -> None:
    """Until `found["stop"]` is set; runs on a thread of its own."""
    dispatcher = Dispatcher(workflows=SETTINGS.workflows)
    model = served()
    replica = ScriptedReplica("tiny/0", "tiny")
    dispatcher.add_replica(replica)
    replica.become_ready()
    runner = build_runner(build_app(dispatcher, {"tiny": model}, SETTINGS))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stop = asyncio.Event()
    found.update(port=runner.addresses[0][1], stop=stop, loop=asyncio.get_running_loop())
    started.set()
    await stop.wait()
    await runner.cleanup()
    model.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    started: threading.Event = threading.Event()
    found: dict[str, object] = {}
    thread = threading.Thread(target=lambda: asyncio.run(_serve(started, found)))
    thread.start()
    assert started.wait(20)
    yield f"http://127.0.0.1:{found['port']}"
    found["loop"].call_soon_threadsafe(found["stop"].set)
    thread.join(20)
    assert not thread.is_alive()


def test_every_route_is_described():
    app = build_app(None, {"tiny": served()}, HttpSettings())  # type: ignore[arg-type]
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.method != "HEAD"
    }
    described = {(op.method, op.path) for op in OPERATIONS}
    assert routes - described == {("get", "/v1/health")}
    assert described <= routes


def test_every_field_is_described_by_its_struct():
    schemas = build_openapi(["tiny"], needs_key=False)["components"]["schemas"]
    for struct in (ChatRequest, CompletionRequest, EmbeddingRequest):
        assert set(schemas[struct.__name__]["properties"]) == set(struct.__struct_fields__)
        assert schemas[struct.__name__]["additionalProperties"] is False


def test_what_only_the_configuration_knows_is_described():
    document = build_openapi(["tiny"], SETTINGS, needs_key=False)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/estimate"):
        described = document["paths"][path]["post"]["parameters"]
        headers = {each["name"]: each["schema"] for each in described}
        assert set(headers) == set(HEADERS)
        assert headers["x-fmedge-sla"]["enum"] == ["interactive"]
        assert headers["x-fmedge-workflow"]["enum"] == ["triage"]
    sla_class = document["components"]["schemas"]["Sla"]["properties"]["class"]
    assert {"type": "string", "enum": ["interactive"]} in sla_class["anyOf"]
    bare = build_openapi(["tiny"], needs_key=False)
    described = bare["paths"]["/v1/completions"]["post"]["parameters"]
    assert {each["name"] for each in described} == set(LIMITS)
    assert bare["components"]["schemas"]["Sla"]["properties"]["class"]["anyOf"] == [
        {"type": "null"}
    ]


def test_keys_are_described_when_asked_for():
    described = build_openapi(["tiny"], needs_key=True)
    assert set(described["components"]["securitySchemes"]) == {"bearer", "key"}
    assert described["paths"]["/health"]["get"]["security"] == []
    assert "401" in described["paths"]["/v1/models"]["get"]["responses"]
    assert "securitySchemes" not in build_openapi(["tiny"], needs_key=False)["components"]


def test_generated_requests_meet_no_5xx_and_no_undocumented_answer(url: str):
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        document = json.load(answer)
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    names = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
             "response_schema_conformance")  # fmt: skip
    checks = CHECKS.get_by_names(list(names))
    num_calls = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        num_calls += _call_with_examples(operation, schemathesis.GenerationMode.POSITIVE, checks)
        if operation.body:
            # Where nothing is sent, nothing can be wrong.
            negative = schemathesis.GenerationMode.NEGATIVE
            num_calls += _call_with_examples(operation, negative, checks)
    assert num_calls > 30


def _call_with_examples(operation, mode, checks) -> int:
    num_calls = 0

    @settings(
        max_examples=6, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def call(case) -> None:
        nonlocal num_calls
        num_calls += 1
        case.validate_response(case.call(timeout=20), checks=checks)

    call()
    return num_calls
