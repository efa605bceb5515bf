"""Runs that differ by chance alone are told alike, slower ones are found: a small queue, played
with known noise, stands for the system."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import nan

import msgspec
import numpy as np
import pytest

from fmedge.errors import FmedgeError
from fmedge.sim.compare import METRICS, Comparison, compare
from fmedge.sim.outcome import Row
from fmedge.sim.run import Run, make_run
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise, WorkflowSettings

NUM_SERVERS = 16
JITTER = 0.05


def asked(count: int = 300, seed: int = 0, rate: float = 8.0) -> Workload:
    """Poisson arrivals at about 85 % of what the servers can do."""
    rng = np.random.default_rng(seed)
    columns = (
        np.cumsum(rng.exponential(1 / rate, count)),
        rng.lognormal(6, 1, count).clip(8, 4000),
        rng.lognormal(4, 0.7, count).clip(2, 800),
    )
    promise = Promise(ttft_s=1.5)
    return Workload(
        source="queue",
        calls=tuple(
            Call(at_s=float(at_s), num_prompt=int(prompt), num_output=int(output), promise=promise)
            for at_s, prompt, output in zip(*columns, strict=True)
        ),
    )


def served(workload: Workload, seed: int, slower: float = 1.0) -> Run:
    """First come, first served; each call's times stray by JITTER."""
    rng = np.random.default_rng(seed)
    free_s = [0.0] * NUM_SERVERS
    rows = []
    for place, call in enumerate(workload.calls):
        start_s = max(call.at_s, heapq.heappop(free_s))
        stray = slower * rng.lognormal(0, JITTER, 2)
        first_s = start_s + call.num_prompt * 4e-4 * stray[0]
        end_s = first_s + call.num_output * 0.02 * stray[1]
        heapq.heappush(free_s, end_s)
        rows.append(
            Row(call=place, at_s=call.at_s, status="ok", ttft_s=first_s - call.at_s,
                e2e_s=end_s - call.at_s, num_tokens=call.num_output)
        )  # fmt: skip
    return make_run(workload, rows, kind="simulated")


def judged(base: Sequence[Run], new: Sequence[Run], **options: object) -> Comparison:
    return compare(base, new, resamples=200, **options)  # type: ignore[arg-type]


def verdicts(found: Comparison) -> dict[str, str]:
    return {change.metric: change.verdict for change in found.changes}


def test_ten_repeats_without_a_regression_are_silent() -> None:
    workload = asked()
    base = served(workload, 0)
    for repeat in range(1, 11):
        assert not judged([base], [served(workload, repeat)]).is_worse


def test_steps_that_take_five_per_cent_longer_are_found_each_time() -> None:
    workload = asked()
    base = served(workload, 0)
    for repeat in range(1, 11):
        found = judged([base], [served(workload, repeat, slower=1.05)])
        assert found.is_worse
        assert found.is_paired
        tpot = next(change for change in found.changes if change.metric == "tpot_p50")
        assert tpot.low > 1.02
        assert tpot.ratio == pytest.approx(1.05, abs=0.015)


def test_faster_is_better_and_within_the_threshold_is_the_same() -> None:
    workload = asked()
    base, faster = served(workload, 0), served(workload, 1, slower=0.9)
    assert verdicts(judged([base], [faster]))["tpot_p50"] == "better"
    slower = served(workload, 1, slower=1.05)
    assert verdicts(judged([base], [slower], threshold=0.1))["tpot_p50"] == "same"


def test_several_runs_of_a_side_are_drawn_from() -> None:
    workload = asked(150)
    base = [served(workload, n) for n in range(3)]
    found = judged(base, [served(workload, n, slower=1.05) for n in range(3, 6)])
    assert (found.num_base, found.num_new) == (3, 3)
    assert verdicts(found)["tpot_p50"] == "worse"
    assert not judged(base, [served(workload, n) for n in range(3, 6)]).is_worse


def test_equal_workloads_are_paired_whatever_the_order_of_their_runs() -> None:
    workloads = [asked(60, seed) for seed in range(3)]
    base = [served(w, 0) for w in workloads]
    new = [served(w, 1, slower=1.05) for w in reversed(workloads)]
    found = judged(base, new)
    assert found.is_paired
    assert verdicts(found)["tpot_p50"] == "worse"


