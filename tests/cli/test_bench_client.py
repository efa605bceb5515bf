"""The load generator counts what came, whatever pieces it came in, and names every failure."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.cli.bench_client import Client, Load, Target, run_load
from fmedge.cli.bench_connection import Outcome
from fmedge.errors import ConfigError
from tests.cli.fake_openai import (
    STREAM_HEAD,
    FakeServer,
    chunk,
    document,
    event,
    last,
    piece,
    whole_stream,
)

EVENTS = [piece("a"), piece("b"), piece(""), piece("c"), last(7, 3, cached=2)]


async def send(server: FakeServer, count: int = 1, load: Load | None = None) -> list[Outcome]:
    client = Client(Target.parse(server.url, key="sesame"))
    try:
        requests = [client.request("/v1/completions", {"n": i}) for i in range(count)]
        return await run_load(client, requests, load or Load(concurrency=1, timeout_s=10))
    finally:
        client.close()


async def test_counts_texts_and_reads_usage() -> None:
    async with FakeServer(lambda *_: [whole_stream(EVENTS)]).running() as server:
        (outcome,) = await send(server)
    assert (outcome.error, outcome.status, outcome.finish_reason) == ("", 200, "length")
    assert len(outcome.times_s) == 3  # the empty piece is no text
    assert (outcome.num_prompt_tokens, outcome.num_output_tokens) == (7, 3)
    assert outcome.num_cached_tokens == 2
    assert outcome.arrival_s <= outcome.times_s[0] <= outcome.times_s[-1] <= outcome.end_s
    path, body, fields = server.asked[0]
    assert (path, body, fields["authorization"]) == ("/v1/completions", {"n": 0}, "bearer sesame")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 400), max_size=12), st.booleans())
def test_any_cut_of_the_bytes_gives_the_same(cuts: list[int], crlf: bool) -> None:
    events = [e.replace(b"\n\n", b"\r\n\r\n") for e in EVENTS] if crlf else EVENTS
    whole = whole_stream([b": ping\n\n", *events])
    bounds = sorted({0, *(c for c in cuts if c < len(whole)), len(whole)})
    parts = [whole[a:b] for a, b in pairwise(bounds)]

    async def check() -> None:
        async with FakeServer(lambda *_: parts).running() as server:
            for outcome in await send(server, 2):  # the second meets a used connection
                assert outcome.error == ""
                assert len(outcome.times_s) == 3
                assert outcome.num_output_tokens == 3
        assert server.num_connections == 1

    asyncio.run(check())


@pytest.mark.parametrize(
    ("parts", "error", "detail"),
    [
        ([document(503, {"error": {"message": "full"}})], "http_503", "full"),
        ([None], "disconnected", "closed"),
        ([STREAM_HEAD + chunk(piece("a")), None], "disconnected", "closed"),
        ([whole_stream([piece("a")])], "incomplete", "[DONE]"),
        ([whole_stream([piece("a"), event({"error": {"message": "boom"}})])], "stream_error",
         "boom"),
        ([STREAM_HEAD + b"zz\r\n"], "protocol", "chunked"),
        ([b"SSH-2.0-x\r\n\r\n"], "protocol", "not an HTTP answer"),
        ([whole_stream([b"data: {\n\n", b"data: [DONE]\n\n"])], "protocol", "not JSON"),
        ([STREAM_HEAD + chunk(piece("a"))], "timeout", "0.2 s"),
    ],
)  # fmt: skip
async def test_failures_have_kinds(parts: list[bytes | None], error: str, detail: str) -> None:
    async with FakeServer(lambda *_: parts).running() as server:
        (outcome,) = await send(server, load=Load(concurrency=1, timeout_s=0.2))
    assert outcome.error == error
    assert detail in outcome.detail


async def test_nobody_listens() -> None:
    server = FakeServer(lambda *_: [])
    async with server.running():
        pass
    (outcome,) = await send(server)
    assert outcome.error == "connect"


async def test_a_connection_closed_while_idle_costs_no_failure() -> None:
    answers = 0

    def script(*_: object) -> list[bytes | None]:
        nonlocal answers
        answers += 1
        return [whole_stream(EVENTS), None]  # closes after each answer, without saying so

    async with FakeServer(script).running() as server:
        outcomes = await send(server, 5)
    assert [o.error for o in outcomes] == [""] * 5
    assert answers == 5


async def test_plain_answers_are_read_too() -> None:
    body = {"choices": [{"finish_reason": "stop"}], "usage": {"completion_tokens": 9}}
    async with FakeServer(lambda *_: [document(200, body)]).running() as server:
        (outcome,) = await send(server)
    assert (outcome.error, outcome.num_output_tokens, outcome.finish_reason) == ("", 9, "stop")


async def test_closed_loop_keeps_to_its_concurrency() -> None:
    async with FakeServer(lambda *_: [whole_stream(EVENTS)]).running() as server:
        outcomes = await send(server, 20, Load(concurrency=3, timeout_s=10))
    assert [o.index for o in outcomes] == list(range(20))
    assert server.num_connections == 3
    assert {body["n"] for _, body, _ in server.asked} == set(range(20))


async def test_open_loop_counts_from_the_seeded_arrivals() -> None:
    load = Load(concurrency=0, rate=2000.0, seed=3, timeout_s=10)
    async with FakeServer(lambda *_: [whole_stream(EVENTS)]).running() as server:
        first, again = await send(server, 30, load), await send(server, 30, load)
    gaps = [[b.arrival_s - a.arrival_s for a, b in pairwise(o)]
            for o in (first, again)]  # fmt: skip
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-6)
    assert 0.2 < sum(gaps[0]) / 29 * 2000 < 3
    assert all(o.times_s[0] >= o.arrival_s for o in first)


async def test_open_loop_waits_under_a_ceiling_at_the_arrivals_cost() -> None:
    async with FakeServer(lambda *_: [whole_stream(EVENTS)]).running() as server:
        started_s = perf_counter()
        outcomes = await send(server, 20, Load(concurrency=1, rate=1e5, timeout_s=10))
    assert server.num_connections == 1
    ends = sorted(o.end_s for o in outcomes)
    assert outcomes[-1].arrival_s - started_s < ends[-1] - started_s


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:1", ("h", 1, "", False, "h:1")),
        ("h:1", ("h", 1, "", False, "h:1")),
        ("https://h/v1", ("h", 443, "", True, "h:443")),
        ("http://[::1]:80/a/v1/", ("::1", 80, "/a", False, "[::1]:80")),
    ],
)
def test_urls(url: str, expected: tuple[str, int, str, bool, str]) -> None:
    target = Target.parse(url)
    found = (target.host, target.port, target.path, target.is_tls, target.authority)
    assert found == expected


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:x", "http://h:99999"])
def test_wrong_urls(url: str) -> None:
    with pytest.raises(ConfigError):
        Target.parse(url)
