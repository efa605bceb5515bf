"""Routing by estimates, in virtual time: promises are kept, best effort is not starved."""

from __future__ import annotations

import math

import msgspec
import pytest

from fmedge.sched.core import POLICIES, Arrival, Assign, CoreSettings, Refuse
from fmedge.sched.fleet import OutlookColumn
from fmedge.types import BEST_EFFORT, Promise
from tests.sched.virtual import INTERACTIVE, Call, World, mixed_calls, score

SPEEDS = (1.0, 0.4)
BASELINES = tuple(policy for policy in POLICIES if policy != "fmedge")
CALLS_PER_S = 3.35
"""Of the mix: what two such replicas of four slots can serve."""

DURATION_S = 120.0
ROOMY = CoreSettings(max_waiting=10_000)


def run(policy: str, load: float, *, seed: int = 1, promise: Promise = INTERACTIVE, **world):
    made = World(SPEEDS, policy=policy, settings=ROOMY, seed=seed, **world)
    made.run(mixed_calls(load * CALLS_PER_S, DURATION_S, promise=promise, seed=seed))
    assert made.core.num_open == 0
    return score(made.results.values(), DURATION_S)


@pytest.fixture(scope="module")
def at_90_percent():
    return {policy: run(policy, 0.9) for policy in POLICIES}


def test_goodput_beats_what_knows_nothing_of_promises(at_90_percent):
    ours = at_90_percent["fmedge"]
    for policy in BASELINES:
        theirs = at_90_percent[policy]
        assert ours.goodput >= 1.3 * theirs.goodput, policy
        assert ours.best_effort_tokens_per_s >= 0.9 * theirs.best_effort_tokens_per_s, policy
    assert ours.goodput >= 0.85


@pytest.mark.parametrize("profile_error", [0.8, 1.25])
def test_wrong_profiles_cost_little(at_90_percent, profile_error):
    wrong = run("fmedge", 0.9, profile_error=profile_error)
    assert wrong.goodput >= at_90_percent["fmedge"].goodput - 0.1


def test_overload_refuses_and_keeps_what_it_admits():
    promise = msgspec.structs.replace(INTERACTIVE, on_miss="refuse")
    world = World(SPEEDS, settings=ROOMY, seed=3)
    calls = mixed_calls(7.0, DURATION_S, interactive=0.9, promise=promise, seed=3)
    world.run(calls)
    found = score(world.results.values(), DURATION_S)
    assert found.num_refused > 10
    assert found.kept_of_admitted >= 0.85
    for request_id, result in world.results.items():
        decision = world.core.decision(request_id)
        if result.is_refused:
            assert decision.action == "refuse"
            never = "not even an idle replica" in decision.reason
            assert decision.retry_after_s == 0.0 if never else 1.0 <= decision.retry_after_s <= 60.0
            assert "promise cannot be kept" in decision.reason


def test_every_call_ends_and_gets_all_its_tokens():
    world = World(SPEEDS, seed=4)
    calls = mixed_calls(3.0, 20.0, seed=4)
    for result in world.run(calls).values():
        assert result.num_tokens == result.call.length
        assert not result.is_failed


def test_a_loose_promise_leaves_the_fast_replica_free():
    world = World(SPEEDS)
    loose = Promise(ttft_s=5.0, e2e_s=30.0)
    tight = Promise(ttft_s=0.6, tpot_s=0.006)
    world.run([Call(0.0, 100, 50, loose), Call(0.01, 100, 50, tight)])
    chosen = [world.core.decision(i).estimate for i in (1, 2)]
    assert [estimate.replica for estimate in chosen] == ["r1", "r0"]
    assert all(estimate.p_hold >= 0.9 for estimate in chosen)
    assert "r1 holds with P" in world.core.decision(1).reason


def test_what_no_idle_replica_could_keep_is_refused_for_good():
    world = World(SPEEDS)
    promise = Promise(ttft_s=0.01, on_miss="refuse")
    world.run([Call(0.0, 500, 10, promise)])
    decision = world.core.decision(1)
    assert world.results[1].is_refused
    assert decision.retry_after_s == 0.0
    assert "not even an idle replica" in decision.reason


def test_a_hopeless_promise_becomes_best_effort_and_is_served():
    world = World(SPEEDS)
    results = world.run([Call(0.0, 500, 10, Promise(ttft_s=0.01))])
    assert world.core.decision(1).action == "best_effort"
    assert results[1].num_tokens == 10
    assert world.core.decision(1).held is False


def test_retry_after_is_when_it_would_fit():
    promise = Promise(ttft_s=0.5, on_miss="refuse")
    world = World((1.0,), noise=0.0)
    calls = [Call(0.0, 100, 400, promise, kind="long") for _ in range(4)]
    world.lengths = _knows(("long", 400))
    world.run([*calls, Call(0.5, 100, 400, promise, kind="long")])
    decision = world.core.decision(5)
    assert decision.action == "refuse"
    ends_s = max(result.e2e_s for result in world.results.values() if not result.is_refused)
    assert decision.retry_after_s == pytest.approx(ends_s - 0.5, abs=1.5)


