"""The world against the older, slower one of tests/sched/virtual.py, and by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import isnan

import numpy as np
import pytest

from fmedge.errors import ConfigError
from fmedge.sched.emulation import Noise, ReplicaSpec
from fmedge.sched.events import Arrival
from fmedge.sched.forecast import length_keys
from fmedge.sched.lengths import LengthPredictor
from fmedge.sim import world
from fmedge.sim.bank import Bank
from fmedge.sim.policies import POLICIES, rules
from fmedge.sim.workload import Call, Workload
from fmedge.sim.world import Simulated, simulate
from fmedge.types import EngineSettings, Promise, WorkflowSettings
from tests.sched import virtual
from tests.sim.stepped import SteppedBank

KEPT = Promise(sla_class="chat", ttft_s=2.0, e2e_s=20.0)


def spec(name: str, speed: float = 1.0, *, slots: int = 4, **fields) -> ReplicaSpec:
    engine = EngineSettings(model_path="", ctx_size=8192, slots=slots, batch_size=512)
    return ReplicaSpec(name=name, model="m", engine=engine, steps=virtual.cpu_like(speed), **fields)


def play(specs, calls, policy="fmedge", *, bank=SteppedBank, **options) -> Simulated:
    workload = Workload(source="test", calls=tuple(calls), **options.pop("workload", {}))
    options.setdefault("prompts", lambda call, index: b"")
    return simulate(specs, workload, policy, new_bank=bank, **options)


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
    old = virtual.World(speeds, policy=policy, noise=0.0)
    old.lengths = ByForm()
    renamed = [
        virtual.Call(c.at_s, c.num_prompt, c.length, c.promise, c.kind, f"{c.num_prompt} {c.kind}")
        for c in calls
    ]
    return old.run(renamed)


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
    bank = partial(SteppedBank, has_eog=False, learns_each=1)
    simulated = play(specs, calls, policy, bank=bank)
    for row, result in zip(simulated.rows, results.values(), strict=True):
        assert (row.status == "refused") == result.is_refused
        if row.status == "ok":
            assert row.ttft_s == pytest.approx(result.ttft_s, abs=1e-9)
            assert row.e2e_s == pytest.approx(result.e2e_s, abs=1e-9)
    assert simulated.num_submits == sum(r.num_submits for r in results.values())


def steady(num: int, rate: float = 2.0, **fields) -> list[Call]:
    fields = {"num_prompt": 200, "num_output": 40, "promise": KEPT, **fields}
    return [Call(at_s=n / rate, **fields) for n in range(num)]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_call_is_answered_whole_under_every_policy(policy):
    specs = [spec("a"), spec("b", 3.0, noise=Noise(sigma=0.1, seed=4))]
    simulated = play(specs, steady(40), policy)
    assert simulated == play(specs, steady(40), policy), "it draws nothing of its own"
    assert [row.status for row in simulated.rows] == ["ok"] * 40
    assert [row.call for row in simulated.rows] == list(range(40))
    assert all(row.num_tokens == 40 and 0 < row.ttft_s < row.e2e_s for row in simulated.rows)
    assert {row.replica for row in simulated.rows} <= {"a", "b"}
    assert simulated.end_s >= max(row.at_s + row.e2e_s for row in simulated.rows)
    assert 0 < sum(simulated.busy_s.values()) <= 2 * simulated.end_s


def test_an_answer_that_its_limit_ends_takes_one_step_less():
    (free,) = play([spec("a")], steady(1)).rows
    (cut,) = play([spec("a")], steady(1, max_tokens=40)).rows
    (short,) = play([spec("a")], steady(1, max_tokens=10)).rows
    step_s = virtual.cpu_like(1.0).step_s(0, 1, 240, 0)
    assert free.e2e_s - cut.e2e_s == pytest.approx(step_s, rel=0.01)
    assert (cut.num_tokens, short.num_tokens) == (40, 10)
    assert short.e2e_s < cut.e2e_s


def test_what_was_withdrawn_goes_on_where_it_was():
    busy = [Call(at_s=0.01 * n, num_prompt=100, num_output=400, api_key="batch") for n in range(8)]
    urgent = [
        Call(at_s=2.0 + 0.5 * n, num_prompt=50, num_output=10, promise=Promise(ttft_s=0.6))
        for n in range(6)
    ]
    simulated = play([spec("a", slots=2)], [*busy, *urgent])
    assert simulated.num_withdrawn > 0
    assert simulated.num_submits == 14 + simulated.num_withdrawn
    assert [row.num_tokens for row in simulated.rows] == [400] * 8 + [10] * 6
    assert all(row.ttft_s <= 0.6 for row in simulated.rows[8:])


@pytest.mark.parametrize("bank", [SteppedBank, Bank])
def test_the_scheduler_learns_how_slow_a_replica_really_is(bank):
    calls = steady(80, 4.0, promise=Promise(e2e_s=1.0))
    slow = [spec("a"), spec("b", noise=Noise(slowdown={"b": 6.0}))]
    even = play([spec("a"), spec("b")], calls, bank=bank).rows
    learned = play(slow, calls, bank=bank).rows
    assert sum(row.replica == "b" for row in learned) < sum(row.replica == "b" for row in even) / 2
    told = play(slow, calls, told={"b": virtual.cpu_like(1 / 6.0)}, bank=bank).rows
    assert all(row.replica == "a" for row in told[:4]), "it is told so from the start"


@contextmanager
def heard(monkeypatch) -> Iterator[list[tuple[float, Arrival]]]:
    """What the core is told of arrivals, and when."""
    arrivals: list[tuple[float, Arrival]] = []
    take = world.SchedulerCore.on_arrival

    def on_arrival(core, now_s, arrival):
        arrivals.append((now_s, arrival))
        return take(core, now_s, arrival)

    with monkeypatch.context() as patch:
        patch.setattr(world.SchedulerCore, "on_arrival", on_arrival)
        yield arrivals


def told_arrivals(monkeypatch, policy, **options) -> list[Arrival]:
    prompt = np.arange(200, dtype=np.int32).tobytes()
    with heard(monkeypatch) as arrivals:
        play([spec("a")], steady(3), policy, prompts=lambda call, index: prompt, **options)
    assert len(arrivals) == 3
    return [arrival for _, arrival in arrivals]


def test_policies_differ_in_what_the_core_is_told(monkeypatch):
    for arrival in told_arrivals(monkeypatch, "oracle"):
        assert arrival.min_tokens == arrival.max_tokens == 40
        assert arrival.lengths.quantile(0.5) == 40
    for arrival in told_arrivals(monkeypatch, "fmedge"):
        assert (arrival.min_tokens, arrival.max_tokens) == (0, 8192 - 200)
        assert arrival.lengths is not None
        assert len(arrival.prompt) == 800
    for arrival in told_arrivals(monkeypatch, "fmedge", without=["lengths", "prefixes"]):
        assert arrival.lengths is None
        assert not arrival.prompt


def test_ablations_of_the_core_are_its_settings():
    settings = rules("fmedge", ["queue", "rectify", "lengths"]).settings(None, seed=3)
    assert (settings.without, settings.seed) == (frozenset({"queue", "rectify"}), 3)
    assert rules("fmedge", ["rectify", "queue"]).label == "fmedge without queue, rectify"


def tasks(num: int, **fields) -> tuple[Call, ...]:
    """plan, then two tools' calls, then one that joins them."""
    calls: list[Call] = []
    for n in range(num):
        first = len(calls)
        of = {"workflow": "triage", "instance": str(n), "num_prompt": 100, "num_output": 20}
        of |= fields
        calls += [
            Call(at_s=2.0 * n, stage="plan", **of),
            Call(at_s=0.5, stage="look", after=(first,), **of),
            Call(at_s=1.0, stage="ask", after=(first,), **of),
            Call(at_s=0.25, stage="join", after=(first + 1, first + 2), is_last=True, **of),
        ]
    return tuple(calls)


