"""A scripted HTTP server for the load generator and the chat: it sends exactly what it is told,
in exactly the pieces it is told, and records what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

Script = Callable[[str, dict[str, Any]], Iterable[bytes | None]]


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def piece(text: str) -> bytes:
    return event({"choices": [{"text": text, "finish_reason": None}]})


def last(num_prompt: int, num_output: int, cached: int = 0) -> bytes:
    usage = {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    finish = event({"choices": [{"text": "", "finish_reason": "length"}]})
    return finish + event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def whole_stream(events: Iterable[bytes]) -> bytes:
    return STREAM_HEAD + b"".join(map(chunk, events)) + b"0\r\n\r\n"


def document(status: int, body: object) -> bytes:
    payload = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


class FakeServer:
    """`script(path, body)` gives the pieces to write; None closes the connection there."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.num_connections = 0
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                request, *lines = head.strip().split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in lines)
                payload = await reader.readexactly(int(fields.get("content-length", "0")))
                path = request.split(" ")[1]
                body = json.loads(payload) if payload else {}
                self.asked.append((path, body, fields))
                for part in self._script(path, body):
                    if part is None:
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)  # so that pieces arrive as pieces
        writer.close()

    async def _closing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        self._writers.append(writer)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeServer]:
        server = await asyncio.start_server(self._closing, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.gather(*self._tasks)
