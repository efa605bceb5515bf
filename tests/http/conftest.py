"""A real Dispatcher and ServedModel over a replica whose output is a script."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from fmedge.dispatch import Dispatcher, Generation
from fmedge.errors import ReplicaLostError
from fmedge.http import build_app
from fmedge.http.settings import HttpSettings
from fmedge.models.metadata import ModelMetadata
from fmedge.models.served import ServedModel
from fmedge.replica.interface import ReplicaListener, ReplicaStatus
from fmedge.replica.protocol import Embed, Embedded, Failed, SequenceTokens, Step, Submit
from fmedge.sched.core import CoreSettings
from fmedge.sched.decision import Decision
from fmedge.types import (
    BEST_EFFORT,
    EngineInfo,
    GenerationRequest,
    Promise,
    StepTimings,
    TokenLogprobs,
    WorkflowSettings,
)
from tests.fakes import pack, unpack

SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>",
            "</tool_call>", "<fim_pre>", "<fim_suf>", "<fim_mid>")  # fmt: skip
FIRST_SPECIAL = 256
EOS = 257


class ByteVocab:
    """Ids 0 to 255 are bytes; then SPECIALS."""

    num_tokens = FIRST_SPECIAL + len(SPECIALS)
    bos: int | None = 256
    eos: int | None = EOS
    eot: int | None = 259
    adds_bos = False
    eog_tokens = frozenset((EOS, 259))

    def __init__(self, *, has_fim: bool = True) -> None:
        base = FIRST_SPECIAL + SPECIALS.index("<fim_pre>")
        self.fim_prefix, self.fim_suffix, self.fim_middle = (
            (base, base + 1, base + 2) if has_fim else (None, None, None)
        )

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> bytes:
        ids = [256] if add_special and self.adds_bos else []
        pattern = "(" + "|".join(map(re.escape, SPECIALS)) + ")" if parse_special else "(?!)()"
        for part in re.split(pattern, text):
            if parse_special and part in SPECIALS:
                ids.append(FIRST_SPECIAL + SPECIALS.index(part))
            else:
                ids += list((part or "").encode())
        return pack(ids)

    def piece(self, token: int) -> bytes:
        if token < FIRST_SPECIAL:
            return bytes((token,))
        return SPECIALS[token - FIRST_SPECIAL].encode()

    def is_control(self, token: int) -> bool:
        return FIRST_SPECIAL <= token < 264


def tokens_of(text: str) -> list[int]:
    """A script's text as the fake model's tokens, specials by name."""
    return unpack(ByteVocab().tokenize(text, add_special=False, parse_special=True))


INFO = EngineInfo(
    ctx_size=512, slots=4, batch_size=64, ubatch_size=64, num_vocab=ByteVocab.num_tokens,
    num_embd=4, num_layers=1, num_params=10, model_bytes=10, ctx_train=512, threads=1,
    kv_unified=False, kv_tokens=2048, pooling="mean", has_encoder=False, has_decoder=True,
    is_recurrent=False, can_shift=True, description="fake", memory=(),
)  # fmt: skip


class ScriptedReplica:
    """Answers each request with the next script (or the last one), `group` tokens a step.

    hold: requests wait until `release()`. fail: a Failed instead of tokens, after `fail_after`
    steps. Everything that was submitted or cancelled is kept."""

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model
        self.scripts: list[str] = ["Hello, world!"]
        self.group = 1
        self.finish = "stop"
        self.hold = False
        self.never_finish = False
        self.fail: Failed | None = None
        self.fail_after = 0
        self.submitted: list[Submit] = []
        self.embedded: list[Embed] = []
        self.cancelled: list[int] = []
        self.changed = asyncio.Event()
        self.state = "loading"
        self._held: list[Submit | Embed] = []
        self._listener: ReplicaListener | None = None

    def status(self) -> ReplicaStatus:
        info = INFO if self.state == "ready" else None
        return ReplicaStatus(name=self.name, model=self.model, state=self.state, info=info)  # type: ignore[arg-type]

    def start(self, listener: ReplicaListener) -> None:
        self._listener = listener

    def become_ready(self) -> None:
        self.state = "ready"
        assert self._listener is not None
        self._listener.on_ready(self, INFO)

    def submit(self, request: Submit | Embed) -> None:
        if self.state != "ready":
            raise ReplicaLostError("not ready")
        (self.submitted if isinstance(request, Submit) else self.embedded).append(request)  # type: ignore[attr-defined]
        self.changed.set()
        if self.hold:
            self._held.append(request)
        else:
            self._run(request)

    def release(self) -> None:
        self.hold = False
        held, self._held = self._held, []
        for request in held:
            self._run(request)

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        self.cancelled += request_ids
        self.changed.set()

    def clear_cache(self, cache_key: str | None) -> None:
        pass

    async def close(self, deadline_s: float = 5.0) -> None:
        self.state = "closed"

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def _run(self, request: Submit | Embed) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(request, Embed):
            loop.call_soon(self._embed, request)
            return
        script = self.scripts[min(len(self.submitted), len(self.scripts)) - 1]
        tokens = tokens_of(script)[: request.max_tokens]
        finish = "length" if len(tokens) == request.max_tokens else self.finish
        loop.call_soon(self._step, request, tokens, finish, 0)

    def _embed(self, request: Embed) -> None:
        import numpy as np

        ids = unpack(request.tokens)
        vector = np.array([len(ids), sum(ids), ids[0], 1], dtype="<f4").tobytes()
        assert self._listener is not None
        self._listener.on_embedded(self, Embedded(request.request_id, vector, len(ids)))

    def _step(self, request: Submit, tokens: Sequence[int], finish: str, at: int) -> None:
        assert self._listener is not None
        if request.request_id in self.cancelled:
            return
        if self.fail is not None and at >= self.fail_after:
            self._listener.on_failed(
                self, Failed(request.request_id, self.fail.code, self.fail.message)
            )
            return
        part = tuple(tokens[at : at + self.group])
        is_last = at + self.group >= len(tokens) and not self.never_finish
        logprobs = None
        if request.sampling.top_logprobs >= 0:
            top = tuple((t, -1.0 - t) for t in range(65, 65 + request.sampling.top_logprobs))
            logprobs = tuple(TokenLogprobs(-0.5, top) for _ in part)
        timings = StepTimings(0.0, 0.5, 1.0, 2, 8, len(tokens)) if is_last else None
        sequence = SequenceTokens(
            request.request_id, part, finish if is_last else None, logprobs,  # type: ignore[arg-type]
            2 if at == 0 else -1, timings,
        )  # fmt: skip
        self._listener.on_step(self, Step(sequences=(sequence,), num_running=1))
        if not is_last and (part or not self.never_finish):
            loop = asyncio.get_running_loop()
            loop.call_soon(self._step, request, tokens, finish, at + self.group)


CHATML_TOOLS = (
    "{% if tools %}TOOLS{{ tools | tojson }}<tool_call></tool_call>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REASONING = CHATML_TOOLS + "{# enable_thinking <think> </think> #}"


def served(
    name: str = "tiny", *, template: str | None = CHATML_TOOLS, aliases: Sequence[str] = (),
    is_embedding: bool = False, has_fim: bool = True, ctx_size: int = 512,
) -> ServedModel:  # fmt: skip
    metadata = ModelMetadata(
        architecture="llama", name="Tiny", quant="F32", ctx_train=512, num_layers=1, num_embd=4,
        num_vocab=ByteVocab.num_tokens, num_params=10, file_bytes=10, chat_template=template,
        is_embedding=is_embedding,
    )  # fmt: skip
    return ServedModel(
        name=name, vocab=ByteVocab(has_fim=has_fim), metadata=metadata, ctx_size=ctx_size,
        aliases=aliases, created=1_700_000_000,
    )  # fmt: skip


class DecidingDispatcher(Dispatcher):
    """Decides as told: `decide` makes the decision on a request of that id; without it the core
    does. Keeps what it was asked."""

    def __init__(self, settings: CoreSettings, workflows: Mapping[str, WorkflowSettings]) -> None:
        super().__init__(settings, workflows=workflows)
        self.decide: Callable[[int, GenerationRequest], Decision] | None = None
        self.requests: list[GenerationRequest] = []
        self.checks: list[tuple[Promise, int]] = []
        self.told: dict[int, Decision] = {}

    def check(self, model: str, promise: Promise = BEST_EFFORT, *, num_body_bytes: int = 0) -> None:
        self.checks.append((promise, num_body_bytes))
        super().check(model, promise=promise, num_body_bytes=num_body_bytes)

    async def submit(self, request: GenerationRequest) -> Generation:
        self.requests.append(request)
        generation = await super().submit(request)
        if self.decide is not None:
            decision = self.decide(generation.request_id, request)
            generation.decision = self.told[generation.request_id] = decision
        return generation

    def estimate(self, request: GenerationRequest) -> Decision:
        self.requests.append(request)
        return super().estimate(request) if self.decide is None else self.decide(0, request)

    def decision(self, request_id: int) -> Decision | None:
        return self.told.get(request_id) if self.decide else super().decision(request_id)

    def decisions(self, limit: int) -> list[Decision]:
        if self.decide is None:
            return super().decisions(limit)
        return [*reversed(self.told.values())][:limit]


class Endpoint:
    """A running app, its client and its replica."""

    def __init__(
        self, client: TestClient[web.Request, web.Application], replica: ScriptedReplica,
        dispatcher: DecidingDispatcher,
    ) -> None:  # fmt: skip
        self.client = client
        self.replica = replica
        self.dispatcher = dispatcher

    @property
    def last(self) -> Submit:
        """What the replica got last."""
        return self.replica.submitted[-1]

    async def post(self, path: str, body: Any = None, **kwargs: Any) -> ClientResponse:
        if body is not None:
            kwargs["data"] = body if isinstance(body, bytes) else json.dumps(body).encode()
        kwargs.setdefault("headers", {})["Content-Type"] = "application/json"
        return await self.client.post(path, **kwargs)

    async def chat(self, **fields: Any) -> ClientResponse:
        messages = [{"role": "user", "content": "Hi"}]
        return await self.post(
            "/v1/chat/completions", {"model": "tiny", "messages": messages, **fields}
        )

    async def complete(self, **fields: Any) -> ClientResponse:
        return await self.post("/v1/completions", {"model": "tiny", "prompt": "Once", **fields})


async def events_of(response: ClientResponse) -> list[Any]:
    """The data of each event; the last is "[DONE]"."""
    assert response.status == 200, await response.text()
    text = await response.text()
    data = [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


async def error_of(response: ClientResponse, status: int) -> dict[str, Any]:
    """The error body, whose shape is checked."""
    text = await response.text()
    assert response.status == status, text
    assert response.content_type == "application/json"
    body = json.loads(text)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


StartEndpoint = Callable[..., Awaitable[Endpoint]]


@pytest.fixture
async def start() -> AsyncIterator[StartEndpoint]:
    """Starts an endpoint: start(settings, models, is_ready=..., max_waiting=...)."""
    clients: list[TestClient[web.Request, web.Application]] = []
    opened: list[ServedModel] = []

    async def begin(
        settings: HttpSettings | None = None,
        models: Sequence[ServedModel] = (),
        *,
        is_ready: bool = True,
        max_waiting: int = 64,
    ) -> Endpoint:
        chosen = list(models) or [served(aliases=("small",))]
        opened.extend(chosen)
        settings = settings or HttpSettings()
        dispatcher = DecidingDispatcher(CoreSettings(max_waiting=max_waiting), settings.workflows)
        replica = None
        for model in chosen:
            replica = ScriptedReplica(f"{model.name}/0", model.name)
            dispatcher.add_replica(replica)
            if is_ready:
                replica.become_ready()
        assert replica is not None
        by_name = {model.name: model for model in chosen}
        server = TestServer(build_app(dispatcher, by_name, settings))
        client = TestClient(server)
        await client.start_server()
        clients.append(client)
        return Endpoint(client, replica, dispatcher)

    yield begin
    for client in clients:
        await client.close()
    for model in opened:
        model.close()


@pytest.fixture
async def endpoint(start: StartEndpoint) -> Endpoint:
    return await start()
