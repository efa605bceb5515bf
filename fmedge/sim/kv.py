"""The KV of a simulated replica: which sequence id each request has, and what it finds there.

The rule: `replica.placement`'s decisions, from `sched.placing` and `sched.prefix`, over cells that
are only counted. What an engine of one stream a slot holds is its prefix cache alone; a pool's
cells are counted one by one, as sequences share them.

Tokens that a request emits are its own: no other's prompt goes on with them, but the request itself
finds them again if it comes back.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from msgspec import Struct

from fmedge.sched.cells import KvCells
from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.placing import choose_id, has_room, idle_id, is_worth_waiting
from fmedge.sched.prefix import TOKEN_BYTES, PrefixCache, PrefixMatch
from fmedge.sched.steps import StepRates, min_copy_tokens

NO_ID = -1


class Placed(Struct):
    """A request as KV sees it. prompt: packed int32, b"" of one that shares nothing. order: of
    service. num_computed: tokens with KV, which the engine keeps up to date. num_put: tokens that
    it had when it was placed."""

    request_id: int
    prompt: bytes
    cache_key: str
    order: tuple[int, int]
    num_tokens: int
    num_computed: int = 0
    seq_id: int = NO_ID
    is_decoding: bool = False
    num_put: int = 0
    num_cached: int = -1
    leader: Placed | None = None
    hold_until: int = 0

    def packed(self, num_tokens: int) -> bytes:
        """Its first tokens, packed int32: the prompt, then what it emitted."""
        num_own = num_tokens - len(self.prompt) // TOKEN_BYTES
        if num_own <= 0:
            return self.prompt[: num_tokens * TOKEN_BYTES]
        own = np.full(num_own, -1 - (self.request_id & 0x3FFFFFFF), np.int32)
        return self.prompt + own.tobytes()


class Kv:
    """Owner of the sequence ids of one simulated engine. num_cells: of the pool, 0 for streams."""

    def __init__(self, spec: ReplicaSpec, num_cells: int) -> None:
        num_ids = spec.num_ids or spec.engine.slots
        self._owners: list[Placed | None] = [None] * num_ids
        self._cache = PrefixCache()
        self._num_cells = num_cells
        self._cells = KvCells(num_ids, is_shared=True) if num_cells else None
        self._copy_bytes = 0 if num_cells else spec.copy_bytes
        self._is_exact = spec.is_recurrent

    @property
    def has_pool(self) -> bool:
        return self._cells is not None

    @property
    def num_used(self) -> int:
        """Cells of the pool that hold something."""
        return 0 if self._cells is None else self._cells.num_used

    def sync(self) -> None:
        """Take note of what live sequences have computed meanwhile."""
        for owner in self._owners:
            if owner is not None:
                self._sync(owner)

    def _sync(self, owner: Placed) -> None:
        self._cache.advance(owner.seq_id, owner.num_computed)
        if self._cells is not None:
            more = owner.num_computed - self._cells.lengths[owner.seq_id]
            if more:
                self._cells.extend(owner.seq_id, more)

    # a sequence's way in and out

    def adopt(self, placed: Placed, seq_id: int) -> None:
        """A sequence that runs already, and shares nothing, has this id."""
        placed.seq_id = seq_id
        self._owners[seq_id] = placed
        self._sync(placed)

    def place(
        self, placed: Placed, rates: StepRates, num_running: int
    ) -> Literal["placed", "held_back", "no_room"]:
        """See `Placement.place`. All live sequences are synced before."""
        leader = placed.leader
        if leader is not None:
            if _is_prefilling(leader) and leader.num_computed < placed.hold_until:
                return "held_back"
            placed.leader = None
        least = min_copy_tokens(rates, self._copy_bytes)
        match = self._match(placed)
        if match.leader is not None and is_worth_waiting(match, least):
            leader = self._owners[match.leader]
            assert leader is not None
            if leader.order < placed.order:
                placed.leader, placed.hold_until = leader, match.num_promised
                return "held_back"
        if not has_room(self._cache, match, placed.num_tokens, num_running, self.num_free()):
            return "no_room"
        seq_id, num_tokens = self._take_id(match, least)
        placed.seq_id = seq_id
        placed.num_computed = num_tokens
        placed.num_put = placed.num_tokens
        self._owners[seq_id] = placed
        if placed.prompt:
            tokens = placed.packed(placed.num_tokens)
            self._cache.put(seq_id, placed.cache_key, tokens, num_tokens)
        if placed.num_cached < 0:
            placed.num_cached = num_tokens
        return "placed"

    def finish(self, placed: Placed) -> None:
        """A sequence is done, or dropped; its KV stays for others unless it is not shared."""
        seq_id = placed.seq_id
        self._sync(placed)
        self._owners[seq_id] = None
        placed.seq_id = NO_ID
        if placed.prompt and placed.num_computed:
            held = placed.packed(placed.num_computed)
            self._cache.extend(seq_id, held, placed.num_computed)
            self._cache.finish(seq_id, placed.num_computed)
        else:
            self._empty(seq_id)

    def evict_live(self, placed: Placed) -> None:
        """Take a running sequence's id and KV away."""
        self._empty(placed.seq_id)
        self._owners[placed.seq_id] = None
        placed.seq_id = NO_ID
        placed.num_computed = 0
        placed.is_decoding = False

    def evict_one(self) -> bool:
        """Forget the retained prefix that was of no use for longest; False if there is none."""
        seq_id = self._cache.lru()
        if seq_id is None:
            return False
        self._empty(seq_id)
        return True

    # KV in numbers

    def num_free(self) -> int | None:
        """Cells that no live sequence holds, as the policy counts them; None with streams."""
        if self._cells is None:
            return None
        used = self._cache.num_distinct_tokens(live_only=True)
        for owner in self._owners:
            if owner is not None:
                # the cache's paths are as long as when they were put; what follows is its own
                beyond = owner.num_put if owner.prompt else 0
                used += max(0, owner.num_computed - beyond)
        return self._num_cells - used

    # how an id is chosen

    def _match(self, placed: Placed) -> PrefixMatch:
        if not placed.prompt:
            return PrefixMatch()
        return self._cache.match(
            placed.cache_key,
            placed.packed(placed.num_tokens),
            limit=placed.num_tokens - 1,
            is_exact=self._is_exact,
        )

    def _take_id(self, match: PrefixMatch, least: int) -> tuple[int, int]:
        idle = idle_id(self._cache, self._owners)
        assert idle is not None, "more sequences run than there are ids"
        choice = choose_id(self._cache, match, idle, least)
        seq_id, num_tokens = choice.seq_id, choice.num_tokens
        if choice.how == "reuse":
            self._cache.drop(seq_id)
            if self._cells is not None:
                self._cells.cut(seq_id, num_tokens)
            return seq_id, num_tokens
        self._empty(seq_id)
        if choice.how == "copy" and self._cells is not None:
            self._cells.copy(choice.source, seq_id, num_tokens)
        return seq_id, num_tokens

    def _empty(self, seq_id: int) -> None:
        self._cache.drop(seq_id)
        if self._cells is not None:
            self._cells.cut(seq_id, 0)


def _is_prefilling(placed: Placed) -> bool:
    return placed.seq_id != NO_ID and not placed.is_decoding
