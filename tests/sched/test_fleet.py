"""Estimates of the fleet: what they mean, and that compiled and plain bodies agree."""

from __future__ import annotations

from math import erf, inf, log, nan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.sched import arrays, estimate
from fmedge.sched.entries import arrival_after
from fmedge.sched.fleet import (
    NUM_SCENARIOS,
    Candidate,
    Column,
    Fleet,
    OutlookColumn,
    ReplicaFacts,
    SpeedColumn,
    replica_estimate,
)
from fmedge.sched.lengths import LengthPredictor
from fmedge.sched.steps import StepLimits, StepRates
from fmedge.sched.steptime import Curve, StepModel
from fmedge.sched.storage import strata_table
from tests.sched.naive_replay import NaiveReplica, Request
from tests.sched.test_replay import PLAIN, fleet_of, random_facts, random_model, random_requests

MODEL = StepModel(
    base_s=0.01, decode=Curve((0.0, 4.0), (0.0, 0.004)), prefill=Curve((0.0, 100.0), (0.0, 0.1))
)
FACTS = ReplicaFacts(slots=4, ctx_size=4096, limits=StepLimits(max_tokens=512))
NOW = 50.0


def new_fleet(*names: str, facts: ReplicaFacts = FACTS) -> Fleet:
    fleet = Fleet()
    for name in names or ("r",):
        fleet.add_replica(name, facts, MODEL.packed())
    return fleet


def known(request_id: int, num_new: int = 50, **more: object) -> Candidate:
    fields = {"num_tokens": 100, "max_new": num_new, "min_new": num_new} | more
    return Candidate(request_id=request_id, **fields)  # type: ignore[arg-type]


def learned(request_id: int, **more: object) -> Candidate:
    predictor = LengthPredictor()
    for k in range(200):
        predictor.observe(("k",), 20 + 2 * k, False)
    fields = {"num_tokens": 100, "max_new": 2000, "min_new": 1} | more
    return Candidate(request_id=request_id, cdf=predictor.predict(("k",)).cdf, **fields)  # type: ignore[arg-type]


def random_fleet(rng: np.random.Generator, bodies: object) -> Fleet:
    facts = random_facts(rng, str(rng.choice(["streams", "unified"])))
    rates = StepRates(prefill_s_per_token=1e-3, decode_s=0.02)
    requests = random_requests(rng, facts, False)
    return fleet_of(facts, random_model(rng), rates, requests, stepped_s=0.01, bodies=bodies)


@pytest.mark.parametrize("seed", range(2))
def test_plain_bodies_give_what_compiled_ones_do(seed: int) -> None:
    rows = []
    for bodies in (None, PLAIN):
        fleet = random_fleet(np.random.default_rng(seed), bodies)
        fleet.set_arrivals("r", 0.3, 40, 60, learned(1).cdf)
        rest = np.linspace(0.1, 2.0, NUM_SCENARIOS, dtype=np.float32)
        for request_id in fleet.requests_on("r")[::2]:
            fleet.set_promise(request_id, ttft_due_s=1000.5, e2e_due_s=1003.0, tpot_limit_s=0.1)
        candidate = learned(
            999, order_key=2.5, ttft_due_s=1000.4, e2e_due_s=1002.0, rest=rest, max_new=300
        )
        row = fleet.assess(1000.0, candidate, sigma=0.2, num_scenarios=4, with_harm=True)
        rows.append((row, fleet.outlook(1000.0, "r", sigma=0.2, num_scenarios=4)[1]))
        rows[-1] += (fleet.speeds(), fleet.alone(1000.0, "r", candidate, sigma=0.1))
        risks = fleet.risks(1000.0, ["r"], sigma=0.2, num_scenarios=4)
        rows[-1] += (np.array([(risk.request_id, risk.p_hold) for risk in risks]),)
    for compiled, plain in zip(*rows, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), order=st.integers(-1, 20))