def test_best_effort_makes_room_for_a_promise_and_goes_on_later():
    world = World((1.0,), noise=0.0)
    world.lengths = _knows(("long", 1000), ("chat", 20))
    calls = [Call(0.0, 200, 1000, kind="long") for _ in range(4)]
    calls.append(Call(3.0, 50, 20, Promise(ttft_s=0.5), kind="chat"))
    results = world.run(calls)
    assert world.num_withdrawn == 1
    assert results[5].held
    assert all(result.num_tokens == result.call.length for result in results.values())
    withdrawn = [i for i in range(1, 5) if results[i].num_submits == 2]
    events = [event.what for event in world.core.decision(withdrawn[0]).events]
    assert events == ["assigned", "first_token", "withdrawn", "assigned", "finished"]


def test_nothing_is_withdrawn_for_ever():
    settings = CoreSettings(max_withdrawals=2, max_waiting=1000)
    world = World((1.0,), settings=settings, slots=1)
    world.lengths = _knows(("long", 1000), ("chat", 40))
    chat = [Call(1.0 + i, 50, 40, Promise(ttft_s=0.3), kind="chat") for i in range(30)]
    results = world.run([Call(0.0, 200, 800, kind="long"), *chat])
    assert results[1].num_submits <= 3
    assert results[1].num_tokens == 800


@pytest.mark.parametrize("wait_s", [2.0, 10.0])
def test_best_effort_is_served_within_its_wait(wait_s):
    """Promises alone fill the replica; best effort waits its bound, then a slot's turn."""
    settings = CoreSettings(best_effort_wait_s=wait_s, max_waiting=1000)
    world = World((1.0,), settings=settings, slots=2)
    promise = Promise(ttft_s=20.0, on_miss="refuse")
    busy = [Call(0.2 * i, 100, 100, promise, "p", "chat") for i in range(120)]
    quiet = [Call(5.0, 50, 50, BEST_EFFORT, "b", "batch")]
    world.run([*busy, *quiet], until_s=30.0)
    assert wait_s - 1.0 <= world.results[121].ttft_s <= wait_s + 2.0


def test_a_long_backlog_of_overdue_best_effort_does_not_crowd_out_promises():
    settings = CoreSettings(best_effort_wait_s=2.0, max_waiting=1000)
    world = World(SPEEDS, settings=settings)
    backlog = [Call(0.0, 300, 150, BEST_EFFORT, "b", "batch") for _ in range(100)]
    chat = [Call(5.0 + i, 100, 30, INTERACTIVE, "c", "chat") for i in range(30)]
    results = world.run([*backlog, *chat])
    held = sum(results[i].held for i in range(101, 131))
    assert held >= 24


def test_keys_share_best_effort_by_weight():
    world = World((1.0,), settings=ROOMY)
    world.lengths = _knows(("batch", 100))
    light, heavy = Promise(weight=1.0), Promise(weight=3.0)
    calls = [Call(0.0, 100, 100, light, "light", "batch") for _ in range(100)]
    calls += [Call(0.001, 100, 100, heavy, "heavy", "batch") for _ in range(100)]
    world.run(calls, until_s=12.0)
    done = {"light": 0, "heavy": 0}
    for result in world.results.values():
        done[result.call.api_key_id] += result.num_tokens
    assert done["heavy"] / done["light"] == pytest.approx(3.0, rel=0.35)


def test_a_lost_replica_costs_no_request_and_its_promises_are_planned_anew():
    world = World(SPEEDS, seed=2)
    world.run(mixed_calls(2.0, 10.0, seed=2), until_s=5.0)
    world.lose("r0", crashed=True)
    assert all(
        world.core.replica_of(i) in (None, "r1") for i in world.results if world.core.decision(i)
    )
    world.now_s = 6.0
    world.ready("r0")
    for result in world.run([]).values():
        assert result.num_tokens == result.call.length


def test_slack_never_rises_by_waiting():
    """What is planned and waits: its latest start stays, so time only takes slack away."""
    world = World((1.0,), slots=1, noise=0.0)
    world.lengths = _knows(("chat", 100))
    calls = [Call(0.0, 100, 100, Promise(ttft_s=20.0, e2e_s=30.0), kind="chat") for _ in range(12)]
    plans = world.core._router.plans
    STEP_S = 0.05  # of a prompt: estimates see the end of the step that runs
    slack: dict[int, float] = {}
    world.run(calls, until_s=0.0)
    for step in range(1, 40):
        world.run([], until_s=0.1 * step)
        ids, rows = plans.fleet.outlook(world.now_s, "r0", num_scenarios=1)
        for request_id, row in zip(ids, rows.tolist(), strict=True):
            if world.core.replica_of(request_id) is None:
                now_s = row[OutlookColumn.SLACK]
                assert now_s <= slack.get(request_id, math.inf) + STEP_S
                slack[request_id] = min(now_s, slack.get(request_id, math.inf))
    assert len(slack) >= 8


