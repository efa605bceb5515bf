"""Three models, memory for one: what grouping by residency serves against a swap at each change.

Real workers under the dispatcher and the model manager, with a fixed number of clients that each
ask one of the models, drawn by lot, and ask again when they are answered. The baseline is the same
code with residency's "fifo" policy and requests let in as they came: one for another model only
when all before it are answered. Those for one model in a row still run together.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from bench.context import Bench, Outcome, Skipped
from fmedge.dispatch import Dispatcher
from fmedge.errors import FmedgeError
from fmedge.replica.local import LocalReplica
from fmedge.sched.provision.plan import (
    DeviceUse,
    MemoryUse,
    Plan,
    PlannedReplica,
    Predicted,
    ReplicaUse,
)
from fmedge.sched.resident import ResidencySettings
from fmedge.server.residency import ModelManager
from fmedge.types import EngineSettings, GenerationRequest, SamplingParams

MODELS = ("chat", "code", "mail")
NUM_CLIENTS = 24
PROMPT_TOKENS = 32
OUTPUT_TOKENS = 24
SECONDS = 60.0
READY_S = 120.0
DRAIN_S = 120.0
SEED = 4
TARGET = 2.0


@dataclass
class Served:
    """What one policy did. num_lost: requests that failed, or came without all their tokens."""

    num_served: int = 0
    num_lost: int = 0
    num_loads: int = 0
    waits_s: list[float] = field(default_factory=list)


class InOrder:
    """Lets requests in as they came, a run of one model's together."""

    def __init__(self) -> None:
        self._queue: deque[tuple[str, asyncio.Event]] = deque()
        self._model = ""
        self._num_in = 0

    @contextlib.asynccontextmanager
    async def turn(self, model: str) -> AsyncIterator[None]:
        may_go = asyncio.Event()
        self._queue.append((model, may_go))
        self._admit()
        await may_go.wait()
        try:
            yield
        finally:
            self._num_in -= 1
            self._admit()

    def _admit(self) -> None:
        while self._queue and (self._queue[0][0] == self._model or not self._num_in):
            self._model, may_go = self._queue.popleft()
            self._num_in += 1
            may_go.set()


async def run(bench: Bench) -> list[Outcome | Skipped]:
    seconds = SECONDS if bench.rounds > 1 else SECONDS / 4
    found: dict[str, Served] = {}
    for policy in ("fifo", "value"):
        served = found[policy] = await _serve(bench, policy, seconds)
        bench.say(
            f"  {policy}: {served.num_served / seconds:.2f} requests/s, {served.num_loads} loads, "
            f"first token after {statistics.median(served.waits_s):.1f} s, at most "
            f"{max(served.waits_s):.1f} s; {served.num_lost} lost"
        )
    ours, baseline = found["value"], found["fifo"]
    detail = {
        policy: {
            "requests_per_s": served.num_served / seconds,
            "loads": served.num_loads,
            "ttft_p50_s": statistics.median(served.waits_s),
            "ttft_max_s": max(served.waits_s),
        }
        for policy, served in found.items()
    }
    return [
        Outcome(
            "plan-swap", "throughput against a swap at each change",
            ours.num_served / max(1, baseline.num_served), "x", TARGET, True, detail=detail,
        ),
        Outcome(
            "plan-swap", "requests lost", float(ours.num_lost + baseline.num_lost), "requests", 0,
            False,
        ),
    ]  # fmt: skip


def _plan(bench: Bench) -> Plan:
    """Each model takes all the memory there is."""
    engine = EngineSettings(
        model_path=str(bench.model), ctx_size=256, slots=8, threads=bench.threads, devices=()
    )
    num_bytes = bench.model.stat().st_size
    replicas = tuple(
        PlannedReplica(
            model=model,
            name=f"{model}/0",
            file=engine.model_path,
            placement=(),
            ctx_size=engine.ctx_size,
            slots=engine.slots,
            batch=engine.batch_size,
            kv_type=engine.type_k,
            predicted=Predicted(ttft_ms=0, tpot_ms=0, prefill_tok_s=0, decode_tok_s=0),
            ranges=(),
            engine=engine,
        )
        for model in MODELS
    )
    uses = tuple(
        ReplicaUse(replica=replica.name, memory=MemoryUse(device="CPU", weights=num_bytes))
        for replica in replicas
    )
    device = DeviceUse(name="CPU", capacity_bytes=num_bytes, used_bytes=num_bytes, breakdown=uses)
    return Plan(objective=0, solve_ms=0, replicas=replicas, devices=(device,))


async def _serve(bench: Bench, policy: Literal["value", "fifo"], seconds: float) -> Served:
    served = Served()
    dispatcher = Dispatcher()

    def make(planned: PlannedReplica) -> LocalReplica:
        served.num_loads += 1
        return LocalReplica(planned.name, planned.model, planned.engine)

    manager = ModelManager(dispatcher, make, settings=ResidencySettings(policy=policy))
    manager.apply(_plan(bench))
    await manager.start()
    try:
        await dispatcher.wait_ready(READY_S)
        await _ask(dispatcher, served, seconds, InOrder() if policy == "fifo" else None)
    finally:
        await manager.close()
        await dispatcher.close()
    return served


async def _ask(
    dispatcher: Dispatcher, served: Served, seconds: float, order: InOrder | None
) -> None:
    """Clients ask for so long; what is in flight then still counts as lost or not."""
    rng = random.Random(SEED)
    end_s = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end_s:
            prompt = array("i", (rng.randrange(300, 30_000) for _ in range(PROMPT_TOKENS)))
            request = GenerationRequest(
                model=rng.choice(MODELS),
                prompt=prompt.tobytes(),
                max_tokens=OUTPUT_TOKENS,
                sampling=SamplingParams(temperature=0.0),
                ignore_eos=True,
            )
            asked_s = time.monotonic()
            turn = contextlib.nullcontext() if order is None else order.turn(request.model)
            try:
                async with turn:
                    generation = await dispatcher.submit(request)
                    async for _ in generation:
                        pass
            except FmedgeError:
                served.num_lost += 1
                continue
            served.num_lost += generation.num_tokens != OUTPUT_TOKENS
            served.waits_s.append(generation.first_token_s - asked_s)
            served.num_served += time.monotonic() < end_s

    clients = [asyncio.create_task(client()) for _ in range(NUM_CLIENTS)]
    async with asyncio.timeout(seconds + DRAIN_S):
        await asyncio.gather(*clients)
