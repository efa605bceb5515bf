"""Dispatch on a replica that does as the test says: withdrawals, profiles, estimates, learning."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fmedge.dispatch import Dispatcher
from fmedge.errors import ConflictError, ModelNotFoundError, RequestError, UnavailableError
from fmedge.replica.interface import Replica, ReplicaListener, ReplicaStatus
from fmedge.replica.protocol import Embed, SequenceTokens, Step, Submit
from fmedge.sched.profile import Hardware, ProfileKey, StepProfile
from fmedge.sched.steptime import Curve, StepModel
from fmedge.types import (
    EngineInfo,
    EngineSettings,
    FinishReason,
    GenerationRequest,
    Promise,
    StepTimings,
    WorkflowCall,
    WorkflowSettings,
)
from tests.replica.supervised import DEADLINE_S, pack

INFO = EngineInfo(
    ctx_size=2048, slots=1, batch_size=512, ubatch_size=512, num_vocab=100, num_embd=8,
    num_layers=1, num_params=1, model_bytes=1, ctx_train=2048, threads=1, kv_unified=False,
    kv_tokens=2048, pooling="", has_encoder=False, has_decoder=True, is_recurrent=False,
    can_shift=True, description="scripted", memory=(),
)  # fmt: skip

MODEL = StepModel(base_s=0.01, prefill=Curve((0.0, 1000.0), (0.0, 0.1)), kv_s=1e-7)

PROFILE = StepProfile(
    key=ProfileKey(
        file="f",
        engine=EngineSettings(model_path="m.gguf"),
        build="b",
        hardware=Hardware(
            cpu="c", cpu_flags="x", num_cores=1, num_cpus=1, cpu_quota=None, devices=()
        ),
    ),
    source="prior",
    made_at_s=0.0,
    prior=MODEL,
)


class ScriptedReplica:
    """Ready at once; keeps what it is told; says what the test has it say."""

    def __init__(self, name: str, info: EngineInfo = INFO) -> None:
        self.name = name
        self.model = "m"
        self.info = info
        self.submitted: list[Submit | Embed] = []
        self.cancelled: list[int] = []
        self.listener: ReplicaListener | None = None

    def status(self) -> ReplicaStatus:
        state = "loading" if self.listener is None else "ready"
        return ReplicaStatus(name=self.name, model=self.model, state=state, info=self.info)

    def start(self, listener: ReplicaListener) -> None:
        self.listener = listener
        listener.on_ready(self, self.info)

    def submit(self, request: Submit | Embed) -> None:
        self.submitted.append(request)

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        self.cancelled += request_ids

    def clear_cache(self, cache_key: str | None) -> None:
        """It retains nothing."""

    async def close(self, deadline_s: float = 5.0) -> None:
        """Nothing runs."""

    async def measure(self, points: object, max_s: float, on_step: object = None) -> object:
        raise AssertionError("the tests' profiler measures nothing")

    def say(
        self, attempt_id: int, *tokens: int, finish: FinishReason | None = None, cached: int = -1
    ) -> None:
        """A step with one sequence in it."""
        timings = StepTimings(0.0, 0.01, 0.02, 0, 3, len(tokens)) if finish else None
        part = SequenceTokens(
            attempt_id, tokens, finish=finish, num_cached_tokens=cached, timings=timings
        )
        assert self.listener is not None
        is_first = cached >= 0
        step = Step(
            sequences=(part,),
            period_s=0.01,
            num_prefill_tokens=3 if is_first else 0,
            num_decode_seqs=0 if is_first else 1,
            num_kv_tokens=3,
            prefilled=((attempt_id, 3),) if is_first else (),
        )
        self.listener.on_step(self, step)


async def known(_: Replica, __: EngineInfo) -> StepProfile:
    return PROFILE


@contextlib.asynccontextmanager
async def serving(
    *replicas: ScriptedReplica,
    profiler: Callable[[Replica, EngineInfo], Awaitable[StepProfile | None]] = known,
    workflows: dict[str, WorkflowSettings] | None = None,
) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(profiler=profiler, workflows=workflows)
    for replica in replicas:
        dispatcher.add_replica(replica)
    try:
        await dispatcher.wait_ready(DEADLINE_S, every_replica=True)
        yield dispatcher
    finally:
        await dispatcher.drain(0.0)
        await dispatcher.close()


def request(*prompt: int, max_tokens: int = 400, **fields: object) -> GenerationRequest:
    return GenerationRequest(model="m", prompt=pack(*prompt), max_tokens=max_tokens, **fields)  # type: ignore[arg-type]


async def test_a_withdrawn_request_goes_on_where_it_was_and_late_tokens_are_nobodys():
    replica = ScriptedReplica("r")
    async with serving(replica) as dispatcher:
        patient = await dispatcher.submit(request(1, 2, 3))
        (first,) = replica.submitted
        replica.say(first.request_id, 10, cached=0)
        replica.say(first.request_id, 11)

        urgent = await dispatcher.submit(request(4, 5, max_tokens=5, promise=Promise(ttft_s=0.3)))
        assert replica.cancelled == [first.request_id]
        second = replica.submitted[-1]
        assert second.tokens == pack(4, 5)
        # The engine had gone on before the cancel reached it.
        replica.say(first.request_id, 12)
        assert list(patient.emitted) == [10, 11]

        replica.say(second.request_id, 20, cached=0)
        replica.say(second.request_id, 21, finish="stop")
        assert urgent.is_over
        again = replica.submitted[-1]
        assert again.request_id not in (first.request_id, second.request_id)
        assert again.tokens == pack(1, 2, 3, 10, 11)
        assert again.num_prompt_tokens == 3
        replica.say(first.request_id, 13)  # later still
        replica.say(again.request_id, 12, finish="stop", cached=5)
        assert list(patient.emitted) == [10, 11, 12]

        decision = dispatcher.decision(patient.request_id)
        assert decision is not None
        assert [event.what for event in decision.events][:3] == [
            "assigned", "first_token", "withdrawn",
        ]  # fmt: skip
        kept = dispatcher.decision(urgent.request_id)
        assert kept is not None
        assert kept.held is True


async def test_a_text_that_its_consumer_ended_is_answered():
    replica = ScriptedReplica("r")
    async with serving(replica) as dispatcher:
        generation = await dispatcher.submit(request(1, 2, promise=Promise(ttft_s=5.0)))
        attempt_id = replica.submitted[0].request_id
        replica.say(attempt_id, 10, cached=0)
        generation.stop()
        assert replica.cancelled == [attempt_id]
        async with asyncio.timeout(DEADLINE_S):
            batches = [batch async for batch in generation]
        assert batches[-1].finish == "stop"
        decision = dispatcher.decision(generation.request_id)
        assert decision is not None
        assert decision.held is True
        assert dispatcher.status().num_open == 0
        rendered = dispatcher.render_metrics().decode()
        assert 'fmedge_sla_requests_total{held="true",model="m",sla_class=""} 1.0' in rendered
        generation.stop()  # harmless


async def test_measuring_takes_what_runs_away_and_gives_it_back():
    replica = ScriptedReplica("r")
    async with serving(replica) as dispatcher:
        generation = await dispatcher.submit(request(1, 2, 3))
        replica.say(replica.submitted[0].request_id, 10, cached=0)
        begun, done = asyncio.Event(), asyncio.Event()

        async def profiler(_: Replica, __: EngineInfo) -> StepProfile:
            begun.set()
            await done.wait()
            return PROFILE

        measuring = asyncio.create_task(dispatcher.measure("r", profiler))
        async with asyncio.timeout(DEADLINE_S):
            await begun.wait()
            assert replica.cancelled == [replica.submitted[0].request_id]
            assert dispatcher.status().models[0].replicas[0].status.state == "measuring"
            with pytest.raises(UnavailableError, match="not ready"):
                await dispatcher.measure("r", profiler)
            assert len(replica.submitted) == 1
            done.set()
            assert await measuring is PROFILE
        assert replica.submitted[-1].tokens == pack(1, 2, 3, 10)
        generation.cancel()
        with pytest.raises(ModelNotFoundError):
            await dispatcher.measure("x", profiler)


async def test_a_profiler_that_fails_costs_estimates_and_nothing_else():
    async def broken(_: Replica, __: EngineInfo) -> StepProfile:
        raise ZeroDivisionError

    replica = ScriptedReplica("r")
    async with serving(replica, profiler=broken) as dispatcher:
        generation = await dispatcher.submit(request(1, promise=Promise(ttft_s=1.0)))
        assert len(replica.submitted) == 1
        assert generation.decision is not None
        assert generation.decision.estimates == ()
        generation.cancel()


async def test_an_estimate_leaves_no_trace():
    workflows = {"w": WorkflowSettings(name="w", e2e_s=10.0)}
    replica = ScriptedReplica("r")
    async with serving(replica, workflows=workflows) as dispatcher:
        call = WorkflowCall(workflow="w", instance="i", stage="s")
        decision = dispatcher.estimate(request(1, 2, 3, workflow=call, api_key_id="ann"))
        estimate = decision.estimate
        assert estimate is not None
        assert estimate.replica == "r"
        assert 0.01 < estimate.ttft_s <= estimate.e2e_s
        assert replica.submitted == []
        assert dispatcher.decisions() == []
        assert dispatcher.workflow_report("w")[0].num_open == 0
        # The instance is still anybody's.
        other = await dispatcher.submit(request(1, workflow=call, api_key_id="bob"))
        with pytest.raises(ConflictError, match="key"):
            await dispatcher.submit(request(1, workflow=call, api_key_id="ann"))
        with pytest.raises(RequestError, match="workflow"):
            await dispatcher.submit(request(1, workflow=WorkflowCall(workflow="v", instance="i")))
        other.cancel()


async def test_output_lengths_are_learned_and_kept():
    replica = ScriptedReplica("r")
    async with serving(replica) as dispatcher:
        for number in range(40):
            generation = await dispatcher.submit(request(number, length_keys=("short", "m")))
            attempt_id = replica.submitted[-1].request_id
            replica.say(attempt_id, 1, cached=0)
            replica.say(attempt_id, 2, finish="stop")
            assert generation.is_over
        learned = dispatcher.estimate(request(1, length_keys=("short", "m")))
        assert learned.output_p50_tokens <= 3
        saved = dispatcher.forecast.save()
    async with serving(ScriptedReplica("r")) as other:
        before = other.estimate(request(1, length_keys=("short", "m")))
        for name, data in saved.items():
            other.forecast.restore(name, data)
        after = other.estimate(request(1, length_keys=("short", "m")))
        assert before.output_p50_tokens > 20
        assert after.output_p50_tokens == learned.output_p50_tokens
        for name in (*saved, "other"):
            with pytest.raises(ValueError, match=r"learned|version|read"):
                other.forecast.restore(name, b"\x00garbage")


async def test_lengths_that_a_limit_cut_off_teach_no_end():
    replica = ScriptedReplica("r")
    async with serving(replica) as dispatcher:
        for number in range(40):
            await dispatcher.submit(request(number, max_tokens=2, length_keys=("cut",)))
            attempt_id = replica.submitted[-1].request_id
            replica.say(attempt_id, 1, cached=0)
            replica.say(attempt_id, 2, finish="length")
        decision = dispatcher.estimate(request(1, length_keys=("cut",)))
        assert decision.output_p50_tokens > 20