def test_other_workloads_are_compared_as_samples() -> None:
    found = judged([served(asked(300, 1), 0)], [served(asked(250, 2), 1, slower=1.2)])
    assert not found.is_paired
    assert verdicts(found)["tpot_p50"] == "worse"
    assert any("differ" in note for note in found.notes)
    assert not judged([served(asked(300, 1), 0)], [served(asked(250, 2), 1)]).is_worse


def test_calls_that_are_refused_show_in_attainment_and_not_in_latencies() -> None:
    workload = asked()
    base = served(workload, 0)
    rows = [
        Row(call=row.call, at_s=row.at_s, status="refused") if row.call % 5 == 0 else row
        for row in base.rows
    ]
    found = judged([base], [make_run(workload, rows, kind="simulated")])
    by_name = verdicts(found)
    assert (by_name["attainment"], by_name["goodput"]) == ("worse", "worse")
    assert by_name["ttft_p50"] == "same"
    ttft = next(change for change in found.changes if change.metric == "ttft_p50")
    assert ttft.ratio == pytest.approx(1.0)
    assert ttft.num == 240


def test_promises_of_tasks_count() -> None:
    calls: list[Call] = []
    for n in range(80):
        fields = {"num_prompt": 4, "num_output": 2, "workflow": "w", "instance": str(n)}
        calls.append(Call(at_s=float(n), **fields))  # type: ignore[arg-type]
        calls.append(Call(at_s=0.5, after=(2 * n,), **fields))  # type: ignore[arg-type]
    workload = Workload(
        source="tasks", calls=tuple(calls), workflows={"w": WorkflowSettings(name="w", e2e_s=3.0)}
    )

    def run(is_half_late: bool) -> Run:
        rows = []
        for n in range(80):
            for place, at_s in ((2 * n, float(n)), (2 * n + 1, n + 1.5)):
                e2e_s = 2.0 if is_half_late and place % 2 and n % 2 else 1.0
                rows.append(Row(call=place, at_s=at_s, status="ok", ttft_s=0.5, e2e_s=e2e_s))
        return make_run(workload, rows, kind="simulated")

    found = {c.metric: c for c in judged([run(False)], [run(True)]).changes}
    assert (found["attainment"].base, found["attainment"].new) == (1.0, 0.5)
    assert found["attainment"].verdict == "worse"
    assert found["goodput"].base == pytest.approx(80 / 79)


def test_a_partial_run_is_compared_by_what_it_has() -> None:
    workload = asked()
    base = served(workload, 0)
    rows = [
        row if row.call < 100 else Row(call=row.call, at_s=nan, status="unsent")
        for row in served(workload, 1).rows
    ]
    found = judged([base], [make_run(workload, rows, kind="measured", ended="interrupted")])
    assert not found.is_worse
    assert {change.num for change in found.changes if change.metric == "ttft_p50"} == {100}
    assert any("partial" in note for note in found.notes)
    assert any("simulated" in note for note in found.notes)


def test_of_too_few_calls_nothing_is_claimed() -> None:
    workload = asked(20)
    with pytest.raises(FmedgeError, match="too few"):
        judged([served(workload, 0)], [served(workload, 1, slower=2.0)])
    some = asked(100)
    found = judged([served(some, 0)], [served(some, 1, slower=2.0)])
    assert verdicts(found)["ttft_p99"] == "too few"
    assert verdicts(found)["ttft_p50"] == "worse"


def test_the_same_seed_gives_the_same_intervals() -> None:
    workload = asked(60)
    sides = [served(workload, 0)], [served(workload, 1)]
    once, again, other = (judged(*sides, seed=seed) for seed in (3, 3, 4))
    assert msgspec.json.encode(once) == msgspec.json.encode(again)
    assert msgspec.json.encode(once) != msgspec.json.encode(other)


def test_all_metrics_of_the_same_run_are_the_same() -> None:
    run = served(asked(500, rate=4.0), 0)
    found = judged([run], [run], metrics=METRICS)
    assert {change.ratio for change in found.changes} == {1.0}
    assert {change.verdict for change in found.changes} == {"same"}
