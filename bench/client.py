"""A load client that costs next to nothing while it runs: bytes and times in, parsing afterwards.

Both sides of every comparison are driven by this same client.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

_END_OF_CHUNKS = b"\r\n0\r\n\r\n"


class ProtocolError(Exception):
    """A server answered with something that is not the HTTP that was asked for."""


@dataclass
class RawReply:
    """One response as it came: every read's arrival time and the length received by then."""

    sent_s: float
    body: bytearray = field(default_factory=bytearray)
    reads: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Reply:
    """A parsed response. Times in seconds of perf_counter; text_s: arrival of each text event.

    num_tokens is the server's own count (usage), 0 when it gave none.
    """

    status: int
    sent_s: float
    end_s: float
    text_s: tuple[float, ...]
    num_tokens: int
    num_prompt_tokens: int
    num_cached_tokens: int
    body: bytes

    @property
    def ttft_s(self) -> float:
        return self.text_s[0] - self.sent_s


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reply: RawReply | None = None
        self._done: asyncio.Future[None] | None = None
        self._wanted = 0

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None or self._done is None or self._done.done():
            return
        reply.body += data
        reply.reads.append((time.perf_counter(), len(reply.body)))
        if self._wanted == 0:
            self._wanted = _expected_length(reply.body)
        if self._wanted > 0:
            if len(reply.body) >= self._wanted:
                self._done.set_result(None)
        elif reply.body.endswith(_END_OF_CHUNKS):
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ProtocolError(f"connection closed in mid-response: {exc}"))

    async def send(self, request: bytes, timeout_s: float = 300.0) -> RawReply:
        """Send, wait for the whole response."""
        assert self._transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._wanted = 0
        self._reply = RawReply(time.perf_counter())
        self._transport.write(request)
        await asyncio.wait_for(self._done, timeout_s)
        return self._reply

    def close(self) -> RawReply | None:
        """Hang up, even in mid-response; what had arrived by then."""
        if self._transport is not None:
            self._transport.abort()
        if self._done is not None:
            self._done.cancel()
        return self._reply


def _expected_length(head: bytearray) -> int:
    """Total length of a response with Content-Length; -1 for chunked; 0 not known yet."""
    end = head.find(b"\r\n\r\n")
    if end < 0:
        return 0
    for line in bytes(head[:end]).split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return end + 4 + int(value)
    return -1


def post(host: str, port: int, path: str, body: dict[str, Any]) -> bytes:
    """An HTTP/1.1 request with a JSON body, ready to send."""
    payload = msgspec.json.encode(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def get(host: str, port: int, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def parse(raw: RawReply) -> Reply:
    """Take a response apart; of an unfinished one, the part that is whole."""
    head_end = raw.body.find(b"\r\n\r\n")
    if head_end < 0:
        raise ProtocolError("no response head")
    head = bytes(raw.body[:head_end]).lower()
    status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" in head:
        content, ends = _dechunk(raw.body, head_end + 4)
    else:
        content, ends = (
            bytes(raw.body[head_end + 4 :]),
            [(len(raw.body) - head_end - 4, len(raw.body))],
        )
    text_s: list[float] = []
    usage: dict[str, Any] = {}
    if b"text/event-stream" in head:
        times = _Times(raw.reads, ends)
        position = 0
        while (end := content.find(b"\n\n", position)) >= 0:
            event = content[position:end]
            position = end + 2
            if not event.startswith(b"data: {"):
                continue
            message = msgspec.json.decode(event[6:])
            if "error" in message:
                raise ProtocolError(f"error in the stream: {event[6:200]!r}")
            usage = message.get("usage") or usage
            if any(_text_of(choice) for choice in message.get("choices", ())):
                text_s.append(times.of(position))
    elif b"application/json" in head:
        message = msgspec.json.decode(content)
        usage = message.get("usage") or {} if isinstance(message, dict) else {}
    details = usage.get("prompt_tokens_details") or {}
    return Reply(
        status=status,
        sent_s=raw.sent_s,
        end_s=raw.reads[-1][0],
        text_s=tuple(text_s),
        num_tokens=usage.get("completion_tokens", 0),
        num_prompt_tokens=usage.get("prompt_tokens", 0),
        num_cached_tokens=details.get("cached_tokens", 0),
        body=content,
    )


def _text_of(choice: dict[str, Any]) -> str:
    return choice.get("text") or (choice.get("delta") or {}).get("content") or ""


def _dechunk(body: bytearray, start: int) -> tuple[bytes, list[tuple[int, int]]]:
    """The content, and after each chunk (content length so far, body length so far)."""
    parts: list[bytes] = []
    ends: list[tuple[int, int]] = []
    length = 0
    while (line_end := body.find(b"\r\n", start)) >= 0:
        size = int(body[start:line_end].split(b";")[0], 16)
        data = line_end + 2
        if size == 0 or data + size > len(body):
            break
        parts.append(bytes(body[data : data + size]))
        length += size
        start = data + size + 2
        ends.append((length, data + size))
    return b"".join(parts), ends


class _Times:
    """Arrival times of content positions, asked in increasing order."""

    def __init__(self, reads: list[tuple[float, int]], ends: list[tuple[int, int]]) -> None:
        self._reads, self._ends = iter(reads), iter(ends)
        self._read = next(self._reads)
        self._end = next(self._ends, (0, 0))

    def of(self, position: int) -> float:
        while self._end[0] < position and (following := next(self._ends, None)) is not None:
            self._end = following
        while self._read[1] < self._end[1] and (read := next(self._reads, None)) is not None:
            self._read = read
        return self._read[0]
