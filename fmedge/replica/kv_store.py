"""KV of sequences that lost their place in the engine, put away and brought back.

The rule: a copy is made, or brought back, only where that costs less than computing its tokens
again, by measured speeds; and beside sequences that decode only within a bound. A loss costs a
prefill, never a request. What a key's sequences left is found by that key alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Protocol, cast

from msgspec import Struct

from fmedge.errors import NativeError
from fmedge.replica.kv_files import KvFiles
from fmedge.replica.kv_rate import Rate
from fmedge.replica.kv_shelf import KvShelf
from fmedge.replica.protocol import KvStoreSettings
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

FETCH_POLL_S = 0.005
UNKNOWN_GAIN_S = 2.0
MAX_FAILED_RESTORES = 2

COPY_BYTES_PER_S = 1e9
"""Until a state has been copied: fresh pages are slow."""

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


UNKNOWN_YET = Found(handle=-1, num_tokens=0, num_stored=0, state=None)
"""It is being looked up what is on disk."""


class KvStore:
    """Stored sequences of one engine, whose thread owns it; other threads touch files alone."""

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
        info = engine.info
        self._engine = engine
        self._clock = clock
        self.is_exact = info.is_recurrent or info.window_tokens > 0
        self.num_saved = self.num_restored = 0
        self._save_rate, self._restore_rate = Rate(COPY_BYTES_PER_S), Rate(COPY_BYTES_PER_S)
        self._next_stall_s = 0.0
        self._spent_s = 0.0
        files = None
        if settings.folder and settings.disk_bytes > 0:
            files = KvFiles(
                settings.folder,
                engine_settings.model_path,
                settings=state_format(engine_settings, info, build),
                disk_bytes=settings.disk_bytes,
                max_tokens=info.ctx_size,
            )
        self._shelf = KvShelf(settings.memory_bytes, files, clock=clock)
        self._save_rates = (self._save_rate, self._restore_rate)
        self._fetch_rates = (self._shelf.read_rate, self._restore_rate)

    @property
    def num_bytes(self) -> int:
        """Of host memory that states take."""
        return self._shelf.num_bytes

    # bringing back

    def find(
        self, cache_key: str, tokens: bytes, num_resident: int, rates: StepRates
    ) -> Found | None:
        """The stored sequence that saves most of these tokens' prefill, where the engine holds
        num_resident of them already; None where none pays."""
        shelf = self._shelf
        shelf.poll()
        limit = len(tokens) // 4 - 1
        if limit - num_resident < MIN_TOKENS:
            return None
        if shelf.is_opening:
            return UNKNOWN_YET
        match = shelf.match(_owner(cache_key), tokens, limit, is_exact=self.is_exact)
        num_gained = match.num_tokens - num_resident
        if match.source is None or num_gained < MIN_TOKENS:
            return None
        entry = shelf[match.source]
        needed = (self._restore_rate,) if entry.state is not None else self._fetch_rates
        gain_s = num_gained * rates.prefill_s_per_token or UNKNOWN_GAIN_S
        if not _pays(gain_s, entry.nbytes, needed):
            return None
        if entry.state is None and not shelf.fetch(match.source, gain_s):
            return None
        return Found(match.source, match.num_tokens, entry.num_tokens, entry.state)

    def restore(self, found: Found, seq_id: int) -> bool:
        """Put a stored sequence, whole, into an id; False, and the id is empty, where the engine
        has no room or the state is not to its liking."""
        state = found.state
        assert state is not None
        entry = self._shelf.get(found.handle)
        start_s = self._clock()
        try:
            self._engine.state_restore(seq_id, state)
        except NativeError as error:
            log.debug("stored KV of %d tokens: %s", found.num_stored, error)
            if entry is not None:
                entry.num_failures += 1
                if entry.num_failures >= MAX_FAILED_RESTORES:
                    self._shelf.forget(found.handle)
            return False
        self._restore_rate.learn(len(state), self._spend(start_s))
        if entry is not None:
            self._shelf.touch(found.handle)
        self.num_restored += 1
        return True

    def wait(self) -> None:
        """Give what is being read a moment, where nothing else is to be done."""
        self._shelf.wait(FETCH_POLL_S)

    # putting away

    def has(self, cache_key: str, tokens: bytes) -> bool:
        """Whether the KV of all these tokens is stored already; then it was of use just now."""
        num_tokens = len(tokens) // 4
        match = self._shelf.match(_owner(cache_key), tokens, num_tokens, is_exact=self.is_exact)
        if match.source is None or match.num_tokens < num_tokens:
            return False
        self._shelf.touch(match.source)
        return True

    def save(
        self, seq_id: int, cache_key: str, tokens: bytes, rates: StepRates, *, is_busy: bool
    ) -> bool:
        """Copy what an id holds, which is the KV of `tokens`, where that pays and has not been
        done; whether it was done now. is_busy: sequences decode, and wait meanwhile."""
        self._shelf.poll()
        num_tokens = len(tokens) // 4
        if num_tokens < MIN_TOKENS or self.has(cache_key, tokens):
            return False
        try:
            nbytes = self._engine.state_size(seq_id)
        except NativeError:
            return False  # it waits for a copy that the next step makes
        prefill_s = num_tokens * rates.prefill_s_per_token or UNKNOWN_GAIN_S
        if not _pays(prefill_s, nbytes, self._save_rates):
            return False
        start_s = self._clock()
        if is_busy and start_s < self._next_stall_s:
            return False
        if is_busy and self._save_rate.seconds(nbytes) > MAX_STALL_S:
            self._save_rate.doubt()
            return False
        if not self._shelf.make_space(nbytes):
            return False
        try:
            state = self._engine.state_save(seq_id)
        except (NativeError, MemoryError, OSError) as error:
            log.debug("KV of %d tokens could not be saved: %s", num_tokens, error)
            return False
        spent_s = self._spend(start_s)
        self._save_rate.learn(nbytes, spent_s)
        if is_busy:
            self._next_stall_s = self._clock() + spent_s / MAX_STALL_SHARE
        owner = _owner(cache_key)
        if not self.is_exact:
            self._forget_prefixes(owner, tokens)
        self._shelf.put(owner, tokens, state)
        self.num_saved += 1
        return True

    def clear(self, cache_key: str | None) -> None:
        """Forget what was stored, of one key or (None) of all, on disk too."""
        self._shelf.clear(None if cache_key is None else _owner(cache_key))

    def persist(self, deadline_s: float) -> None:
        """Write what is only in memory to disk, the last used first, until the deadline (of the
        store's clock)."""
        self._shelf.persist(deadline_s)

    def is_over(self, deadline_s: float) -> bool:
        return self._clock() >= deadline_s

    def settle(self, timeout_s: float) -> None:
        """Until the disk's threads have nothing to do, or the time is over."""
        self._shelf.settle(timeout_s)

    def take_spent_s(self) -> float:
        """Time that copies took since it was asked last: it is no step's."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return spent_s

    def close(self) -> None:
        self._shelf.close()

    def _spend(self, start_s: float) -> float:
        spent_s = self._clock() - start_s
        self._spent_s += spent_s
        return spent_s

    def _forget_prefixes(self, owner: str, tokens: bytes) -> None:
        """Shorter sequences that a new one contains: it serves wherever they would."""
        limit = len(tokens) // 4 - 1
        while (match := self._shelf.match(owner, tokens, limit, is_exact=True)).source is not None:
            self._shelf.forget(match.source)


def _pays(gain_s: float, nbytes: int, rates: Iterable[Rate]) -> bool:
    if gain_s >= MIN_GAIN * sum(rate.seconds(nbytes) for rate in rates):
        return True
    for rate in rates:
        rate.doubt()
    return False


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