def test_calls_of_a_task_come_when_those_before_them_and_their_tools_are_done():
    settings = WorkflowSettings(name="triage", e2e_s=30.0)
    rows = play([spec("a")], tasks(6), workload={"workflows": {"triage": settings}}).rows
    assert all(row.status == "ok" for row in rows)
    for plan, look, ask, join in zip(*[iter(rows)] * 4, strict=True):
        assert look.at_s == pytest.approx(plan.at_s + plan.e2e_s + 0.5)
        assert ask.at_s == pytest.approx(plan.at_s + plan.e2e_s + 1.0)
        ends_s = [row.at_s + row.e2e_s for row in (look, ask)]
        assert join.at_s == pytest.approx(max(ends_s) + 0.25)


def test_what_remains_of_tasks_is_learned_and_told(monkeypatch):
    arrivals = []
    take = world.SchedulerCore.on_arrival
    monkeypatch.setattr(
        world.SchedulerCore,
        "on_arrival",
        lambda core, now_s, arrival: (
            arrivals.append((now_s, arrival)) or take(core, now_s, arrival)
        ),
    )
    settings = WorkflowSettings(name="triage", e2e_s=30.0)
    play([spec("a")], tasks(8), workload={"workflows": {"triage": settings}})
    plans = [(s, a) for s, a in arrivals if a.workflow.stage == "plan"]
    assert all(a.e2e_due_s == pytest.approx(now_s + 30.0) for now_s, a in plans)
    assert not plans[0][1].rest.any()
    assert plans[-1][1].rest.mean() == pytest.approx(1.25 + 2 * 0.15, rel=0.3)
    joins = [a for _, a in arrivals if a.workflow.stage == "join"]
    assert not any(a.rest.any() for a in joins), "is_last: nothing remains"


