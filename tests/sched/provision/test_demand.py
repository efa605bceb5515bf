"""Workloads have the quantiles, the rate and the order that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from fmedge.sched.provision.demand import (
    MAX_CALLS,
    Demand,
    Spread,
    longest,
    workload,
)
from fmedge.types import Promise

CHAT = Demand(
    model="chat", rate_per_s=2.0, prompt_tokens=Spread(800, 4000), output_tokens=Spread(150, 600)
)


def test_spread_has_its_quantiles() -> None:
    spread = Spread(800, 4000)
    assert spread.quantile(0.5) == pytest.approx(800)
    assert spread.quantile(0.95) == pytest.approx(4000)
    assert Spread(100, 100).quantile(0.99) == pytest.approx(100)


@pytest.mark.parametrize(("p50", "p95"), [(0, 5), (5, 4), (float("nan"), 5), (5, float("inf"))])
def test_quantiles_that_cannot_be(p50: float, p95: float) -> None:
    with pytest.raises(ValueError, match="quantiles rise"):
        Spread(p50, p95)


def test_a_workload_is_its_demand() -> None:
    calls = workload((CHAT,))
    prompts = [call.num_prompt for call in calls]
    assert np.median(prompts) == pytest.approx(800, rel=0.03)
    assert np.quantile(prompts, 0.95) == pytest.approx(4000, rel=0.1)
    assert np.median([call.num_output for call in calls]) == pytest.approx(150, rel=0.03)
    assert len(calls) / calls[-1].arrival_s == pytest.approx(2.0)
    gaps = np.diff([call.arrival_s for call in calls])
    assert (gaps > 0).all()
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1.0, abs=0.15)  # as a Poisson process


def test_the_same_demand_gives_the_same_calls() -> None:
    assert workload((CHAT,)) == workload((CHAT,))
    assert workload((CHAT,)) != workload((CHAT,), seed=1)


def test_streams_of_unequal_rates_share_one_time() -> None:
    rare = Demand(
        model="chat",
        rate_per_s=0.2,
        prompt_tokens=Spread(100, 100),
        output_tokens=Spread(10, 10),
        promise=Promise(ttft_s=1.0),
    )
    calls = workload((CHAT, rare))
    few = [call for call in calls if call.promise is rare.promise]
    assert len(few) == pytest.approx(len(calls) / 11, abs=1)
    assert len(few) >= 16
    assert [call.arrival_s for call in calls] == sorted(call.arrival_s for call in calls)


def test_a_very_rare_stream_costs_no_more_than_the_bound() -> None:
    rare = Demand(
        model="x", rate_per_s=0.001, prompt_tokens=Spread(9, 9), output_tokens=Spread(9, 9)
    )
    calls = workload((CHAT, rare))
    assert len(calls) <= MAX_CALLS + 1
    assert any(call.num_prompt == 9 for call in calls)


def test_longest() -> None:
    assert longest(()) == 0
    assert longest((CHAT,), 0.5) == 950
