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
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic
from typing import Any, TypeVar

from fmedge.replica.kv_files import KvFile, KvFiles

WRITER_NICENESS = 10
CLOSE_TIMEOUT_S = 1.0

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
        self._num_pending = 0  # not told yet
        self._unfinished: set[Future[Any]] = set()
        self._promised: set[Future[Any]] = set()

    def open(self, then: Then[tuple[list[KvFile], int]]) -> None:
        self._submit(self._writer, self._files.open, then)

    def write(self, owner: str, tokens: bytes, state: memoryview, then: Then[KvFile]) -> None:
        self._submit(self._writer, lambda: self._files.write(owner, tokens, state), then)

    def read(self, file: KvFile, then: Then[memoryview]) -> None:
        self._submit(self._reader, lambda: self._files.read(file), then)

    def remove(self, path: str) -> None:
        self._submit(self._writer, lambda: self._files.remove(path), _ignore)

    def clear(self, owner: str | None) -> None:
        cleared = self._submit(self._writer, lambda: self._files.clear(owner), _ignore)
        self._promised.add(cleared)
        cleared.add_done_callback(self._promised.discard)

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
        """What has not begun never will, but for what was to be cleared; the rest is waited for
        for CLOSE_TIMEOUT_S."""
        wait(set(self._promised), CLOSE_TIMEOUT_S)
        unfinished = {future for future in set(self._unfinished) if not future.cancel()}
        wait(unfinished, CLOSE_TIMEOUT_S)
        self._reader.shutdown(wait=False)
        self._writer.shutdown(wait=False)

    def _submit(self, pool: ThreadPoolExecutor, job: Callable[[], T], then: Then[T]) -> Future[T]:
        self._num_pending += 1
        future = pool.submit(job)
        self._unfinished.add(future)
        future.add_done_callback(lambda future: self._on_done(then, future))
        return future

    def _on_done(self, then: Then[Any], future: Future[Any]) -> None:
        self._unfinished.discard(future)
        if not future.cancelled():
            self._done.append((then, future))
            self._has_done.set()


def _ignore(_: object) -> None:
    pass


def _be_nice() -> None:
    with contextlib.suppress(OSError):  # this thread alone, on Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WRITER_NICENESS)