def test_an_assessment_is_what_the_request_gets_once_it_is_there(seed: int, order: int) -> None:
    fleet = random_fleet(np.random.default_rng(seed), None)
    candidate = known(999, 30, num_tokens=60, order_key=order + 0.5, num_cached={"r": 17})
    row = fleet.assess(1000.0, candidate)[0]
    fleet.put("r", candidate, 1000.0)
    result = fleet.replay(1000.0, "r")
    i = result.request_ids.index(999)
    assert row[Column.Q] == pytest.approx(result.start_s[i])
    assert row[Column.TTFT] == pytest.approx(result.first_s[i])
    assert row[Column.E2E] == pytest.approx(result.end_s[i])
    assert row[Column.Q] + row[Column.X] == pytest.approx(result.end_s[i])
    assert row[Column.CACHED] == 17
    assert row[Column.TPOT] == pytest.approx((result.end_s[i] - result.first_s[i]) / 29)
    # asked about itself, it is not counted twice
    np.testing.assert_allclose(fleet.assess(1000.0, candidate)[0], row)
    fleet.take(999)
    np.testing.assert_allclose(fleet.assess(1000.0, candidate)[0], row)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_anticipated_arrivals_are_requests_behind_all_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    facts, model = random_facts(rng, str(rng.choice(["streams", "unified"]))), random_model(rng)
    rates = StepRates(prefill_s_per_token=1e-3, decode_s=0.02)
    requests = random_requests(rng, facts, False)
    fleet = fleet_of(facts, model, rates, requests, stepped_s=None)
    interval_s = float(rng.choice([0.0217, 0.0613, 0.3071, 1.0137]))
    fleet.set_arrivals("r", interval_s, 30, 25)
    result = fleet.replay(1000.0, "r")
    num_coming = min(arrays.MAX_ARRIVALS, 2 + int(result.end_s.max() / interval_s))
    coming = [
        Request(tokens=30, left=25, arrival_s=arrival_after(k, interval_s))
        for k in range(num_coming)
    ]
    naive = NaiveReplica(facts, model, rates, [*requests, *coming])
    for r in requests:
        r.start_s = 0.0 if r.is_live else inf
    while any(r.phase != "ended" for r in requests):
        naive.step()
    wanted = [r.end_s for r in requests]
    np.testing.assert_allclose(result.end_s, wanted, rtol=1e-5, atol=1e-9)


def test_without_leaves_a_request_out() -> None:
    fleet = new_fleet()
    for i in range(1, 6):
        fleet.put("r", known(i, order_key=i))
    candidate = known(9, order_key=9)
    without = fleet.assess(NOW, candidate, without=2)
    fleet.take(2)
    np.testing.assert_array_equal(fleet.assess(NOW, candidate), without)


def test_alone_is_an_empty_replica() -> None:
    fleet = new_fleet("a", "b")
    for i in range(1, 20):
        fleet.put("a", known(i))
    fleet.on_step("a", NOW - 0.01)
    candidate = known(99, order_key=5)
    on_b = fleet.assess(NOW, candidate, ["b"])[0]
    np.testing.assert_array_equal(fleet.alone(NOW, "a", candidate), on_b)
    assert fleet.assess(NOW, candidate, ["a"])[0, Column.Q] > 1.0


def test_a_promise_holds_with_the_probability_of_its_margin() -> None:
    fleet = new_fleet()
    e2e_s = float(fleet.assess(NOW, known(1))[0, Column.E2E])
    for factor, sigma in ((1.0, 0.1), (1.2, 0.1), (0.8, 0.3), (1.5, 0.3)):
        candidate = known(1, e2e_due_s=NOW + factor * e2e_s)
        p = 0.5 * (1 + erf(log(factor) / sigma / sqrt(2)))
        row = fleet.assess(NOW, candidate, sigma=sigma)[0]
        assert row[Column.P_HOLD] == pytest.approx(p)
        assert row[Column.P_E2E] == pytest.approx(p)
        assert row[Column.P_TTFT] == row[Column.P_TPOT] == 1.0
        assert row[Column.E2E_P90] == pytest.approx(e2e_s * np.exp(1.28155 * sigma), rel=1e-4)
    late = known(1, ttft_due_s=NOW - 1)
    assert fleet.assess(NOW, late, sigma=0.2)[0, Column.P_HOLD] == 0.0
    assert fleet.assess(NOW, known(1), sigma=0.2)[0, Column.P_HOLD] == 1.0


