"""Emulated replicas on a real event loop whose time is virtual: when things are said, and what."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from fmedge.errors import ReplicaLostError, RequestError, UnavailableError
from fmedge.replica.emulated.emulator import Emulator
from fmedge.replica.emulated.engine import engine_info
from fmedge.replica.emulated.replica import TIMER_S, EmulatedReplica
from fmedge.replica.protocol import Embed, Step, Submit
from fmedge.sched.emulation import LENGTH_SEED, Noise, ReplicaSpec, step_factors
from fmedge.sched.steptime import Curve, StepModel
from fmedge.types import DeviceMemory, EngineSettings, Grammar, SamplingParams
from tests.fakes import FakeVocab, pack
from tests.replica.supervised import Recorder
from tests.virtual_loop import VirtualLoop, run_virtual

STEPS = StepModel(base_s=0.02, prefill=Curve((0.0, 100.0), (0.0, 0.01)))
EARLY_S = TIMER_S + 1e-9
DECODE_S = STEPS.step_s(0, 1)


def spec_of(steps: StepModel = STEPS, **other: Any) -> ReplicaSpec:
    engine = EngineSettings(model_path="", ctx_size=2048, slots=4, batch_size=512)
    return ReplicaSpec(name="r0", model="m", engine=engine, steps=steps, **other)


class Timed(Recorder):
    """Also says when: events by the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.times_s: list[float] = []

    def _add(self, *event: object) -> None:
        self.times_s.append(asyncio.get_running_loop().time())
        super()._add(*event)

    def steps(self) -> list[tuple[float, Step]]:
        pairs = zip(self.times_s, self.events, strict=True)
        return [(at_s, event[1]) for at_s, event in pairs if event[0] == "step"]

    def ends(self) -> dict[int, float]:
        return {
            part.request_id: at_s
            for at_s, step in self.steps()
            for part in step.sequences
            if part.finish is not None
        }


def submission(request_id: int, num_prompt: int, num_tokens: int, **other: Any) -> Submit:
    prompt = pack([3 + (request_id * 97 + i) % 250 for i in range(num_prompt)])
    fields: dict[str, Any] = {"sampling": SamplingParams(seed=LENGTH_SEED + num_tokens)}
    return Submit(
        request_id=request_id,
        tokens=prompt,
        num_prompt_tokens=num_prompt,
        max_tokens=2000,
        **fields | other,
    )


@asynccontextmanager
async def started(
    spec: ReplicaSpec | None = None, **other: Any
) -> AsyncIterator[tuple[EmulatedReplica, Timed]]:
    clock = asyncio.get_running_loop().time
    replica = EmulatedReplica(spec or spec_of(), FakeVocab(), clock=clock, **other)
    recorder = Timed()
    replica.start(recorder)
    await recorder.until_count("ready", 1)
    yield replica, recorder
    await replica.close()


def virtually(test: Any) -> Any:
    """Run an async test on a VirtualLoop."""

    def wrapper() -> None:
        run_virtual(test())

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    return wrapper


def now_s() -> float:
    return asyncio.get_running_loop().time()


@virtually
async def test_a_request_takes_its_steps_time() -> None:
    async with started() as (replica, recorder):
        start_s = now_s()
        replica.submit(submission(1, 200, 30))
        await recorder.until(lambda: 1 in recorder.ends())
        first_s = recorder.steps()[0][0] - start_s
        assert first_s == pytest.approx(STEPS.step_s(200, 0), abs=EARLY_S)
        # Its 30th token is followed by the step that draws its end.
        assert recorder.ends()[1] - start_s == pytest.approx(
            STEPS.step_s(200, 0) + 30 * DECODE_S, abs=2 * EARLY_S
        )
        assert len(recorder.tokens(1)) == 30


@virtually
async def test_a_step_begun_is_not_changed_by_what_arrives() -> None:
    async with started() as (replica, recorder):
        start_s = now_s()
        replica.submit(submission(1, 400, 5))
        await asyncio.sleep(0.005)
        replica.submit(submission(2, 100, 5))
        replica.cancel((1,))
        await recorder.until(lambda: 2 in recorder.ends())
        (first_s, first), (second_s, second) = recorder.steps()[:2]
        assert [part.request_id for part in first.sequences] == [1]
        assert first_s - start_s == pytest.approx(STEPS.step_s(400, 0), abs=EARLY_S)
        assert [part.request_id for part in second.sequences] == [2]
        assert second_s - first_s == pytest.approx(STEPS.step_s(100, 0), abs=2 * EARLY_S)
        assert 1 not in recorder.ends()
        assert recorder.tokens(2) != []


