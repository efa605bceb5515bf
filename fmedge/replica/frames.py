"""Frames between front and worker: 4 bytes of little-endian length, then a msgpack list.

One frame is one write and one decode, whatever number of messages it carries. Both sides refuse
frames above MAX_FRAME_BYTES and bound what waits to be sent: a peer that does not read is a lost
peer, never growing memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from fmedge.replica.protocol import MAX_FRAME_BYTES, FrontMessage, WorkerMessage

HEADER_BYTES = 4
MAX_OUTGOING_BYTES = 64 << 20

_In = TypeVar("_In")


class FrameError(Exception):
    """The peer sent something that is not a frame of this protocol."""


class FrameReader(Generic[_In]):
    """Cuts a byte stream into frames and decodes each. `feed` returns the messages now whole."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[list[_In]]) -> None:
        self._decode = decoder.decode
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[_In]:
        """Raises FrameError on an oversized or malformed frame; the stream is then useless."""
        partial = self._partial
        stream: bytes | bytearray = data
        if partial:
            partial += data
            stream = partial
        messages: list[_In] = []
        start = 0
        num_bytes = len(stream)
        with memoryview(stream) as view:
            while num_bytes - start >= HEADER_BYTES:
                body = start + HEADER_BYTES
                size = int.from_bytes(view[start:body], "little")
                if size > MAX_FRAME_BYTES:
                    raise FrameError(f"a frame of {size} bytes (at most {MAX_FRAME_BYTES})")
                end = body + size
                if end > num_bytes:
                    break
                try:
                    messages += self._decode(view[body:end])
                except msgspec.MsgspecError as error:
                    raise FrameError(f"a malformed frame: {error}") from None
                start = end
        if stream is partial:
            del partial[:start]
        elif start < num_bytes:
            partial += data[start:]
        return messages


def front_decoder() -> msgspec.msgpack.Decoder[list[WorkerMessage]]:
    """Decodes what a worker sends."""
    return msgspec.msgpack.Decoder(list[WorkerMessage])


def worker_decoder() -> msgspec.msgpack.Decoder[list[FrontMessage]]:
    """Decodes what the front sends."""
    return msgspec.msgpack.Decoder(list[FrontMessage])


def encode_frame(
    encoder: msgspec.msgpack.Encoder, messages: Sequence[FrontMessage | WorkerMessage]
) -> bytes:
    """One frame. Raises ValueError where it would be larger than MAX_FRAME_BYTES."""
    frame = bytearray(HEADER_BYTES)
    encoder.encode_into(messages, frame, HEADER_BYTES)
    size = len(frame) - HEADER_BYTES
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {size} bytes (at most {MAX_FRAME_BYTES})")
    frame[:HEADER_BYTES] = size.to_bytes(HEADER_BYTES, "little")
    return bytes(frame)
