"""The threads that read and write stored KV; what they did is told on the engine's thread.

One thread reads, since a request waits for it, and another writes and removes, in order, at low
priority. Nothing here blocks the engine's thread but `wait` and `close`, for a time they are given.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

from fmedge.replica.kv_files import KvFile, KvFiles

WRITER_NICENESS = 10

T = TypeVar("T")
Then = Callable[[T | BaseException], None]
"""Gets a job's result, or what it raised, on the engine's thread."""


class KvDisk:
    """Jobs on `KvFiles`, done elsewhere. Its owner calls `poll` from time to time."""

    def __init__(self, files: KvFiles) -> None:
        self._files = files
        self._reader = ThreadPoolExecutor(1, "fmedge-kv-read")
        self._writer = ThreadPoolExecutor(1, "fmedge-kv-write", initializer=_be_nice)
        self._done: deque[tuple[Then[Any], Future[Any]]] = deque()
        self._has_done = threading.Event()
        self._num_pending = 0

    def open(self, then: Then[tuple[list[KvFile], int]]) -> None:
        self._submit(self._writer, self._files.open, then)

    def write(self, owner: str, tokens: bytes, state: memoryview, then: Then[KvFile]) -> None:
        self._submit(self._writer, lambda: self._files.write(owner, tokens, state), then)

    def read(self, file: KvFile, then: Then[memoryview]) -> None:
        self._submit(self._reader, lambda: self._files.read(file), then)

    def remove(self, path: str) -> None:
        self._submit(self._writer, lambda: self._files.remove(path), _ignore)

    def clear(self, owner: str | None) -> None:
        self._submit(self._writer, lambda: self._files.clear(owner), _ignore)

    def poll(self) -> None:
        """Tell what was done since."""
        self._has_done.clear()
        while self._done:
            then, future = self._done.popleft()
            self._num_pending -= 1
            error = future.exception()
            then(future.result() if error is None else error)

    def wait(self, timeout_s: float) -> None:
        """Until a job is done, or the time is over; told by the next `poll`."""
        if not self._done and self._num_pending:
            self._has_done.wait(max(0.0, timeout_s))

    def settle(self, timeout_s: float) -> None:
        """Until every job is done and told, or the time is over."""
        deadline_s = monotonic() + timeout_s
        self.poll()
        while self._num_pending and (left_s := deadline_s - monotonic()) > 0:
            self.wait(left_s)
            self.poll()

    def close(self) -> None:
        """What has not begun never will; what has is waited for."""
        self._reader.shutdown(cancel_futures=True)
        self._writer.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, job: Callable[[], T], then: Then[T]) -> None:
        self._num_pending += 1
        pool.submit(job).add_done_callback(lambda future: self._on_done(then, future))

    def _on_done(self, then: Then[Any], future: Future[Any]) -> None:
        if not future.cancelled():
            self._done.append((then, future))
            self._has_done.set()


def _ignore(_: object) -> None:
    pass


def _be_nice() -> None:
    with contextlib.suppress(OSError):  # this thread alone, on Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WRITER_NICENESS)
