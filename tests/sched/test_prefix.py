"""The radix tree against a plain list of who holds what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fmedge.sched.prefix import PrefixCache
from tests.fakes import pack

KEYS = st.sampled_from(["", "a"])
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=10)


def _shared(a: list[int], b: list[int]) -> int:
    num = 0
    while num < min(len(a), len(b)) and a[num] == b[num]:
        num += 1
    return num


class AgainstList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache()
        self.paths: dict[int, tuple[str, list[int], int, bool]] = {}  # key, path, held, live
        self.finished: list[int] = []  # least recently used first

    @rule(seq=st.integers(0, 5), key=KEYS, tokens=TOKENS, share=st.floats(0, 1))
    def put(self, seq: int, key: str, tokens: list[int], share: float) -> None:
        held = int(len(tokens) * share)
        self.cache.put(seq, key, pack(tokens), held)
        self.paths[seq] = (key, tokens, held, True)
        self.finished = [i for i in self.finished if i != seq]

    @rule(seq=st.integers(0, 5), more=TOKENS)
    def extend(self, seq: int, more: list[int]) -> None:
        if seq in self.paths and self.paths[seq][3]:
            key, tokens, _, _ = self.paths[seq]
            tokens = tokens + more
            self.cache.extend(seq, pack(tokens), len(tokens))
            self.paths[seq] = (key, tokens, len(tokens), True)

    @rule(seq=st.integers(0, 5))
    def finish(self, seq: int) -> None:
        if seq in self.paths and self.paths[seq][3]:
            key, tokens, held, _ = self.paths.pop(seq)
            self.cache.finish(seq, held)
            if held:
                self.paths[seq] = (key, tokens[:held], held, False)
                self.finished.append(seq)

    @rule(seq=st.integers(0, 5))
    def drop(self, seq: int) -> None:
        self.cache.drop(seq)
        self.paths.pop(seq, None)
        self.finished = [i for i in self.finished if i != seq]

    @rule(key=KEYS, tokens=TOKENS, limit=st.integers(1, 10), is_exact=st.booleans())
    def match(self, key: str, tokens: list[int], limit: int, is_exact: bool) -> None:
        found = self.cache.match(key, pack(tokens), limit=limit, is_exact=is_exact)
        wanted = tokens[:limit]
        held = {
            seq: min(held, _shared(path, wanted))
            for seq, (k, path, held, _) in self.paths.items()
            if k == key and (not is_exact or held == min(held, _shared(path, wanted)))
        }
        assert found.num_tokens == max(held.values(), default=0)
        if found.num_tokens:
            assert found.source is not None
            assert held[found.source] == found.num_tokens
        promised = {
            seq: _shared(path, wanted)
            for seq, (k, path, held, live) in self.paths.items()
            if k == key and live and held < _shared(path, wanted)
        }
        best = max(promised.values(), default=0)
        if not is_exact and best > found.num_tokens:
            assert found.leader is not None
            assert promised[found.leader] == found.num_promised == best
        else:
            assert found.leader is None

    @invariant()
    def least_recently_used_is_known(self) -> None:
        assert self.cache.lru() == (self.finished[0] if self.finished else None)
        assert sorted(self.cache.finished_ids()) == sorted(self.finished)

    @invariant()
    def distinct_tokens_are_counted_once(self) -> None:
        for live_only in (False, True):
            distinct = {
                (key, tuple(path[: i + 1]))
                for key, path, held, live in self.paths.values()
                if live or not live_only
                for i in range(held)
            }
            assert self.cache.num_distinct_tokens(live_only=live_only) == len(distinct)


TestAgainstList = AgainstList.TestCase


@given(st.lists(TOKENS, min_size=1, max_size=8))
def test_nothing_is_left_when_all_are_dropped(paths: list[list[int]]) -> None:
    cache = PrefixCache()
    for seq, path in enumerate(paths):
        cache.put(seq, "k", pack(path), len(path))
    for seq in range(len(paths)):
        cache.drop(seq)
    assert cache.num_distinct_tokens() == 0
    assert cache._roots == {}


def test_keys_never_meet() -> None:
    cache = PrefixCache()
    cache.put(0, "alice", pack([1, 2, 3]), 3)
    assert cache.match("bob", pack([1, 2, 3]), limit=3).source is None
    assert cache.match("", pack([1, 2, 3]), limit=3).source is None
    assert cache.match("alice", pack([1, 2, 3]), limit=2).num_tokens == 2


def test_a_finished_source_that_loses_least_is_preferred() -> None:
    cache = PrefixCache()
    cache.put(0, "", pack([1, 2, 3]), 3)
    cache.put(1, "", pack([1, 2, 3, 4, 5]), 5)
    cache.put(2, "", pack([1, 2, 3, 6]), 4)
    cache.finish(1, 5)
    cache.finish(2, 4)
    assert cache.match("", pack([1, 2, 3, 9]), limit=3).source == 2
