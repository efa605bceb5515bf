"""The load client against servers that cut their bytes in every way HTTP allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import client, load
from bench.client import Connection, ProtocolError, RawReply

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [
    b'data: {"choices":[{"text":"one"}]}\n\n',
    b'data: {"choices":[{"text":""}]}\n\n',
    b": ping\n\n",
    b'data: {"choices":[{"delta":{"content":"two"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":3}}}\n\n',
    b"data: [DONE]\n\n",
]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def received(parts: list[bytes]) -> RawReply:
    """A reply whose parts arrived at seconds 1, 2, 3, ..."""
    raw = RawReply(sent_s=0.5)
    for second, part in enumerate(parts, 1):
        raw.body += part
        raw.reads.append((float(second), len(raw.body)))
    return raw


def test_each_text_event_has_the_time_of_the_read_that_completed_it() -> None:
    chunks = [chunk(event) for event in EVENTS]
    reply = client.parse(received([HEAD + chunks[0][:20], chunks[0][20:], *chunks[1:], chunk(b"")]))
    assert reply.text_s == (2.0, 5.0)
    assert reply.ttft_s == 1.5
    assert (reply.num_tokens, reply.num_prompt_tokens, reply.num_cached_tokens) == (2, 5, 3)
    assert reply.end_s == 8.0


@given(
    chunk_sizes=st.lists(st.integers(1, 90), min_size=1, max_size=20),
    read_sizes=st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
def test_cuts_do_not_matter(chunk_sizes: list[int], read_sizes: list[int]) -> None:
    content, body = b"".join(EVENTS), HEAD
    while content:
        for size in chunk_sizes:
            if content:
                body += chunk(content[:size])
                content = content[size:]
    body += chunk(b"")
    reads = []
    while body:
        for size in read_sizes:
            if body:
                reads.append(body[:size])
                body = body[size:]
    reply = client.parse(received(reads))
    assert len(reply.text_s) == 2
    assert reply.num_tokens == 2
    assert 1.0 <= reply.text_s[0] <= reply.text_s[1] <= reply.end_s


def test_a_stream_cut_off_counts_what_is_whole() -> None:
    whole = HEAD + chunk(EVENTS[0])
    reply = client.parse(received([whole, chunk(EVENTS[3])[:-5]]))
    assert reply.text_s == (1.0,)
    assert reply.num_tokens == 0


def test_an_error_in_the_stream_is_not_a_result() -> None:
    with pytest.raises(ProtocolError, match="boom"):
        client.parse(received([HEAD + chunk(b'data: {"error":{"message":"boom"}}\n\n')]))


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return await reader.readexactly(length)


async def test_one_connection_carries_streams_and_whole_answers() -> None:
    bodies = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(await read_request(reader))
        writer.write(HEAD + b"".join(chunk(event) for event in EVENTS) + chunk(b""))
        bodies.append(await read_request(reader))
        content = b'{"usage":{"completion_tokens":7}}'
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )
        writer.close()

    async with serving(answer) as port:
        connection = await Connection.open("127.0.0.1", port)
        request = client.post("127.0.0.1", port, "/x", {"prompt": [1, 2]})
        stream = client.parse(await connection.send(request, 10.0))
        whole = client.parse(await connection.send(client.get("127.0.0.1", port, "/y"), 10.0))
        connection.close()
    assert bodies == [b'{"prompt":[1,2]}', b""]
    assert len(stream.text_s) == 2
    assert (whole.status, whole.num_tokens, whole.text_s) == (200, 7, ())


async def test_a_connection_closed_in_mid_response_is_an_error() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk(EVENTS[0]))
        writer.close()

    async with serving(answer) as port:
        connection = await Connection.open("127.0.0.1", port)
        with pytest.raises(ProtocolError, match="closed in mid-response"):
            await connection.send(client.get("127.0.0.1", port, "/"), 10.0)
        connection.close()


@pytest.mark.parametrize(
    ("values", "quantile", "expected"),
    [([5.0], 0.99, 5.0), ([1, 2, 3, 4], 0.5, 2), (list(range(1, 101)), 0.99, 99), ([3, 1], 1.0, 3)],
)
def test_percentile_is_a_value_that_occurred(
    values: list[float], quantile: float, expected: float
) -> None:
    assert load.percentile(values, quantile) == expected


def test_shared_prompts_share_exactly_their_prefix() -> None:
    prompts = load.random_prompts(4, 50, seed=3, num_shared=40)
    assert len({tuple(prompt[:40]) for prompt in prompts}) == 1
    assert len({prompt[40] for prompt in prompts}) > 1
    assert all(len(prompt) == 50 for prompt in prompts)
    assert prompts == load.random_prompts(4, 50, seed=3, num_shared=40)
    assert prompts != load.random_prompts(4, 50, seed=4, num_shared=40)
