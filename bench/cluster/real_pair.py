"""The two unequal replicas on real llama.cpp, played open loop, with every step that they ran; and
what of that a simulator is given.

The rule: the calls, the steps and the outcomes come from one run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from msgspec.structs import replace

from bench.context import Bench
from bench.sla import traces
from bench.sla.estimates import LONGEST, NUM_CAPACITY, SCALE, known
from bench.sla.pair import MODEL, Observed, Pair, Sent, capacity, open_loop
from fmedge.dispatch import Dispatcher
from fmedge.dispatch.generation import Generation
from fmedge.dispatch.observe import observed_of
from fmedge.replica.interface import Replica
from fmedge.replica.protocol import Step
from fmedge.sched.emulation import Noise, ReplicaSpec
from fmedge.sched.profile import StepProfile
from fmedge.sched.steptime import StepModel
from fmedge.sim.outcome import Row
from fmedge.sim.workload import Call, Workload
from fmedge.types import EngineInfo, EngineSettings, GenerationRequest

MAD = 1.4826
"""The standard deviation of what is normal, in units of its median deviation."""

Sample = tuple[float, int, int, int, float]
"""A step: (seconds, P, D, K, A), as `Measured` has it."""


@dataclass(frozen=True)
class Real:
    """One run. rows: of the workload's calls, in their order. link_s: median of what a first token
    took beyond queue and prefill, between front and worker. steps: by replica."""

    load: float
    workload: Workload
    rows: Sequence[Row]
    engines: Mapping[str, EngineSettings]
    profiles: Mapping[str, StepProfile]
    steps: Mapping[str, Sequence[Sample]]
    link_s: float
    detail: dict[str, Any] = field(default_factory=dict)


class Watched(Dispatcher):
    """A dispatcher that keeps the steps and generations that go through it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.steps: dict[str, list[Sample]] = {}
        self.generations: list[Generation] = []

    def on_step(self, replica: Replica, step: Step) -> None:
        sample = (
            step.period_s, step.num_prefill_tokens, step.num_decode_seqs, step.num_kv_tokens,
            step.prefill_attention,
        )  # fmt: skip
        self.steps.setdefault(replica.name, []).append(sample)
        super().on_step(replica, step)

    async def submit(self, request: GenerationRequest) -> Generation:
        generation = await super().submit(request)
        self.generations.append(generation)
        return generation


class WatchedPair(Pair):
    """The pair behind a dispatcher that keeps what it sees."""

    dispatcher_type = Watched

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.profiles: dict[str, StepProfile] = {}

    @property
    def engines(self) -> Mapping[str, EngineSettings]:
        return self._engines

    async def _profile(self, replica: Replica, info: EngineInfo) -> StepProfile:
        profile = await super()._profile(replica, info)
        self.profiles[replica.name] = profile
        return profile


async def measure_real(
    bench: Bench, loads: Sequence[float], num_warm_up: int, count: int
) -> list[Real]:
    """A run at each of these loads, in units of what the pair can serve."""
    pair = WatchedPair(bench)
    found = []
    async with pair.serving() as dispatcher:
        assert isinstance(dispatcher, Watched)
        trace = traces.load(NUM_CAPACITY, scale=SCALE, longest=LONGEST)
        per_s = await capacity(dispatcher, [known(item, n) for n, item in enumerate(trace.items)])
        bench.say(f"  {per_s:.2f} requests/s at capacity; {trace.source}")
        for number, load in enumerate(loads):
            skip = NUM_CAPACITY + number * (num_warm_up + count)
            part = traces.load(num_warm_up + count, skip=skip, scale=SCALE, longest=LONGEST)
            items = part.at_rate(load * per_s).items
            dispatcher.steps.clear()
            dispatcher.generations.clear()
            sent: list[Sent] = [
                (item.at_s, known(item, 1000 * (number + 1) + n), "")
                for n, item in enumerate(items)
            ]
            done = await open_loop(dispatcher, sent)
            links_s = [observed_of(one, 0.0).link_s for one in dispatcher.generations]
            workload = Workload(
                source=part.source,
                calls=tuple(
                    Call(
                        at_s=item.at_s,
                        num_prompt=item.num_prompt_tokens,
                        num_output=item.num_output_tokens,
                        max_tokens=item.num_output_tokens,
                    )
                    for item in items
                ),
            )
            found.append(
                Real(
                    load,
                    workload,
                    [_row(n, item.at_s, done[n]) for n, item in enumerate(items)],
                    pair.engines,
                    dict(pair.profiles),
                    {name: list(steps) for name, steps in dispatcher.steps.items()},
                    median(s for s in links_s if not math.isnan(s)),
                    _strays(pair.profiles, dispatcher.steps),
                )
            )
    return found


def _row(call: int, at_s: float, observed: Observed) -> Row:
    decision = observed.decision
    return Row(
        call=call,
        at_s=at_s,
        status="refused" if observed.is_refused else "ok",
        ttft_s=observed.ttft_s,
        e2e_s=observed.e2e_s,
        num_tokens=observed.num_output_tokens,
        replica=decision.estimate.replica if decision and decision.estimate else "",
    )


def specs_of_profiles(one: Real) -> tuple[ReplicaSpec, ...]:
    """What the profiles say of speed and noise, which the run has no part in."""
    found = []
    for name, profile in one.profiles.items():
        report = profile.fitted
        assert report is not None
        noise = Noise(sigma=MAD * report.noise, slowdown={name: report.mean_ratio})
        found.append(_spec(one, name, report.model, noise))
    return tuple(found)


def _spec(one: Real, name: str, model: StepModel, noise: Noise) -> ReplicaSpec:
    engine = replace(one.engines[name], model_path="")
    return ReplicaSpec(name=name, model=MODEL, engine=engine, steps=model, noise=noise)


def _seconds(model: StepModel, steps: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Measured and said."""
    seconds = np.array([step[0] for step in steps])
    return seconds, np.array([model.step_s(*step[1:]) for step in steps])


def _took(model: StepModel, steps: Sequence[Sample]) -> float:
    seconds, said = _seconds(model, steps)
    return float(seconds.sum() / said.sum())


def _strays(
    profiles: Mapping[str, StepProfile], steps: Mapping[str, Sequence[Sample]]
) -> dict[str, float]:
    """How many times longer the run's steps took, all together, than the profiles say: those that
    only decode, and those that prefill; and by how much that changed from one quarter of the run to
    another, which no simulation follows."""
    found = {}
    for name, profile in profiles.items():
        for kind, has_prefill in (("decode", False), ("prefill", True)):
            chosen = [step for step in steps.get(name, ()) if (step[1] > 0) == has_prefill]
            if chosen:
                found[f"{name}_{kind}_took"] = _took(profile.model, chosen)
        own = list(steps.get(name, ()))
        size = len(own) // 4
        if size:
            quarters = [_took(profile.model, own[n * size : (n + 1) * size]) for n in range(4)]
            found[f"{name}_quarters_differ"] = max(quarters) / min(quarters)
        report = profile.fitted
        if report is not None:
            found[f"{name}_noise"] = report.noise
            found[f"{name}_mean_ratio"] = report.mean_ratio
    return found