def test_unknown_lengths_make_a_probability_of_the_distribution() -> None:
    fleet = new_fleet()
    candidate = learned(1)
    row = fleet.assess(NOW, candidate)[0]
    assert row[Column.SCENARIOS] == NUM_SCENARIOS
    # lengths are uniform on 20..418: the median's deadline holds for half of them
    assert row[Column.E2E_P90] / row[Column.E2E] == pytest.approx(380 / 220, rel=0.1)
    candidate.e2e_due_s = NOW + float(row[Column.E2E])
    assert fleet.assess(NOW, candidate)[0, Column.P_HOLD] == pytest.approx(0.5, abs=1 / 16)
    candidate.e2e_due_s = NOW + float(row[Column.E2E]) * 320 / 220
    for num_scenarios in (4, 8, 16):
        p = fleet.assess(NOW, candidate, num_scenarios=num_scenarios)[0, Column.P_HOLD]
        assert p == pytest.approx(0.75, abs=0.5 / num_scenarios + 0.05)


def test_what_remains_of_a_workflow_counts() -> None:
    fleet = new_fleet()
    rest = np.linspace(0.5, 8.0, NUM_SCENARIOS, dtype=np.float32)
    candidate = known(1, rest=rest, e2e_due_s=NOW + 0.5)
    e2e_s = float(fleet.assess(NOW, candidate)[0, Column.E2E])
    candidate.e2e_due_s = NOW + e2e_s + 4.25
    for num_scenarios in (1, 16):
        row = fleet.assess(NOW, candidate, num_scenarios=num_scenarios)[0]
        assert row[Column.P_HOLD] == pytest.approx(0.5, abs=0.07)
        assert row[Column.REST] == pytest.approx(4.25)


def test_harm_is_the_weight_of_promises_broken() -> None:
    fleet = new_fleet(facts=ReplicaFacts(slots=1, ctx_size=4096, limits=FACTS.limits))
    other = known(1, order_key=10.0, weight=3.0)
    alone_s = float(fleet.assess(NOW, other)[0, Column.E2E])
    other.e2e_due_s = NOW + 1.5 * alone_s
    fleet.put("r", other)
    ahead = fleet.assess(NOW, known(2, order_key=5.0), with_harm=True)[0]
    behind = fleet.assess(NOW, known(2, order_key=15.0), with_harm=True)[0]
    assert ahead[Column.HARM] == pytest.approx(3.0)
    assert behind[Column.HARM] == 0.0
    assert fleet.assess(NOW, known(2, order_key=5.0))[0, Column.HARM] == 0.0
    fleet.set_promise(1)
    assert fleet.assess(NOW, known(2, order_key=5.0), with_harm=True)[0, Column.HARM] == 0.0


def test_the_rest_get_one_scenario_once_a_replica_is_enough() -> None:
    fleet = new_fleet("a", "b", "c", "d")
    for i in range(1, 9):
        fleet.put("a", learned(i))
    candidate = learned(99, order_key=1, ttft_due_s=NOW + 1)
    full = fleet.assess(NOW, candidate, sigma=0.1)
    assert full[:, Column.SCENARIOS].tolist() == [NUM_SCENARIOS] * 4
    assert full[0, Column.P_HOLD] < 0.5 < 0.9 < full[1, Column.P_HOLD]
    enough = fleet.assess(NOW, candidate, sigma=0.1, stop_at=0.9)
    assert enough[:, Column.SCENARIOS].tolist() == [NUM_SCENARIOS, NUM_SCENARIOS, 1, 1]
    first = fleet.assess(NOW, candidate, ["d", "a", "b"], sigma=0.1, most_full=1)
    assert first[:, Column.SCENARIOS].tolist() == [NUM_SCENARIOS, 1, 1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), least=st.sampled_from([0.5, 0.9, 1.0]))
