"""Demand as the decisions show it."""

from __future__ import annotations

from math import inf
from typing import Any

from fmedge.sched.decision import Decision
from fmedge.sched.provision.observed import observe, rates


def decision(at_s: float, model: str = "chat", **fields: Any) -> Decision:
    return Decision(request_id=0, model=model, arrived_s=at_s, **fields)


def test_rates_and_quantiles_of_the_window_alone() -> None:
    old = [decision(10.0, num_prompt_tokens=9999)]
    new = [
        decision(100.0 + i, num_prompt_tokens=10 * (i + 1), num_output_tokens=i + 1)
        for i in range(20)
    ]
    found = observe(old + new, now_s=120.0, window_s=40.0)
    chat = found["chat"]
    assert chat.num_requests == 20
    assert chat.rate_per_s == 0.5
    assert (chat.prompt_p50, chat.prompt_p95) == (100, 190)
    assert (chat.output_p50, chat.output_p95) == (10, 19)
    assert rates(found) == {"chat": 0.5}


def test_a_window_that_began_later_is_shorter() -> None:
    found = observe([decision(118.0)], now_s=120.0, window_s=60.0, since_s=116.0)
    assert found["chat"].rate_per_s == 0.25


def test_promises_kept_broken_refused_and_still_open() -> None:
    found = observe(
        [
            decision(1.0, held=True, ttft_limit_s=1.0),
            decision(2.0, held=False, ttft_limit_s=1.0),
            decision(3.0, action="refuse", e2e_limit_s=5.0),
            decision(4.0, held=None, e2e_limit_s=5.0),
            decision(5.0, action="refuse"),  # the queue was full: nothing was promised
        ],
        now_s=10.0,
        window_s=20.0,
    )
    signal = found["chat"].signal(target=0.8)
    assert (signal.num_judged, signal.num_missed, signal.target) == (3, 2, 0.8)


def test_models_apart_and_the_commonest_class() -> None:
    found = observe(
        [
            decision(1.0, sla_class="batch"),
            decision(2.0, sla_class="interactive"),
            decision(3.0, sla_class="interactive"),
            decision(3.0, model="code"),
        ],
        now_s=5.0,
        window_s=inf,
    )
    assert found["chat"].sla_class == "interactive"
    assert found["code"].sla_class == ""
    assert found["code"].output_p95 == 0
