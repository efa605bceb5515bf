"""The engine loop: plan a step, run it, sample, tell the front; over all sequences of a replica.

One thread owns it and the engine: every method is called there, between steps. Decisions are the
step policy's (`sched.steps`) and the prefix cache's (`sched.prefix`); this module carries them out
and keeps the KV that the engine holds, what the prefix cache believes and what each sequence counts
as computed the same thing at all times.

A sequence is in one place: compiling its grammar, waiting, admitted (it has a slot, but no KV
yet), or running (it has a sequence id). Preemption sends it from running back to waiting.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from time import perf_counter

from fmedge.errors import FmedgeError, KvCacheFullError, RequestError, StepAbortedError
from fmedge.replica.constrain import Constrained, GrammarCompiler, next_mask
from fmedge.replica.placement import Placement
from fmedge.replica.protocol import (
    Embed,
    Embedded,
    Failed,
    SequenceTokens,
    Step,
    Submit,
    WorkerMessage,
)
from fmedge.replica.sequence import NO_ID, EngineLike, NewSampler, SamplerLike, Sequence
from fmedge.sched.steps import (
    StepLimits,
    StepPlan,
    StepRates,
    choose_victim,
    learn_rates,
    plan_step,
    prefill_budget,
    service_order,
)
from fmedge.types import FinishReason

MAX_WAITING = 4096
COMPILE_POLL_S = 0.005

NOTHING_TO_DRAW = -1
"""What the engine samples where a grammar, and bans beside it, leave no token: nothing follows."""


class EngineLoop:
    """Runs sequences on an engine; `emit` gets one `Step` a step, and `Failed` and `Embedded`.

    A token that ends a sequence (end of generation, a stop token) is not emitted: it shows as
    finish "stop" alone. Cancelled sequences get no answer.
    """

    def __init__(
        self,
        engine: EngineLike,
        emit: Callable[[WorkerMessage], None],
        *,
        limits: StepLimits | None = None,
        max_waiting: int = MAX_WAITING,
        new_sampler: NewSampler | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._engine = engine
        self._emit = emit
        self._info = engine.info
        self._limits = limits or StepLimits(max_tokens=engine.info.batch_size)
        self._max_waiting = max_waiting
        self._new_sampler = new_sampler or _sampler_factory(engine)
        self._clock = clock
        self._eog = frozenset(engine.vocab.eog_tokens)
        self._placement = Placement(engine)
        self._compiler = GrammarCompiler(engine.vocab, engine.info.num_vocab)
        self._compiling: dict[int, tuple[Sequence, Submit, Future[Constrained]]] = {}
        self._waiting: list[Sequence] = []  # these two in service order
        self._admitted: list[Sequence] = []
        self._decoding: list[Sequence] = []  # these two by sequence id
        self._prefilling: list[Sequence] = []
        self._embeds: deque[Embed] = deque()
        self._is_embed_blocked = False  # it needs KV that sequences hold: no more of them start
        self._by_request: dict[int, Sequence] = {}
        self._rates = StepRates()
        self._num_arrived = 0
        self._num_preempted = 0
        self._samplers: list[SamplerLike] = []  # of the decoding sequences, in their order
        self._fillers: list[int] = []
        self._has_masks = False
        self._is_decode_only = False
        self.num_steps = 0

    # what the worker calls

    def submit(self, submit: Submit) -> None:
        """Queue a sequence. What cannot run is answered by `Failed` at once."""
        num_tokens = len(submit.tokens) // 4
        problem = _problem_of(submit, num_tokens, self._info.ctx_size)
        if problem is not None:
            self._emit(Failed(submit.request_id, "invalid", problem))
            return
        if len(self._waiting) + len(self._compiling) >= self._max_waiting:
            text = f"{self._max_waiting} requests wait on this replica already; try again later."
            self._emit(Failed(submit.request_id, "overloaded", text))
            return
        self.cancel((submit.request_id,))
        self._num_arrived += 1
        sequence = Sequence(submit, self._num_arrived, self._clock(), self._info)
        self._by_request[submit.request_id] = sequence
        if len(sequence.tokens) >= sequence.end_len:
            self._emit(Step(sequences=(self._end(sequence, None, "length"),)))
            return
        self._give_sampler(sequence, submit)
        self._is_decode_only = False
        if submit.grammar is None:
            insort(self._waiting, sequence, key=service_order)
            return
        emitted = sequence.tokens[submit.num_prompt_tokens :]
        future = self._compiler.compile(submit.grammar, emitted)
        self._compiling[submit.request_id] = (sequence, submit, future)

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        """Drop these before the next step. Unknown ids are ignored."""
        for request_id in request_ids:
            sequence = self._by_request.get(request_id)
            if sequence is not None:
                self._end(sequence, None, "cancelled")
            elif self._embeds:
                self._embeds = deque(e for e in self._embeds if e.request_id != request_id)
                self._is_embed_blocked = False

    def embed(self, embed: Embed) -> None:
        """Queue an embedding; it runs between steps as soon as a sequence id is idle."""
        num_tokens = len(embed.tokens) // 4
        if not 0 < num_tokens <= self._info.ctx_size:
            text = f"{num_tokens} tokens to embed; between 1 and {self._info.ctx_size} can be."
            self._emit(Failed(embed.request_id, "invalid", text))
            return
        if len(self._embeds) >= self._max_waiting:
            text = f"{self._max_waiting} texts wait to be embedded already; try again later."
            self._emit(Failed(embed.request_id, "overloaded", text))
            return
        self._embeds.append(embed)
        self._is_decode_only = False

    def clear_cache(self, cache_key: str | None = None) -> None:
        """Forget every retained prefix, of one key or (None) of all."""
        self._placement.clear(cache_key)

    def run_step(self) -> bool:
        """Run one step; False if there was nothing to do."""
        if self._is_decode_only and self._decoding:
            return self._run_decode_step()
        return self._run_planned_step()

    def close(self) -> None:
        """End the grammar thread; the engine is the caller's to close."""
        self._compiler.close()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting) + len(self._compiling)

    @property
    def num_running(self) -> int:
        return len(self._decoding) + len(self._prefilling) + len(self._admitted)

    # the step that most steps are: everything decodes, nothing else is to be done

    def _run_decode_step(self) -> bool:
        engine, decoding, fillers = self._engine, self._decoding, self._fillers
        batch = engine.batch
        batch.clear()
        num_kv_tokens = 0
        if fillers:
            rows = self._fill_with_fillers()
            num_kv_tokens = sum([s.num_computed for s in decoding])
        else:
            rows = []
            add_token = batch.add_token
            for sequence in decoding:
                pos = sequence.num_computed
                rows.append(add_token(sequence.seq_id, pos, sequence.last))
                num_kv_tokens += pos
        start_s = self._clock()
        try:
            engine.step()
        except KvCacheFullError:
            self._make_room()
            return True
        except StepAbortedError:
            self._repair(list(decoding), fillers)
            return True
        masks = [s.mask for s in decoding] if self._has_masks else None
        tokens = engine.sample(rows, self._samplers, masks)
        now_s = self._clock()
        if fillers:
            self._placement.remove_fillers(fillers)
        self._placement.kv_tokens_used += len(decoding)
        out = []
        for sequence, token in zip(tuple(decoding), tokens, strict=True):
            sequence.num_computed += 1
            out.append(self._accept(sequence, token, now_s))
        step_s = now_s - start_s
        self.num_steps += 1
        if self.num_steps & 15 == 0:
            self._rates = learn_rates(
                self._rates, num_prefill_tokens=0, num_decoding=len(rows), step_s=step_s
            )
        self._emit(
            Step(
                sequences=tuple(out),
                step_s=step_s,
                num_decode_seqs=len(rows),
                num_kv_tokens=num_kv_tokens,
                num_waiting=len(self._waiting) + len(self._compiling),
                num_running=len(self._decoding),
                kv_tokens_used=self._placement.kv_tokens_used,
            )
        )
        if self._has_masks:
            self._compute_masks()
        return True

    def _fill_with_fillers(self) -> list[int]:
        """Add decoding sequences and throw-away tokens by sequence id; the former's rows."""
        batch = self._engine.batch
        rows: list[int] = []
        pending = deque(self._fillers)
        for sequence in self._decoding:
            while pending and pending[0] < sequence.seq_id:
                self._placement.add_filler(pending.popleft())
            rows.append(batch.add_token(sequence.seq_id, sequence.num_computed, sequence.last))
        return rows

    # the general step

    def _run_planned_step(self) -> bool:
        self._take_compiled()
        has_embedded = self._run_embed()
        if not self._is_embed_blocked:
            self._admit()
            self._start_admitted()
        if not self._decoding and not self._prefilling:
            if has_embedded or self._admitted:
                return True
            return self._wait_for_compiler()
        plan = self._plan()
        if plan.preempt:
            self._preempt(self._placement.owner(plan.preempt[0]))
            return True
        if not plan.decode and not plan.prefill:
            self._make_room()
            return True
        self._run_plan(plan)
        self._is_decode_only = not (
            self._prefilling or self._admitted or self._embeds or self._compiling
        ) and not (self._waiting and self.num_running < self._info.slots)
        return True

    def _plan(self) -> StepPlan:
        running = self._decoding + self._prefilling
        return plan_step(
            running,
            self._budget(),
            max_tokens=self._info.batch_size,
            num_free_kv_tokens=self._placement.num_free_kv_tokens(),
        )

    def _budget(self) -> int:
        return prefill_budget(
            self._rates,
            self._limits,
            num_decoding=len(self._decoding),
            num_prefilling=len(self._prefilling) + len(self._admitted),
        )

    def _run_plan(self, plan: StepPlan) -> None:
        engine, placement = self._engine, self._placement
        batch = engine.batch
        chunks = dict(plan.prefill)
        ids = sorted([*plan.decode, *chunks])
        num_tokens = len(plan.decode) + sum(chunks.values())
        fillers = placement.fillers_for(ids)[: self._info.batch_size - num_tokens]
        batch.clear()
        rows: list[int] = []
        sampled: list[Sequence] = []
        num_kv_tokens = num_prefill_tokens = 0
        attention = 0.0
        for seq_id in sorted([*ids, *fillers]):
            chunk = chunks.get(seq_id)
            if seq_id in fillers:
                placement.add_filler(seq_id)
                continue
            sequence = placement.owner(seq_id)
            pos = sequence.num_computed
            if chunk is None:
                rows.append(batch.add_token(seq_id, pos, sequence.last))
                sampled.append(sequence)
                num_kv_tokens += pos
                continue
            packed = sequence.tokens[pos : pos + chunk].tobytes()
            is_last = chunk == sequence.num_pending
            row = batch.add(seq_id, pos, packed, is_last)
            if is_last:
                rows.append(row)
                sampled.append(sequence)
            num_prefill_tokens += chunk
            attention += chunk * (pos + chunk / 2)
        start_s = self._clock()
        try:
            engine.step()
        except KvCacheFullError:
            self._make_room()
            return
        except StepAbortedError:
            self._repair([placement.owner(seq_id) for seq_id in ids], fillers)
            return
        tokens: list[int] = []
        if rows:
            masks = [s.mask for s in sampled] if any(s.matcher for s in sampled) else None
            tokens = list(engine.sample(rows, [s.sampler for s in sampled], masks))
        now_s = self._clock()
        placement.remove_fillers(fillers)
        for seq_id, chunk in plan.prefill:
            sequence = placement.owner(seq_id)
            sequence.num_computed += chunk
            sequence.num_prefill_tokens += chunk
            placement.advance(sequence)
        for seq_id in plan.decode:
            placement.owner(seq_id).num_computed += 1
        out = []
        for sequence, token in zip(sampled, tokens, strict=True):
            if not sequence.is_decoding:
                self._begin_decoding(sequence, now_s)
            out.append(self._accept(sequence, token, now_s))
        placement.count_kv()
        self._prepare_decode()
        step_s = now_s - start_s
        self._rates = learn_rates(
            self._rates,
            num_prefill_tokens=num_prefill_tokens,
            num_decoding=len(plan.decode),
            step_s=step_s,
        )
        self.num_steps += 1
        num_preempted, self._num_preempted = self._num_preempted, 0
        self._emit(
            Step(
                sequences=tuple(out),
                step_s=step_s,
                num_prefill_tokens=num_prefill_tokens,
                num_decode_seqs=len(plan.decode),
                num_kv_tokens=num_kv_tokens,
                prefill_attention=attention,
                num_waiting=self.num_waiting,
                num_running=self.num_running,
                kv_tokens_used=placement.kv_tokens_used,
                num_preempted=num_preempted,
            )
        )
        self._compute_masks()

    def _begin_decoding(self, sequence: Sequence, now_s: float) -> None:
        self._prefilling.remove(sequence)
        insort(self._decoding, sequence, key=_by_seq_id)
        sequence.is_decoding = True
        if not sequence.first_token_s:
            sequence.first_token_s = now_s

    def _prepare_decode(self) -> None:
        """What the decode-only step needs of the set of decoding sequences."""
        self._samplers = [s.sampler for s in self._decoding]
        self._has_masks = any(s.matcher is not None for s in self._decoding)
        self._fillers = self._placement.fillers_for([s.seq_id for s in self._decoding])

    def _accept(self, sequence: Sequence, token: int, now_s: float) -> SequenceTokens:
        """One sampled token, in the front's terms; ends the sequence where it must."""
        if token in sequence.stops or token == NOTHING_TO_DRAW:
            return self._end(sequence, None, "stop", now_s)
        sequence.tokens.append(token)
        sequence.last = token
        sequence.num_decode_tokens += 1
        num_tokens = len(sequence.tokens)
        if not sequence.is_plain:
            finish = self._accept_special(sequence, token, num_tokens)
            if finish is not None or num_tokens >= sequence.end_len:
                return self._end(sequence, token, finish or "length", now_s)
            return self._tokens_message(sequence, token)
        if num_tokens >= sequence.end_len:
            return self._end(sequence, token, "length", now_s)
        return SequenceTokens(sequence.request_id, (token,))

    def _accept_special(
        self, sequence: Sequence, token: int, num_tokens: int
    ) -> FinishReason | None:
        """The rest of `_accept` for a sequence that is constrained, held off its end, or new."""
        if num_tokens == sequence.unban_at:
            sequence.sampler.set_banned(sequence.banned_after)
            sequence.unban_at = -1
        if sequence.matcher is not None:
            sequence.matcher.consume_token(token)
            sequence.mask = None
            if sequence.matcher.is_stopped() and not sequence.matcher.is_error():
                return "stop"
        return None

    def _tokens_message(
        self,
        sequence: Sequence,
        token: int | None,
        finish: FinishReason | None = None,
        now_s: float = 0.0,
    ) -> SequenceTokens:
        num_cached_tokens = -1
        if sequence.is_new and sequence.cached_at_start >= 0:
            sequence.is_new = False
            num_cached_tokens = sequence.cached_at_start
            sequence.is_plain = not (
                sequence.wants_logprobs or sequence.matcher is not None or sequence.unban_at >= 0
            )
        logprobs = None
        if token is not None and sequence.wants_logprobs:
            last = sequence.sampler.last_logprobs()
            logprobs = None if last is None else (last,)
        return SequenceTokens(
            sequence.request_id,
            () if token is None else (token,),
            finish=finish,
            logprobs=logprobs,
            num_cached_tokens=num_cached_tokens,
            timings=None if finish is None else sequence.timings(now_s),
        )

    def _compute_masks(self) -> None:
        """Masks of the next step, once this one's tokens are on their way."""
        for sequence in tuple(self._decoding):
            if sequence.matcher is None or sequence.mask is not None:
                continue
            try:
                sequence.mask = next_mask(sequence.matcher)
            except RequestError as error:
                self._fail(sequence, error)
                continue
            if sequence.mask is None:
                self._emit(Step(sequences=(self._end(sequence, None, "stop"),)))

    # beginnings and ends

    def _give_sampler(self, sequence: Sequence, submit: Submit) -> None:
        stops = frozenset(submit.stop_token_ids)
        if submit.ignore_eos:
            sequence.banned_after = tuple(sorted(self._eog - stops))
        else:
            stops |= self._eog
        banned = sequence.banned_after
        min_len = min(submit.num_prompt_tokens + submit.min_tokens, sequence.end_len)
        if len(sequence.tokens) < min_len and submit.min_tokens > 0:
            sequence.unban_at = min_len
            banned = tuple(sorted(self._eog | stops))
        sequence.stops = stops
        sequence.is_plain = False  # until its first message is out
        sequence.sampler = self._new_sampler(
            submit.sampling,
            self._info.num_vocab,
            submit.tokens,
            sequence.num_emitted_before,
            banned,
        )

    def _take_compiled(self) -> None:
        done = [request_id for request_id, (_, _, f) in self._compiling.items() if f.done()]
        for request_id in done:
            sequence, _, future = self._compiling.pop(request_id)
            try:
                constrained = future.result()
            except RequestError as error:
                self._fail(sequence, error)
                continue
            sequence.matcher, sequence.mask = constrained.matcher, constrained.mask
            if sequence.mask is None:
                self._emit(Step(sequences=(self._end(sequence, None, "stop"),)))
                continue
            insort(self._waiting, sequence, key=service_order)

    def _wait_for_compiler(self) -> bool:
        """Nothing but grammars in the making: give them a moment instead of a busy loop."""
        if not self._compiling:
            return False
        futures = [future for _, _, future in self._compiling.values()]
        wait(futures, timeout=COMPILE_POLL_S, return_when="FIRST_COMPLETED")
        return True

    def _admit(self) -> None:
        while self._waiting and self.num_running < self._info.slots:
            insort(self._admitted, self._waiting.pop(0), key=service_order)

    def _start_admitted(self) -> None:
        """Give admitted sequences an id and the best prefix there is, as far as the step's budget
        will reach them; one whose prefix is being prefilled right now is held back."""
        if not self._admitted:
            return
        budget = self._budget()
        held_back: list[Sequence] = []
        waiting, self._admitted = self._admitted, []
        for index, sequence in enumerate(waiting):
            order = service_order(sequence)
            ahead = sum(s.num_pending for s in self._prefilling if service_order(s) < order)
            if ahead >= budget:
                held_back += waiting[index:]
                break
            outcome = self._placement.place(sequence, self._decoding, self._prefilling, self._rates)
            if outcome == "held_back":
                held_back.append(sequence)
                continue
            if outcome == "no_room":
                held_back += waiting[index:]
                break
            insort(self._prefilling, sequence, key=_by_seq_id)
            if sequence.cached_at_start < 0:
                sequence.cached_at_start = sequence.num_computed
                sequence.first_start_s = self._clock()
        self._admitted = held_back

    def _end(
        self,
        sequence: Sequence,
        token: int | None,
        finish: FinishReason,
        now_s: float | None = None,
    ) -> SequenceTokens:
        """Take a sequence out of wherever it is; the message that ends it, with its last token."""
        message = self._tokens_message(
            sequence, token, finish, self._clock() if now_s is None else now_s
        )
        del self._by_request[sequence.request_id]
        if sequence.seq_id != NO_ID:
            (self._decoding if sequence.is_decoding else self._prefilling).remove(sequence)
            self._placement.finish(sequence)
            self._prepare_decode()
        elif sequence.request_id in self._compiling:
            self._compiling.pop(sequence.request_id)[2].cancel()
        else:
            for queue in (self._waiting, self._admitted):
                if sequence in queue:
                    queue.remove(sequence)
        self._is_decode_only = False
        return message

    def _fail(self, sequence: Sequence, error: FmedgeError) -> None:
        self._end(sequence, None, "error")
        code = "invalid" if isinstance(error, RequestError) else "error"
        self._emit(Failed(sequence.request_id, code, str(error)))

    # when KV is full, or a step was broken off

    def _make_room(self) -> None:
        """The engine had no cells for the batch: a retained prefix goes, or else a sequence."""
        self._is_decode_only = False
        if self._placement.evict_one():
            return
        running = self._decoding + self._prefilling
        if len(running) > 1:
            victim = choose_victim(running)
            assert victim is not None
            self._preempt(self._placement.owner(victim))
            return
        alone = running[0]
        message = self._end(alone, None, "length")
        self._emit(Step(sequences=(message,)))

    def _preempt(self, sequence: Sequence) -> None:
        """Free a sequence's KV; it waits in its old place and prefills its own tokens later."""
        (self._decoding if sequence.is_decoding else self._prefilling).remove(sequence)
        self._placement.evict_live(sequence)
        sequence.is_decoding = False
        insort(self._waiting, sequence, key=service_order)
        self._num_preempted += 1
        self._prepare_decode()
        self._is_decode_only = False

    def _repair(self, stepped: list[Sequence], fillers: list[int]) -> None:
        """After an aborted step some of its KV may be written: cut it off, then step anew."""
        self._is_decode_only = False
        for sequence in stepped:
            if not self._placement.cut_to_computed(sequence):
                self._preempt(sequence)
        self._placement.remove_fillers(fillers)

    # embeddings

    def _run_embed(self) -> bool:
        """Run the first waiting embedding if an id is idle; True if one was answered."""
        if not self._embeds:
            return False
        seq_id = self._placement.borrow_id()
        if seq_id is None:
            return False
        embed = self._embeds[0]
        try:
            vector = self._engine.embed(embed.tokens, seq_id)
        except KvCacheFullError:
            if self._placement.evict_one():
                return True
            if self._decoding or self._prefilling:
                self._is_embed_blocked = True
                return False
            text = "The KV cache is too small for this text."
            self._answer_embed(Failed(embed.request_id, "invalid", text))
            return True
        self._answer_embed(Embedded(embed.request_id, vector, len(embed.tokens) // 4))
        return True

    def _answer_embed(self, message: WorkerMessage) -> None:
        self._embeds.popleft()
        self._is_embed_blocked = False
        self._emit(message)


def _by_seq_id(sequence: Sequence) -> int:
    return sequence.seq_id


def _sampler_factory(engine: EngineLike) -> NewSampler:
    own: NewSampler | None = getattr(engine, "new_sampler", None)
    if own is not None:
        return own
    from fmedge._native.sampler import Sampler

    return Sampler


def _problem_of(submit: Submit, num_tokens: int, ctx_size: int) -> str | None:
    """What is wrong with a submission, None if it can run."""
    if num_tokens == 0 or len(submit.tokens) % 4:
        return "The prompt has no tokens."
    if not 0 < submit.num_prompt_tokens <= num_tokens:
        return f"{submit.num_prompt_tokens} prompt tokens said, {num_tokens} tokens sent."
    if submit.num_prompt_tokens >= ctx_size:
        return (
            f"The prompt has {submit.num_prompt_tokens} tokens, but this model serves at most "
            f"{ctx_size} tokens of prompt and output together."
        )
    return None
