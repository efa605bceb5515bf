"""An emulated replica that answers completions, with nothing of Ray: what Serve's replicas wrap,
and what stands alone where only a server's own cost is wanted.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib import import_module

from bench.ray_serve.wire import Answer, BadRequestError, Emulates, error_body, opened, read
from fmedge._native.vocab import Vocab
from fmedge.errors import RequestError
from fmedge.models.text import PieceTable
from fmedge.sched.emulation import ReplicaSpec

EMULATOR = "fmedge.replica.emulated.emulator:Emulator"


class Service:
    """One replica. emulator: "module:class" of what stands for the hardware. chunk_s: seconds
    between pieces of a stream at least, but for the first token and the end."""

    def __init__(
        self, spec: ReplicaSpec, emulator: str = EMULATOR, *, chunk_s: float = 0.0
    ) -> None:
        module, _, name = emulator.partition(":")
        path = spec.engine.model_path
        self._vocab = Vocab.open(path) if path else None
        self._pieces: Mapping[int, bytes]
        if self._vocab is not None:
            self._pieces = PieceTable(self._vocab)
        else:  # where only a server's own cost is measured, all tokens have the same text
            self._pieces = defaultdict(lambda: b" x")
        self._emulator: Emulates = getattr(import_module(module), name)(spec, self._vocab)
        self._chunk_s = chunk_s

    async def open(self, body: bytes) -> tuple[str, AsyncGenerator[bytes, None]]:
        """The content type and the pieces of the answer, once the first is there.
        BadRequestError, or whatever the emulator raises."""
        ask = read(body)
        if not isinstance(ask.prompt, str):
            prompt = array("i", ask.prompt).tobytes()
        elif self._vocab is not None:
            prompt = self._vocab.tokenize(ask.prompt, add_special=True, parse_special=False)
        else:
            raise BadRequestError("`prompt` must be token ids: there is no vocabulary.")
        answer = Answer(ask, self._emulator, self._pieces, prompt=prompt, chunk_s=self._chunk_s)
        try:
            return answer.content_type, await opened(answer.body())
        except RequestError as error:
            raise BadRequestError(str(error)) from error

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The pieces alone; a bad request is answered by an error's document."""
        try:
            _, pieces = await self.open(body)
        except BadRequestError as error:
            yield error_body(str(error))
            return
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
