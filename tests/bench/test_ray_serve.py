"""The parts of the comparison with Ray Serve that need no Ray; and, where Ray is, its settings."""

from __future__ import annotations

import asyncio
from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from bench.ray_serve import __main__ as command
from bench.ray_serve.ingress import listening
from bench.ray_serve.ledger import Ledger
from bench.ray_serve.setups import (
    DEFAULT_MAX_ONGOING,
    SETUPS,
    Scaling,
    deployment_options,
    environment,
)
from bench.ray_serve.wire import Answer, BadRequestError, error_body, opened, read
from bench.servers import free_port
from fmedge.cli.bench_connection import Connection, Outcome

PIECES = defaultdict(lambda: b"a", {9: b"", 7: "é".encode()})


class Scripted:
    """Gives lists of tokens in turn, and notes how it ended."""

    def __init__(self, lists: list[list[int]], error: Exception | None = None) -> None:
        self.lists = lists
        self.error = error
        self.asked: tuple[bytes, int, int, float] | None = None
        self.is_closed = False

    async def generate(
        self, tokens: bytes, max_tokens: int, seed: int, *, chunk_s: float = 0
    ) -> AsyncGenerator[list[int], None]:
        self.asked = (tokens, max_tokens, seed, chunk_s)
        try:
            if self.error is not None:
                raise self.error
            for tokens_of_step in self.lists:
                yield tokens_of_step
        finally:
            self.is_closed = True


def answer_of(emulator: Scripted, **fields: Any) -> Answer:
    ask = read(msgspec.json.encode({"prompt": [5, 6], "model": "m", "seed": 3} | fields))
    return Answer(ask, emulator, PIECES, prompt=array("i", [5, 6]).tobytes(), chunk_s=0.5)


