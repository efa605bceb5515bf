"""One HTTP/1.1 connection of the load generator, over a bare asyncio protocol.

It looks for tokens in the bytes: nothing is decoded as JSON before the stream has ended. Times are
seconds of time.perf_counter.
"""

from __future__ import annotations

import asyncio
import re
from array import array
from time import perf_counter
from typing import cast

import msgspec
from msgspec import Struct

MAX_HEAD_BYTES = 64 << 10
_TEXT = re.compile(rb'"(?:content|text|reasoning_content|reasoning|arguments)":\s?"(?!")')


class Outcome(Struct, kw_only=True):
    """One request: `arrival_s` when it was due, `times_s` when each piece of text came.
    `error` is "" or the kind of failure; `detail` what the server said; `replica` where fmedge says
    that it was served."""

    index: int
    arrival_s: float
    end_s: float = 0.0
    times_s: array[float] = msgspec.field(default_factory=lambda: array("d"))
    status: int = 0
    error: str = ""
    detail: str = ""
    finish_reason: str = ""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    replica: str = ""


class _PromptDetails(Struct):
    cached_tokens: int | None = 0


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Choice(Struct):
    finish_reason: str | None = None


class _Reply(Struct):
    usage: _Usage | None = None
    choices: list[_Choice] = []


_reply = msgspec.json.Decoder(_Reply)


class Connection(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._outcome = Outcome(index=-1, arrival_s=0.0)
        self._reset()

    def _reset(self) -> None:
        self._buffer = b""  # not yet parsed bytes of head or chunk framing
        self._events = b""  # the start of an event whose end has not come
        self.body = b""  # of an answer that is no stream
        self._kept: list[bytes] = []  # events that hold usage or a finish reason
        self._has_bytes = False
        self._has_head = False
        self._is_chunked = False
        self._is_stream = False
        self._must_close = False
        self._length = -1
        self._chunk_left = 0
        self._is_done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._has_head and not self._is_chunked and self._length < 0:
            self._end()  # the body ran to the end of the connection
        self._fail("disconnected", str(exc or "the server closed the connection"))

    def send(self, request: bytes, outcome: Outcome) -> asyncio.Future[None]:
        """Sends; the future is done when the outcome is complete. It never fails."""
        assert self._transport is not None
        self._reset()
        self._outcome = outcome
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    @property
    def was_stale(self) -> bool:
        """The last request met a closed connection: not one byte of an answer came."""
        return self._outcome.error == "disconnected" and not self._has_bytes

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now_s = perf_counter()
        if self._done is None:
            return
        self._has_bytes = True
        data = self._buffer + data if self._buffer else data
        if not self._has_head:
            # the CRLF that ends the last chunk of the answer before may come only now
            head, separator, data = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
            if not separator:
                self._buffer = head
                if len(head) > MAX_HEAD_BYTES:
                    self._fail("protocol", "the answer's header has no end")
                return
            self._buffer = b""
            self._read_head(head)
        if self._is_chunked:
            self._read_chunks(data, now_s)
        elif data:
            self._take(data, now_s)
            if self._length >= 0:
                self._length -= len(data)
        if not self._is_chunked and self._length == 0:
            self._end()

    def _read_head(self, head: bytes) -> None:
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        parts = status.split(" ", 2)
        self._has_head = True
        if len(parts) < 2 or not parts[1].isdigit():
            self._fail("protocol", f"not an HTTP answer: {status[:80]}")
            return
        self._outcome.status = int(parts[1])
        self._is_chunked = "chunked" in fields.get("transfer-encoding", "").lower()
        self._is_stream = "event-stream" in fields.get("content-type", "").lower()
        self._must_close = fields.get("connection", "").lower() == "close"
        self._outcome.replica = fields.get("x-fmedge-replica", "")
        length = fields.get("content-length", "")
        self._length = int(length) if length.isdigit() else -1

    def _read_chunks(self, data: bytes, now_s: float) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._chunk_left > 2:  # inside a chunk; the last two bytes are its CRLF
                take = min(self._chunk_left - 2, end - at)
                self._take(data[at : at + take], now_s)
                self._chunk_left -= take
                at += take
                continue
            if self._chunk_left:
                skip = min(self._chunk_left, end - at)
                self._chunk_left -= skip
                at += skip
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                break
            try:
                size = int(data[at:line_end].partition(b";")[0], 16)
            except ValueError:
                self._fail("protocol", "broken chunked encoding")
                return
            at = line_end + 2
            if size == 0:
                self._end()
                return
            self._chunk_left = size + 2
        self._buffer = data[at:] if at < end else b""

    def _take(self, payload: bytes, now_s: float) -> None:
        if not self._is_stream:
            self.body += payload
            return
        data = self._events + payload if self._events else payload
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *events, self._events = data.split(b"\n\n")
        for event in events:
            self._on_event(event, now_s)

    def _on_event(self, event: bytes, now_s: float) -> None:
        if _TEXT.search(event) is not None:
            self._outcome.times_s.append(now_s)
            if b'"finish_reason":"' not in event and b'"usage":{' not in event:
                return
        if event.startswith((b"data: [DONE]", b"data:[DONE]")):
            self._is_done = True
        elif event.startswith((b'data: {"error"', b"event: error")):
            self._outcome.error = "stream_error"
            self._outcome.detail = event.decode(errors="replace")[:300]
        elif event.startswith(b"data:"):
            self._kept.append(event)
            if len(self._kept) > 64:  # only the last few can matter
                del self._kept[:32]

    def _end(self) -> None:
        outcome = self._outcome
        outcome.end_s = perf_counter()
        if outcome.status != 200:
            self._fail(f"http_{outcome.status}", self.body.decode(errors="replace")[:300])
            return
        documents = [e.partition(b":")[2] for e in self._kept] if self._is_stream else [self.body]
        for document in documents:
            try:
                reply = _reply.decode(document)
            except msgspec.DecodeError as error:
                self._fail("protocol", f"not JSON: {error}")
                return
            self._read_reply(reply)
        if not outcome.error and self._is_stream and not self._is_done:
            outcome.error = "incomplete"
            outcome.detail = "the stream ended without [DONE]"
        self._finish()

    def _read_reply(self, reply: _Reply) -> None:
        outcome = self._outcome
        if reply.usage is not None:
            outcome.num_prompt_tokens = reply.usage.prompt_tokens
            outcome.num_output_tokens = reply.usage.completion_tokens
            details = reply.usage.prompt_tokens_details
            outcome.num_cached_tokens = (details.cached_tokens or 0) if details else 0
        for choice in reply.choices:
            outcome.finish_reason = choice.finish_reason or outcome.finish_reason

    def _fail(self, kind: str, detail: str) -> None:
        if self._done is None or self._done.done():
            return
        self._outcome.error, self._outcome.detail = kind, detail
        self._outcome.end_s = perf_counter()
        self._must_close = self._must_close or not kind.startswith("http_")
        self._finish()

    def _finish(self) -> None:
        done, self._done = self._done, None
        if self._must_close:
            self.close()
        if done is not None and not done.done():
            done.set_result(None)
