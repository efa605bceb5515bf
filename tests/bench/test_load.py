"""What the rows send, and what they do not take for a result."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import load
from bench.servers import Server
from fmedge.cli.bench_client import Target
from tests.cli.fake_openai import FakeServer, document, last, piece, whole_stream


def serving(url: str = "http://127.0.0.1:1") -> Server:
    target = Target.parse(url)
    return Server("fake", target.host, target.port, "bench", 0, Path())


def sent(requests: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests]


def test_prompts_share_exactly_their_prefix_and_repeat_with_their_seed() -> None:
    fields = {"shared_prefix_tokens": 40}
    made = load.requests(serving(), 4, 50, 8, 3, **fields)
    bodies = sent(made)
    prompts = [body["prompt"] for body in bodies]
    assert [len(prompt) for prompt in prompts] == [50] * 4
    assert len({tuple(prompt[:40]) for prompt in prompts}) == 1
    assert len({prompt[40] for prompt in prompts}) > 1
    assert all(load.FIRST_TOKEN <= token < load.LAST_TOKEN for p in prompts for token in p)
    assert [body["seed"] for body in bodies] == [0, 1, 2, 3]
    assert all(body["ignore_eos"] and body["max_tokens"] == 8 for body in bodies)
    assert made == load.requests(serving(), 4, 50, 8, 3, **fields)
    assert made != load.requests(serving(), 4, 50, 8, 4, **fields)


async def test_every_request_has_a_connection_of_its_own() -> None:
    answer = whole_stream([piece("a"), piece("b"), last(5, 2)])
    async with FakeServer(lambda *_: [answer]).running() as server:
        target = serving(server.url)
        outcomes = await load.closed_loop(target, load.requests(target, 5, 5, 2, 0), 2, 2)
    assert [len(outcome.times_s) for outcome in outcomes] == [2] * 5
    assert server.num_connections == 5


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (whole_stream([piece("a"), last(5, 1)]), "fake: 1 tokens where 2 were asked"),
        (document(503, {"error": "full"}), "fake: http_503: .*full"),
    ],
)
async def test_what_is_not_as_asked_is_no_result(answer: bytes, message: str) -> None:
    async with FakeServer(lambda *_: [answer]).running() as server:
        target = serving(server.url)
        with pytest.raises(load.LoadError, match=re.compile(message)):
            await load.closed_loop(target, load.requests(target, 1, 5, 2, 0), 1, 2)
