"""Which sequence id a sequence runs under, and the KV it finds there.

The engine's KV, the prefix cache's belief and a sequence's `num_computed` change together, here and
nowhere else. An id is free (holds nothing), retained (a finished sequence's KV) or live. What is
taken from a retained id goes to the store of evicted KV, where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence as AnySequence
from typing import Literal

from fmedge.replica.kv_keeper import KvKeeper
from fmedge.replica.kv_store import Found, KvStore
from fmedge.replica.ports import EngineLike
from fmedge.replica.sequence import NO_ID, Sequence
from fmedge.sched.placing import choose_id, has_room, idle_id, is_worth_waiting
from fmedge.sched.prefix import PrefixCache, PrefixMatch
from fmedge.sched.steps import (
    MAX_FILLER_GAP,
    StepRates,
    choose_fillers,
    min_copy_tokens,
    service_order,
)

Outcome = Literal["placed", "held_back", "no_room"]


class Placement:
    """Owner of the sequence ids of one engine."""

    def __init__(self, engine: EngineLike, store: KvStore | None = None) -> None:
        self._engine = engine
        self._uncuttable: set[int] = set()  # restored without what a window had left behind
        info = engine.info
        self._info = info
        num_ids: int = getattr(engine, "num_seqs", info.slots)
        self._owners: list[Sequence | None] = [None] * num_ids
        self._cache = PrefixCache()
        self.keeper = KvKeeper(store, self._cache)
        is_offloaded = any(m.weights and m.device != "CPU" for m in info.memory)
        # On a CPU a row more changes the path that llama.cpp's attention takes, and so the last
        # bits of others' logits: what a seed gives must not depend on what the loop learned.
        self.can_fill = is_offloaded and not info.kv_unified and not info.is_recurrent
        self.filled_gap = MAX_FILLER_GAP  # widest; the loop learns it
        stream_bytes = sum(m.context for m in info.memory) // max(1, info.slots)
        self._copy_bytes = 0 if info.kv_unified else stream_bytes
        self._filler_token = (0).to_bytes(4, "little")
        self.kv_tokens_used = 0  # by live sequences

    def owner(self, seq_id: int) -> Sequence:
        """The live sequence under an id."""
        sequence = self._owners[seq_id]
        assert sequence is not None
        return sequence

    # a sequence's way in and out

    def place(
        self,
        sequence: Sequence,
        decoding: AnySequence[Sequence],
        prefilling: AnySequence[Sequence],
        rates: StepRates,
    ) -> Outcome:
        """Give a sequence an id with the longest prefix that is worth taking over.

        held_back: a sequence ahead of it is prefilling a longer prefix right now, or a stored one
        is being read from disk; ask again after the next step. no_room: KV is short; ask again
        once a running sequence has ended.
        """
        leader = sequence.leader
        if leader is not None:
            if _is_prefilling(leader) and leader.num_computed < sequence.hold_until:
                return "held_back"
            sequence.leader = None
        least = min_copy_tokens(rates, self._copy_bytes)
        match = self._match(sequence, decoding)
        if match.leader is not None and is_worth_waiting(match, least):
            leader = self.owner(match.leader)
            if service_order(leader) < service_order(sequence):
                sequence.leader = leader
                sequence.hold_until = match.num_promised
                return "held_back"
        keeper = self.keeper
        keeper.rates = rates
        stored = keeper.find(sequence, match.num_tokens)
        if stored is not None and stored.state is None:
            return "held_back"
        if keeper.has_pending_copy and (stored or keeper.would_lose(self._idle_id())):
            if decoding or prefilling:
                return "held_back"
            stored = None
        if stored is not None:
            match = PrefixMatch()
        num_running, free = len(decoding) + len(prefilling), self.num_free_kv_tokens()
        if not has_room(self._cache, match, len(sequence.tokens), num_running, free):
            return "no_room"
        if stored is None:
            seq_id, num_tokens = self._take_id(match, least)
        else:
            seq_id, num_tokens = self._restore(stored)
        sequence.seq_id = seq_id
        sequence.num_computed = num_tokens
        self._owners[seq_id] = sequence
        if sequence.cache_prompt:
            self._cache.put(seq_id, sequence.cache_key, sequence.tokens.tobytes(), num_tokens)
        return "placed"

    def advance(self, sequence: Sequence) -> None:
        """A prefilling sequence has computed more: others may copy it now."""
        self._cache.advance(sequence.seq_id, sequence.num_computed)

    def finish(self, sequence: Sequence) -> None:
        """A sequence is done; its KV stays for others unless it must not be shared."""
        seq_id = sequence.seq_id
        self._owners[seq_id] = None
        sequence.seq_id = NO_ID
        if sequence.cache_prompt and sequence.num_computed:
            held = sequence.tokens[: sequence.num_computed].tobytes()
            self._cache.extend(seq_id, held, sequence.num_computed)
            self._cache.finish(seq_id, sequence.num_computed)
            self.keeper.on_retained(seq_id)
        else:
            self._empty(seq_id)
        self.count_kv()

    def evict_live(self, sequence: Sequence, *, is_whole: bool = True) -> None:
        """Take a running sequence's id and KV away. is_whole: its KV is what it counts as
        computed, and so may be stored."""
        if is_whole:
            self._sync((sequence,))
            self.keeper.keep(sequence.seq_id, is_busy=True)
        self._empty(sequence.seq_id)
        self._owners[sequence.seq_id] = None
        sequence.seq_id = NO_ID
        sequence.num_computed = 0
        self.count_kv()

    def cut_to_computed(self, sequence: Sequence) -> bool:
        """Remove KV beyond what a sequence counts as computed; False if the model cannot."""
        return self._engine.seq_remove(sequence.seq_id, sequence.num_computed)

    # retained prefixes

    def evict_one(self) -> bool:
        """Forget the least recently used retained prefix; False if there is none."""
        seq_id = self._cache.lru()
        if seq_id is None:
            return False
        self._evict(seq_id)
        return True

    def clear(self, cache_key: str | None) -> None:
        """Forget retained and stored prefixes, of one key or (None) of all."""
        for seq_id in self._cache.finished_ids(cache_key):
            self._empty(seq_id)
        self.keeper.clear(cache_key)

    def evict_all(self) -> None:
        """Forget every retained prefix; the store may keep them."""
        while self.evict_one():
            pass

    def store_one(self) -> bool:
        """Where the next sequence would take a retained id: have one stored beforehand, so that
        its end costs nothing. True if one was stored."""
        return not self._has_spare_id() and self.keeper.store_one()

    def num_reusable(self, cache_key: str, tokens: bytes) -> int:
        """Of a prompt's tokens (packed int32), those whose KV a sequence would find here."""
        limit = len(tokens) // 4 - 1
        is_exact = self._info.is_recurrent
        return self._cache.match(cache_key, tokens, limit=limit, is_exact=is_exact).num_tokens

    def borrow_id(self) -> int | None:
        """An idle id, emptied, for work that leaves it empty; None if all are live."""
        seq_id = self._idle_id()
        if seq_id is not None:
            self._evict(seq_id)
        return seq_id

    # KV in numbers

    def num_free_kv_tokens(self) -> int | None:
        """Cells that no live sequence holds; None with a stream a sequence, which cannot run out.

        Equal prefixes count once: an upper bound, as two sequences may have computed the same
        tokens separately. The engine has the last word (`KvCacheFullError`).
        """
        if not self._info.kv_unified:
            return None
        self.count_kv()
        return self._info.kv_tokens - self.kv_tokens_used

    def count_kv(self) -> None:
        live = [s for s in self._owners if s is not None]
        if not self._info.kv_unified:
            self.kv_tokens_used = sum(s.num_computed for s in live)
            return
        self._sync(live)
        separate = sum(s.num_computed for s in live if not s.cache_prompt)
        self.kv_tokens_used = separate + self._cache.num_distinct_tokens(live_only=True)

    # throw-away tokens in idle streams

    def fillers_for(self, ids: AnySequence[int]) -> list[int]:
        """Idle streams to run along with these ascending ids (see `choose_fillers`)."""
        if (
            not (self.can_fill and self.filled_gap)
            or len(ids) < 2
            or ids[-1] - ids[0] == len(ids) - 1
        ):
            return []
        num_held = [self._num_held(i) for i in range(ids[-1] + 1)]
        return choose_fillers(ids, num_held, self._info.ctx_size, self.filled_gap)

    def add_filler(self, seq_id: int) -> None:
        self._engine.batch.add(seq_id, self._num_held(seq_id), self._filler_token, False)

    def remove_fillers(self, fillers: AnySequence[int]) -> None:
        for seq_id in fillers:
            self._engine.seq_remove(seq_id, self._num_held(seq_id))

    def _num_held(self, seq_id: int) -> int:
        owner = self._owners[seq_id]
        return self._cache.num_held(seq_id) if owner is None else owner.num_computed

    # how an id is chosen

    def _match(self, sequence: Sequence, decoding: AnySequence[Sequence]) -> PrefixMatch:
        if not sequence.cache_prompt:
            return PrefixMatch()
        self._sync(decoding)
        match = self._cache.match(
            sequence.cache_key,
            sequence.tokens.tobytes(),
            limit=len(sequence.tokens) - 1,  # the last token must run: its logits are needed
            is_exact=self._info.is_recurrent,
        )
        if match.source in self._uncuttable and match.num_tokens < self._num_held(match.source):
            return PrefixMatch(leader=match.leader, num_promised=match.num_promised)
        return match

    def _sync(self, live: AnySequence[Sequence]) -> None:
        """Tell the cache what live sequences have decoded meanwhile; they do not tell per token."""
        for sequence in live:
            if sequence.is_decoding:
                held = sequence.tokens[: sequence.num_computed].tobytes()
                self._cache.extend(sequence.seq_id, held, sequence.num_computed)

    def _take_id(self, match: PrefixMatch, least: int) -> tuple[int, int]:
        """An id for a new sequence and how many of its tokens the id holds already."""
        idle = self._idle_id()
        assert idle is not None, "more sequences run than there are ids"
        choice = choose_id(self._cache, match, idle, least)
        target, source = choice.seq_id, choice.source
        if choice.how == "reuse":
            if choice.is_lossy:
                self._keep(target)
            return target, self._reuse(target, choice.num_tokens)
        self._evict(target)
        if choice.how == "empty":
            return target, 0
        self._engine.seq_copy(source, target, choice.num_tokens)
        self.keeper.has_pending_copy = not self._info.kv_unified
        if source in self._uncuttable:
            self._uncuttable.add(target)
        return target, choice.num_tokens

    def _restore(self, stored: Found) -> tuple[int, int]:
        """An id into which a stored sequence was put, and how many tokens it holds."""
        target = self._idle_id()
        assert target is not None, "more sequences run than there are ids"
        self._evict(target)
        is_restored = self.keeper.restore(stored, target)
        while not is_restored and self._info.kv_unified and self.evict_one():
            is_restored = self.keeper.restore(stored, target)  # it may have been for want of cells
        if not is_restored:
            return target, 0
        if self.keeper.is_exact:
            self._uncuttable.add(target)
        is_cut = stored.num_stored > stored.num_tokens
        if is_cut and not self._engine.seq_remove(target, stored.num_tokens):
            self._empty(target)
            return target, 0
        return target, stored.num_tokens

    def _reuse(self, seq_id: int, num_tokens: int) -> int:
        """Take a retained id over in place, cut to its first tokens; how many it kept."""
        is_cut = self._cache.num_held(seq_id) > num_tokens
        self._cache.drop(seq_id)
        if is_cut and not self._engine.seq_remove(seq_id, num_tokens):
            self._empty(seq_id)
            return 0
        return num_tokens

    def _idle_id(self) -> int | None:
        return idle_id(self._cache, self._owners)

    def _has_spare_id(self) -> bool:
        """Whether a new sequence would find an empty id, and cells."""
        is_full = self._info.kv_unified and (
            2 * self._cache.num_distinct_tokens() > self._info.kv_tokens
        )
        return not is_full and any(
            owner is None and seq_id not in self._cache for seq_id, owner in enumerate(self._owners)
        )

    def _keep(self, seq_id: int) -> None:
        is_busy = any(owner is not None and owner.is_decoding for owner in self._owners)
        self.keeper.keep(seq_id, is_busy=is_busy)

    def _evict(self, seq_id: int) -> None:
        """Another takes an idle id's place: it is emptied, and the store keeps what it held."""
        self._keep(seq_id)
        self._empty(seq_id)

    def _empty(self, seq_id: int) -> None:
        """Whatever the id holds is gone, in the cache and in the engine."""
        self._cache.drop(seq_id)
        self._engine.seq_remove(seq_id)
        self._uncuttable.discard(seq_id)


def _is_prefilling(sequence: Sequence) -> bool:
    return sequence.seq_id != NO_ID and not sequence.is_decoding