def test_risks_are_the_outlook_of_promises_that_may_not_hold(seed: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    fleet = random_fleet(rng, None)
    ids = fleet.requests_on("r")
    for request_id in ids[::2]:
        due_s = 1000.0 + float(rng.exponential(2.0))
        fleet.set_promise(request_id, ttft_due_s=due_s, e2e_due_s=2 * due_s - 1000.0)
    for num_scenarios in (1, 4):
        found = fleet.risks(1000.0, ["r"], sigma=0.2, num_scenarios=num_scenarios, least=least)
        order, rows = fleet.outlook(1000.0, "r", sigma=0.2, num_scenarios=num_scenarios)
        likely = fleet.outlook(1000.0, "r", sigma=0.2, num_scenarios=1)[1]
        lowest = min((likely[order.index(i), OutlookColumn.P_HOLD] for i in ids[::2]), default=1)
        if lowest >= estimate.LIKELY_ENOUGH:
            rows = likely
        expected = [
            (request_id, "r", pytest.approx(row[OutlookColumn.P_HOLD]))
            for request_id, row in zip(order, rows, strict=True)
            if request_id in ids[::2] and row[OutlookColumn.P_HOLD] < least
        ]
        assert found == expected


def test_the_first_that_is_enough_ends_the_look() -> None:
    fleet = new_fleet("a", "b", "c", "d")
    for i in range(1, 9):
        fleet.put("a", learned(i))
    candidate = learned(99, order_key=1, ttft_due_s=NOW + 1, num_cached={"b": 5})
    rows = fleet.assess(NOW, candidate, sigma=0.1, num_scenarios=1)
    assert rows[0, Column.P_HOLD] < 0.5 < 0.9 < rows[1, Column.P_HOLD]
    found = fleet.first_enough(NOW, candidate, fleet.names, sigma=0.1, least=0.9)
    np.testing.assert_array_equal(found, rows[:2])
    found = fleet.first_enough(NOW, candidate, ["a"], sigma=0.1, least=0.9)
    np.testing.assert_array_equal(found, rows[:1])
    assert len(fleet.first_enough(NOW, candidate, ["c", "a"], sigma=0.1, least=0.9)) == 1


def test_lengths_are_conditioned_on_what_is_produced() -> None:
    fleet = new_fleet()
    fleet.put("r", learned(1))
    fleet.on_started(1, 0)
    fleet.on_prefilled(1, 100)
    left = [fleet.outlook(NOW, "r")[1][0, OutlookColumn.LEFT]]
    for _ in range(6):
        fleet.on_tokens(1, 100)
        left.append(fleet.outlook(NOW, "r")[1][0, OutlookColumn.LEFT])
    # uniform on 20..418 while there is such a length; then the heavy tail, and never nothing
    assert left[0] == pytest.approx(220, rel=0.1)
    assert left[1] == pytest.approx(160, rel=0.15)
    assert left[2] == pytest.approx(110, rel=0.2)
    assert all(x >= 1 for x in left)
    fleet.on_tokens(1, 2000 - 600)
    assert fleet.outlook(NOW, "r")[1][0, OutlookColumn.LEFT] == 1


def test_outlook_of_running_and_waiting_requests() -> None:
    fleet = new_fleet(facts=ReplicaFacts(slots=1, ctx_size=4096, limits=FACTS.limits))
    fleet.put("r", known(1, order_key=1, ttft_due_s=NOW - 1, e2e_due_s=NOW + 9))
    fleet.put("r", known(2, order_key=2, ttft_due_s=NOW + 9))
    fleet.put("r", known(3, order_key=3))
    fleet.on_started(1, 0)
    fleet.on_tokens(1, 1)
    fleet.on_first_token(1, NOW - 0.5)
    ids, rows = fleet.outlook(NOW, "r", sigma=0.1)
    assert ids == [1, 2, 3]
    assert rows[:, OutlookColumn.IS_RUNNING].tolist() == [1, 0, 0]
    assert rows[0, OutlookColumn.P_HOLD] == 0.0  # its first token was late
    assert rows[0, OutlookColumn.TTFT] == 0.0
    assert rows[0, OutlookColumn.SLACK] == pytest.approx(9 - rows[0, OutlookColumn.E2E])
    assert rows[0, OutlookColumn.TPOT] == pytest.approx((0.5 + rows[0, OutlookColumn.E2E]) / 49)
    assert rows[1, OutlookColumn.SLACK] == pytest.approx(9 - rows[1, OutlookColumn.TTFT])
    assert rows[1, OutlookColumn.START] == pytest.approx(rows[0, OutlookColumn.E2E])
    assert rows[2, OutlookColumn.SLACK] > 1e30
    fleet.on_first_token(1, NOW - 1.5)
    assert fleet.outlook(NOW, "r", sigma=0.1)[1][0, OutlookColumn.P_HOLD] > 0.99
    assert fleet.outlook(NOW, "r", without=1)[0] == [2, 3]


def test_the_running_step_ends_before_anything_new_begins() -> None:
    fleet = new_fleet()
    fleet.put("r", known(1))
    fleet.on_started(1, 0)
    fleet.on_tokens(1, 1)
    step_s = MODEL.step_s(0, 1, 101)
    for age, wait_s in ((0.25, 0.75), (0.9, 0.1), (1.5, 0.0)):
        fleet.on_step("r", NOW - age * step_s)
        q_s = fleet.assess(NOW, known(2, order_key=1))[0, Column.Q]
        assert q_s == pytest.approx(wait_s * step_s, abs=1e-12)


def test_a_moved_request_keeps_what_it_has() -> None:
    fleet = new_fleet("a", "b")
    candidate = learned(1, num_cached={"b": 64}, ttft_due_s=60.0, order_key=4.0, emitted=3)
    fleet.put("a", candidate)
    fleet.on_started(1, 0)
    fleet.on_tokens(1, 7)
    fleet.on_first_token(1, 49.0)
    moved = fleet.take(1)
    assert (moved.num_tokens, moved.emitted, moved.max_new, moved.min_new) == (107, 10, 1993, 0)
    assert (moved.first_s, moved.ttft_due_s, moved.order_key) == (49.0, 60.0, 4.0)
    assert 1 not in fleet
    assert fleet.replica_of(1) is None
    fleet.put("b", moved)
    assert fleet.replica_of(1) == "b"
    assert fleet.outlook(NOW, "b")[1][0, OutlookColumn.IS_RUNNING] == 0
    assert fleet.assess(NOW, moved, ["b"])[0, Column.CACHED] == 64


def test_order_is_by_key_then_by_arrival() -> None:
    fleet = new_fleet()
    for i, key in ((5, 2.0), (3, 1.0), (4, 2.0), (9, 1e13), (2, -1.0)):
        fleet.put("r", known(i, order_key=key))
    assert fleet.requests_on("r") == [2, 3, 5, 4, 9]
    fleet.set_order(2, 3.0)
    fleet.set_order(9, 0.0)
    assert fleet.requests_on("r") == [9, 3, 5, 4, 2]
    fleet.take(5)
    assert fleet.requests_on("r") == [9, 3, 4, 2]


def test_it_grows() -> None:
    fleet = Fleet()
    rows = []
    for r in range(20):
        fleet.add_replica(f"r{r}", FACTS, MODEL.packed())
        for i in range(100):
            fleet.put(f"r{r}", known(1 + 100 * r + i, order_key=i))
            if i % 7 == 0:
                fleet.on_started(1 + 100 * r + i, 0)
        rows.append(fleet.assess(NOW, known(10**6, order_key=50.5), [f"r{r}"])[0])
    assert all((row == rows[0]).all() for row in rows)
    np.testing.assert_array_equal(fleet.assess(NOW, known(10**6, order_key=50.5)), rows)
    assert fleet.remove_replica("r3") == list(range(301, 401))
    assert fleet.names == [f"r{r}" for r in range(20) if r != 3]
    fleet.add_replica("new", FACTS, MODEL.packed())
    assert fleet.requests_on("new") == []
    assert fleet.assess(NOW, known(10**6), ["new"])[0, Column.Q] == 0.0


def test_the_step_model_is_followed_as_it_is_corrected() -> None:
    fleet = Fleet()
    packed = MODEL.packed()
    fleet.add_replica("r", FACTS, packed)
    before = fleet.assess(NOW, known(1))[0, Column.X]
    packed[-2:] = 2.0
    assert fleet.assess(NOW, known(1))[0, Column.X] == before
    fleet.on_step("r", NOW)
    assert fleet.assess(NOW, known(1))[0, Column.X] == pytest.approx(2 * before, rel=0.05)


def test_speeds() -> None:
    fleet = new_fleet("r", "s")
    for i in (1, 2, 3, 4):
        fleet.put("r", known(i))
        fleet.on_tokens(i, 1)
    idle, busy = fleet.speeds(["s", "r"])
    assert idle[SpeedColumn.TOKEN_S] == pytest.approx(MODEL.step_s(0, 1))
    assert busy[SpeedColumn.TOKEN_S] == pytest.approx(MODEL.step_s(0, 4))
    assert busy[SpeedColumn.TOKENS_PER_S] == pytest.approx(4 / MODEL.step_s(0, 4))
    assert idle[SpeedColumn.PREFILL_TOKEN_S] == pytest.approx(MODEL.step_s(512, 0) / 512)
    assert (idle[SpeedColumn.USED], busy[SpeedColumn.USED]) == (0.0, 1.0)
    assert fleet.estimate_speed("r") == busy[SpeedColumn.TOKEN_S]


def test_a_row_in_the_form_of_a_decision() -> None:
    row = new_fleet().assess(NOW, known(1, num_cached=20), sigma=0.1)[0].tolist()
    estimate = replica_estimate("r", row)
    assert estimate.num_cached_tokens == 20
    assert estimate.e2e_s == estimate.l_q_s + estimate.l_x_s == row[Column.E2E]
    assert estimate.ttft_p90_s > estimate.ttft_s > 0


def test_scenarios_are_stratified() -> None:
    table = strata_table()
    for row in table.tolist():
        assert sorted(row) == list(range(NUM_SCENARIOS))
        for quarter in range(4):
            assert sorted(x // 4 for x in row[4 * quarter : 4 * quarter + 4]) == [0, 1, 2, 3]
        for half in (row[:8], row[8:]):
            assert sorted(x // 2 for x in half) == list(range(8))
    assert len({tuple(row) for row in table.tolist()}) > 250


def test_what_is_wrong_is_said() -> None:
    fleet = new_fleet()
    fleet.put("r", known(1))
    with pytest.raises(ValueError, match="request 1 is on r already"):
        fleet.put("r", known(1))
    with pytest.raises(ValueError, match="replica r was added twice"):
        fleet.add_replica("r", FACTS, MODEL.packed())
    with pytest.raises(ValueError, match="may give 0"):
        fleet.put("r", known(2, 0))
    with pytest.raises(ValueError, match="may give 0"):
        fleet.assess(NOW, known(2, 0))
    with pytest.raises(ValueError, match="has no slots"):
        fleet.add_replica("s", ReplicaFacts(slots=0, ctx_size=1, limits=FACTS.limits), nan_model())
    with pytest.raises(ValueError, match="scenarios, not 17"):
        fleet.assess(NOW, known(2), num_scenarios=17)
    with pytest.raises(ValueError, match="scenarios are 0 to 16"):
        fleet.replay(NOW, "r", 17)
    with pytest.raises(ValueError, match="arrivals every nan s"):
        fleet.set_arrivals("r", nan, 10)
    for call in (
        lambda: fleet.put("nowhere", known(3)),
        lambda: fleet.assess(NOW, known(3), ["nowhere"]),
        lambda: fleet.assess(NOW, known(3), without=77),
        lambda: fleet.outlook(NOW, "nowhere"),
        lambda: fleet.take(77),
        lambda: fleet.set_order(77, 1.0),
        lambda: fleet.on_tokens(77, 1),
        lambda: fleet.on_started(77, 0),
        lambda: fleet.on_prefilled(77, 0),
        lambda: fleet.on_step("nowhere", NOW),
        lambda: fleet.remove_replica("nowhere"),
    ):
        with pytest.raises(KeyError):
            call()
    assert fleet.requests_on("r") == [1]


def nan_model() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.full(MODEL.packed().shape, nan)