def test_an_estimate_leaves_no_trace_and_says_what_would_be_done():
    world = World(SPEEDS, seed=1)
    world.run(mixed_calls(3.0, 5.0, seed=1), until_s=3.0)
    call = Call(3.0, 200, 50, INTERACTIVE, "chat", "chat")
    arrival = world.arrival(9999, call)
    before = world.core.num_open, len(world.core.decisions(5000))
    first = world.core.estimate(3.0, arrival)
    second = world.core.estimate(3.0, arrival)
    assert (world.core.num_open, len(world.core.decisions(5000))) == before
    assert world.core.decision(9999) is None
    assert first == second
    assert {estimate.replica for estimate in first.estimates} == {"r0", "r1"}
    world.core.on_arrival(3.0, arrival)
    decided = world.core.decision(9999)
    assert (decided.chosen, decided.reason) == (first.chosen, first.reason)


def test_a_bound_refuses_before_tokenising():
    world = World(SPEEDS)
    world.run([Call(0.0, 100, 10)])
    core = world.core
    core.on_tick(world.now_s)
    strict = Promise(ttft_s=0.2, on_miss="refuse")
    assert core.refusal("m", strict, 1000) is None
    refused = core.refusal("m", strict, 10_000_000)
    assert isinstance(refused, Refuse)
    assert refused.code == "sla_unattainable"
    assert refused.retry_after_s == 0.0
    assert core.refusal("m", Promise(ttft_s=0.2), 10_000_000) is None
    refused = core.refusal("m", Promise(tpot_s=1e-5, on_miss="refuse"))
    assert refused is not None
    assert "No replica can give a token every" in refused.message


def test_embeddings_go_where_least_is_outstanding():
    world = World(SPEEDS)
    effects = [world.core.on_arrival(0.0, Arrival(i, "m", 100, 0)) for i in range(1, 5)]
    assert [e.replica for (e,) in effects] == ["r0", "r1", "r0", "r1"]
    world.core.on_tick(0.1)
    for request_id in range(1, 5):
        assert world.core.on_finish(0.2, request_id) == []
    assert world.core.num_open == 0


def test_the_engine_gets_the_fronts_order():
    world = World((1.0,), slots=4)
    world.lengths = _knows(("chat", 50))
    calls = {
        1: Call(0.0, 50, 50, BEST_EFFORT, "a", "chat"),
        2: Call(0.0, 50, 50, Promise(ttft_s=9.0), "a", "chat"),
        3: Call(0.0, 50, 50, Promise(ttft_s=5.0), "a", "chat"),
        4: Call(0.0, 50, 50, BEST_EFFORT, "a", "chat", priority=5),
    }
    given = [world.core.on_arrival(0.0, world.arrival(i, call))[0] for i, call in calls.items()]
    assert all(isinstance(effect, Assign) for effect in given)
    by_urgency = sorted(given, key=lambda effect: -effect.engine_priority)
    assert [effect.request_id for effect in by_urgency] == [4, 3, 2, 1]


def test_an_urgent_promise_goes_before_what_waits():
    world = World((1.0,), slots=1)
    world.lengths = _knows(("chat", 200))
    loose, tight = Promise(ttft_s=30.0), Promise(ttft_s=3.0)
    calls = [Call(0.0, 50, 200, loose, kind="chat") for _ in range(5)]
    calls.append(Call(0.2, 50, 200, tight, kind="chat"))
    results = world.run(calls)
    first_s = [results[i].call.at_s + results[i].ttft_s for i in range(1, 7)]
    assert sorted(range(1, 7), key=lambda i: first_s[i - 1])[1] == 6
    assert all(result.held for result in results.values())


def _knows(*lengths: tuple[str, int]):
    """A predictor that has seen many of these."""
    from fmedge.sched.lengths import LengthPredictor

    predictor = LengthPredictor()
    for key, length in lengths:
        for _ in range(200):
            predictor.observe((key,), length, False)
    return predictor


def test_of_many_replicas_none_is_looked_at_beyond_the_first_that_is_surely_enough():
    world = World((1.0, 0.9, 0.8, 0.7, 0.6, 0.5))
    loose, tight = Promise(ttft_s=5.0, e2e_s=30.0), Promise(ttft_s=0.6, tpot_s=0.0056)
    never = Promise(ttft_s=0.001, on_miss="refuse")
    world.run([Call(0.01 * i, 100, 50, p) for i, p in enumerate((loose, tight, never), 1)])
    first, second, refused = (world.core.decision(i) for i in (1, 2, 3))
    assert first.estimate.replica == "r5"
    assert len(first.estimates) == 1
    assert second.estimate.replica == "r2"
    assert [e.replica for e in second.estimates][:4] == ["r5", "r4", "r3", "r2"]
    assert all(e.p_hold < 0.95 for e in second.estimates[:3])
    assert len(refused.estimates) == 6