def test_lateness_never_adds_up() -> None:
    """A busy machine, 1,000 steps: each is announced late, none begins late."""
    spec = spec_of(noise=Noise(sigma=0.3, straggler_share=0.02, straggler_factor=3.0, seed=5))
    lag = random.Random(1)

    async def main() -> tuple[list[tuple[float, Step]], float, float, float]:
        async with started(spec) as (replica, recorder):
            start_s = now_s()
            replica.submit(submission(1, 100, 999))
            await recorder.until(lambda: 1 in recorder.ends())
            lateness = replica.lateness()
            assert lateness.num_steps == 1000
            return recorder.steps(), start_s, lateness.mean_s, lateness.max_s

    steps, start_s, mean_s, max_s = run_virtual(main(), lambda: lag.uniform(0.0, 0.015))
    factors = step_factors(spec.noise, spec.name)
    end_s, late_s = start_s, []
    for number, (at_s, step) in enumerate(steps):
        end_s += STEPS.step_s(step.num_prefill_tokens, step.num_decode_seqs) * factors[number]
        late_s.append(at_s - end_s)
    assert len(late_s) == 1000
    assert min(late_s) >= -EARLY_S
    assert max(late_s) <= 2 * 0.015
    assert sum(late_s[-100:]) / 100 < 0.015
    assert max_s == pytest.approx(max(late_s), abs=1e-6)
    assert mean_s == pytest.approx(sum(max(0.0, s) for s in late_s) / 1000, abs=EARLY_S)


@virtually
async def test_what_arrives_while_a_step_is_announced_late_waits_for_the_next() -> None:
    async with started() as (replica, recorder):
        replica.submit(submission(1, 100, 50))
        await recorder.until_count("step", 3)
        start_s = recorder.times_s[-1]
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.pass_time(2.5 * DECODE_S)  # steps 4 and 5 have ended, and 6 has begun
        replica.submit(submission(2, 100, 1))
        await recorder.until(lambda: 2 in recorder.ends())
        with_prefill = [step for _, step in recorder.steps() if step.prefilled]
        first = [step for _, step in recorder.steps()].index(with_prefill[1])
        assert first == 6
        at_s = recorder.steps()[first][0]
        expected_s = start_s + 3 * DECODE_S + STEPS.step_s(100, 1)
        assert at_s == pytest.approx(expected_s, abs=2 * EARLY_S)


@virtually
async def test_requests_of_one_turn_begin_together() -> None:
    async with started() as (replica, recorder):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for i in range(3):
            replica.submit(submission(i, 50, 2))
            loop.pass_time(0.0001)
        await recorder.until(lambda: len(recorder.ends()) == 3)
        assert recorder.steps()[0][1].num_prefill_tokens == 150


@virtually
async def test_it_loads_in_its_time_and_says_what_it_is() -> None:
    spec = spec_of()
    memory = (DeviceMemory("CUDA0", 1000, 10, 1),)
    info = replace(engine_info(spec, FakeVocab()), memory=memory, num_layers=32)
    replica = EmulatedReplica(spec, FakeVocab(), info=info, load_s=20.0, clock=now_s)
    assert replica.status().state == "stopped"
    recorder = Timed()
    start_s = now_s()
    replica.start(recorder)
    with pytest.raises(RuntimeError):
        replica.start(recorder)
    with pytest.raises(ReplicaLostError, match="loading"):
        replica.submit(submission(1, 10, 1))
    with pytest.raises(ReplicaLostError, match="loading"):
        await replica.measure(((0, 1, 16),), 1.0)
    replica.cancel((1,))
    await asyncio.sleep(5.0)
    assert replica.status().load_fraction == pytest.approx(0.25)
    assert replica.status().info is None
    await recorder.until_count("ready", 1)
    assert now_s() - start_s == pytest.approx(20.0)
    told = recorder.of("ready")[0][1]
    assert told == replica.status().info == replace(info, load_s=20.0)
    assert (replica.status().state, replica.status().load_fraction) == ("ready", 1.0)
    await replica.close()
    await replica.close()
    assert [event[0] for event in recorder.events] == ["ready", "lost", "gone"]
    assert recorder.of("lost")[0][2] is False
    assert replica.status().state == "closed"
    with pytest.raises(ReplicaLostError, match="closed"):
        replica.submit(submission(1, 10, 1))


@virtually
async def test_closed_while_it_loads_it_is_gone_and_never_ready() -> None:
    replica = EmulatedReplica(spec_of(), FakeVocab(), load_s=20.0, clock=now_s)
    recorder = Timed()
    replica.start(recorder)
    await replica.close()
    await asyncio.sleep(30.0)
    assert [event[0] for event in recorder.events] == ["gone"]


@virtually
async def test_closed_in_a_step_nothing_comes_after() -> None:
    async with started() as (replica, recorder):
        replica.submit(submission(1, 100, 50))
        await recorder.until_count("step", 2)
        await replica.close()
        num_events = len(recorder.events)
        await asyncio.sleep(1.0)
        assert len(recorder.events) == num_events
        assert [event[0] for event in recorder.events[-2:]] == ["lost", "gone"]


@virtually
async def test_failures_embeddings_and_the_cache_are_the_loops() -> None:
    async with started() as (replica, recorder):
        replica.submit(submission(1, 3000, 5))
        await recorder.until_count("failed", 1)
        assert recorder.of("failed")[0][1].code == "invalid"
        replica.submit(Embed(request_id=2, tokens=pack([5, 6, 7])))
        start_s = now_s()
        await recorder.until_count("embedded", 1)
        assert now_s() - start_s == pytest.approx(STEPS.step_s(3, 0), abs=EARLY_S)
        cached = []
        for request_id in (10, 11, 12):
            replica.submit(replace(submission(10, 64, 3), request_id=request_id))
            await recorder.until(lambda i=request_id: i in recorder.ends())
            parts = [p for _, step in recorder.steps() for p in step.sequences]
            cached.append(next(p for p in parts if p.request_id == request_id).num_cached_tokens)
            if request_id == 11:
                replica.clear_cache(None)
        assert cached == [0, 63, 0]


