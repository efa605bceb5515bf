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
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from fmedge.dispatch.embedding import Embedding, embed_all
from fmedge.dispatch.entry import ReplicaEntry, step_facts
from fmedge.dispatch.forecast import Forecast
from fmedge.dispatch.generation import Generation
from fmedge.dispatch.observe import (
    observe_decision,
    observe_finish,
    observe_refusal,
    observed_of,
    set_gauges,
)
from fmedge.dispatch.record import Recorder
from fmedge.dispatch.replicas import Profiler, Replicas
from fmedge.dispatch.roster import Roster
from fmedge.dispatch.status import DispatcherStatus
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
    Policy,
    Refuse,
    SchedulerCore,
    Withdraw,
)
from fmedge.sched.decision import Decision
from fmedge.sched.profile import StepProfile
from fmedge.sched.workflow_report import WorkflowReport
from fmedge.types import (
    EngineInfo,
    FinishReason,
    GenerationRequest,
    Promise,
    WorkflowSettings,
)

TICK_S = 0.05
TOKEN_BYTES = 4
FIRST_RESUMED_ID = 1 << 48
"""Ids of further attempts begin here. Requests are numbered as they arrive, whatever is moved: what
is drawn for one by its id is what a simulation of the same requests draws."""

log = logging.getLogger(__name__)


