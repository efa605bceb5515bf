"""Two replicas of one model, a fast one and one at least twice as slow, a core each, behind the
real dispatcher in this process; and open-loop load on them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import psutil

from bench.context import Bench
from bench.servers import ServerError
from fmedge.dispatch import Dispatcher
from fmedge.errors import UnavailableError
from fmedge.replica.interface import Replica
from fmedge.replica.local import LocalReplica
from fmedge.sched.core import Policy
from fmedge.sched.decision import Decision
from fmedge.sched.profile import StepProfile
from fmedge.server.profiles import Profiler, ProfileStore
from fmedge.types import EngineInfo, EngineSettings, GenerationRequest, WorkflowSettings
from tests import synthetic

MODEL = "pair"
SLOTS = 4
CTX_SIZE = 1024
READY_TIMEOUT_S = 120.0
MEASURE_S = 10.0
DRAIN_TIMEOUT_S = 240.0
FIRST_TOKEN, LAST_TOKEN = 300, 30_000


@dataclass
class Observed:
    """A request as it went. Times in seconds from its arrival; nan where there was none."""

    request: GenerationRequest
    tag: str = ""
    is_refused: bool = False
    ttft_s: float = inf
    e2e_s: float = inf
    l_q_s: float = inf
    num_output_tokens: int = 0
    decision: Decision | None = None
    ended_s: float = inf  # on time.monotonic()'s clock
    token_times_s: list[float] = field(default_factory=list)

    @property
    def l_x_s(self) -> float:
        return self.e2e_s - self.l_q_s

    @property
    def tpot_s(self) -> float:
        if self.num_output_tokens < 2:
            return 0.0
        return (self.e2e_s - self.ttft_s) / (self.num_output_tokens - 1)

    @property
    def is_held(self) -> bool:
        """Whether it was served within what it was promised."""
        promise = self.request.promise
        return (
            not self.is_refused
            and self.ttft_s <= promise.ttft_s
            and self.tpot_s <= promise.tpot_s
            and self.e2e_s <= promise.e2e_s
        )


Sent = tuple[float, GenerationRequest, str]
"""When (s from the start), what, and a tag for the reader."""


def prompt(num_tokens: int, seed: int) -> bytes:
    """Random tokens: no two prompts share a prefix."""
    rng = random.Random(seed)
    tokens = [rng.randrange(FIRST_TOKEN, LAST_TOKEN) for _ in range(num_tokens)]
    return b"".join(token.to_bytes(4, "little") for token in tokens)


class Pair:
    """The two replicas, to be started as often as needed; they are measured once."""

    dispatcher_type: type[Dispatcher] = Dispatcher

    def __init__(self, bench: Bench, slots: int = SLOTS) -> None:
        files = {
            "fast": synthetic.cached("bench40m"),
            "slow": synthetic.cached("bench40m", quant="f16"),
        }
        self._engines = {
            name: EngineSettings(
                model_path=str(path), ctx_size=CTX_SIZE, slots=slots, threads=1, batch_size=512
            )
            for name, path in files.items()
        }
        self._cores = dict(zip(self._engines, bench.cores, strict=False))
        self._profiler = Profiler(ProfileStore(None))

    @contextlib.asynccontextmanager
    async def serving(
        self,
        policy: Policy = "fmedge",
        workflows: Mapping[str, WorkflowSettings] | None = None,
    ) -> AsyncIterator[Dispatcher]:
        """The dispatcher with both replicas ready, each worker on a core of its own."""
        dispatcher = self.dispatcher_type(
            policy=policy, profiler=self._profile, workflows=workflows
        )
        try:
            for name, engine in self._engines.items():
                dispatcher.add_replica(LocalReplica(name, MODEL, engine))
            await dispatcher.wait_ready(READY_TIMEOUT_S, every_replica=True)
            yield dispatcher
        finally:
            await dispatcher.close()

    async def _profile(self, replica: Replica, _: EngineInfo) -> StepProfile:
        core = self._cores.get(replica.name)
        if core is not None:
            for thread in psutil.Process(replica.status().pid).threads():
                psutil.Process(thread.id).cpu_affinity([core])
        engine = self._engines[replica.name]
        return await self._profiler.obtain(replica, engine, budget_s=MEASURE_S)


async def open_loop(dispatcher: Dispatcher, sent: Sequence[Sent]) -> list[Observed]:
    """Each request at its time, whatever became of those before it."""
    start_s = time.monotonic()
    tasks = []
    for at_s, request, tag in sent:
        delay_s = start_s + at_s - time.monotonic()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        tasks.append(asyncio.create_task(serve(dispatcher, request, tag)))
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            return list(await asyncio.gather(*tasks))
    except TimeoutError:
        for task in tasks:
            task.cancel()
        raise ServerError(f"not every request ended within {DRAIN_TIMEOUT_S:g} s") from None


async def serve(dispatcher: Dispatcher, request: GenerationRequest, tag: str = "") -> Observed:
    """One request to its end."""
    observed = Observed(request, tag)
    arrived_s = time.monotonic()
    try:
        generation = await dispatcher.submit(request)
    except UnavailableError:
        observed.is_refused = True
        return observed
    observed.decision = generation.decision
    async for batch in generation:
        now_s = time.monotonic()
        observed.token_times_s += [now_s] * len(batch.tokens)
    observed.ended_s = time.monotonic()
    observed.e2e_s = observed.ended_s - arrived_s
    observed.ttft_s = (generation.first_token_s or observed.ended_s) - arrived_s
    observed.num_output_tokens = generation.num_tokens
    if generation.timings is not None:
        observed.l_q_s = generation.assigned_s - arrived_s + generation.timings.queue_s
    return observed


async def capacity(dispatcher: Dispatcher, requests: Sequence[GenerationRequest]) -> float:
    """Requests per second when there is always one more to serve."""
    start_s = time.monotonic()
    gate = asyncio.Semaphore(4 * SLOTS)

    async def one(request: GenerationRequest) -> Observed:
        async with gate:
            return await serve(dispatcher, request)

    done = await asyncio.gather(*(one(request) for request in requests))
    # The end, when not every slot has work any more, says nothing about capacity.
    ends = sorted(observed.ended_s for observed in done)
    full = ends[: len(ends) * 4 // 5]
    return len(full) / (full[-1] - start_s)
