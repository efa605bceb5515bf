"""Fair queueing: shares by weight, nothing saved up, nobody delayed by another's backlog."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.fair import FairClock


def serve_all(clock: FairClock, queue: list[tuple[float, str, int]], num: int) -> dict[str, int]:
    """Tokens served by key after `num` requests, lowest tag first."""
    served: dict[str, int] = {}
    for tag, key, num_tokens in sorted(queue)[:num]:
        clock.serve(tag)
        served[key] = served.get(key, 0) + num_tokens
    return served


@given(weight=st.sampled_from([1, 2, 3, 5]), size=st.integers(10, 500))
def test_shares_follow_weights(weight, size):
    clock = FairClock()
    queue = [(clock.tag("a", size), "a", size) for _ in range(200)]
    queue += [(clock.tag("b", size, weight), "b", size) for _ in range(200)]
    served = serve_all(clock, queue, 120)
    assert served["b"] / served["a"] == pytest.approx(weight, rel=0.1)


def test_a_backlog_delays_nobody_elses_first_request():
    clock = FairClock()
    backlog = [clock.tag("greedy", 1000) for _ in range(50)]
    clock.serve(backlog[0])
    assert clock.tag("modest", 1000) < backlog[1]


def test_an_idle_key_saves_nothing_up():
    clock = FairClock()
    clock.tag("idle", 10)
    for _ in range(100):
        clock.serve(clock.tag("busy", 100))
    assert clock.tag("idle", 10) == clock.peek("other") >= 9000


def test_what_a_request_really_took_counts_later():
    clock = FairClock()
    clock.tag("a", 100)
    clock.settle("a", 900)
    clock.tag("b", 100)
    assert clock.peek("a") == 1000
    assert clock.peek("b") == 100


def test_memory_is_bounded_and_the_busy_are_remembered():
    clock = FairClock(max_keys=16)
    for index in range(1000):
        clock.tag(f"key {index}", 1 + index % 7)
    assert clock.num_keys <= 16
    clock.tag("heavy", 1e6)
    for index in range(1000):
        clock.tag(f"other {index}", 1)
    assert clock.peek("heavy") == 1e6