async def parsed(body: bytes, content_type: str) -> Outcome:
    """As the load generator reads it."""

    class Discarded(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            pass

        def abort(self) -> None:
            pass

    connection = Connection()
    connection.connection_made(Discarded())
    outcome = Outcome(index=0, arrival_s=0.0)
    done = connection.send(b"", outcome)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.data_received(head.encode() + body)
    async with asyncio.timeout(5):
        await done
    return outcome


async def test_a_stream_is_read_by_the_load_generator() -> None:
    emulator = Scripted([[1], [7, 2, 9], [3]])
    answer = answer_of(emulator, stream=True, max_tokens=64, stream_options={"include_usage": True})
    pieces = [piece async for piece in answer.body()]
    assert len(pieces) == 4  # a piece for each list that has text, and one for the end
    outcome = await parsed(b"".join(pieces), answer.content_type)
    assert outcome.error == ""
    assert outcome.finish_reason == "stop"
    assert (outcome.num_prompt_tokens, outcome.num_output_tokens) == (2, 5)
    assert len(outcome.times_s) == 3
    assert emulator.asked == (array("i", [5, 6]).tobytes(), 64, 3, 0.5)


async def test_one_document_has_all_of_the_text() -> None:
    answer = answer_of(Scripted([[1], [7, 2]]), max_tokens=3)
    (body,) = [piece async for piece in answer.body()]
    document = msgspec.json.decode(body)
    assert document["choices"][0]["text"] == "aéa"
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


async def test_a_reader_who_leaves_ends_the_generation() -> None:
    emulator = Scripted([[1], [2], [3]])
    body = await opened(answer_of(emulator, stream=True, max_tokens=64).body())
    assert b'"a"' in await anext(body)
    assert not emulator.is_closed
    await body.aclose()
    assert emulator.is_closed


async def test_what_fails_before_the_first_token_fails_before_the_body() -> None:
    emulator = Scripted([], LookupError("too long"))
    with pytest.raises(LookupError, match="too long"):
        await opened(answer_of(emulator, stream=True).body())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "truncated"),
        (b"{}", "prompt"),
        (b'{"prompt": [1, 1.5]}', "prompt"),
        (b'{"prompt": [1], "max_tokens": 0}', "max_tokens"),
    ],
)
def test_a_bad_body_is_said_to_be_one(body: bytes, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        read(body)


def test_a_specification_has_one_living_holder() -> None:
    alive = {"a", "b", "c"}
    now_s = 10.0
    ledger = Ledger([("fast", b"1"), ("slow", b"2")], alive.__contains__, lambda: now_s)
    assert (ledger.take("a"), ledger.take("b")) == (b"1", b"2")
    with pytest.raises(LookupError, match="all 2 replicas"):
        ledger.take("c")
    now_s = 14.0
    alive.discard("a")
    assert ledger.in_use() == (["slow"], 8.0)
    assert ledger.take("c") == b"1"
    now_s = 15.0
    names, replica_s = ledger.in_use()
    assert sorted(names) == ["fast", "slow"]
    assert replica_s == 8.0 + 2.0


def test_set_ups_take_rays_own_settings(tmp_path: Path) -> None:
    default = deployment_options(SETUPS["default"], 16, 4, Scaling())
    assert (default["max_ongoing_requests"], default["num_replicas"]) == (5, 4)
    tuned = deployment_options(SETUPS["tuned"], 16, 4, Scaling())
    assert tuned["max_ongoing_requests"] == 16
    scaled = deployment_options(
        SETUPS["autoscaling"], 16, 4, Scaling(min_replicas=2, max_replicas=9)
    )
    assert "num_replicas" not in scaled
    autoscaling = scaled["autoscaling_config"]
    assert (autoscaling["min_replicas"], autoscaling["max_replicas"]) == (2, 4)
    assert autoscaling["target_ongoing_requests"] == 12
    for setup in SETUPS.values():
        variables = environment(setup, tmp_path)
        assert ("RAY_SERVE_ENABLE_HA_PROXY" in variables) == (setup.ingress == "haproxy")


def test_ray_still_has_the_settings(tmp_path: Path) -> None:
    """Of the pinned version, if it is here: a variable that Ray no longer reads tunes nothing."""
    specification = find_spec("ray")
    if specification is None or specification.origin is None:
        pytest.skip("ray is not installed")
    folder = Path(specification.origin).parent / "serve" / "_private"
    source = (folder / "constants.py").read_text()
    for setup in SETUPS.values():
        for variable in environment(setup, tmp_path):
            assert not variable.startswith("RAY_SERVE") or f'"{variable}"' in source, variable
    assert f"DEFAULT_MAX_ONGOING_REQUESTS = {DEFAULT_MAX_ONGOING}\n" in source


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not a file of replicas"), ("[]", "no replicas")]
)
def test_what_cannot_be_served_is_said_before_ray_starts(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "specs.json"
    file.write_text(text)
    monkeypatch.setattr("sys.argv", ["ray_serve", "--specs", str(file)])
    monkeypatch.setattr(command, "why_absent", lambda: "")
    assert command.main() == 1
    assert message in capsys.readouterr().err
    monkeypatch.setattr(command, "why_absent", lambda: "Ray Serve is not installed")
    assert command.main() == 1
    assert "not installed" in capsys.readouterr().err


async def test_a_body_goes_through_the_ingress_as_it_is() -> None:
    async def pieces(body: bytes) -> AsyncGenerator[bytes, None]:
        if body == b"fail":
            raise LookupError("line one\nno such thing")
        yield error_body("bad") if body == b"bad" else b"data: " + body + b"\n\n"

    port = free_port()
    async with listening(port, "m", pieces), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/v1/completions"
        for sent, status, wanted in (
            (b"x", 200, b"data: x\n\n"),
            (b"bad", 400, b'"message":"bad"'),
            (b"fail", 500, b"no such thing"),
        ):
            async with session.post(url, data=sent) as response:
                assert response.status == status
                assert wanted in await response.read()
