"""Dispatch carries out what the scheduler core decides, and holds the truth about each request.

A request's prompt and every token that it emitted live here. When a replica is lost, its requests
are submitted again as prompt + emitted, so a client sees a pause, and every token exactly once.
All of it runs on one event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Sequence

from fmedge.dispatch.embedding import Embedding, embed_all
from fmedge.dispatch.generation import Generation
from fmedge.dispatch.observe import observe_finish, set_gauges
from fmedge.dispatch.status import DispatcherStatus, ModelStatus, ReplicaLoad
from fmedge.errors import (
    ContextLengthError,
    FmedgeError,
    GenerationFailedError,
    ModelNotFoundError,
    ReplicaLostError,
    RequestError,
    UnavailableError,
)
from fmedge.metrics import Metrics
from fmedge.replica.interface import Replica
from fmedge.replica.protocol import Embed, Embedded, Failed, SequenceTokens, Step, Submit
from fmedge.sched.core import (
    Arrival,
    Assign,
    CancelOn,
    CoreSettings,
    Effect,
    Fail,
    Refuse,
    SchedulerCore,
)
from fmedge.types import EngineInfo, GenerationRequest

TOKEN_BYTES = 4

log = logging.getLogger(__name__)


class _ReplicaEntry:
    """A replica, the figures of its last step, and its counters."""

    __slots__ = ("generated_tokens", "info", "is_gone", "last_step", "preemptions", "replica")

    def __init__(self, replica: Replica, metrics: Metrics) -> None:
        self.replica = replica
        self.info: EngineInfo | None = None
        self.last_step: Step | None = None
        self.is_gone = False
        self.generated_tokens = metrics.generated_tokens.labels(replica.model)
        self.preemptions = metrics.preemptions.labels(replica.model, replica.name)


class Dispatcher:
    """Create it on the running event loop's thread; it is its replicas' ReplicaListener."""

    def __init__(
        self, settings: CoreSettings | None = None, metrics: Metrics | None = None
    ) -> None:
        self.metrics = Metrics() if metrics is None else metrics
        self._core = SchedulerCore(settings)
        self._entries: dict[str, _ReplicaEntry] = {}
        self._generations: dict[int, Generation] = {}
        self._embeddings: dict[int, Embedding] = {}
        self._attempts: dict[int, Generation | Embedding] = {}  # by what its replica calls it
        self._next_id = 1
        self._is_draining = False
        self._changed = asyncio.Event()  # set whenever a request ends or a replica's state changes

    # --- replicas ---

    def add_replica(self, replica: Replica) -> None:
        """Serve with it from when it is ready; starts it."""
        self._core.on_replica_added(replica.name, replica.model)
        self._entries[replica.name] = _ReplicaEntry(replica, self.metrics)
        replica.start(self)

    async def wait_ready(self, timeout_s: float, *, every_replica: bool = False) -> None:
        """Return when every model has a ready replica (or every replica is ready).

        Raises UnavailableError when that takes longer than timeout_s, or a model's last replica
        is given up (its message says why).
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._changed.clear()
            models = self.status().models
            enough = all if every_replica else any
            if all(enough(r.status.state == "ready" for r in m.replicas) for m in models):
                return
            for model in models:
                if all(self._entries[load.status.name].is_gone for load in model.replicas):
                    reason = "; ".join(load.status.error for load in model.replicas)
                    raise UnavailableError(
                        f"Model {model.name} could not be loaded: {reason}",
                        retry_after_s=60.0,
                        code="model_failed",
                    )
            try:
                await asyncio.wait_for(self._changed.wait(), deadline_s - time.monotonic())
            except TimeoutError:
                raise UnavailableError(
                    f"Not every model was ready within {timeout_s:.0f} s.",
                    retry_after_s=10.0,
                    code="loading",
                ) from None

    async def drain(self, deadline_s: float) -> None:
        """Refuse new requests, let those in flight finish for deadline_s seconds, then end the
        rest with UnavailableError."""
        self._is_draining = True
        self._core.on_drain()
        end_s = time.monotonic() + deadline_s
        while self._core.num_open:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, end_s - time.monotonic()))
            except TimeoutError:
                break
        message = "The server shut down before this request was finished."
        for request_id in [*self._generations, *self._embeddings]:
            self._carry_out(self._core.on_cancel(time.monotonic(), request_id))
            error = UnavailableError(message, retry_after_s=5.0, code="draining")
            self._fail(request_id, error, "draining")

    async def close(self, deadline_s: float = 5.0) -> None:
        """End every replica; each politely until the deadline, then by force."""
        replicas = [entry.replica for entry in self._entries.values()]
        await asyncio.gather(*(replica.close(deadline_s) for replica in replicas))

    def clear_cache(self, model: str, cache_key: str | None = None) -> None:
        """Forget retained prefixes on the model's replicas, of one cache key or all."""
        for entry in self._entries_of(model):
            entry.replica.clear_cache(cache_key)

    # --- requests ---

    def check(self, model: str) -> None:
        """Raise as `submit` would for any request of this model: what is refused need not be
        tokenised first. Only `submit` decides; this may be asked from any thread."""
        refusal = self._core.refusal(model)
        if refusal is not None:
            raise self._refused(refusal, model)

    async def submit(self, request: GenerationRequest) -> Generation:
        """Take a request; its tokens come through the Generation.

        Raises ModelNotFoundError; ContextLengthError when prompt + 1 token exceed the context;
        RequestError for an empty prompt; UnavailableError (loading, draining, overloaded,
        model_failed). max_tokens is cut to what the context leaves.
        """
        num_prompt_tokens = _count_tokens(request.prompt)
        max_tokens = request.max_tokens
        ctx_size = self._ctx_size(request.model)
        if ctx_size:
            if num_prompt_tokens + 1 > ctx_size:
                self.metrics.requests.labels(request.model, "context_length_exceeded").inc()
                raise ContextLengthError(num_prompt_tokens, ctx_size)
            max_tokens = min(max_tokens, ctx_size - num_prompt_tokens)
        generation = Generation(self._take_id(), request, max_tokens, self._cancel)
        self._generations[generation.request_id] = generation
        try:
            self._arrive(
                Arrival(
                    generation.request_id,
                    request.model,
                    num_prompt_tokens,
                    max_tokens,
                    request.priority,
                )
            )
        except FmedgeError:
            del self._generations[generation.request_id]
            raise
        self.metrics.prompt_tokens.labels(request.model).inc(num_prompt_tokens)
        return generation

    async def embed(
        self, model: str, tokens: Sequence[bytes], *, priority: int = 0
    ) -> list[tuple[bytes, int]]:
        """Embed each packed int32 sequence: its packed float32 vector and its token count.

        Raises as `submit`, and GenerationFailedError when a replica could not.
        """
        ctx_size = self._ctx_size(model)
        for sequence in tokens:
            num_tokens = _count_tokens(sequence)
            if ctx_size and num_tokens > ctx_size:
                raise ContextLengthError(num_tokens, ctx_size)
        return await embed_all(
            tokens,
            lambda sequence: self._begin_embedding(model, sequence, priority),
            self._cancel_embedding,
        )

    def status(self) -> DispatcherStatus:
        """What is served and how busy it is; cheap."""
        loads: dict[str, list[ReplicaLoad]] = {}
        for entry in self._entries.values():
            status = entry.replica.status()
            num_assigned = self._core.num_assigned(status.name)
            step = entry.last_step
            # A cancelled sequence ends without a step to say so.
            num_running = 0 if step is None else min(step.num_running, num_assigned)
            loads.setdefault(status.model, []).append(
                ReplicaLoad(
                    status=status,
                    num_assigned=num_assigned,
                    num_running=num_running,
                    num_waiting=num_assigned - num_running,
                    kv_tokens_used=0 if step is None else step.kv_tokens_used,
                    kv_tokens=0 if entry.info is None else entry.info.kv_tokens,
                )
            )
        models = tuple(
            ModelStatus(
                name=name,
                is_ready=any(load.status.state == "ready" for load in replicas),
                num_waiting=self._core.num_waiting(name),
                replicas=tuple(replicas),
            )
            for name, replicas in loads.items()
        )
        return DispatcherStatus(
            is_draining=self._is_draining, num_open=self._core.num_open, models=models
        )

    def render_metrics(self) -> bytes:
        """The metrics in Prometheus' text format, gauges as of now."""
        set_gauges(self.metrics, self.status())
        return self.metrics.render()

    # --- events of replicas ---

    def on_ready(self, replica: Replica, info: EngineInfo) -> None:
        self._entries[replica.name].info = info
        # As many again as decode at once: a freed slot finds its next request already there.
        self._carry_out(self._core.on_replica_ready(time.monotonic(), replica.name, 2 * info.slots))
        self._changed.set()

    def on_step(self, replica: Replica, step: Step) -> None:
        entry = self._entries[replica.name]
        entry.last_step = step
        attempts, watched = self._attempts, self._core.watched
        num_tokens = 0
        for part in step.sequences:
            generation = attempts.get(part.request_id)
            if not isinstance(generation, Generation):
                continue  # cancelled or taken away, and the replica does not know yet
            num_tokens += len(part.tokens)
            self._take_tokens(generation, part)
            if watched and generation.request_id in watched:
                self._carry_out(self._core.on_progress(generation.request_id, len(part.tokens)))
        if num_tokens:
            entry.generated_tokens.inc(num_tokens)
        if step.num_preempted:
            entry.preemptions.inc(step.num_preempted)

    def on_embedded(self, replica: Replica, embedded: Embedded) -> None:
        embedding = self._attempts.get(embedded.request_id)
        if not isinstance(embedding, Embedding):
            return
        del self._embeddings[embedding.request_id]
        self._end_attempt(embedding)
        embedding.succeed(embedded)
        self.metrics.requests.labels(embedding.model, "embedded").inc()
        self.metrics.prompt_tokens.labels(embedding.model).inc(embedded.num_tokens)
        self._finished(embedding.request_id)

    def on_failed(self, replica: Replica, failed: Failed) -> None:
        attempt = self._attempts.get(failed.request_id)
        if attempt is None:
            return
        if failed.code == "invalid":
            self._fail(attempt.request_id, RequestError(failed.message), "invalid")
        else:
            self._fail(attempt.request_id, GenerationFailedError(failed.message), "failed")
        self._finished(attempt.request_id)

    def on_lost(self, replica: Replica, reason: str, *, crashed: bool) -> None:
        self._entries[replica.name].last_step = None
        if crashed:
            self.metrics.worker_restarts.labels(replica.model, replica.name).inc()
        effects = self._core.on_replica_lost(time.monotonic(), replica.name, crashed=crashed)
        for effect in effects:
            if isinstance(effect, Fail):
                log.error("request %d failed: %s (%s)", effect.request_id, effect.message, reason)
        self._carry_out(effects)
        self._changed.set()

    def on_gone(self, replica: Replica, reason: str) -> None:
        entry = self._entries[replica.name]
        entry.is_gone = True
        self._carry_out(self._core.on_replica_gone(time.monotonic(), replica.name, reason))
        self._changed.set()

    # --- carrying out ---

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Assign():
                    self._assign(effect.request_id, self._entries[effect.replica].replica)
                case CancelOn():
                    self._cancel_on(effect.request_id, self._entries[effect.replica].replica)
                case Fail():
                    self._fail(effect.request_id, GenerationFailedError(effect.message), "crashed")
                case Refuse():
                    raise AssertionError("only an arrival is refused, and `_arrive` answers it")

    def _assign(self, request_id: int, replica: Replica) -> None:
        message: Submit | Embed
        generation = self._generations.get(request_id)
        if generation is not None:
            if generation.num_tokens >= generation.max_tokens:
                # Its last token had come before the replica was lost, its finish had not.
                self._take_tokens(generation, SequenceTokens(request_id, (), "length"))
                return
            self._begin_attempt(generation, replica)
            generation.assigned_s = time.monotonic()
            message = _submit_message(generation)
        else:
            embedding = self._embeddings[request_id]
            self._begin_attempt(embedding, replica)
            message = Embed(request_id=embedding.attempt_id, tokens=embedding.tokens)
        # A replica that cannot take it is being lost: on_lost brings the request back.
        with contextlib.suppress(ReplicaLostError):
            replica.submit(message)

    def _begin_attempt(self, request: Generation | Embedding, replica: Replica) -> None:
        """Each attempt has an id of its own, so that what is still on its way from an earlier one,
        perhaps on the same replica, is nobody's. The first has the request's."""
        self._end_attempt(request)
        request.attempt_id = self._take_id() if request.attempt_id else request.request_id
        request.replica = replica.name
        self._attempts[request.attempt_id] = request

    def _end_attempt(self, request: Generation | Embedding) -> None:
        self._attempts.pop(request.attempt_id, None)

    def _cancel_on(self, request_id: int, replica: Replica) -> None:
        request = self._generations.get(request_id) or self._embeddings.get(request_id)
        if request is not None:
            attempt_id = request.attempt_id
            self._end_attempt(request)
            replica.cancel((attempt_id,))

    def _arrive(self, arrival: Arrival) -> None:
        effects = self._core.on_arrival(time.monotonic(), arrival)
        if effects and isinstance(effects[0], Refuse):
            raise self._refused(effects[0], arrival.model)
        self._carry_out(effects)

    def _refused(self, refusal: Refuse, model: str) -> FmedgeError:
        if refusal.code == "model_not_found":
            return ModelNotFoundError(refusal.message)
        self.metrics.requests.labels(model, refusal.code).inc()
        return UnavailableError(
            refusal.message,
            retry_after_s=refusal.retry_after_s,
            code=refusal.code,
            is_overload=refusal.code == "overloaded",
        )

    def _take_tokens(self, generation: Generation, part: SequenceTokens) -> None:
        if part.num_cached_tokens > 0 and not generation.first_token_s:
            # A resumed sequence finds its own KV; only the first run's reuse is the client's.
            generation.num_cached_tokens = part.num_cached_tokens
        if part.tokens and not generation.first_token_s:
            generation.first_token_s = time.monotonic()
        if part.finish is None:
            generation.push(part)
            return
        generation.timings = part.timings
        generation.push(part)
        del self._generations[generation.request_id]
        self._end_attempt(generation)
        observe_finish(self.metrics, generation, part.finish)
        self._finished(generation.request_id)

    def _finished(self, request_id: int) -> None:
        self._carry_out(self._core.on_finish(time.monotonic(), request_id))
        self._changed.set()

    def _cancel(self, generation: Generation) -> None:
        if generation.request_id not in self._generations:
            return
        generation.push(SequenceTokens(generation.request_id, (), "cancelled"))
        self.metrics.requests.labels(generation.request.model, "cancelled").inc()
        self._carry_out(self._core.on_cancel(time.monotonic(), generation.request_id))
        del self._generations[generation.request_id]
        self._changed.set()

    def _fail(self, request_id: int, error: FmedgeError, outcome: str) -> None:
        generation = self._generations.pop(request_id, None)
        if generation is not None:
            self._end_attempt(generation)
            self.metrics.requests.labels(generation.request.model, outcome).inc()
            generation.fail(error)
        embedding = self._embeddings.pop(request_id, None)
        if embedding is not None:
            self._end_attempt(embedding)
            self.metrics.requests.labels(embedding.model, outcome).inc()
            embedding.fail(error)
        self._changed.set()

    def _begin_embedding(self, model: str, tokens: bytes, priority: int) -> Embedding:
        embedding = Embedding(self._take_id(), model, tokens)
        self._embeddings[embedding.request_id] = embedding
        try:
            self._arrive(
                Arrival(embedding.request_id, model, len(tokens) // TOKEN_BYTES, 0, priority)
            )
        except FmedgeError:
            del self._embeddings[embedding.request_id]
            raise
        return embedding

    def _cancel_embedding(self, embedding: Embedding) -> None:
        embedding.abandon()
        if embedding.request_id in self._embeddings:
            self._carry_out(self._core.on_cancel(time.monotonic(), embedding.request_id))
            del self._embeddings[embedding.request_id]
            self._changed.set()

    def _take_id(self) -> int:
        request_id = self._next_id
        self._next_id += 1
        return request_id

    def _entries_of(self, model: str) -> list[_ReplicaEntry]:
        return [entry for entry in self._entries.values() if entry.replica.model == model]

    def _ctx_size(self, model: str) -> int:
        """The least of the model's replicas, so that any of them can take over; 0 unknown."""
        sizes = [entry.info.ctx_size for entry in self._entries_of(model) if entry.info is not None]
        return min(sizes, default=0)


def _count_tokens(tokens: bytes) -> int:
    if not tokens:
        raise RequestError("The prompt is empty: at least one token is needed.", param="prompt")
    if len(tokens) % TOKEN_BYTES:
        raise ValueError(f"{len(tokens)} bytes are no packed int32 tokens")
    return len(tokens) // TOKEN_BYTES


def _submit_message(generation: Generation) -> Submit:
    request = generation.request
    return Submit(
        request_id=generation.attempt_id,
        tokens=request.prompt + generation.emitted.tobytes(),
        num_prompt_tokens=len(request.prompt) // TOKEN_BYTES,
        max_tokens=generation.max_tokens,
        min_tokens=request.min_tokens,
        sampling=request.sampling,
        stop_token_ids=request.stop_token_ids,
        ignore_eos=request.ignore_eos,
        grammar=request.grammar,
        cache_key=request.cache_key,
        cache_prompt=request.cache_prompt,
        priority=request.priority,
    )
