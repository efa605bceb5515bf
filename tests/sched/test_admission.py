"""Refusals that need no estimate of the request, and when to come back."""

from __future__ import annotations

import pytest

from fmedge.sched.admission import bound_refusal, retry_after_s, whole_seconds
from fmedge.types import Promise

STRICT = Promise(ttft_s=0.5, on_miss="refuse")
FLOOR = (0.1, 0.0004, 0.003)  # 100 ms, 0.4 ms a prompt token, 3 ms a token


@pytest.mark.parametrize(
    ("promise", "num_body_bytes", "is_refused"),
    [
        (STRICT, 0, False),
        (STRICT, 10_000, False),
        (STRICT, 200_000, True),  # at least 6,000 tokens
        (Promise(e2e_s=0.5, on_miss="refuse"), 200_000, True),
        (Promise(ttft_s=0.5), 200_000, False),  # it would become best effort
        (Promise(tpot_s=0.002, on_miss="refuse"), 0, True),
        (Promise(tpot_s=0.0022, on_miss="refuse"), 0, False),
        (Promise(on_miss="refuse"), 10**9, False),
    ],
)
def test_a_lower_bound_refuses(promise, num_body_bytes, is_refused):
    refusal = bound_refusal(FLOOR, promise, num_body_bytes, 7)
    assert (refusal is not None) == is_refused
    if refusal is not None:
        assert refusal.code == "sla_unattainable"
        assert refusal.request_id == 7


def test_without_a_floor_nothing_is_known():
    assert bound_refusal(None, STRICT, 10**9, 1) is None


def test_a_queue_drains_but_a_prompt_does_not_get_shorter():
    queued = bound_refusal((3.0, 0.0004, 0.003), STRICT, 1000, 1)
    assert queued is not None
    assert queued.retry_after_s == 2.0  # 0.7 x 3 s lies 1.6 s over it
    long = bound_refusal((3.0, 0.0004, 0.003), STRICT, 1_000_000, 1)
    assert long is not None
    assert long.retry_after_s == 0.0


def test_the_nearest_replica_says_when():
    assert retry_after_s([7.3, 2.1, float("inf")], can_ever=True) == 3.0
    assert retry_after_s([7.3], can_ever=False) == 0.0
    assert retry_after_s([], can_ever=True) == 0.0
    assert [whole_seconds(s) for s in (-1.0, 0.2, 1.2, 1e9)] == [1.0, 1.0, 2.0, 60.0]