def test_who_waits_for_what_failed_is_never_sent():
    long = 9000  # tokens: more than the context
    rows = play([spec("a")], tasks(1, num_prompt=long)).rows
    assert [row.status for row in rows] == ["failed", "unsent", "unsent", "unsent"]
    assert all(isnan(row.at_s) for row in rows[1:])


def test_promises_that_cannot_hold_are_refused_where_their_class_refuses():
    strict = Promise(ttft_s=0.05, on_miss="refuse")
    rows = play([spec("a")], steady(5, num_prompt=4000, promise=strict)).rows
    assert [row.status for row in rows] == ["refused"] * 5


def test_it_ends_at_its_limit_with_what_there_is():
    simulated = play([spec("a")], steady(20, 1.0, num_output=300), limit_s=9.5)
    assert simulated.ended == "ended at 9.5 s of its own time"
    assert simulated.end_s == 9.5
    statuses = [row.status for row in simulated.rows]
    assert set(statuses) == {"ok", "unfinished", "unsent"}
    assert statuses == sorted(statuses)


@pytest.mark.parametrize("how", ["told", "interrupted"])
def test_it_ends_early_when_told_or_interrupted(monkeypatch, how):
    def progress(now_s, rows):
        if how == "interrupted":
            raise KeyboardInterrupt
        return len(rows) >= 5

    monkeypatch.setattr(world, "EVENTS_A_REPORT", 16)
    simulated = play([spec("a")], steady(40), progress=progress)
    assert simulated.ended
    assert len(simulated.rows) == 40
    assert simulated.rows[-1].status == "unsent"


def test_who_asks_for_what_is_not_there_is_told_what_is():
    with pytest.raises(ConfigError, match="no policy 'fmedg'; did you mean 'fmedge'"):
        play([spec("a")], steady(1), "fmedg")
    with pytest.raises(ConfigError, match=r"no policy 'sjf'; there are fmedge, .*oracle"):
        play([spec("a")], steady(1), "sjf")
    with pytest.raises(ConfigError, match="no part 'lenght' to do without; did you mean 'lengths'"):
        play([spec("a")], steady(1), without=["lenght"])
    with pytest.raises(ConfigError, match="without queue; oracle has no"):
        play([spec("a")], steady(1), "oracle", without=["queue"])
    with pytest.raises(ConfigError, match=r"asks for the model 'x', which .* it serves m"):
        play([spec("a")], steady(1, model="x"))
    with pytest.raises(ConfigError, match="no replica"):
        play([], steady(1))
