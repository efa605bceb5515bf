"""Between the ids of an engine, which hold KV for a while, and the store, which keeps it longer.

The rule: whatever a retained id holds is offered to the store before it is lost, at rest if that
can be, and nothing is copied while the engine has a copy of its own to make.
"""

from __future__ import annotations

from fmedge.replica.kv_store import Found, KvStore
from fmedge.replica.sequence import Sequence
from fmedge.sched.prefix import PrefixCache
from fmedge.sched.steps import StepRates


class KvKeeper:
    """What `Placement` asks of a store; without one, nothing is found or kept."""

    def __init__(self, store: KvStore | None, cache: PrefixCache) -> None:
        """cache: what the engine's ids hold."""
        self._store = store
        self._cache = cache
        self._offered: set[int] = set()  # retained ids that the store could take while at rest
        self._awaits_disk = False
        self.rates = StepRates()
        self.has_pending_copy = False
        """The engine copies between ids at the next step; until then no KV can be moved."""

    @property
    def is_exact(self) -> bool:
        """Whether what was restored must not be cut."""
        return self._store is not None and self._store.is_exact

    def find(self, sequence: Sequence, num_resident: int) -> Found | None:
        """What is stored of a sequence and pays, beyond what an id holds already."""
        if self._store is None or not sequence.cache_prompt:
            return None
        tokens = sequence.tokens.tobytes()
        found = self._store.find(sequence.cache_key, tokens, num_resident, self.rates)
        if found is not None and found.state is None:
            self._awaits_disk = True
        return found

    def restore(self, found: Found, seq_id: int) -> bool:
        return self._store is not None and self._store.restore(found, seq_id)

    def keep(self, seq_id: int, *, is_busy: bool) -> bool:
        """Store what an id holds, if that pays; whether it was done. is_busy: sequences decode."""
        if self._store is None or seq_id not in self._cache:
            return False
        cache_key, tokens = self._cache.path_of(seq_id)
        return self._store.save(seq_id, cache_key, tokens, self.rates, is_busy=is_busy)

    def would_lose(self, seq_id: int | None) -> bool:
        """Whether an id holds what can be stored after the next step, but not now."""
        if self._store is None or seq_id is None or seq_id not in self._cache:
            return False
        return self.has_pending_copy and not self._store.has(*self._cache.path_of(seq_id))

    def on_retained(self, seq_id: int) -> None:
        """A sequence has ended; the id holds what it left."""
        self._offered.discard(seq_id)

    def store_one(self) -> bool:
        """Store what one retained id holds, each once; False if there is none."""
        if self._store is None:
            return False
        for seq_id in self._cache.finished_ids_by_age():
            if seq_id not in self._offered:
                self._offered.add(seq_id)
                if self.keep(seq_id, is_busy=False):
                    return True
        return False

    def persist(self, deadline_s: float) -> None:
        """Have what retained ids hold, and the store, on disk; the last used first."""
        store = self._store
        if store is None:
            return
        for seq_id in reversed(self._cache.finished_ids_by_age()):
            if store.is_over(deadline_s):
                return
            if self.keep(seq_id, is_busy=False):
                store.persist(deadline_s)
        store.persist(deadline_s)

    def clear(self, cache_key: str | None) -> None:
        if self._store is not None:
            self._store.clear(cache_key)

    def wait(self) -> bool:
        """Give what a held back sequence waits for a moment; False if none waits for the disk."""
        awaits_disk, self._awaits_disk = self._awaits_disk, False
        if awaits_disk and self._store is not None:
            self._store.wait()
        return awaits_disk

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def take_spent_s(self) -> float:
        """Time that copies took since it was asked last: it is no step's."""
        return 0.0 if self._store is None else self._store.take_spent_s()
