"""A workload is played as it is written: when calls are due, what waits for what, and what is kept
when the run breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from math import isnan
from typing import Any

import pytest

from fmedge.cli.bench_client import Client, Target
from fmedge.cli.bench_player import Played, Player
from fmedge.sim.outcome import INTERRUPTED, Row
from fmedge.sim.workload import Call, Workload
from tests.cli.fake_openai import FakeServer, document, last, piece, whole_stream

ANSWER = whole_stream([piece("a"), piece("b"), last(7, 2, cached=3)])


def workload(*calls: Call) -> Workload:
    return Workload(source="test", calls=calls)


def call(at_s: float = 0.0, *after: int) -> Call:
    return Call(at_s=at_s, num_prompt=4, num_output=2, after=after)


async def play(
    script: Callable[[str, dict[str, Any]], Iterable[bytes | None]],
    played: Workload,
    **options: Any,
) -> tuple[Played, FakeServer]:
    async with FakeServer(script).running() as server:
        client = Client(Target.parse(server.url))
        try:
            player = Player(
                client,
                played,
                lambda place, due_s: client.request("/v1/completions", {"n": place, "due": due_s}),
                **{"timeout_s": 10.0, **options},
            )
            return await player.play(), server
        finally:
            client.close()


async def test_calls_are_sent_when_due_and_times_count_from_then() -> None:
    result, server = await play(lambda *_: [ANSWER], workload(call(0.0), call(0.02), call(0.05)))
    assert [row.status for row in result.rows] == ["ok"] * 3
    assert [row.at_s for row in result.rows] == pytest.approx([0.0, 0.02, 0.05])
    assert [body["n"] for _, body, _ in server.asked] == [0, 1, 2]
    row = result.rows[2]
    assert 0 < row.ttft_s <= row.e2e_s
    assert (row.num_tokens, row.num_cached) == (2, 3)
    assert len(result.late_s) == 3
    assert all(0 <= late_s <= row.ttft_s for late_s, row in
               zip(result.late_s, result.rows, strict=True))  # fmt: skip


async def test_a_call_waits_for_all_before_it_and_for_the_tool() -> None:
    result, _ = await play(
        lambda *_: [ANSWER], workload(call(), call(0.01, 0), call(0.03, 0), call(0.02, 1, 2))
    )
    first, one, two, join = result.rows
    assert one.at_s == pytest.approx(first.at_s + first.e2e_s + 0.01)
    assert two.at_s == pytest.approx(first.at_s + first.e2e_s + 0.03)
    ends_s = [row.at_s + row.e2e_s for row in (one, two)]
    assert join.at_s == pytest.approx(max(ends_s) + 0.02)


async def test_what_waits_for_a_failure_is_never_sent() -> None:
    def script(_: str, body: dict[str, Any]) -> list[bytes | None]:
        return [document(429, {}) if body["n"] == 1 else ANSWER]

    result, server = await play(
        script, workload(call(), call(0.0, 0), call(0.0, 0), call(0.0, 1, 2), call(0.0, 3))
    )
    assert [row.status for row in result.rows] == ["ok", "refused", "ok", "unsent", "unsent"]
    assert sorted(body["n"] for _, body, _ in server.asked) == [0, 1, 2]
    assert isnan(result.rows[3].at_s)
    assert result.errors == {"http_429": 1}


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([document(503, {})], "refused"),
        ([document(500, {})], "failed"),
        ([whole_stream([piece("a")])], "failed"),
        ([ANSWER[:-40]], "timeout"),
    ],
)
async def test_what_became_of_a_call(parts: list[bytes | None], status: str) -> None:
    result, _ = await play(lambda *_: parts, workload(call()), timeout_s=0.2)
    assert result.rows[0].status == status
    assert result.ended == ""


async def test_a_server_that_dies_ends_the_run_and_what_was_measured_is_kept() -> None:
    """The server goes away at the third call; the fourth, in flight, is cut off with it."""
    serving: list[asyncio.Task[None]] = []
    done = asyncio.Event()
    address: list[str] = []

    def script(_: str, body: dict[str, Any]) -> Iterable[bytes | None]:
        if body["n"] == 2:
            done.set()
            return [None]
        return [ANSWER]

    async def serve() -> None:
        async with FakeServer(script).running() as server:
            address.append(server.url)
            done.clear()
            ready.set()
            await done.wait()

    ready = asyncio.Event()
    serving.append(asyncio.create_task(serve()))
    await asyncio.wait_for(ready.wait(), 10)
    client = Client(Target.parse(address[0]))
    try:
        player = Player(
            client,
            workload(call(0.0), call(0.05), call(0.1), call(30.0), call(0.0, 3)),
            lambda place, due_s: client.request("/v1/completions", {"n": place}),
            timeout_s=10.0,
            ask_again_s=0.0,
        )
        result = await asyncio.wait_for(player.play(), 20)
    finally:
        client.close()
        await asyncio.gather(*serving)
    assert [row.status for row in result.rows] == ["ok", "ok", "failed", "unsent", "unsent"]
    assert "no longer answers" in result.ended


async def test_one_cut_connection_of_a_server_that_lives_is_one_failure() -> None:
    def script(_: str, body: dict[str, Any]) -> list[bytes | None]:
        return [ANSWER[:60], None] if body["n"] == 0 else [ANSWER]

    result, _ = await play(script, workload(call(), call(0.05)))
    assert [row.status for row in result.rows] == ["failed", "ok"]
    assert result.ended == ""


async def test_interrupted_it_keeps_what_is_known() -> None:
    rows: list[Row] = []
    ended = asyncio.Event()

    def on_row(_: Call, row: Row) -> None:
        rows.append(row)
        if len(rows) == 1:
            ended.set()

    def script(_: str, body: dict[str, Any]) -> list[bytes | None]:
        return [ANSWER[:-40] if body["n"] == 0 else ANSWER]

    playing = asyncio.create_task(
        play(script, workload(call(), call(0.01), call(60.0), call(0.0, 0)), on_row=on_row)
    )
    await asyncio.wait_for(ended.wait(), 10)
    playing.cancel()
    result, _ = await asyncio.wait_for(playing, 10)
    assert result.ended == INTERRUPTED
    assert [row.status for row in result.rows] == ["unfinished", "ok", "unsent", "unsent"]
    assert result.rows[0].ttft_s > 0
    assert isnan(result.rows[0].e2e_s)
    assert rows == [result.rows[1]]


async def test_a_ceiling_delays_and_times_count_from_the_arrival() -> None:
    result, server = await play(
        lambda *_: [ANSWER], workload(*(call() for _ in range(6))), concurrency=1
    )
    assert server.num_connections == 1
    ends_s = [row.e2e_s for row in result.rows]
    assert ends_s == sorted(ends_s)
    assert all(row.at_s == pytest.approx(0.0) for row in result.rows)


async def test_long_chains_of_what_is_never_sent() -> None:
    calls = [call(), *(call(0.0, n) for n in range(3000))]
    result, _ = await play(lambda *_: [document(400, {})], workload(*calls))
    assert {row.status for row in result.rows[1:]} == {"unsent"}


async def test_a_mistake_in_making_a_request_is_not_swallowed() -> None:
    async with FakeServer(lambda *_: [ANSWER]).running() as server:
        client = Client(Target.parse(server.url))

        def make(place: int, due_s: float) -> bytes:
            raise ValueError("wrong")

        player = Player(client, workload(call()), make, timeout_s=1.0)
        with pytest.raises(BaseExceptionGroup, match="unhandled"):
            await player.play()
