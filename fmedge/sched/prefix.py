"""Which sequence id holds KV for which tokens, so that a prefix is computed once.

A radix tree over token ids for each cache key: an id stands at the end of its path and so on every
node above. A path is what the id holds and, while it prefills, also what it is about to hold. Ids
of finished sequences stay, least recently used out first. Keys never meet: no lookup under one key
can find an id of another. Nothing here touches an engine; the caller keeps both in step.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

TOKEN_BYTES = 4


class PrefixMatch(Struct, frozen=True):
    """The best that others hold, or promise, of some tokens.

    source: id that holds `num_tokens` of them now, None for none. leader: live id that will hold
    `num_promised` > num_tokens of them once its prefill is that far, None for none.
    """

    source: int | None = None
    num_tokens: int = 0
    leader: int | None = None
    num_promised: int = 0


class _Node:
    __slots__ = ("children", "depth", "ids", "label", "parent")

    def __init__(self, label: bytes, parent: _Node | None, depth: int) -> None:
        self.label = label
        self.parent = parent
        self.depth = depth  # tokens from the root to this node's end
        self.children: dict[bytes, _Node] = {}
        self.ids: set[int] = set()  # all ids whose path reaches this node's end


class _Holding:
    __slots__ = ("cache_key", "end", "is_live", "last_used", "num_held")

    def __init__(self, cache_key: str, end: _Node, num_held: int) -> None:
        self.cache_key = cache_key
        self.end = end
        self.num_held = num_held
        self.is_live = True
        self.last_used = 0


class PrefixCache:
    """The radix trees and the least-recently-used order of the finished ids in them."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}
        self._holdings: dict[int, _Holding] = {}
        self._clock = 0

    def __contains__(self, seq_id: int) -> bool:
        return seq_id in self._holdings

    def put(self, seq_id: int, cache_key: str, tokens: bytes, num_held: int) -> None:
        """A live id now stands for `tokens` (packed int32), of which it holds `num_held`."""
        self.drop(seq_id)
        root = self._roots.get(cache_key)
        if root is None:
            root = self._roots[cache_key] = _Node(b"", None, 0)
        end = _insert(root, tokens, 0, seq_id)
        self._holdings[seq_id] = _Holding(cache_key, end, num_held)

    def advance(self, seq_id: int, num_held: int) -> None:
        """A live id holds so many tokens of its path now."""
        holding = self._holdings.get(seq_id)
        if holding is not None:
            holding.num_held = num_held

    def extend(self, seq_id: int, tokens: bytes, num_held: int) -> None:
        """A live id's path is now `tokens`, which begin with its old path."""
        holding = self._holdings.get(seq_id)
        if holding is None:
            return
        holding.num_held = num_held
        end = holding.end
        if len(tokens) > end.depth * TOKEN_BYTES:
            holding.end = _insert(end, tokens, end.depth, seq_id)

    def finish(self, seq_id: int, num_held: int) -> None:
        """A live id is done; what it holds stays for others. What it only promised is gone."""
        holding = self._holdings.get(seq_id)
        if holding is None:
            return
        if num_held < holding.end.depth:
            self.cut(seq_id, num_held)
            if num_held == 0:
                return
        holding.num_held = num_held
        holding.is_live = False
        self._clock += 1
        holding.last_used = self._clock

    def cut(self, seq_id: int, num_held: int) -> None:
        """An id holds no more than its first `num_held` tokens."""
        holding = self._holdings[seq_id]
        if num_held == 0:
            self.drop(seq_id)
            return
        if num_held < holding.end.depth:
            path = _path(holding.end)[: num_held * TOKEN_BYTES]
            root = self._roots[holding.cache_key]
            _leave(holding.end, seq_id)
            holding.end = _insert(root, path, 0, seq_id)
        holding.num_held = min(holding.num_held, num_held)

    def drop(self, seq_id: int) -> None:
        """The id holds nothing any more."""
        holding = self._holdings.pop(seq_id, None)
        if holding is None:
            return
        _leave(holding.end, seq_id)
        root = self._roots[holding.cache_key]
        if not root.children:
            del self._roots[holding.cache_key]

    def touch(self, seq_id: int) -> None:
        """A finished id was of use just now."""
        self._clock += 1
        self._holdings[seq_id].last_used = self._clock

    def match(
        self, cache_key: str, tokens: bytes, *, limit: int, is_exact: bool = False
    ) -> PrefixMatch:
        """The best source, and the best leader beyond it, for at most `limit` first tokens.

        is_exact: only a source that holds precisely the tokens it would give (a model whose state
        cannot be cut). Among equals a finished id that would lose least is preferred.
        """
        root = self._roots.get(cache_key)
        if root is None or limit <= 0:
            return PrefixMatch()
        best = PrefixMatch()
        best_rank = (0, False, 0)
        leader: int | None = None
        num_promised = 0
        for depth, ids in reversed(list(_walk(root, tokens[: limit * TOKEN_BYTES]))):
            if depth <= best.num_tokens:
                break
            for seq_id in ids:
                holding = self._holdings[seq_id]
                num = min(depth, holding.num_held)
                if not is_exact or holding.num_held == num:
                    rank = (num, not holding.is_live, num - holding.num_held)
                    if num and rank > best_rank:
                        best_rank = rank
                        best = PrefixMatch(source=seq_id, num_tokens=num)
                if depth > num_promised and holding.is_live and holding.num_held < depth:
                    leader, num_promised = seq_id, depth
        if leader is None or num_promised <= best.num_tokens or is_exact:
            return best
        return PrefixMatch(best.source, best.num_tokens, leader, num_promised)

    def lru(self, *, besides: int | None = None) -> int | None:
        """The finished id that was of no use for longest."""
        finished = [
            (holding.last_used, seq_id)
            for seq_id, holding in self._holdings.items()
            if not holding.is_live and seq_id != besides
        ]
        return min(finished)[1] if finished else None

    def num_held(self, seq_id: int) -> int:
        holding = self._holdings.get(seq_id)
        return 0 if holding is None else holding.num_held

    def path_of(self, seq_id: int) -> tuple[str, bytes]:
        """The cache key of an id that is here, and the tokens that it holds, packed."""
        holding = self._holdings[seq_id]
        return holding.cache_key, _path(holding.end)[: holding.num_held * TOKEN_BYTES]

    def is_live(self, seq_id: int) -> bool:
        holding = self._holdings.get(seq_id)
        return holding is not None and holding.is_live

    def finished_ids(self, cache_key: str | None = None) -> list[int]:
        """Ids retained for their prefix, of one key or (None) of all."""
        return [
            seq_id
            for seq_id, holding in self._holdings.items()
            if not holding.is_live and (cache_key is None or holding.cache_key == cache_key)
        ]

    def finished_ids_by_age(self) -> list[int]:
        """Ids retained for their prefix, the one that was of no use for longest first."""
        return sorted(self.finished_ids(), key=lambda seq_id: self._holdings[seq_id].last_used)

    def num_distinct_tokens(self, *, live_only: bool = False) -> int:
        """Tokens held, those that several ids hold at the same place counted once."""
        total = 0
        stack = [child for root in self._roots.values() for child in root.children.values()]
        while stack:
            node = stack.pop()
            start = node.depth - len(node.label) // TOKEN_BYTES
            most = start
            for seq_id in node.ids:
                holding = self._holdings[seq_id]
                if holding.is_live or not live_only:
                    most = max(most, holding.num_held)
            if most > start:  # else nobody who counts holds what is below it
                total += min(most, node.depth) - start
                stack.extend(node.children.values())
        return total


