"""The worker's end of its socket, for threads. Nothing here imports asyncio: a worker starts
in half the time without it.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from fmedge.replica.frames import (
    MAX_OUTGOING_BYTES,
    FrameReader,
    encode_frame,
    worker_decoder,
)
from fmedge.replica.protocol import FrontMessage, WorkerMessage

READ_BYTES = 256 << 10


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

    def send(self, *messages: WorkerMessage, timeout_s: float = 60.0) -> None:
        """Send messages as one frame, from any thread.

        Waits while MAX_OUTGOING_BYTES are unsent; raises TimeoutError after timeout_s of that.
        On a closed channel the messages are dropped: the process is about to end.
        """
        frame = memoryview(encode_frame(self._encoder, messages))
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
            self._unsent.append(frame)
            self._num_unsent_bytes += len(frame)
            if len(self._unsent) == 1:
                # After the append: the I/O thread looks at `_unsent` without the lock.
                os.eventfd_write(self._wake_fd, 1)

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
