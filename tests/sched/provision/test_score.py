"""Scores: the fleet's replay, promises, contention."""

from __future__ import annotations

from math import inf

import pytest

from fmedge.sched.provision.contention import slowdowns
from fmedge.sched.provision.demand import Call
from fmedge.sched.provision.score import MISS_S, Speed, replay, score, serve_one
from fmedge.sched.steptime import Curve, StepModel
from fmedge.types import BEST_EFFORT, EngineSettings, Promise

STEPS = StepModel(base_s=0.01, tokens=Curve((0.0, 1.0, 101.0), (0.0, 0.0, 0.1)))


def _speed(name: str = "0", *, slots: int = 2, ctx_size: int = 512, slowdown: float = 1.0) -> Speed:
    engine = EngineSettings(model_path="", slots=slots, ctx_size=ctx_size, batch_size=128)
    return Speed(name=name, steps=STEPS, engine=engine, slowdown=slowdown)


def _call(arrival_s: float, promise: Promise = BEST_EFFORT, prompt: int = 51) -> Call:
    return Call(arrival_s=arrival_s, num_prompt=prompt, num_output=11, promise=promise)


def test_one_request_alone_takes_its_prefill_and_its_steps() -> None:
    got = serve_one(_speed(), 51, 11)
    assert got.ttft_s == pytest.approx(0.06)
    assert got.tpot_s == pytest.approx(0.01)
    assert got.e2e_s == pytest.approx(0.16)


def test_beside_others_all_takes_longer() -> None:
    alone, slowed = serve_one(_speed(), 51, 11), serve_one(_speed(slowdown=3.0), 51, 11)
    assert slowed.e2e_s == pytest.approx(3 * alone.e2e_s)


def test_two_replicas_share_what_one_makes_wait() -> None:
    calls = [(0.0, 51, 11), (0.001, 51, 11), (0.002, 51, 11)]
    one = replay([_speed(slots=1)], calls)
    two = replay([_speed("0", slots=1), _speed("1", slots=1)], calls)
    assert [got.replica for got in two[:2]] == [0, 1]
    assert two[2].e2e_s < one[2].e2e_s
    assert two[0].e2e_s == pytest.approx(one[0].e2e_s)


def test_promises_and_what_broken_ones_cost() -> None:
    kept, broken = Promise(e2e_s=1.0), Promise(e2e_s=0.01)
    found = score([_speed()], [_call(0.0, kept), _call(10.0, broken), _call(20.0)])
    assert found.attainment == 0.5
    assert [got.is_held for got in found.served] == [True, False, True]
    assert found.cost_s == pytest.approx((3 * 0.16 + MISS_S) / 3)
    assert score([_speed()], [_call(0.0)]).attainment is None


def test_a_request_that_no_context_holds_is_missed() -> None:
    found = score([_speed(ctx_size=256)], [_call(0.0, prompt=300), _call(1.0)])
    assert found.served[0].e2e_s == inf
    assert found.cost_s > MISS_S / 2


def test_what_others_keep_busy_is_slower() -> None:
    shares = {0: {"gpu0": 1.0}, 1: {"gpu0": 0.5, "gpu1": 0.5}}
    found = slowdowns(shares, {0: 0.5, 1: 0.0}, ["gpu0", "gpu1", "gpu2"])
    assert found[0] == {"gpu0": 1.0, "gpu1": 1.0, "gpu2": 1.0}
    assert found[1] == {"gpu0": 2.0, "gpu1": 1.0, "gpu2": 1.0}
