"""What knowing a workflow is worth: three-stage chains with one promise end to end, against the
same promise split evenly over the calls; best effort fills the replicas in both."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.context import Bench, Outcome, Skipped
from bench.sla import traces
from bench.sla.estimates import LONGEST, NUM_CAPACITY, SCALE, known
from bench.sla.pair import MODEL, Pair, capacity, prompt, serve
from fmedge.dispatch import Dispatcher
from fmedge.errors import UnavailableError
from fmedge.types import (
    GenerationRequest,
    Promise,
    SamplingParams,
    WorkflowCall,
    WorkflowSettings,
)

WORKFLOW = "chain"
STAGES = (("plan", 60, 12, 0.05), ("draft", 240, 72, 0.15), ("check", 120, 24, 0.0))
"""Name, prompt tokens, output tokens, seconds of tool time after it."""
NUM_CHAINS, NUM_WARM_UP = 100, 30
LOAD = 0.65
CHAIN_SHARE = 0.75
SLACK = 2.6  # the promise, in units of an unloaded chain


async def run(bench: Bench) -> list[Outcome | Skipped]:
    misses: dict[str, list[float]] = {"whole": [], "split": []}
    pair = Pair(bench)
    e2e_s = per_s = 0.0
    for number in range(min(bench.rounds, 5 if bench.is_full else 2)):
        for mode in misses:
            settings = WorkflowSettings(name=WORKFLOW, e2e_s=e2e_s or 1.0, target=0.9, idle_s=1.0)
            async with pair.serving(workflows={WORKFLOW: settings}) as dispatcher:
                if not e2e_s:
                    sample = traces.load(NUM_CAPACITY, scale=SCALE, longest=LONGEST)
                    requests = [known(item, n) for n, item in enumerate(sample.items)]
                    await capacity(dispatcher, requests)
                    e2e_s = SLACK * await _unloaded_s(dispatcher)
                    per_s = await capacity(dispatcher, _stage_requests(300))
                    bench.say(f"  promise {e2e_s * 1e3:.0f} ms; {per_s:.2f} calls/s at capacity")
                    settings = WorkflowSettings(name=WORKFLOW, e2e_s=e2e_s, target=0.9, idle_s=1.0)
                    dispatcher.forecast.set_workflows({WORKFLOW: settings})
                times = await _load(dispatcher, mode, number, LOAD * per_s, e2e_s)
            missed = sum(t > e2e_s for t in times) / len(times)
            misses[mode].append(missed)
            shown = statistics.median(times) * 1e3
            bench.say(f"  round {number}, {mode}: {missed:.1%} missed, median {shown:.0f} ms")
    pairs = zip(misses["whole"], misses["split"], strict=True)
    samples = tuple(a / b if b else float(a > 0) for a, b in pairs)
    total = sum(misses["whole"]) / max(1e-9, sum(misses["split"]))
    return [
        Outcome("workflows, three-stage chains", "misses against an even split of the promise",
                total, "x", 0.6, False, samples, {"misses": misses}),
    ]  # fmt: skip


def _call(stage: int, seed: int, promise: Promise, call: WorkflowCall | None) -> GenerationRequest:
    name, num_prompt, num_output, _ = STAGES[stage]
    return GenerationRequest(
        model=MODEL,
        prompt=prompt(num_prompt, seed),
        max_tokens=num_output,
        min_tokens=num_output,
        ignore_eos=True,
        sampling=SamplingParams(seed=seed),
        promise=promise,
        workflow=call,
        api_key_id="agent",
        length_keys=(f"{WORKFLOW}/{name}",),
    )


def _stage_requests(count: int) -> list[GenerationRequest]:
    return [_call(n % 3, 400_000 + n, Promise(), None) for n in range(count)]


async def _unloaded_s(dispatcher: Dispatcher) -> float:
    times = []
    for repeat in range(5):
        started_s = time.monotonic()
        for stage, (_, _, _, tool_s) in enumerate(STAGES):
            await serve(dispatcher, _call(stage, 300_000 + 10 * repeat + stage, Promise(), None))
            await asyncio.sleep(tool_s)
        times.append(time.monotonic() - started_s)
    return statistics.median(times)


async def _load(
    dispatcher: Dispatcher, mode: str, number: int, calls_per_s: float, e2e_s: float
) -> list[float]:
    """Seconds that each chain after the warm-up took; inf if a call of it was refused."""
    count = NUM_WARM_UP + NUM_CHAINS
    part = traces.load(count, skip=number * count, scale=SCALE, longest=LONGEST)
    chains = part.at_rate(CHAIN_SHARE * calls_per_s / len(STAGES)).items
    filler = traces.load(count, skip=(number + 3) * count, scale=SCALE, longest=LONGEST)
    span_s = chains[-1].at_s
    fillers = filler.at_rate((1 - CHAIN_SHARE) * calls_per_s).items
    background = [
        asyncio.create_task(_filler(dispatcher, item.at_s, 800_000 + 1000 * number + n, n % 3))
        for n, item in enumerate(fillers)
        if item.at_s < span_s
    ]
    try:
        times = await asyncio.gather(
            *(_chain(dispatcher, mode, item.at_s, 1000 * number + n, e2e_s)
              for n, item in enumerate(chains))
        )  # fmt: skip
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    return list(times[NUM_WARM_UP:])


async def _filler(dispatcher: Dispatcher, at_s: float, seed: int, stage: int) -> None:
    await asyncio.sleep(at_s)
    await serve(dispatcher, _call(stage, seed, Promise(), None))


async def _chain(
    dispatcher: Dispatcher, mode: str, at_s: float, number: int, e2e_s: float
) -> float:
    await asyncio.sleep(at_s)
    started_s = time.monotonic()
    split = Promise(sla_class="split", e2e_s=e2e_s / len(STAGES), target=0.9)
    for stage, (name, _, _, tool_s) in enumerate(STAGES):
        seed = 500_000 + 10 * number + stage
        if mode == "split":
            request = _call(stage, seed, split, None)
        else:
            is_last = stage == len(STAGES) - 1
            call = WorkflowCall(
                workflow=WORKFLOW, instance=f"{mode}-{number}", stage=name, is_last=is_last
            )
            request = _call(stage, seed, Promise(), call)
        try:
            observed = await serve(dispatcher, request)
        except UnavailableError:
            return float("inf")
        if observed.is_refused:
            return float("inf")
        await asyncio.sleep(tool_s)
    return time.monotonic() - started_s