class Dispatcher:
    """Create it on the running event loop's thread; it is its replicas' ReplicaListener."""

    def __init__(
        self,
        settings: CoreSettings | None = None,
        metrics: Metrics | None = None,
        *,
        policy: Policy = "fmedge",
        profiler: Profiler | None = None,
        workflows: Mapping[str, WorkflowSettings] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """profiler: asked once for each replica, when it has loaded and before it serves. recorder:
        told of every generation that is over, and of what was refused."""
        self.metrics = Metrics() if metrics is None else metrics
        self.forecast = Forecast(workflows or {})
        self._core = SchedulerCore(settings, policy)
        self._recorder = recorder
        self._tick: asyncio.TimerHandle | None = None
        self._replicas = Replicas(self.metrics, profiler, self._on_serving)
        self._generations: dict[int, Generation] = {}
        self._embeddings: dict[int, Embedding] = {}
        self._attempts: dict[int, Generation | Embedding] = {}  # by what its replica calls it
        self._next_id = 1
        self._next_resumed_id = FIRST_RESUMED_ID
        self._is_draining = False
        self._changed = asyncio.Event()  # set whenever a request ends or a replica's state changes
        self.roster = Roster(
            self._core, self._replicas, self.metrics, self._changed, self._carry_out,
            self._take_away,
        )  # fmt: skip

    # --- replicas ---

    def add_replica(self, replica: Replica) -> None:
        """Serve with it from when it is ready; starts it."""
        self.roster.add(replica, self)

    async def wait_ready(self, timeout_s: float, *, every_replica: bool = False) -> None:
        """Return when every model has a ready replica (or every replica is ready).

        Raises UnavailableError when that takes longer than timeout_s, or a model's last replica
        is given up (its message says why).
        """
        await self.roster.wait_ready(timeout_s, every_replica=every_replica)

    async def measure(self, name: str, profiler: Profiler) -> StepProfile:
        """Measure a replica anew: what it runs goes elsewhere, or waits until it is back.

        Raises ModelNotFoundError for an unknown replica, UnavailableError when it is not ready.
        """
        return await self._replicas.measure(name, profiler, partial(self._take_away, name))

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
        self._end([*self._generations, *self._embeddings], message, "draining")

    def let_go(self, model: str, *, is_replaced: bool) -> None:
        """A model goes for good: refuse new requests, as for one that is loading where another
        takes its place (is_replaced), else as for an unknown one. Then `let_finish`, then, when
        its replicas are gone, `roster.forget_model`."""
        self._carry_out(
            self._core.on_model_leaving(time.monotonic(), model, is_replaced=is_replaced)
        )

    async def let_finish(self, model: str, deadline_s: float) -> None:
        """Wait for what is in flight of a model, then end the rest with UnavailableError."""
        await self.roster.until(lambda: not self._core.num_open_of(model), deadline_s)
        generations = [i for i, g in self._generations.items() if g.request.model == model]
        embeddings = [i for i, e in self._embeddings.items() if e.model == model]
        message = f"The model `{model}` was taken out of service before this request was finished."
        self._end([*generations, *embeddings], message, "model_removed")

    def set_max_waiting(self, max_waiting: int) -> None:
        """Another limit of requests that wait, of each model, from now on."""
        self._core.set_max_waiting(max_waiting)

    async def close(self, deadline_s: float = 5.0) -> None:
        """End every replica; each politely until the deadline, then by force."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        await self._replicas.close(deadline_s)

    def clear_cache(self, model: str, cache_key: str | None = None) -> None:
        """Forget retained prefixes on the model's replicas, of one cache key or all."""
        for entry in self._replicas.of(model):
            entry.replica.clear_cache(cache_key)
            self._core.on_cache_cleared(entry.replica.name)

    # --- requests ---

    def check(self, model: str, promise: Promise | None = None, num_body_bytes: int = 0) -> None:
        """Raise as `submit` would for any such request: what is refused need not be tokenised
        first. Only `submit` decides; this may be asked from any thread."""
        refusal = self._core.refusal(model, promise, num_body_bytes)
        if refusal is not None:
            if self._recorder is not None and refusal.code != "model_not_found":
                self._recorder.refused(model, promise, refusal.code)
            raise self._refused(refusal, model, promise)

    async def submit(self, request: GenerationRequest) -> Generation:
        """Take a request; its tokens come through the Generation.

        Raises ModelNotFoundError; ContextLengthError when prompt + 1 token exceed the context;
        RequestError for an empty prompt or a workflow that is not the caller's; UnavailableError
        (loading, draining, overloaded, model_failed, sla_unattainable). max_tokens is cut to what
        the context leaves.
        """
        max_tokens = self._max_tokens(request)
        now_s = time.monotonic()
        generation = Generation(self._take_id(), request, max_tokens, self._cancel, self._stop)
        request_id = generation.request_id
        context = self.forecast.begin(now_s, request_id, request)
        arrival = self.forecast.arrival(request_id, request, max_tokens, context)
        self._generations[request_id] = generation
        try:
            self._arrive(arrival)
        except FmedgeError as error:
            del self._generations[request_id]
            self.forecast.abandon(now_s, request_id)
            if isinstance(error, UnavailableError):
                self._record(generation, error.code)
            raise
        finally:
            generation.decision = self._core.decision(request_id)
        self.metrics.prompt_tokens.labels(request.model).inc(arrival.num_prompt_tokens)
        return generation

    def estimate(self, request: GenerationRequest) -> Decision:
        """What would become of this request now; runs nothing. Raises as `submit` for a request
        that is wrong; what would be refused for lack of room is a Decision that says so."""
        refusal = self._core.refusal(request.model)
        if refusal is not None and refusal.code != "overloaded":
            raise self._refused(refusal, request.model)
        max_tokens = self._max_tokens(request)
        now_s = time.monotonic()
        request_id = self._take_id()
        context = self.forecast.begin(now_s, request_id, request)
        try:
            arrival = self.forecast.arrival(request_id, request, max_tokens, context)
            return self._core.estimate(now_s, arrival)
        finally:
            self.forecast.abandon(now_s, request_id)

    def decision(self, request_id: int) -> Decision | None:
        """What was decided for a request, and what became of it; the last 2,000 are kept."""
        return self._core.decision(request_id)

    def decisions(self, limit: int = 100) -> list[Decision]:
        """The latest decisions, newest first."""
        return self._core.decisions(limit)

    def recent(self) -> list[Decision]:
        """All decisions that are kept, newest first; cheap, as their estimates may be missing."""
        return self._core.recent()

    def workflow_report(self, name: str | None = None) -> list[WorkflowReport]:
        """Of one workflow or all. RequestError for an unknown one."""
        return self.forecast.report(time.monotonic(), name)

    async def embed(
        self, model: str, tokens: Sequence[bytes], *, priority: int = 0
    ) -> list[tuple[bytes, int]]:
        """Embed each packed int32 sequence: its packed float32 vector and its token count.

        Raises as `submit`, and GenerationFailedError when a replica could not.
        """
        ctx_size = self._replicas.ctx_size(model)
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
        return DispatcherStatus(
            is_draining=self._is_draining,
            num_open=self._core.num_open,
            models=self.roster.statuses(),
        )

    def render_metrics(self) -> bytes:
        """The metrics in Prometheus' text format, gauges as of now."""
        set_gauges(self.metrics, self.status())
        for entry in self._replicas:
            entry.set_gauges()
        return self.metrics.render()

    # --- events of replicas ---

    def on_ready(self, replica: Replica, info: EngineInfo) -> None:
        if self.roster.watcher is not None:
            self.roster.watcher.on_loaded(replica.name, info)
        self._replicas.loaded(replica.name, info)

    def _on_serving(self, entry: ReplicaEntry, info: EngineInfo) -> None:
        now_s, name = time.monotonic(), entry.replica.name
        if entry.live is None:
            # As many again as decode at once: a freed slot finds its next request already there.
            effects = self._core.on_replica_ready(now_s, name, 2 * info.slots)
        else:
            effects = self._core.on_replica_ready(
                now_s, name, entry.facts(), entry.live.packed, keeps_prefixes=not info.is_recurrent
            )
        self._carry_out(effects)
        if self.roster.watcher is not None:
            self.roster.watcher.on_serving(name)
        self._changed.set()

    def on_step(self, replica: Replica, step: Step) -> None:
        entry, now_s = self._replicas[replica.name], time.monotonic()
        entry.last_step = step
        entry.learn(step)
        attempts, core = self._attempts, self._core
        prefilled = step.prefilled
        if prefilled:
            prefilled = tuple(
                (attempts[attempt_id].request_id, num_computed)
                for attempt_id, num_computed in prefilled
                if attempt_id in attempts
            )
        core.on_step(now_s, replica.name, step_facts(step, prefilled))
        num_tokens = 0
        for part in step.sequences:
            generation = attempts.get(part.request_id)
            if not isinstance(generation, Generation):
                continue  # cancelled or taken away, and the replica does not know yet
            num_new = len(part.tokens)
            num_tokens += num_new
            effects: list[Effect] = []
            if num_new:
                effects = core.on_tokens(now_s, generation.request_id, num_new)
            self._take_tokens(generation, part, now_s)
            if effects:
                self._carry_out(effects)
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
        self._replicas.lost(replica.name)
        if crashed:
            why = "hung" if replica.status().failure == "hung" else "crashed"
            self.metrics.worker_restarts.labels(replica.model, replica.name, why).inc()
        effects = self._core.on_replica_lost(time.monotonic(), replica.name, crashed=crashed)
        for effect in effects:
            if isinstance(effect, Fail):
                log.error("request %d failed: %s (%s)", effect.request_id, effect.message, reason)
        self._carry_out(effects)
        self._changed.set()

    def on_gone(self, replica: Replica, reason: str) -> None:
        self._replicas.gone(replica.name)
        self._carry_out(self._core.on_replica_gone(time.monotonic(), replica.name, reason))
        if self.roster.watcher is not None and not self._replicas[replica.name].is_retiring:
            self.roster.watcher.on_gone(replica.name, reason)
        self._changed.set()

    # --- carrying out ---

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Assign():
                    self._assign(effect, self._replicas[effect.replica].replica)
                case CancelOn() | Withdraw():
                    self._cancel_on(effect.request_id, self._replicas[effect.replica].replica)
                case Fail() if effect.retry_after_s:
                    error = UnavailableError(
                        effect.message, retry_after_s=effect.retry_after_s, code="model_failed"
                    )
                    self._fail(effect.request_id, error, "model_failed")
                case Fail():
                    self._fail(effect.request_id, GenerationFailedError(effect.message), "crashed")
                case Refuse():
                    raise AssertionError("only an arrival is refused, and `_arrive` answers it")

    def _assign(self, effect: Assign, replica: Replica) -> None:
        request_id = effect.request_id
        message: Submit | Embed
        generation = self._generations.get(request_id)
        if generation is not None:
            if generation.num_tokens >= generation.max_tokens:
                # Its last token had come before the replica was lost, its finish had not.
                last = SequenceTokens(request_id, (), "length")
                self._take_tokens(generation, last, time.monotonic())
                return
            generation.was_resumed = bool(generation.attempt_id)
            self._begin_attempt(generation, replica)
            generation.assigned_s = time.monotonic()
            message = _submit_message(generation, effect.engine_priority)
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
        if request.attempt_id:
            request.attempt_id = self._next_resumed_id
            self._next_resumed_id += 1
        else:
            request.attempt_id = request.request_id
        request.replica = replica.name
        self._attempts[request.attempt_id] = request

    def _end_attempt(self, request: Generation | Embedding) -> None:
        self._attempts.pop(request.attempt_id, None)

    def _take_away(self, name: str) -> None:
        """What a replica runs waits at the front again."""
        held = [r for r in self._attempts.values() if r.replica == name]
        self._replicas[name].replica.cancel(tuple(r.attempt_id for r in held))
        for request in held:
            self._end_attempt(request)
        now_s = time.monotonic()
        self._carry_out(self._core.on_replica_lost(now_s, name, crashed=False))

    def _cancel_on(self, request_id: int, replica: Replica) -> None:
        request = self._generations.get(request_id) or self._embeddings.get(request_id)
        if request is not None:
            attempt_id = request.attempt_id
            self._end_attempt(request)
            replica.cancel((attempt_id,))

    def _arrive(self, arrival: Arrival) -> None:
        self.roster.stirred.set()
        effects = self._core.on_arrival(time.monotonic(), arrival)
        if effects and isinstance(effects[0], Refuse):
            raise self._refused(effects[0], arrival.model, arrival.promise)
        self._carry_out(effects)
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        """Promises at risk are looked at again while anything is open."""
        now_s = time.monotonic()
        self._carry_out(self._core.on_tick(now_s))
        self.forecast.tick(now_s)
        self._tick = None
        if self._core.num_open:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)

    def _refused(self, refusal: Refuse, model: str, promise: Promise | None = None) -> FmedgeError:
        if refusal.code == "model_not_found":
            return ModelNotFoundError(refusal.message)
        self.metrics.requests.labels(model, refusal.code).inc()
        observe_refusal(self.metrics, model, refusal.code, promise)
        return UnavailableError(
            refusal.message,
            retry_after_s=refusal.retry_after_s,
            code=refusal.code,
            is_overload=refusal.code in ("overloaded", "sla_unattainable"),
            request_id=refusal.request_id,
        )

    def _take_tokens(self, generation: Generation, part: SequenceTokens, now_s: float) -> None:
        if part.num_cached_tokens > 0 and not generation.first_token_s:
            # A resumed sequence finds its own KV; only the first run's reuse is the client's.
            generation.num_cached_tokens = part.num_cached_tokens
        if part.tokens and not generation.first_token_s:
            generation.first_token_s = now_s
            self._core.on_first_token(now_s, generation.request_id, part.num_cached_tokens)
        if part.finish is None:
            generation.push(part)
            return
        generation.timings = part.timings
        generation.push(part)
        self._complete(generation, part.finish)

    def _complete(self, generation: Generation, finish: FinishReason) -> None:
        """It was answered: everybody learns from it."""
        request_id, now_s = generation.request_id, time.monotonic()
        del self._generations[request_id]
        self._end_attempt(generation)
        observe_finish(self.metrics, generation, finish)
        self.forecast.finished(now_s, generation, is_censored=finish == "length")
        self._carry_out(self._core.on_finish(now_s, request_id, observed_of(generation, now_s)))
        observe_decision(self.metrics, generation)
        self._record(generation, finish)
        self._changed.set()

    def _finished(self, request_id: int) -> None:
        self._carry_out(self._core.on_finish(time.monotonic(), request_id))
        self._changed.set()

    def _cancel(self, generation: Generation) -> None:
        if generation.request_id not in self._generations:
            return
        generation.push(SequenceTokens(generation.request_id, (), "cancelled"))
        self.metrics.requests.labels(generation.request.model, "cancelled").inc()
        now_s = time.monotonic()
        self._carry_out(self._core.on_cancel(now_s, generation.request_id))
        del self._generations[generation.request_id]
        self.forecast.abandon(now_s, generation.request_id)
        self._record(generation, "cancelled")
        self._changed.set()

    def _stop(self, generation: Generation) -> None:
        """Its consumer found its end in the text: answered, though the replica would go on."""
        if generation.request_id not in self._generations:
            return
        if generation.replica:
            self._replicas[generation.replica].replica.cancel((generation.attempt_id,))
        generation.push(SequenceTokens(generation.request_id, (), "stop"))
        self._complete(generation, "stop")

    def _fail(self, request_id: int, error: FmedgeError, outcome: str) -> None:
        generation = self._generations.pop(request_id, None)
        if generation is not None:
            self._end_attempt(generation)
            self.metrics.requests.labels(generation.request.model, outcome).inc()
            self.forecast.abandon(time.monotonic(), request_id)
            self._record(generation, outcome)
            generation.fail(error)
        embedding = self._embeddings.pop(request_id, None)
        if embedding is not None:
            self._end_attempt(embedding)
            self.metrics.requests.labels(embedding.model, outcome).inc()
            embedding.fail(error)
        self._changed.set()

    def _end(self, request_ids: Iterable[int], message: str, code: str) -> None:
        """Cancel these, and tell who waits for them why."""
        for request_id in request_ids:
            self._carry_out(self._core.on_cancel(time.monotonic(), request_id))
            error = UnavailableError(message, retry_after_s=5.0, code=code)
            self._fail(request_id, error, code)

    def _record(self, generation: Generation, outcome: str) -> None:
        if self._recorder is not None:
            self._recorder.ended(generation, outcome)

    def _begin_embedding(self, model: str, tokens: bytes, priority: int) -> Embedding:
        embedding = Embedding(self._take_id(), model, tokens)
        self._embeddings[embedding.request_id] = embedding
        try:
            num_tokens = len(tokens) // TOKEN_BYTES
            self._arrive(Arrival(embedding.request_id, model, num_tokens, 0, priority))
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

    def _max_tokens(self, request: GenerationRequest) -> int:
        """What it may generate within the context; ContextLengthError if not even one token."""
        num_prompt_tokens = _count_tokens(request.prompt)
        ctx_size = self._replicas.ctx_size(request.model)
        if not ctx_size:
            return request.max_tokens
        if num_prompt_tokens + 1 > ctx_size:
            self.metrics.requests.labels(request.model, "context_length_exceeded").inc()
            raise ContextLengthError(num_prompt_tokens, ctx_size)
        return min(request.max_tokens, ctx_size - num_prompt_tokens)


def _count_tokens(tokens: bytes) -> int:
    if not tokens:
        raise RequestError("The prompt is empty: at least one token is needed.", param="prompt")
    if len(tokens) % TOKEN_BYTES:
        raise ValueError(f"{len(tokens)} bytes are no packed int32 tokens")
    return len(tokens) // TOKEN_BYTES


def _submit_message(generation: Generation, priority: int) -> Submit:
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
        priority=priority,
    )
