"""The front's mirror of what each replica's KV holds, so that an estimate knows how much of a
prompt need not be prefilled there.

It follows placing.py: a request that was submitted will hold its prompt; when it ends
that stays under its id, least recently used out first, and at most `num_ids` ids exist. Prompts are
known by hashes of their blocks, each chained to all before and the first to the cache key, so that
keys never meet and a prompt's bytes are not kept. A belief, never a promise: the engine says
with the first token what it really found.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from fmedge.sched.placing import MAX_LOST_DIVISOR

BLOCK_TOKENS = 32
_BLOCK_BYTES = 4 * BLOCK_TOKENS

Chain = tuple[int, ...]


def chain(cache_key: str, prompt: bytes) -> Chain:
    """The hashes of a prompt's whole blocks (packed int32), first to last."""
    last = hash(cache_key)
    hashes: list[int] = []
    for start in range(0, len(prompt) - _BLOCK_BYTES + 1, _BLOCK_BYTES):
        last = hash((last, prompt[start : start + _BLOCK_BYTES]))
        hashes.append(last)
    return tuple(hashes)


class _Ids:
    """One replica's sequence ids: live ones by request, retained ones by age."""

    __slots__ = ("live", "num_ids", "retained")

    def __init__(self, num_ids: int) -> None:
        self.num_ids = num_ids
        self.live: dict[int, Chain] = {}
        self.retained: OrderedDict[int, Chain] = OrderedDict()  # oldest first


class PrefixMirror:
    """Blocks to the replicas that hold them, and each replica's ids."""

    def __init__(self) -> None:
        self._replicas: dict[str, _Ids] = {}
        self._holders: dict[int, dict[str, int]] = {}  # block -> replica -> ids that hold it
        self._next = 0

    def add_replica(self, replica: str, num_ids: int) -> None:
        """It is ready and holds nothing yet; num_ids: sequences it can hold."""
        self.drop_replica(replica)
        self._replicas[replica] = _Ids(num_ids)

    def drop_replica(self, replica: str) -> None:
        """Its KV is gone, if it had any."""
        ids = self._replicas.pop(replica, None)
        if ids is not None:
            for held in (*ids.live.values(), *ids.retained.values()):
                self._unhold(replica, held)

    def clear(self, replica: str) -> None:
        """It forgets what it retained."""
        ids = self._replicas.get(replica)
        if ids is not None:
            for held in ids.retained.values():
                self._unhold(replica, held)
            ids.retained.clear()

    def match(self, blocks: Chain, num_tokens: int) -> Mapping[str, int]:
        """Tokens of a prompt of `num_tokens` that each replica holds; those with none are left out.
        The last token always runs, since its logits are needed."""
        held: dict[str, int] = {}
        found: list[dict[str, int]] = []
        for block in blocks:
            holders = self._holders.get(block)
            if not holders:
                break
            found.append(holders)
        size = 0
        for index in range(len(found), 0, -1):
            # Who holds a block holds all before it: as many holders are the same holders.
            holders = found[index - 1]
            if len(holders) > size:
                size = len(holders)
                depth = min(index * BLOCK_TOKENS, num_tokens - 1)
                for replica in holders:
                    held.setdefault(replica, depth)
        return held

    def begin(self, replica: str, request_id: int, blocks: Chain) -> None:
        """A request was submitted there and takes an id, as placement chooses it."""
        ids = self._replicas.get(replica)
        if ids is None or request_id in ids.live:
            return
        self._make_room(replica, ids, blocks)
        ids.live[request_id] = blocks
        self._hold(replica, blocks)

    def end(self, replica: str, request_id: int, blocks: Chain | None) -> None:
        """It left: `blocks` stay under its id; None, or (), leaves nothing."""
        ids = self._replicas.get(replica)
        if ids is None:
            return
        held = ids.live.pop(request_id, None)
        if held is None:
            return
        self._unhold(replica, held)
        if blocks and len(ids.live) + len(ids.retained) < ids.num_ids:
            self._hold(replica, blocks)
            ids.retained[self._next] = blocks
            self._next += 1

    def num_retained(self, replica: str) -> int:
        """Ids that finished requests left there."""
        ids = self._replicas.get(replica)
        return 0 if ids is None else len(ids.retained)

    @property
    def num_blocks(self) -> int:
        """Distinct blocks that anyone holds."""
        return len(self._holders)

    def _make_room(self, replica: str, ids: _Ids, blocks: Chain) -> None:
        best, num_shared = -1, 0
        for key, held in ids.retained.items():
            shared = _num_shared(held, blocks)
            if shared and shared >= num_shared:
                best, num_shared = key, shared
        if best >= 0:
            num_lost = len(ids.retained[best]) - num_shared
            if num_lost * MAX_LOST_DIVISOR <= num_shared:
                self._unhold(replica, ids.retained.pop(best))
                return
            ids.retained.move_to_end(best)
        if ids.retained and len(ids.live) + len(ids.retained) >= ids.num_ids:
            _, held = ids.retained.popitem(last=False)
            self._unhold(replica, held)

    def _hold(self, replica: str, blocks: Chain) -> None:
        for block in blocks:
            holders = self._holders.setdefault(block, {})
            holders[replica] = holders.get(replica, 0) + 1

    def _unhold(self, replica: str, blocks: Chain) -> None:
        for block in blocks:
            holders = self._holders[block]
            if holders[replica] > 1:
                holders[replica] -= 1
            else:
                del holders[replica]
                if not holders:
                    del self._holders[block]


def _num_shared(held: Chain, blocks: Chain) -> int:
    """First blocks in common; chained hashes that differ once differ from there on."""
    low, high = 0, min(len(held), len(blocks))
    while low < high:
        middle = (low + high + 1) // 2
        if held[middle - 1] == blocks[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low
