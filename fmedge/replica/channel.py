"""The front's end of a worker's socket: an asyncio protocol, one decode for each frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

from fmedge.errors import ReplicaLostError
from fmedge.replica.frames import (
    MAX_OUTGOING_BYTES,
    FrameError,
    FrameReader,
    encode_frame,
    front_decoder,
)
from fmedge.replica.protocol import FrontMessage, WorkerMessage


class FrontChannel(asyncio.Protocol):
    """The front's end. `on_messages` gets each read's messages; `on_closed(reason)` comes once,
    after the last of them."""

    def __init__(
        self,
        on_messages: Callable[[list[WorkerMessage]], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._reader = FrameReader(front_decoder())
        self._encoder = msgspec.msgpack.Encoder()
        self._transport: asyncio.Transport | None = None
        self._reason = "its connection closed"

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except FrameError as error:
            self.abort(f"it sent {error}")
            return
        if messages:
            self._on_messages(messages)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_closed(self._reason)

    def send(self, *messages: FrontMessage) -> None:
        """Queue one frame. Raises ReplicaLostError when the channel is closed, or when the worker
        leaves MAX_OUTGOING_BYTES unread (the channel then closes)."""
        transport = self._transport
        if transport is None:
            raise ReplicaLostError("The worker's connection is closed.")
        transport.write(encode_frame(self._encoder, messages))
        if transport.get_write_buffer_size() > MAX_OUTGOING_BYTES:
            self.abort("it stopped reading its socket")
            raise ReplicaLostError("The worker stopped reading its socket.")

    def abort(self, reason: str) -> None:
        """Close at once, dropping what is queued; `on_closed` follows with this reason."""
        if self._transport is not None:
            self._reason = reason
            self._transport.abort()
