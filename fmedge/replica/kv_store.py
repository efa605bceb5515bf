"""KV of sequences that lost their place in the engine, in host memory and on disk.

The rule: a copy is made, or brought back, only where that costs less than computing its tokens
again, by measured speeds; and beside sequences that decode only within a bound. What a key's
sequences left is found by that key alone. Memory is bounded; what overflows it goes to disk in the
background, least recently used first, or is lost: a loss costs a prefill, never a request.

The engine's thread owns a store; only `KvDisk`'s threads touch files.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from typing import Protocol, cast

from msgspec import Struct

from fmedge.errors import NativeError
from fmedge.replica.kv_disk import KvDisk
from fmedge.replica.kv_files import KvFile, KvFileError, KvFiles
from fmedge.replica.protocol import KvStoreSettings
from fmedge.sched.prefix import PrefixCache
from fmedge.sched.steps import StepRates
from fmedge.types import EngineInfo, EngineSettings

MIN_TOKENS = 32
"""Fewer are not worth the bookkeeping."""

MIN_GAIN = 1.5
"""Time to compute, over time to copy and bring back, from which a copy is made or brought back."""

MAX_STALL_S = 0.08
"""The longest save beside sequences that decode: what the step policy lets prefill take."""

MAX_STALL_SHARE = 0.05
"""Of the time in which sequences decode, the most that saves take."""

WRITE_BEHIND_SHARE = 0.5
"""Of its memory; what is held beyond it is written to disk, so that room can be made at once."""

OPEN_TIMEOUT_S = 0.5
"""The first requests of a new process wait so long at most to hear what is on disk."""

MAX_WRITES = 2
MAX_ENTRIES = 4096
FETCH_POLL_S = 0.005
UNKNOWN_GAIN_S = 2.0
MAX_FAILED_RESTORES = 2
COPY_BYTES_PER_S = 1e9
DISK_BYTES_PER_S = 0.5e9
_BLEND = 0.3

log = logging.getLogger(__name__)


class StateEngine(Protocol):
    """What a store needs of an engine beyond what the loop does: `_native.engine.Engine` has it."""

    @property
    def info(self) -> EngineInfo: ...
    def state_size(self, seq: int, /) -> int: ...
    def state_save(self, seq: int, /) -> memoryview: ...
    def state_restore(self, seq: int, state: memoryview, /) -> None: ...


class Found(Struct, frozen=True):
    """A stored sequence that begins with `num_tokens` of what was asked for and pays.

    state: of all its num_stored tokens; None while it is brought into memory: ask again. It is
    held by this, so that what makes place for it may take its memory in the store.
    """

    handle: int
    num_tokens: int
    num_stored: int
    state: memoryview | None


class _Entry:
    """A stored sequence; in memory, on disk, or both."""

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


class KvStore:
    """Stored sequences of one engine. Every method is called on the engine's thread."""

    def __init__(
        self,
        engine: StateEngine,
        settings: KvStoreSettings,
        engine_settings: EngineSettings,
        *,
        build: str = "",
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """build: of llama.cpp, whose format of states may change with it."""
        self._engine = engine
        self._max_bytes = settings.memory_bytes
        self._clock = clock
        info = engine.info
        self.is_exact = info.is_recurrent or info.window_tokens > 0
        self._index = PrefixCache()
        self._entries: dict[int, _Entry] = {}
        self._in_memory: OrderedDict[int, _Entry] = OrderedDict()  # least recently used first
        self._num_bytes = 0  # of states in memory, and of those that are being fetched
        self._next_handle = 0
        self._num_writes = 0
        self._save_s_per_byte = self._restore_s_per_byte = 1 / COPY_BYTES_PER_S
        self._read_s_per_byte = 1 / DISK_BYTES_PER_S
        self._next_stall_s = 0.0
        self._spent_s = 0.0
        self._has_warned = False
        self.num_saved = self.num_restored = 0
        self._open_until_s = 0.0
        self._cleared: set[str | None] | None = None  # while the disk's files are being listed
        self._disk: KvDisk | None = None
        if settings.folder and settings.disk_bytes > 0:
            files = KvFiles(
                settings.folder,
                engine_settings.model_path,
                settings=state_format(engine_settings, info, build),
                disk_bytes=settings.disk_bytes,
                max_tokens=info.ctx_size,
            )
            self._disk = KvDisk(files)
            self._open_until_s = clock() + OPEN_TIMEOUT_S
            self._cleared = set()
            self._disk.open(self._on_opened)

    # bringing back

    def find(
        self, cache_key: str, tokens: bytes, num_resident: int, rates: StepRates
    ) -> Found | None:
        """The stored sequence that saves most of these tokens' prefill, where the engine holds
        num_resident of them already; None where none pays."""
        self.poll()
        if self._cleared is not None and self._clock() < self._open_until_s:
            return Found(-1, 0, 0, None)
        match = self._index.match(
            _owner(cache_key), tokens, limit=len(tokens) // 4 - 1, is_exact=self.is_exact
        )
        num_gained = match.num_tokens - num_resident
        if match.source is None or num_gained < MIN_TOKENS:
            return None
        entry = self._entries[match.source]
        cost_s = entry.nbytes * self._restore_s_per_byte
        if entry.state is None:
            cost_s += entry.nbytes * self._read_s_per_byte
        gain_s = num_gained * rates.prefill_s_per_token or UNKNOWN_GAIN_S
        if gain_s < MIN_GAIN * cost_s:
            return None
        if entry.state is None and not self._fetch(match.source, entry, gain_s):
            return None
        return Found(match.source, match.num_tokens, len(entry.tokens) // 4, entry.state)

    def restore(self, found: Found, seq_id: int) -> bool:
        """Put a stored sequence, whole, into an id; False, and the id is empty, where the engine
        has no room or the state is not to its liking."""
        state = found.state
        assert state is not None
        entry = self._entries.get(found.handle)
        start_s = self._clock()
        try:
            self._engine.state_restore(seq_id, state)
        except NativeError as error:
            log.debug("stored KV of %d tokens: %s", found.num_stored, error)
            if entry is not None:
                entry.num_failures += 1
                if entry.num_failures >= MAX_FAILED_RESTORES:
                    self._forget(found.handle)
            return False
        spent_s = self._spend(start_s)
        self._restore_s_per_byte += _BLEND * (spent_s / len(state) - self._restore_s_per_byte)
        if entry is not None:
            self._touch(found.handle)
        self.num_restored += 1
        return True

    def wait(self) -> None:
        """Give what is being read a moment, where nothing else is to be done."""
        if self._disk is not None:
            self._disk.wait(FETCH_POLL_S)

    # putting away

    def has(self, cache_key: str, tokens: bytes) -> bool:
        """Whether the KV of all these tokens is stored already; then it was of use just now."""
        num_tokens = len(tokens) // 4
        match = self._index.match(
            _owner(cache_key), tokens, limit=num_tokens, is_exact=self.is_exact
        )
        if match.source is None or match.num_tokens < num_tokens:
            return False
        self._touch(match.source)
        return True

    def save(
        self, seq_id: int, cache_key: str, tokens: bytes, rates: StepRates, *, is_busy: bool
    ) -> bool:
        """Copy what an id holds, which is the KV of `tokens`, where that pays and has not been
        done; whether it was done now. is_busy: sequences decode, and wait meanwhile."""
        self.poll()
        num_tokens = len(tokens) // 4
        if num_tokens < MIN_TOKENS or self.has(cache_key, tokens):
            return False
        try:
            nbytes = self._engine.state_size(seq_id)
        except NativeError:
            return False  # it waits for a copy that the next step makes
        save_s = nbytes * self._save_s_per_byte
        if not self._is_worth_it(nbytes, num_tokens * rates.prefill_s_per_token):
            return False
        start_s = self._clock()
        if is_busy and (save_s > MAX_STALL_S or start_s < self._next_stall_s):
            return False
        if not self._make_space(nbytes):
            return False
        try:
            state = self._engine.state_save(seq_id)
        except (NativeError, MemoryError, OSError) as error:
            log.debug("KV of %d tokens could not be saved: %s", num_tokens, error)
            return False
        spent_s = self._spend(start_s)
        self._save_s_per_byte += _BLEND * (spent_s / nbytes - self._save_s_per_byte)
        self.num_saved += 1
        if is_busy:
            self._next_stall_s = self._clock() + spent_s / MAX_STALL_SHARE
        owner = _owner(cache_key)
        if not self.is_exact:
            self._forget_prefixes(owner, tokens)
        entry = _Entry(owner, tokens, nbytes)
        entry.state = state
        handle = self._add(entry)
        self._num_bytes += nbytes
        self._in_memory[handle] = entry
        self._write_behind()
        return True

    def clear(self, cache_key: str | None) -> None:
        """Forget what was stored, of one key or (None) of all, on disk too."""
        owner = None if cache_key is None else _owner(cache_key)
        for handle in [h for h, e in self._entries.items() if owner in (None, e.owner)]:
            self._forget(handle)
        if self._cleared is not None:
            self._cleared.add(owner)
        if self._disk is not None:
            self._disk.clear(owner)

    def persist(self, deadline_s: float) -> None:
        """Write what is only in memory to disk, the last used first, until the deadline (of the
        store's clock)."""
        if self._disk is None:
            return
        self.settle(deadline_s - self._clock())
        for handle, entry in reversed(list(self._in_memory.items())):
            if self._disk is None or self._clock() >= deadline_s:
                return
            if self._entries.get(handle) is entry and self._is_unwritten(entry):
                self._write(handle, entry)
                self.settle(deadline_s - self._clock())

    def settle(self, timeout_s: float) -> None:
        """Until the disk's threads have nothing to do, or the time is over."""
        if self._disk is not None:
            self._disk.settle(timeout_s)

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()

    def poll(self) -> None:
        """Take note of what the disk's threads have done."""
        if self._disk is not None:
            self._disk.poll()

    def take_spent_s(self) -> float:
        """Time that copies took since it was asked last: it is no step's."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return spent_s

    # in memory

    def _is_worth_it(self, nbytes: int, prefill_s: float) -> bool:
        cost_s = nbytes * (self._save_s_per_byte + self._restore_s_per_byte)
        return prefill_s == 0 or prefill_s >= MIN_GAIN * cost_s

    def _spend(self, start_s: float) -> float:
        spent_s = self._clock() - start_s
        self._spent_s += spent_s
        return spent_s

    def _add(self, entry: _Entry) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._entries[handle] = entry
        num_tokens = len(entry.tokens) // 4
        self._index.put(handle, entry.owner, entry.tokens, num_tokens)
        self._index.finish(handle, num_tokens)
        if len(self._entries) > MAX_ENTRIES and (oldest := self._index.lru()) is not None:
            self._forget(oldest)
        return handle

    def _touch(self, handle: int) -> None:
        self._index.touch(handle)
        if handle in self._in_memory:
            self._in_memory.move_to_end(handle)

    def _forget_prefixes(self, owner: str, tokens: bytes) -> None:
        """Shorter sequences that a new one contains: it serves wherever they would."""
        limit = len(tokens) // 4 - 1
        while True:
            match = self._index.match(owner, tokens, limit=limit, is_exact=True)
            if match.source is None:
                return
            self._forget(match.source)

    def _forget(self, handle: int) -> None:
        entry = self._entries.pop(handle)
        self._index.drop(handle)
        if entry.state is not None:
            self._drop_state(handle, entry)
        if entry.file is not None and self._disk is not None:
            self._disk.remove(entry.file.path)

    def _forget_files(self, paths: set[str]) -> None:
        """Files that are no more; what is in memory too stays there."""
        for handle, entry in list(self._entries.items()):
            if entry.file is not None and entry.file.path in paths:
                entry.file = None
                if entry.state is None and not entry.is_fetching:
                    self._forget(handle)

    def _drop_state(self, handle: int, entry: _Entry) -> None:
        entry.state = None
        del self._in_memory[handle]
        self._num_bytes -= entry.nbytes

    def _make_space(self, num_bytes: int) -> bool:
        """Make room in memory; False if there is none to be had now."""
        if num_bytes > self._max_bytes:
            return False
        for with_file in (True, False):
            for handle, entry in list(self._in_memory.items()):
                if self._num_bytes + num_bytes <= self._max_bytes:
                    return True
                if with_file and entry.file is not None:
                    self._drop_state(handle, entry)
                elif not with_file and not entry.is_writing:
                    self._forget(handle)
        return self._num_bytes + num_bytes <= self._max_bytes

    # on disk

    def _is_unwritten(self, entry: _Entry) -> bool:
        return entry.state is not None and entry.file is None and not entry.is_writing

    def _write_behind(self) -> None:
        """Have the least recently used written, as far as memory is held beyond its share."""
        if self._disk is None:
            return
        num_excess = self._num_bytes - int(WRITE_BEHIND_SHARE * self._max_bytes)
        for handle, entry in list(self._in_memory.items()):
            if num_excess <= 0 or self._num_writes >= MAX_WRITES:
                return
            num_excess -= entry.nbytes
            if self._is_unwritten(entry):
                self._write(handle, entry)

    def _write(self, handle: int, entry: _Entry) -> None:
        assert self._disk is not None
        assert entry.state is not None
        entry.is_writing = True
        self._num_writes += 1
        self._disk.write(
            entry.owner, entry.tokens, entry.state, lambda r: self._on_written(handle, entry, r)
        )

    def _on_written(self, handle: int, entry: _Entry, result: KvFile | BaseException) -> None:
        self._num_writes -= 1
        entry.is_writing = False
        if isinstance(result, BaseException):
            self._warn(f"KV is not kept on disk: {result}")
        elif self._entries.get(handle) is not entry and self._disk is not None:
            self._disk.remove(result.path)  # forgotten meanwhile
        else:
            entry.file = result
            self._write_behind()
        if isinstance(result, KvFile) and result.replaced:
            self._forget_files(set(result.replaced))

    def _fetch(self, handle: int, entry: _Entry, gain_s: float) -> bool:
        """Begin to read an entry, or go on; False when that takes longer than it saves."""
        now_s = self._clock()
        if entry.is_fetching:
            return now_s < entry.fetch_until_s
        if self._disk is None or entry.file is None or not self._make_space(entry.nbytes):
            return False
        entry.is_fetching = True
        entry.fetch_until_s = now_s + gain_s
        self._num_bytes += entry.nbytes
        self._disk.read(entry.file, lambda r: self._on_read(handle, entry, now_s, r))
        return True

    def _on_read(
        self, handle: int, entry: _Entry, start_s: float, result: memoryview | BaseException
    ) -> None:
        self._num_bytes -= entry.nbytes
        entry.is_fetching = False
        is_known = self._entries.get(handle) is entry
        if isinstance(result, BaseException):
            if isinstance(result, KvFileError):
                log.warning("stored KV: %s", result)
            if is_known:
                entry.file = None
                self._forget(handle)
            return
        if is_known:
            spent_s = self._clock() - start_s
            self._read_s_per_byte += _BLEND * (spent_s / entry.nbytes - self._read_s_per_byte)
            entry.state = result
            self._num_bytes += entry.nbytes
            self._in_memory[handle] = entry

    def _on_opened(self, result: tuple[list[KvFile], int] | BaseException) -> None:
        cleared, self._cleared = self._cleared or set(), None
        if isinstance(result, BaseException):
            self._warn(f"no KV is kept on disk: {result}")
            if self._disk is not None:
                self._disk.close()
            self._disk = None
            return
        files, num_removed = result
        if num_removed:
            log.warning("stored KV: %d files were broken or strangers; removed", num_removed)
        for file in files:
            if None in cleared or file.owner in cleared:
                continue
            entry = _Entry(file.owner, file.tokens, file.state_bytes)
            entry.file = file
            self._add(entry)

    def _warn(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("%s", message)


def open_store(
    engine: object, settings: KvStoreSettings | None, engine_settings: EngineSettings
) -> KvStore | None:
    """A store for an engine; None where none is wanted, or the engine has no state to save."""
    if settings is None or settings.memory_bytes <= 0 or not hasattr(engine, "state_save"):
        return None
    if not getattr(engine, "can_generate", True):
        return None
    from fmedge._native.version import llama_build

    return KvStore(cast("StateEngine", engine), settings, engine_settings, build=llama_build())


def state_format(settings: EngineSettings, info: EngineInfo, build: str) -> str:
    """Digest of what decides whether a state can be restored. Where the model lies is not part of
    it: KV computed on one device serves on another."""
    facts = (
        build,
        settings.type_k,
        settings.type_v,
        settings.flash_attn,
        "unified" if info.kv_unified else info.slots,
    )
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _owner(cache_key: str) -> str:
    """A cache key may be made of secrets; what is written is its digest."""
    return hashlib.blake2b(cache_key.encode(), digest_size=16, person=b"fmedge kv").hexdigest()
