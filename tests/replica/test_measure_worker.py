"""Measuring in a real worker process: nobody else hears of it, and work comes first."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from fmedge.errors import ReplicaLostError, UnavailableError
from fmedge.replica.protocol import Measured, Submit
from tests.replica.supervised import DEADLINE_S, Recorder, make_replica, pack
from tests.replica.worker_engine import expected_output

POINTS = ((0, 1, 16), (16, 0, 0), (0, 3, 64), (32, 2, 16))
PROMPT = pack(11, 22, 33)
LONG_S = 1000.0


async def start(options: str = ""):
    replica, recorder = make_replica(options=options), Recorder()
    replica.start(recorder)
    await recorder.until_count("ready", 1)
    return replica, recorder


def submission(request_id: int, max_tokens: int) -> Submit:
    return Submit(
        request_id=request_id, tokens=PROMPT, num_prompt_tokens=3, max_tokens=max_tokens,
        ignore_eos=True,
    )  # fmt: skip


async def begin(replica, points=POINTS) -> asyncio.Task[Measured]:
    """A measuring that would take long, when its first step is done."""
    has_begun = asyncio.Event()
    task = asyncio.create_task(replica.measure(points * 500, LONG_S, lambda _: has_begun.set()))
    await asyncio.wait_for(has_begun.wait(), DEADLINE_S)
    return task


async def test_an_idle_worker_measures_and_serves_on() -> None:
    replica, recorder = await start()
    steps = []
    measured = await asyncio.wait_for(replica.measure(POINTS, LONG_S, steps.append), DEADLINE_S)
    assert measured.ended == "complete"
    assert {(p, d) for _, p, d, _, _ in measured.samples} >= {(p, d) for p, d, _ in POINTS}
    assert all(sample[0] > 0 for sample in measured.samples)
    assert len(steps) >= len(measured.samples)
    assert recorder.of("step") == []
    replica.submit(submission(1, 30))
    await recorder.until(lambda: len(recorder.tokens(1)) == 30)
    assert recorder.tokens(1) == expected_output(PROMPT, 30)
    await replica.close()


async def test_a_request_ends_it_and_runs_as_if_it_had_been_alone() -> None:
    replica, recorder = await start("step_ms=2")
    task = await begin(replica)
    replica.submit(submission(1, 30))
    measured = await asyncio.wait_for(task, DEADLINE_S)
    assert measured.ended == "interrupted"
    await recorder.until(lambda: len(recorder.tokens(1)) == 30)
    assert recorder.tokens(1) == expected_output(PROMPT, 30)
    ids = {part.request_id for _, step in recorder.of("step") for part in step.sequences}
    assert ids == {1}
    await replica.close()


async def test_a_busy_replica_is_not_measured() -> None:
    replica, recorder = await start("step_ms=2")
    replica.submit(submission(1, 900))
    await recorder.until(lambda: len(recorder.tokens(1)) >= 3)
    with pytest.raises(UnavailableError, match="has work"):
        await asyncio.wait_for(replica.measure(POINTS, LONG_S), DEADLINE_S)
    await recorder.until(lambda: len(recorder.tokens(1)) >= 20)
    assert recorder.tokens(1)[:20] == expected_output(PROMPT, 20)
    await replica.close()


async def test_only_one_at_a_time_and_a_caller_that_leaves_ends_it() -> None:
    replica, recorder = await start("step_ms=2")
    task = await begin(replica)
    with pytest.raises(UnavailableError, match="already"):
        await replica.measure(POINTS, LONG_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    replica.submit(submission(1, 2))
    await recorder.until(lambda: len(recorder.tokens(1)) == 2)  # so the measuring is over
    measured = await asyncio.wait_for(replica.measure(POINTS[:1], LONG_S), DEADLINE_S)
    assert measured.ended == "complete"
    ids = {part.request_id for _, step in recorder.of("step") for part in step.sequences}
    assert ids == {1}
    await replica.close()


async def test_a_worker_that_dies_meanwhile_says_so_at_once() -> None:
    replica, recorder = await start("step_ms=2")
    task = await begin(replica)
    os.kill(replica.status().pid, signal.SIGKILL)
    with pytest.raises(ReplicaLostError):
        await asyncio.wait_for(task, DEADLINE_S)
    await recorder.until_count("ready", 2)
    measured = await asyncio.wait_for(replica.measure(POINTS[:1], LONG_S), DEADLINE_S)
    assert measured.samples
    await replica.close()
    with pytest.raises(ReplicaLostError):
        await replica.measure(POINTS, LONG_S)


async def test_closing_does_not_wait_for_it() -> None:
    replica, _ = await start("step_ms=2")
    task = await begin(replica)
    await asyncio.wait_for(replica.close(DEADLINE_S), DEADLINE_S / 2)
    assert (await asyncio.wait_for(task, DEADLINE_S)).ended == "interrupted"