@virtually
async def test_a_grammar_in_the_making_keeps_nobody() -> None:
    async with started() as (replica, recorder):
        replica.submit(submission(1, 10, 4, grammar=Grammar("start: /[ab]+/")))
        await recorder.until(lambda: 1 in recorder.ends())
        assert set(bytes(recorder.tokens(1))) <= set(b"ab")


@virtually
async def test_it_measures_at_once_what_it_was_told_to_be() -> None:
    points = tuple((p, d, 64) for p, d in ((0, 1), (0, 4), (50, 0), (100, 0)))
    async with started(spec_of(noise=Noise(slowdown={"r0": 3.0}))) as (replica, recorder):
        start_s = now_s()
        steps: list[Step] = []
        measured = await replica.measure(points, 1e6, steps.append)
        assert measured.ended == "complete"
        assert now_s() == start_s
        assert {sample[1:3] for sample in measured.samples} >= {(p, d) for p, d, _ in points}
        for period_s, p, d, k, a in measured.samples:
            assert period_s == pytest.approx(STEPS.step_s(p, d, k, a), rel=1e-9)
        assert len(steps) > len(measured.samples)
        assert recorder.of("step") == []
        replica.submit(submission(1, 100, 1))
        with pytest.raises(UnavailableError, match="has work"):
            await replica.measure(points, 1e6)
        await recorder.until(lambda: 1 in recorder.ends())
        assert recorder.steps()[0][1].step_s == pytest.approx(3 * STEPS.step_s(100, 0))


@virtually
async def test_a_request_ends_measuring() -> None:
    points = tuple((0, d, depth) for d in (1, 2, 3, 4) for depth in range(16, 1500))
    async with started() as (replica, recorder):
        measuring = asyncio.create_task(replica.measure(points, 1e9))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="measured already"):
            await replica.measure(points, 1.0)
        replica.submit(submission(1, 10, 2))
        assert (await measuring).ended == "interrupted"
        await recorder.until(lambda: 1 in recorder.ends())
        again = asyncio.create_task(replica.measure(points, 1e9))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again
        assert (await replica.measure(points, 0.5)).ended == "time"
        last = asyncio.create_task(replica.measure(points, 1e9))
        await asyncio.sleep(0)
        await replica.close()
        with pytest.raises(ReplicaLostError, match="was lost while it was measured"):
            await last


async def collect(chunks: AsyncIterator[list[int]]) -> list[tuple[float, Sequence[int]]]:
    return [(now_s(), chunk) async for chunk in chunks]


@virtually
async def test_an_emulator_streams_in_chunks_and_is_cancelled_with_its_reader() -> None:
    emulator = Emulator(spec_of(), FakeVocab(), load_s=1.0, clock=now_s)
    prompt = pack(range(3, 103))
    start_s = now_s()
    got = await collect(emulator.generate(prompt, 500, LENGTH_SEED + 40, chunk_s=0.2))
    assert got[0][0] - start_s == pytest.approx(1.0 + STEPS.step_s(100, 0), abs=EARLY_S)
    assert len(got[0][1]) == 1
    assert sum(len(chunk) for _, chunk in got) == 40
    gaps = [b[0] - a[0] for a, b in pairwise(got[:-1])]
    assert min(gaps) >= 0.2
    assert max(gaps) < 0.2 + 2 * DECODE_S
    single = await collect(emulator.generate(prompt, 500, LENGTH_SEED + 5))
    assert [len(chunk) for _, chunk in single] == [1] * 5

    stream = emulator.generate(prompt, 2000, LENGTH_SEED + 1000)
    assert len(await anext(stream)) == 1
    assert emulator.num_open == 1
    await stream.aclose()
    start_s = now_s()
    await collect(emulator.generate(prompt, 1, LENGTH_SEED + 1))
    assert now_s() - start_s < 3 * DECODE_S  # nobody decodes beside it
    assert emulator.num_open == 0
    with pytest.raises(RequestError):
        await collect(emulator.generate(b"", 5, 1))
    open_stream = asyncio.create_task(collect(emulator.generate(prompt, 2000, LENGTH_SEED + 999)))
    await asyncio.sleep(1.0)
    await emulator.close()
    with pytest.raises(ReplicaLostError, match="closed"):
        await open_stream
    with pytest.raises(ReplicaLostError, match="closed"):
        await collect(emulator.generate(prompt, 5, 1))


@virtually
async def test_an_answer_of_no_tokens_ends() -> None:
    emulator = Emulator(spec_of(), FakeVocab(), clock=now_s)
    assert await collect(emulator.generate(pack([5]), 5, LENGTH_SEED)) == []
    await emulator.close()
