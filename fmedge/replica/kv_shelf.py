"""What is stored of which sequence, in memory and on disk, each within its bound.

The rule: memory holds no more than it may at any time; what is held beyond a share of it is written
to disk in the background, least recently used first, so that room can be made at once by letting go
of what is on disk, and only then of what is not. Nothing of one owner is found for another.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from fmedge.replica.kv_disk import KvDisk
from fmedge.replica.kv_files import KvFile, KvFileError, KvFiles
from fmedge.replica.kv_rate import Rate
from fmedge.sched.prefix import PrefixCache, PrefixMatch

WRITE_BEHIND_SHARE = 0.5
MAX_WRITES = 2
MAX_ENTRIES = 4096

OPEN_TIMEOUT_S = 0.5
"""The first requests of a new process wait so long at most to hear what is on disk."""

DISK_BYTES_PER_S = 0.5e9
"""Until a file has been read."""

LEAST_FETCH_S = 0.1
"""A request waits for a file as long as computing its tokens would take, and so long anyway."""

log = logging.getLogger(__name__)


class Entry:
    """A stored sequence; in memory, on disk, or both. nbytes: of its state."""

    __slots__ = (
        "fetch_until_s", "file", "is_fetching", "is_writing", "nbytes", "num_failures",
        "owner", "state", "tokens",
    )  # fmt: skip

    def __init__(self, owner: str, tokens: bytes, nbytes: int) -> None:
        self.owner = owner
        self.tokens = tokens
        self.nbytes = nbytes
        self.state: memoryview | None = None
        self.file: KvFile | None = None
        self.is_writing = False
        self.is_fetching = False
        self.fetch_until_s = 0.0
        self.num_failures = 0

    @property
    def num_tokens(self) -> int:
        return len(self.tokens) // 4

    @property
    def is_unwritten(self) -> bool:
        return self.state is not None and self.file is None and not self.is_writing


class KvShelf:
    """Entries by handle. Every method is called on the engine's thread."""

    def __init__(
        self, max_bytes: int, files: KvFiles | None, *, clock: Callable[[], float]
    ) -> None:
        self.read_rate = Rate(DISK_BYTES_PER_S)
        self._max_bytes = max_bytes
        self._clock = clock
        self._index = PrefixCache()
        self._entries: dict[int, Entry] = {}
        self._in_memory: OrderedDict[int, Entry] = OrderedDict()  # least recently used first
        self._num_bytes = 0
        self._next_handle = 0
        self._num_writes = 0
        self._has_warned = False
        self._disk = None if files is None else KvDisk(files)
        self._open_until_s = clock() + OPEN_TIMEOUT_S
        self._cleared: set[str | None] | None = None  # while the disk's files are being listed
        if self._disk is not None:
            self._cleared = set()
            self._disk.open(self._on_opened)

    def __getitem__(self, handle: int) -> Entry:
        return self._entries[handle]

    def get(self, handle: int) -> Entry | None:
        return self._entries.get(handle)

    @property
    def num_bytes(self) -> int:
        """Of states in memory, and of those that are being read into it."""
        return self._num_bytes

    @property
    def is_opening(self) -> bool:
        """Whether it is to be heard soon what is on disk."""
        return self._cleared is not None and self._clock() < self._open_until_s

    def match(self, owner: str, tokens: bytes, limit: int, *, is_exact: bool) -> PrefixMatch:
        """The entry (`source`) that has most of the first `limit` tokens; is_exact: one that has
        nothing else."""
        return self._index.match(owner, tokens, limit=limit, is_exact=is_exact)

    def put(self, owner: str, tokens: bytes, state: memoryview) -> None:
        """Keep a state for which `make_space` has made room."""
        entry = Entry(owner, tokens, len(state))
        entry.state = state
        self._num_bytes += entry.nbytes
        self._in_memory[self._add(entry)] = entry
        self._write_behind()

    def touch(self, handle: int) -> None:
        """It was of use just now."""
        self._index.touch(handle)
        if handle in self._in_memory:
            self._in_memory.move_to_end(handle)

    def forget(self, handle: int) -> None:
        entry = self._entries.pop(handle)
        self._index.drop(handle)
        if entry.state is not None:
            self._drop_state(handle, entry)
        if entry.file is not None and self._disk is not None:
            self._disk.remove(entry.file.path)

    def clear(self, owner: str | None) -> None:
        """Forget what is of an owner, or (None) everything; on disk whatever is there."""
        for handle in [h for h, e in self._entries.items() if owner in (None, e.owner)]:
            self.forget(handle)
        if self._cleared is not None:
            self._cleared.add(owner)
        if self._disk is not None:
            self._disk.clear(owner)

    def make_space(self, num_bytes: int) -> bool:
        """Make room in memory; False if there is none to be had now."""
        if num_bytes > self._max_bytes:
            return False
        for is_on_disk in (True, False):
            for handle, entry in list(self._in_memory.items()):
                if self._num_bytes + num_bytes <= self._max_bytes:
                    return True
                if is_on_disk and entry.file is not None:
                    self._drop_state(handle, entry)
                elif not is_on_disk and not entry.is_writing:
                    self.forget(handle)
        return self._num_bytes + num_bytes <= self._max_bytes

    def fetch(self, handle: int, longest_s: float) -> bool:
        """Begin to read an entry into memory, or go on; False once that has taken too long, or
        where it cannot be done."""
        entry = self._entries[handle]
        now_s = self._clock()
        if entry.is_fetching:
            return now_s < entry.fetch_until_s
        if self._disk is None or entry.file is None or not self.make_space(entry.nbytes):
            return False
        entry.is_fetching = True
        entry.fetch_until_s = now_s + max(LEAST_FETCH_S, longest_s)
        self._num_bytes += entry.nbytes
        self._disk.read(entry.file, lambda r: self._on_read(handle, entry, now_s, r))
        return True

    def persist(self, deadline_s: float) -> None:
        """Write what is only in memory to disk, the last used first, until the deadline."""
        self.settle(deadline_s - self._clock())
        for handle, entry in reversed(list(self._in_memory.items())):
            if self._disk is None or self._clock() >= deadline_s:
                return
            if self._entries.get(handle) is entry and entry.is_unwritten:
                self._write(handle, entry)
                self.settle(deadline_s - self._clock())

    def poll(self) -> None:
        """Take note of what the disk's threads have done."""
        if self._disk is not None:
            self._disk.poll()

    def wait(self, timeout_s: float) -> None:
        """Until one of the disk's threads has done something, or the time is over."""
        if self._disk is not None:
            self._disk.wait(timeout_s)

    def settle(self, timeout_s: float) -> None:
        """Until the disk's threads have nothing to do, or the time is over."""
        if self._disk is not None:
            self._disk.settle(timeout_s)

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()

    def _add(self, entry: Entry) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._entries[handle] = entry
        self._index.put(handle, entry.owner, entry.tokens, entry.num_tokens)
        self._index.finish(handle, entry.num_tokens)
        if len(self._entries) > MAX_ENTRIES and (oldest := self._index.lru()) is not None:
            self.forget(oldest)
        return handle

    def _drop_state(self, handle: int, entry: Entry) -> None:
        entry.state = None
        del self._in_memory[handle]
        self._num_bytes -= entry.nbytes

    def _write_behind(self) -> None:
        if self._disk is None:
            return
        num_excess = self._num_bytes - int(WRITE_BEHIND_SHARE * self._max_bytes)
        for handle, entry in list(self._in_memory.items()):
            if num_excess <= 0 or self._num_writes >= MAX_WRITES:
                return
            num_excess -= entry.nbytes
            if entry.is_unwritten:
                self._write(handle, entry)

    def _write(self, handle: int, entry: Entry) -> None:
        assert self._disk is not None
        assert entry.state is not None
        entry.is_writing = True
        self._num_writes += 1
        self._disk.write(
            entry.owner, entry.tokens, entry.state, lambda r: self._on_written(handle, entry, r)
        )

    # told by the disk's threads, through `poll`

    def _on_written(self, handle: int, entry: Entry, result: KvFile | BaseException) -> None:
        self._num_writes -= 1
        entry.is_writing = False
        if isinstance(result, BaseException):
            self._warn(f"KV is not kept on disk: {result}")
            return
        if self._entries.get(handle) is entry:
            entry.file = result
        elif self._disk is not None:
            self._disk.remove(result.path)  # forgotten meanwhile
        if result.replaced:
            self._forget_files(set(result.replaced))
        self._write_behind()

    def _forget_files(self, paths: set[str]) -> None:
        """Files that are no more; what is in memory too stays there."""
        for handle, entry in list(self._entries.items()):
            if entry.file is not None and entry.file.path in paths:
                entry.file = None
                if entry.state is None and not entry.is_fetching:
                    self.forget(handle)

    def _on_read(
        self, handle: int, entry: Entry, start_s: float, result: memoryview | BaseException
    ) -> None:
        self._num_bytes -= entry.nbytes
        entry.is_fetching = False
        if isinstance(result, KvFileError):
            log.warning("stored KV: %s", result)
        if self._entries.get(handle) is not entry:
            return
        if isinstance(result, BaseException):
            entry.file = None
            self.forget(handle)
            return
        self.read_rate.learn(entry.nbytes, self._clock() - start_s)
        entry.state = result
        self._num_bytes += entry.nbytes
        self._in_memory[handle] = entry

    def _on_opened(self, result: tuple[list[KvFile], int] | BaseException) -> None:
        cleared, self._cleared = self._cleared or set(), None
        if isinstance(result, BaseException):
            self._warn(f"no KV is kept on disk: {result}")
            self.close()
            self._disk = None
            return
        files, num_removed = result
        if num_removed:
            log.warning("stored KV: %d files were broken or strangers; removed", num_removed)
        for file in files:
            if None not in cleared and file.owner not in cleared:
                entry = Entry(file.owner, file.tokens, file.state_bytes)
                entry.file = file
                self._add(entry)

    def _warn(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("%s", message)