def _walk(root: _Node, tokens: bytes) -> Iterator[tuple[int, set[int]]]:
    """(tokens matched, ids whose paths share them) at each node from the root down."""
    node, offset = root, 0
    while offset < len(tokens):
        child = node.children.get(tokens[offset : offset + TOKEN_BYTES])
        if child is None:
            return
        shared = _common_bytes(child.label, tokens, offset)
        offset += shared
        yield offset // TOKEN_BYTES, child.ids
        if shared < len(child.label):
            return
        node = child


def _insert(node: _Node, tokens: bytes, depth: int, seq_id: int) -> _Node:
    """Put an id that stands at `node` (of that depth) on the path of `tokens`; its end node."""
    offset = depth * TOKEN_BYTES
    while offset < len(tokens):
        first = tokens[offset : offset + TOKEN_BYTES]
        child = node.children.get(first)
        if child is None:
            if node.parent is not None and not node.children and node.ids == {seq_id}:
                node.label += tokens[offset:]
                node.depth = len(tokens) // TOKEN_BYTES
                return node
            child = _Node(tokens[offset:], node, len(tokens) // TOKEN_BYTES)
            node.children[first] = child
        else:
            shared = _common_bytes(child.label, tokens, offset)
            if shared < len(child.label):
                child = _split(child, shared)
        child.ids.add(seq_id)
        node = child
        offset = node.depth * TOKEN_BYTES
    return node


def _split(node: _Node, num_bytes: int) -> _Node:
    """Cut an edge in two; `node` stays the lower one, so ids that end there stay right."""
    parent = node.parent
    assert parent is not None
    upper = _Node(
        node.label[:num_bytes], parent, node.depth - (len(node.label) - num_bytes) // TOKEN_BYTES
    )
    upper.ids = set(node.ids)
    parent.children[node.label[:TOKEN_BYTES]] = upper
    node.label = node.label[num_bytes:]
    node.parent = upper
    upper.children[node.label[:TOKEN_BYTES]] = node
    return upper


def _leave(end: _Node, seq_id: int) -> None:
    """Take an id off its path; nodes that nobody needs go, edges without a fork are joined."""
    node: _Node | None = end
    while node is not None and node.parent is not None:
        parent: _Node = node.parent
        node.ids.discard(seq_id)
        if not node.ids:
            del parent.children[node.label[:TOKEN_BYTES]]
        elif len(node.children) == 1:
            (child,) = node.children.values()
            if child.ids == node.ids:
                child.label = node.label + child.label
                child.parent = parent
                parent.children[child.label[:TOKEN_BYTES]] = child
        node = parent


def _path(end: _Node) -> bytes:
    """All tokens from the root to a node's end, packed."""
    labels: list[bytes] = []
    node: _Node | None = end
    while node is not None:
        labels.append(node.label)
        node = node.parent
    return b"".join(reversed(labels))


def _common_bytes(label: bytes, tokens: bytes, offset: int) -> int:
    """Bytes, a whole number of tokens, that `label` shares with `tokens` from `offset` on."""
    most = min(len(label), len(tokens) - offset)
    if label[:most] == tokens[offset : offset + most]:
        return most
    low, high = 0, most // TOKEN_BYTES  # the first `low` tokens agree, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        start, end = low * TOKEN_BYTES, middle * TOKEN_BYTES
        if label[start:end] == tokens[offset + start : offset + end]:
            low = middle
        else:
            high = middle
    return low * TOKEN_BYTES
