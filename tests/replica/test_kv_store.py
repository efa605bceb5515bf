"""What is put away and brought back, by what it costs: on a fake engine whose copies take time."""

from __future__ import annotations

import pytest

from fmedge.replica import kv_store
from fmedge.replica.kv_rate import Rate
from fmedge.replica.kv_store import KvStore
from fmedge.replica.protocol import KvStoreSettings
from fmedge.sched.steps import StepRates
from fmedge.types import EngineSettings
from tests.fakes import FakeEngine, pack

SLOW = StepRates(prefill_s_per_token=0.01, decode_s=0.05)
TOKENS = list(range(3, 103))
STATE_BYTES = 8 * len(TOKENS)


class CopyingEngine(FakeEngine):
    """Copies take copy_s each."""

    copy_s = 0.0

    def state_save(self, seq: int) -> memoryview:
        self.now_s += self.copy_s
        return super().state_save(seq)

    def state_restore(self, seq: int, state: bytes | memoryview) -> None:
        self.now_s += self.copy_s
        super().state_restore(seq, state)


class Case:
    def __init__(self, memory_bytes: int = 1 << 20) -> None:
        self.engine = CopyingEngine(slots=2, ctx_size=256, batch_size=256)
        self.store = KvStore(
            self.engine,
            KvStoreSettings(memory_bytes=memory_bytes),
            EngineSettings(model_path="none"),
            clock=self.engine.clock,
        )

    def save(
        self, tokens: list[int], rates: StepRates = SLOW, *, is_busy: bool = False, key: str = ""
    ) -> bool:
        self.engine.seq_remove(0)
        self.engine.write(0, tokens)
        return self.store.save(0, key, pack(tokens), rates, is_busy=is_busy)

    def num_found(self, tokens: list[int], num_resident: int = 0, key: str = "") -> int:
        found = self.store.find(key, pack(tokens), num_resident, SLOW)
        return 0 if found is None else found.num_tokens


def other(number: int) -> list[int]:
    return [3 + number, *TOKENS[1:]]


def test_it_finds_what_begins_the_same_under_the_same_key() -> None:
    case = Case()
    assert case.save(TOKENS, key="a")
    assert case.num_found([*TOKENS, 9], key="a") == 100
    assert case.num_found(TOKENS, key="a") == 99  # the last token must run
    assert case.num_found([*TOKENS[:60], 9, 9], key="a") == 60
    assert case.num_found([*TOKENS, 9], key="b") == 0
    assert case.num_found([*TOKENS, 9]) == 0


def test_what_the_engine_holds_must_be_beaten_by_enough() -> None:
    case = Case()
    case.save(TOKENS)
    assert case.num_found([*TOKENS, 9], 60) == 100
    assert case.num_found([*TOKENS, 9], 100 - kv_store.MIN_TOKENS + 1) == 0


def test_a_conversation_takes_the_place_of_its_beginning() -> None:
    case = Case()
    assert case.save(TOKENS[:60])
    assert case.save(TOKENS)
    assert case.store.num_bytes == STATE_BYTES
    assert not case.save(TOKENS[:80])  # known already
    assert not case.save(TOKENS)
    assert case.num_found([*TOKENS[:60], 9]) == 60


def test_memory_is_bounded_and_the_least_recently_used_goes() -> None:
    case = Case(memory_bytes=3 * STATE_BYTES + 10)
    for number in range(3):
        assert case.save(other(number))
    found = case.store.find("", pack([*other(0), 9]), 0, SLOW)
    assert found is not None
    assert case.store.restore(found, 1)
    for number in range(3, 5):
        assert case.save(other(number))
        assert case.store.num_bytes == 3 * STATE_BYTES
    assert [case.num_found([*other(n), 9]) > 0 for n in range(5)] == [1, 0, 0, 1, 1]
    assert not case.save(list(range(3, 253)) * 2)  # larger than all of it


def test_what_is_quickly_computed_is_not_kept() -> None:
    case = Case()
    case.engine.copy_s = 0.01
    fast = StepRates(prefill_s_per_token=1e-6)
    assert case.save(other(0), fast)  # a copy was believed to be fast
    for number in range(1, 40):
        if not case.save(other(number), fast):
            break
    else:
        raise AssertionError("it never learned")
    assert case.save(other(50), SLOW)


def test_beside_streams_saves_are_short_and_seldom() -> None:
    case = Case()
    case.engine.copy_s = 0.02
    assert case.save(other(0), is_busy=True)
    assert not case.save(other(1), is_busy=True)
    assert case.save(other(2))
    case.engine.now_s += 0.021 / kv_store.MAX_STALL_SHARE
    assert case.save(other(3), is_busy=True)


def test_a_slow_copy_is_not_made_beside_streams_until_it_is_believed_fast_again() -> None:
    case = Case()
    case.engine.copy_s = 0.2
    number = 0
    while case.save(other(number), is_busy=True):
        number += 1
        case.engine.now_s += 100
        assert number < 60
    case.engine.copy_s = 0.001
    num_refused = 0
    while not case.save(other(100), is_busy=True):
        num_refused += 1
        assert num_refused < 60
    assert case.store.num_saved == number + 1


def test_time_that_copies_took_is_told_once() -> None:
    case = Case()
    case.engine.copy_s = 0.02
    case.save(TOKENS)
    assert case.store.take_spent_s() == pytest.approx(0.02)
    assert case.store.take_spent_s() == 0


def test_a_copy_that_waits_for_a_step_is_not_saved() -> None:
    case = Case()
    case.engine.write(0, TOKENS)
    case.engine.seq_copy(0, 1, 50)
    assert not case.store.save(1, "", pack(TOKENS[:50]), SLOW, is_busy=False)


def test_clearing_one_key_leaves_the_others() -> None:
    case = Case()
    case.save(TOKENS, key="a")
    case.save(TOKENS, key="b")
    case.store.clear("a")
    assert case.num_found([*TOKENS, 9], key="a") == 0
    assert case.num_found([*TOKENS, 9], key="b") == 100
    case.store.clear(None)
    assert case.store.num_bytes == 0


def test_a_rate_believes_one_slow_copy_in_part_and_doubts_what_it_refuses() -> None:
    rate = Rate(bytes_per_s=1e9)
    rate.learn(1000, 1.0)
    assert rate.seconds(10**9) == pytest.approx(1.3)
    for _ in range(40):
        rate.learn(10**9, 0.2)
    assert rate.seconds(10**9) == pytest.approx(0.2, rel=0.01)
    for _ in range(60):
        rate.doubt()
    assert rate.seconds(10**9) == pytest.approx(1.0, rel=0.01)
