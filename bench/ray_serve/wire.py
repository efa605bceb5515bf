"""OpenAI's completions as both sides of the comparison speak them: bytes in, bytes out.

The rule: nothing of Ray and nothing of fmedge's own server, so that what is measured between the
bytes is the scheduler's doing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Protocol

import msgspec
from msgspec import Struct

DONE = b"data: [DONE]\n\n"


class Emulates(Protocol):
    """An emulated replica without a server around it: fmedge.replica.emulated.Emulator."""

    def generate(
        self, tokens: bytes, max_tokens: int, seed: int, *, chunk_s: float = 0
    ) -> AsyncGenerator[list[int], None]: ...


class _StreamOptions(Struct):
    include_usage: bool = False


class Ask(Struct):
    """The fields that an emulated answer depends on; others are ignored."""

    prompt: list[int] | str
    model: str = ""
    max_tokens: int | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(Struct):
    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: str | None = None


class Completion(Struct, omit_defaults=False):
    id: str
    created: int
    model: str
    choices: list[Choice]
    object: str = "text_completion"
    usage: Usage | None = None


_ask = msgspec.json.Decoder(Ask)
_encode = msgspec.json.Encoder().encode


class BadRequestError(Exception):
    """The body is not one; the message says why."""


def read(body: bytes) -> Ask:
    """Decode a request; BadRequestError."""
    try:
        ask = _ask.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The body is not a completion request: {error}.") from error
    if ask.max_tokens is not None and ask.max_tokens < 1:
        raise BadRequestError("`max_tokens` must be at least 1.")
    return ask


def error_body(message: str, code: str = "invalid_request_error") -> bytes:
    """OpenAI's shape of an error."""
    return _encode({"error": {"message": message, "type": code, "param": None, "code": None}})


def models_body(name: str) -> bytes:
    """The answer to GET /v1/models."""
    return _encode({"object": "list", "data": [{"id": name, "object": "model", "created": 0}]})


class Answer:
    """One answer of `emulator`, as events or in one piece. pieces: token id to bytes of text.
    most_tokens: where the request sets no limit. chunk_s: see Emulator."""

    def __init__(
        self,
        ask: Ask,
        emulator: Emulates,
        pieces: Mapping[int, bytes],
        *,
        prompt: bytes,
        most_tokens: int = 256,
        chunk_s: float = 0.0,
    ) -> None:
        self._ask = ask
        self._emulator = emulator
        self._pieces = pieces
        self._prompt = prompt
        self._max_tokens = ask.max_tokens or most_tokens
        self._chunk_s = chunk_s
        self._frame = Completion(
            id="cmpl-" + secrets.token_hex(12), created=int(time.time()), model=ask.model,
            choices=[],
        )  # fmt: skip
        self._num_tokens = 0

    @property
    def content_type(self) -> str:
        return "text/event-stream" if self._ask.stream else "application/json"

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events (text as it comes; the end, usage and [DONE] in one piece), or one
        document, as was asked."""
        if not self._ask.stream:
            yield await self._whole()
            return
        async with aclosing(self._texts()) as texts:
            async for text in texts:
                yield self._event([Choice(text)])
        end = self._event([Choice("", finish_reason=self._finish())])
        if self._ask.wants_usage:
            end += self._event([], self._usage())
        yield end + DONE

    async def _whole(self) -> bytes:
        async with aclosing(self._texts()) as texts:
            text = "".join([text async for text in texts])
        choice = Choice(text, finish_reason=self._finish())
        return _encode(msgspec.structs.replace(self._frame, choices=[choice], usage=self._usage()))

    async def _texts(self) -> AsyncGenerator[str, None]:
        pieces = self._pieces
        seed = self._ask.seed if self._ask.seed is not None else secrets.randbits(31)
        generated = self._emulator.generate(
            self._prompt, self._max_tokens, seed, chunk_s=self._chunk_s
        )
        async with aclosing(generated):
            async for tokens in generated:
                self._num_tokens += len(tokens)
                if text := b"".join([pieces[token] for token in tokens]):
                    yield text.decode(errors="replace")

    def _event(self, choices: list[Choice], usage: Usage | None = None) -> bytes:
        frame = msgspec.structs.replace(self._frame, choices=choices, usage=usage)
        return b"data: " + _encode(frame) + b"\n\n"

    def _finish(self) -> str:
        return "length" if self._num_tokens >= self._max_tokens else "stop"

    def _usage(self) -> Usage:
        num_prompt = len(self._prompt) // 4
        return Usage(num_prompt, self._num_tokens, num_prompt + self._num_tokens)


async def opened(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same body, once its first piece is there: what goes wrong before that is raised here,
    while an answer can still have another status."""
    first = await anext(body)

    async def rest() -> AsyncGenerator[bytes, None]:
        async with aclosing(body):
            yield first
            async for piece in body:
                yield piece

    return rest()
