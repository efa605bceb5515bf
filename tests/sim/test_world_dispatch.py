"""The world against what it stands for: the real dispatcher and emulated replicas, on an event loop
whose time is virtual. They announce a step up to half a millisecond before its end (emulated timers
are aimed early), so times agree to that while nothing turns on less."""

from __future__ import annotations

import asyncio
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest

from fmedge.dispatch import dispatcher, generation, observe
from fmedge.dispatch.dispatcher import Dispatcher
from fmedge.replica.emulated.replica import EmulatedReplica
from fmedge.sched.emulation import LENGTH_SEED, Noise, ReplicaSpec
from fmedge.sched.forecast import length_keys
from fmedge.sim.load import load_workload, prompt_tokens
from fmedge.sim.outcome import Row
from fmedge.sim.workload import Workload
from fmedge.sim.world import simulate
from fmedge.types import EngineSettings, GenerationRequest, SamplingParams
from tests.fakes import FakeVocab
from tests.sched.virtual import cpu_like
from tests.virtual_loop import run_virtual

EARLY_S = 0.001
CTX_SIZE = 2048


def spec(name: str, speed: float) -> ReplicaSpec:
    engine = EngineSettings(model_path="", ctx_size=CTX_SIZE, slots=4, batch_size=512)
    noise = Noise(sigma=0.05, seed=3)
    return ReplicaSpec(name=name, model="m", engine=engine, steps=cpu_like(speed), noise=noise)


SPECS = (spec("a", 1.0), spec("b", 2.5))


def prompt(workload: Workload, index: int) -> bytes:
    return prompt_tokens(workload.calls[index], index, workload.block_tokens or 1, 3, 256)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    for module in (dispatcher, generation, observe):
        monkeypatch.setattr(module, "time", now)


async def served(workload: Workload, policy: str) -> list[Row]:
    """What the dispatcher makes of it."""
    loop = asyncio.get_running_loop()

    async def profiler(replica, info):
        (model,) = (one.steps for one in SPECS if one.name == replica.name)
        return SimpleNamespace(model=model, source="measured")

    front = Dispatcher(policy=policy, profiler=profiler)
    for one in SPECS:
        front.add_replica(EmulatedReplica(one, FakeVocab(), clock=loop.time))
    await front.wait_ready(10.0, every_replica=True)
    begun_s = loop.time()

    async def one_call(index: int) -> Row:
        call = workload.calls[index]
        await asyncio.sleep(begun_s + call.at_s - loop.time())
        request = GenerationRequest(
            model="m",
            prompt=prompt(workload, index),
            max_tokens=CTX_SIZE - call.num_prompt,
            sampling=SamplingParams(seed=LENGTH_SEED + call.num_output),
            promise=call.promise,
            length_keys=length_keys("m", call.num_prompt, api_key_id="", form="", workflow=None),
        )
        answer = await front.submit(request)
        times_s = []
        async for batch in answer:
            times_s += [loop.time()] * len(batch.tokens)
        return Row(
            call=index,
            at_s=call.at_s,
            status="ok",
            ttft_s=times_s[0] - begun_s - call.at_s,
            e2e_s=loop.time() - begun_s - call.at_s,
            num_tokens=len(times_s),
            num_cached=answer.num_cached_tokens,
            replica=answer.replica,
        )

    rows = await asyncio.gather(*(one_call(index) for index in range(len(workload.calls))))
    await front.close()
    return list(rows)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("policy", ["round_robin", "least_outstanding", "fmedge"])
def test_it_says_what_the_dispatcher_would_do(policy):
    workload = load_workload(
        "poisson:rate=3,duration=25,prompt=150/600,output=60/200,prefix=96,prefixes=2,"
        "prefix_share=0.5,ttft_ms=1500,e2e_ms=12000",
        longest=CTX_SIZE - 1,
    )
    measured = run_virtual(served(workload, policy))
    said = simulate(
        SPECS, workload, policy, prompts=lambda call, index: prompt(workload, index)
    ).rows
    assert [row.num_tokens for row in said] == [row.num_tokens for row in measured]
    assert [row.replica for row in said] == [row.replica for row in measured]
    assert sum(row.num_cached for row in said) == sum(row.num_cached for row in measured) > 0
    for of in (lambda row: row.ttft_s, lambda row: row.e2e_s):
        there = [of(row) for row in measured]
        here = [of(row) for row in said]
        assert np.percentile(here, (50, 90, 99)) == pytest.approx(
            np.percentile(there, (50, 90, 99)), rel=0.01
        )
        assert median(abs(a - b) for a, b in zip(here, there, strict=True)) < EARLY_S
