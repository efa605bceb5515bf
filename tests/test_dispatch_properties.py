"""Whatever is lost, whenever: each client gets each token once. Scripted replicas, no processes."""

from __future__ import annotations

import asyncio
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.dispatch import Dispatcher
from fmedge.replica.interface import ReplicaListener, ReplicaStatus
from fmedge.replica.protocol import SequenceTokens, Step, Submit
from fmedge.sched.core import CoreSettings
from fmedge.types import EngineSettings, GenerationRequest
from tests.replica.supervised import pack
from tests.replica.worker_engine import WorkerEngine, expected_output, next_token

MAX_TOKENS = 12
INFO = WorkerEngine(EngineSettings(model_path="", slots=2), {}).info


class ScriptedReplica:
    """Runs what it was given when the test says so; can run on without being heard."""

    model = "m"

    def __init__(self, name: str) -> None:
        self.name = name
        self.running: dict[int, tuple[array, int]] = {}
        self.is_ready = False

    def start(self, listener: ReplicaListener) -> None:
        self.listener = listener

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(name=self.name, model="m", state="ready")

    def submit(self, request: Submit) -> None:
        assert request.request_id not in self.running
        end = request.num_prompt_tokens + request.max_tokens
        self.running[request.request_id] = (array("i", request.tokens), end)

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        for request_id in request_ids:
            self.running.pop(request_id, None)

    def step(self, *, is_heard: bool) -> None:
        parts = []
        for request_id, (tokens, end) in list(self.running.items()):
            assert len(tokens) < end, "a complete request was submitted again"
            tokens.append(next_token(tokens))
            finish = "length" if len(tokens) == end else None
            parts.append(SequenceTokens(request_id, (tokens[-1],), finish))
            if finish:
                del self.running[request_id]
        if is_heard:
            self.listener.on_step(self, Step(sequences=tuple(parts)))

    def come(self) -> None:
        if not self.is_ready:
            self.is_ready = True
            self.listener.on_ready(self, INFO)

    def die(self, *, in_flight: int, crashed: bool) -> None:
        """The steps in flight are computed, and lost with the process."""
        if self.is_ready:
            for _ in range(in_flight):
                self.step(is_heard=False)
            self.running.clear()
            self.is_ready = False
            self.listener.on_lost(self, "it died", crashed=crashed)


actions = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 2)),
    st.tuples(st.just("step"), st.integers(0, 1)),
    st.tuples(st.just("step"), st.integers(0, 1)),
    st.tuples(st.just("come"), st.integers(0, 1)),
    st.tuples(st.just("die"), st.integers(0, 1), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 10)),
)


@settings(max_examples=150, deadline=None)
@given(script=st.lists(actions, max_size=60))
def test_every_token_once(script):
    asyncio.run(play(script))


async def play(script) -> None:
    # Crash counts are the core's tests' subject; here nothing may be given up.
    dispatcher = Dispatcher(CoreSettings(max_crashes=10**6, max_total_crashes=10**6))
    replicas = [ScriptedReplica("a"), ScriptedReplica("b")]
    generations = []
    for replica in replicas:
        dispatcher.add_replica(replica)
    replicas[0].come()
    for what, *arguments in script:
        match what:
            case "submit":
                prompt = pack(len(generations) + 1, 7)
                request = GenerationRequest(
                    model="m", prompt=prompt, max_tokens=MAX_TOKENS, priority=arguments[0]
                )
                generations.append(await dispatcher.submit(request))
            case "step":
                replicas[arguments[0]].step(is_heard=True)
            case "come":
                replicas[arguments[0]].come()
            case "die":
                replicas[arguments[0]].die(in_flight=arguments[1], crashed=arguments[2])
            case "cancel" if arguments[0] < len(generations):
                generations[arguments[0]].cancel()
    for replica in replicas:
        replica.come()
    for _ in range(MAX_TOKENS * (len(generations) + 1)):
        for replica in replicas:
            replica.step(is_heard=True)
    assert dispatcher.status().num_open == 0
    for number, generation in enumerate(generations):
        whole = expected_output(pack(number + 1, 7), MAX_TOKENS)
        batches = [batch async for batch in generation]
        tokens = [token for batch in batches for token in batch.tokens]
        assert batches[-1].finish in ("length", "cancelled")
        if batches[-1].finish == "length":
            assert tokens == whole
        else:
            assert tokens == whole[: len(tokens)]
