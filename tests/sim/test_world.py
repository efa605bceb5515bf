"""The world against the older, slower one of tests/sched/virtual.py, and by itself."""

from __future__ import annotations

from functools import partial

import pytest

from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.forecast import length_keys
from fmedge.sched.lengths import LengthPredictor
from fmedge.sim.workload import Call, Workload
from fmedge.sim.world import Simulated, simulate
from fmedge.types import EngineSettings, Promise
from tests.sched import virtual
from tests.sim.stepped import SteppedEngine

KEPT = Promise(sla_class="chat", ttft_s=2.0, e2e_s=20.0)


def spec(name: str, speed: float = 1.0, *, slots: int = 4, **fields) -> ReplicaSpec:
    engine = EngineSettings(model_path="", ctx_size=8192, slots=slots, batch_size=512)
    return ReplicaSpec(name=name, model="m", engine=engine, steps=virtual.cpu_like(speed), **fields)


def play(specs, calls, policy="fmedge", *, engine=SteppedEngine, **options) -> Simulated:
    workload = Workload(source="test", calls=tuple(calls), **options.pop("workload", {}))
    options.setdefault("prompts", lambda call, index: b"")
    return simulate(specs, workload, policy, new_engine=engine, **options)


class ByForm(LengthPredictor):
    """Takes "PROMPT form" for the keys that a server learns by."""

    def predict(self, keys, min_tokens=1, max_tokens=131072):
        return super().predict(self._expand(keys), min_tokens, max_tokens)

    def observe(self, keys, num_tokens, is_censored):
        super().observe(self._expand(keys), num_tokens, is_censored)

    @staticmethod
    def _expand(keys):
        num_prompt, form = keys[0].split()
        return length_keys("m", int(num_prompt), api_key_id=form, form=form, workflow=None)


def in_the_old_world(speeds, calls: list[virtual.Call], policy: str):
    world = virtual.World(speeds, policy=policy, noise=0.0)
    world.lengths = ByForm()
    renamed = [
        virtual.Call(c.at_s, c.num_prompt, c.length, c.promise, c.kind, f"{c.num_prompt} {c.kind}")
        for c in calls
    ]
    return world.run(renamed)


@pytest.mark.parametrize("policy", ["fmedge", "least_outstanding", "round_robin", "speed_weighted"])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_equals_the_step_by_step_world(policy, seed):
    speeds = (1.0, 2.5)
    old = virtual.mixed_calls(3.0, 20.0, seed=seed)
    results = in_the_old_world(speeds, old, policy)
    calls = [
        Call(
            at_s=c.at_s, num_prompt=c.num_prompt, num_output=c.length, max_tokens=1024,
            promise=c.promise, api_key=c.kind, kind=c.kind,
        )
        for c in old
    ]  # fmt: skip
    specs = [spec(f"r{i}", speed) for i, speed in enumerate(speeds)]
    engine = partial(SteppedEngine, has_eog=False, learns_each=1)
    simulated = play(specs, calls, policy, engine=engine)
    for row, result in zip(simulated.rows, results.values(), strict=True):
        assert (row.status == "refused") == result.is_refused
        if row.status == "ok":
            assert row.ttft_s == pytest.approx(result.ttft_s, abs=1e-9)
            assert row.e2e_s == pytest.approx(result.e2e_s, abs=1e-9)
    assert simulated.num_submits == sum(r.num_submits for r in results.values())
