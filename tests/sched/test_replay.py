"""The event-driven replay against one that takes every step, over random replicas."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.sched import estimate, gather
from fmedge.sched.fleet import Candidate, Fleet, ReplicaFacts
from fmedge.sched.steps import StepLimits, StepRates
from fmedge.sched.steptime import Curve, StepModel
from tests.sched.naive_replay import NaiveReplica, Request

PLAIN = SimpleNamespace(
    run=estimate.run,
    draw_arrivals=gather.draw_arrivals,
    add_member=gather.add_member,
    drop_member=gather.drop_member,
)


def random_model(rng: np.random.Generator) -> StepModel:
    knots = (0.0, 1.0, 4.0, 16.0)
    rises = rng.exponential([0.002, 0.001, 0.01])
    return StepModel(
        base_s=float(rng.choice([0.001, 0.01, 0.05])),
        prefill_base_s=float(rng.choice([0.0, 0.004])),
        prefill=Curve((0.0, 64.0, 2048.0), (0.0, 0.01, float(0.01 + rng.exponential(0.5)))),
        decode=Curve(knots, (0.0, *(float(x) for x in np.cumsum(rises)))),
        tokens=Curve((0.0, 512.0), (0.0, 0.01)) if rng.random() < 0.3 else Curve(),
        kv_s=float(rng.choice([0.0, 1e-7, 2e-6])),
        attention_s=float(rng.choice([0.0, 1e-9, 1e-8])),
    )


def random_facts(rng: np.random.Generator, mode: str) -> ReplicaFacts:
    slots = int(rng.choice([1, 2, 3, 4, 8, 16]))
    ctx_size = int(rng.choice([512, 2048]))
    limits = StepLimits(
        max_tokens=int(rng.choice([16, 64, 256, 2048])),
        decode_bound_s=float(rng.choice([0.02, 0.08])),
        prefill_bound_s=float(rng.choice([0.1, 1.0])),
    )
    if mode == "streams":
        return ReplicaFacts(slots=slots, ctx_size=ctx_size, limits=limits)
    kv_tokens = int(ctx_size * rng.choice([0.5, 1, 1.5, 3]))
    if mode == "unified":
        return ReplicaFacts(
            slots=slots, ctx_size=ctx_size, limits=limits, kv_unified=True, kv_tokens=kv_tokens
        )
    block = int(rng.choice([1, 8, 16]))
    return ReplicaFacts(
        slots=slots,
        ctx_size=ctx_size,
        limits=limits,
        kv_unified=bool(rng.random() < 0.8),
        kv_tokens=max(kv_tokens, ctx_size + 2 * block),
        step_tokens=int(rng.choice([32, 100, 2048])),
        block_tokens=block,
        reserve_prompt=bool(rng.random() < 0.5),
    )


def random_requests(
    rng: np.random.Generator, facts: ReplicaFacts, has_future: bool
) -> list[Request]:
    """Requests in service order, in every state that an engine can have them in."""
    out: list[Request] = []
    free = facts.kv_tokens if facts.kv_unified else 1 << 40
    num_running = 0
    num_prefilling = 0
    for _ in range(int(rng.integers(1, 24))):
        tokens = int(min(1 + rng.exponential(facts.ctx_size / 6), facts.ctx_size - 2))
        left = int(min(1 + rng.exponential(60), facts.ctx_size - tokens))
        cached = int(rng.integers(0, tokens)) if rng.random() < 0.3 else 0
        r = Request(tokens=tokens, left=left, cached=cached)
        fits = tokens + 64 + 2 * facts.block_tokens < free
        is_running = num_running < facts.slots and fits and rng.random() < 0.7
        # another engine's half-done prefill is the last that runs: first come, first served
        if is_running and facts.step_tokens and num_prefilling:
            is_running = False
        if is_running:
            num_running += 1
            if rng.random() < 0.3:
                num_prefilling += 1
                r.phase, r.computed = "prefilling", int(rng.integers(0, tokens))
            else:
                r.phase, r.computed = "decoding", tokens - 1
            free -= tokens + facts.block_tokens
        elif facts.step_tokens:
            num_running = facts.slots  # nothing overtakes what waits
        out.append(r)
    if has_future:
        at = 0.0
        for _ in range(int(rng.integers(1, 10))):
            at += float(rng.exponential(0.3))
            tokens = int(min(1 + rng.exponential(facts.ctx_size / 8), facts.ctx_size - 2))
            left = int(min(1 + rng.exponential(40), facts.ctx_size - tokens))
            out.append(Request(tokens=tokens, left=left, arrival_s=at))
    return out


def fleet_of(
    facts: ReplicaFacts,
    model: StepModel,
    rates: StepRates,
    requests: list[Request],
    *,
    stepped_s: float | None,
    bodies: object = None,
) -> Fleet:
    """A fleet of one replica "r" at time 1000, whose requests are numbered from 1 in order."""
    fleet = Fleet(bodies=bodies)
    fleet.add_replica("r", facts, model.packed())
    fleet.set_rates("r", rates.prefill_s_per_token, rates.decode_s)
    for i in np.random.default_rng(len(requests)).permutation(len(requests)).tolist():
        r = requests[i]
        # one of those that decode has given some of its tokens here, and some before
        given = min(2, r.tokens - 1) if r.phase == "decoding" else 0
        candidate = Candidate(
            request_id=i + 1,
            num_tokens=r.tokens - given,
            max_new=r.left + given,
            min_new=r.left + given,
            order_key=float(i),
            num_cached=r.cached,
            arrival_s=1000 + r.arrival_s,
        )
        fleet.put("r", candidate, 1000.0 if r.is_late else 900.0)
        if r.phase == "prefilling":
            fleet.on_started(i + 1, 0)
            fleet.on_prefilled(i + 1, r.computed)
        elif r.phase == "decoding":
            fleet.on_started(i + 1, 0)
            fleet.on_tokens(i + 1, given)
    if stepped_s is not None:
        fleet.on_step("r", 1000 - stepped_s)
    return fleet


def compare(seed: int, mode: str, *, has_future: bool, bodies: object = None) -> int:
    rng = np.random.default_rng(seed)
    model, facts = random_model(rng), random_facts(rng, mode)
    requests = random_requests(rng, facts, has_future)
    rates = StepRates(
        prefill_s_per_token=float(rng.choice([1e-4, 1e-3, 5e-3])),
        decode_s=float(rng.choice([0.002, 0.02, 0.1])),
    )
    stepped_s = float(rng.exponential(0.03)) if rng.random() < 0.5 else None
    if stepped_s is not None:
        has_late = False
        for r in requests:
            has_late = has_late if facts.step_tokens else False  # there, first come first served
            has_late = r.phase == "waiting" and (has_late or bool(rng.random() < 0.3))
            r.is_late = has_late
    naive = NaiveReplica(facts, model, rates, requests)
    fleet = fleet_of(facts, model, rates, requests, stepped_s=stepped_s, bodies=bodies)
    if stepped_s is not None and any(r.is_live for r in requests):
        naive.now_s, naive.is_running_step = -stepped_s, True
    naive.run()
    result = fleet.replay(1000.0, "r")
    assert result.request_ids == tuple(range(1, len(requests) + 1))
    for name, values in (
        ("start_s", result.start_s),
        ("first_s", result.first_s),
        ("end_s", result.end_s),
    ):
        wanted = np.maximum(0.0, [getattr(r, name) for r in requests])
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-9, err_msg=f"{seed} {name}")
    assert result.num_preempted.tolist() == [r.num_preempted for r in requests]
    return int(result.num_preempted.sum())


@pytest.mark.parametrize("mode", ["streams", "unified", "foreign"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), has_future=st.booleans())
def test_every_time_is_that_of_a_replay_by_steps(mode: str, seed: int, has_future: bool) -> None:
    compare(seed, mode, has_future=has_future)


@pytest.mark.parametrize("mode", ["streams", "unified", "foreign"])
def test_plain_bodies_replay_alike(mode: str) -> None:
    compare(7, mode, has_future=True, bodies=PLAIN)


def test_preemption_is_among_what_is_compared() -> None:
    for mode in ("unified", "foreign"):
        assert sum(compare(seed, mode, has_future=False) for seed in range(25)) > 0
