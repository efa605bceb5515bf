"""Frames between front and worker: 4 bytes of little-endian length, then a msgpack list.

One frame is one write and one decode, whatever number of messages it carries. Both sides refuse
frames above MAX_FRAME_BYTES and bound what waits to be sent: a peer that does not read is a lost
peer, never growing memory.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

import msgspec

from fmedge.errors import ReplicaLostError
from fmedge.replica.protocol import MAX_FRAME_BYTES, FrontMessage, WorkerMessage

HEADER_BYTES = 4
MAX_OUTGOING_BYTES = 64 << 20
READ_BYTES = 256 << 10

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


class WorkerChannel:
    """The worker's end: any thread sends; one I/O thread (`serve`) reads, and writes only what a
    full socket left over.

    Sending from the thread that has the message spares a hand-over: an engine step would else pay
    a thread switch on the cores that compute.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._encoder = msgspec.msgpack.Encoder()
        self._reader = FrameReader(worker_decoder())
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._unsent: deque[memoryview] = deque()
        self._num_unsent_bytes = 0
        self._is_closed = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def num_unsent_bytes(self) -> int:
        """Bytes that the front has not made room for."""
        return self._num_unsent_bytes

    def send(self, message: WorkerMessage, *, timeout_s: float = 60.0) -> None:
        """Send one message as one frame, from any thread.

        Waits while MAX_OUTGOING_BYTES are unsent; raises TimeoutError after timeout_s of that.
        On a closed channel the message is dropped: the process is about to end.
        """
        frame = memoryview(encode_frame(self._encoder, (message,)))
        with self._lock:
            if self._num_unsent_bytes > MAX_OUTGOING_BYTES:
                self._drained.wait_for(self._has_room, timeout_s)
                if not self._has_room():
                    raise TimeoutError("the front does not read its socket")
            if self._is_closed:
                return
            if not self._unsent:
                try:
                    frame = frame[self._socket.send(frame) :]
                except BlockingIOError:
                    pass
                except OSError:
                    self._is_closed = True
                    return
                if not frame:
                    return
                os.eventfd_write(self._wake_fd, 1)
            self._unsent.append(frame)
            self._num_unsent_bytes += len(frame)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is in the socket; False when it took longer."""
        with self._lock:
            return self._drained.wait_for(
                lambda: self._is_closed or not self._unsent, timeout=timeout_s
            )

    def serve(
        self,
        on_messages: Callable[[list[FrontMessage]], None],
        on_tick: Callable[[], None],
        tick_s: float,
    ) -> None:
        """Read until the front closes (returns) or breaks the protocol (FrameError).

        `on_tick` is called first at once and then every tick_s seconds, on this thread.
        """
        next_tick_s = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._wake_fd, selectors.EVENT_READ)
            while True:
                now_s = time.monotonic()
                if now_s >= next_tick_s:
                    on_tick()
                    next_tick_s = now_s + tick_s
                interest = selectors.EVENT_READ
                if self._unsent:
                    interest |= selectors.EVENT_WRITE
                if selector.get_key(self._socket).events != interest:
                    selector.modify(self._socket, interest)
                for key, events in selector.select(max(0.0, next_tick_s - now_s)):
                    if key.fileobj is not self._socket:
                        os.eventfd_read(self._wake_fd)
                        continue
                    if events & selectors.EVENT_WRITE:
                        self._write_unsent()
                    if events & selectors.EVENT_READ and not self._read(on_messages):
                        return

    def _read(self, on_messages: Callable[[list[FrontMessage]], None]) -> bool:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self._close()
            return False
        messages = self._reader.feed(data)
        if messages:
            on_messages(messages)
        return True

    def _write_unsent(self) -> None:
        with self._lock:
            try:
                while self._unsent:
                    frame = self._unsent[0]
                    num_sent = self._socket.send(frame)
                    self._num_unsent_bytes -= num_sent
                    if num_sent == len(frame):
                        self._unsent.popleft()
                    else:
                        self._unsent[0] = frame[num_sent:]
            except BlockingIOError:
                pass
            except OSError:
                self._is_closed = True
            self._drained.notify_all()

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._drained.notify_all()

    def _has_room(self) -> bool:
        return self._is_closed or self._num_unsent_bytes <= MAX_OUTGOING_BYTES
