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
from collections.abc import Callable
from time import perf_counter

from fmedge.errors import FmedgeError, KvCacheFullError, StepAbortedError
from fmedge.replica.constrain import next_mask
from fmedge.replica.embeds import Embeds
from fmedge.replica.intake import Intake, failure
from fmedge.replica.kv_store import KvStore
from fmedge.replica.placement import Placement
from fmedge.replica.ports import EngineLike, NewSampler, SamplerLike, sampler_factory
from fmedge.replica.protocol import Embed, Failed, SequenceTokens, Step, Submit, WorkerMessage
from fmedge.replica.sequence import NO_ID, Sequence
from fmedge.sched.steps import (
    PassCosts,
    StepLimits,
    StepPlan,
    StepRates,
    choose_victim,
    count_passes,
    learn_costs,
    learn_rates,
    plan_step,
    prefill_budget,
    service_order,
    widest_filled_gap,
)
from fmedge.types import FinishReason

MAX_WAITING = 4096


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
        store: KvStore | None = None,
    ) -> None:
        self._engine = engine
        self._emit = emit
        self._info = engine.info
        self._limits = limits or StepLimits(max_tokens=engine.info.batch_size)
        self._clock = clock
        self._placement = Placement(engine, store)
        self._intake = Intake(engine, new_sampler or sampler_factory(engine), max_waiting)
        self._embeds = Embeds(engine, self._placement, emit, max_waiting)
        self._by_request: dict[int, Sequence] = {}
        self._admitted: list[Sequence] = []  # in service order
        self._decoding: list[Sequence] = []  # these two by sequence id
        self._prefilling: list[Sequence] = []
        self._rates = StepRates()
        self._num_preempted = 0
        self._samplers: list[SamplerLike] = []  # of the decoding sequences, in their order
        self._fillers: list[int] = []
        self._num_passes = 0  # of a step in which these decode
        self._costs = PassCosts()
        self._has_masks = False
        self._is_decode_only = False  # all that is to be done is to decode
        self._period_start_s = 0.0  # end of the last step, or when work appeared
        self.num_steps = 0

    # what the worker calls

    def submit(self, submit: Submit) -> None:
        """Queue a sequence. What cannot run is answered by `Failed` at once."""
        self.cancel((submit.request_id,))
        now_s = self._clock()
        if not self._by_request:
            self._period_start_s = now_s
        sequence = self._intake.take(submit, now_s)
        if isinstance(sequence, Failed):
            self._emit(sequence)
            return
        self._by_request[submit.request_id] = sequence
        if len(sequence.tokens) >= sequence.end_len:
            self._finish_between_steps(sequence, "length")
            return
        self._intake.queue(sequence, submit)
        self._is_decode_only = False

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        """Drop these before the next step. Unknown ids are ignored."""
        for request_id in request_ids:
            sequence = self._by_request.get(request_id)
            if sequence is not None:
                self._remove(sequence)
            elif self._embeds:
                self._embeds.remove(request_id)

    def embed(self, embed: Embed) -> None:
        """Queue an embedding; it runs between steps as soon as a sequence id is idle."""
        self._embeds.queue(embed)
        self._is_decode_only = False

    def clear_cache(self, cache_key: str | None = None) -> None:
        """Forget every retained and stored prefix, of one key or (None) of all."""
        self._placement.clear(cache_key)

    def empty_cache(self) -> None:
        """Leave no retained prefix in the engine; the store may keep them."""
        self._placement.evict_all()

    def rest(self) -> bool:
        """With nothing to do, prepare for what may come; False if nothing was left to prepare."""
        return self._placement.store_one()

    def persist(self, save_s: float) -> None:
        """End every sequence and keep their KV on disk, in so many seconds."""
        deadline_s = self._clock() + save_s
        for sequence in self._decoding + self._prefilling:
            if self._placement.cut_to_computed(sequence):
                self._placement.finish(sequence)
        self._by_request.clear()
        self._placement.keeper.persist(deadline_s)

    @property
    def is_decode_only(self) -> bool:
        """True when the next step only decodes, as the one before it did."""
        return self._is_decode_only and bool(self._decoding)

    def run_step(self) -> bool:
        """Run one step; False if there was nothing to do."""
        if self.is_decode_only:
            return self._run_decode_step()
        return self._run_planned_step()

    def close(self) -> None:
        """End the grammar thread and the store's; the engine is the caller's to close."""
        self._intake.close()
        self._placement.keeper.close()

    @property
    def is_idle(self) -> bool:
        """True when it has no request of any kind."""
        return not (self._by_request or self._embeds)

    @property
    def awaits_compiler(self) -> bool:
        """True when all it could do is to wait for a grammar that is being compiled."""
        has_work = self._decoding or self._prefilling or self._admitted or self._embeds
        return not has_work and self._intake.only_compiles

    @property
    def num_waiting(self) -> int:
        return len(self._intake)

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
        period_s, self._period_start_s = now_s - self._period_start_s, now_s
        self.num_steps += 1
        if self.num_steps & 15 == 0:
            self._learn(len(rows) + len(fillers), step_s)
        self._emit(
            Step(
                sequences=tuple(out),
                step_s=step_s,
                period_s=period_s,
                num_decode_seqs=len(rows),
                num_kv_tokens=num_kv_tokens,
                num_waiting=len(self._intake),
                num_running=len(self._decoding),
                kv_tokens_used=self._placement.kv_tokens_used,
            )
        )
        if self._has_masks:
            self._compute_masks()
        return True

    def _learn(self, num_rows: int, step_s: float) -> None:
        """From a step that only decoded."""
        self._rates = learn_rates(self._rates, num_prefill_tokens=0, num_decoding=1, step_s=step_s)
        placement = self._placement
        if not placement.can_fill:
            return
        self._costs = learn_costs(
            self._costs, num_passes=self._num_passes, num_rows=num_rows, step_s=step_s
        )
        placement.filled_gap = widest_filled_gap(self._costs, placement.filled_gap)

    def _fill_with_fillers(self) -> list[int]:
        """Add decoding sequences and throw-away tokens by sequence id; the former's rows."""
        batch = self._engine.batch
        rows: list[int] = []
        pending = list(self._fillers)
        for sequence in self._decoding:
            while pending and pending[0] < sequence.seq_id:
                self._placement.add_filler(pending.pop(0))
            rows.append(batch.add_token(sequence.seq_id, sequence.num_computed, sequence.last))
        return rows

    # the general step

    def _run_planned_step(self) -> bool:
        for sequence, error in self._intake.poll_compiled():
            if error is None:
                self._finish_between_steps(sequence, "stop")
            else:
                self._fail(sequence, error)
        has_embedded = self._embeds.run_one(is_alone=not (self._decoding or self._prefilling))
        if has_embedded:
            self._period_start_s = self._clock()  # that time is no step's
        if not self._embeds.is_blocked:
            self._admit()
        if not self._decoding and not self._prefilling:
            awaits_disk = self._placement.keeper.wait()
            if not has_embedded and self._intake.is_compiling:
                self._intake.wait_compiled()
                self._period_start_s = self._clock()
                return True
            return has_embedded or awaits_disk
        self._period_start_s += self._placement.keeper.take_spent_s()  # nor is that a step's
        plan = self._plan()
        if plan.preempt:
            self._preempt(self._placement.owner(plan.preempt[0]))
        elif plan.decode or plan.prefill:
            self._run_plan(plan)
        else:
            self._make_room()
        return True

    def _is_only_decoding(self) -> bool:
        is_full = self.num_running >= self._info.slots
        return not (
            self._prefilling
            or self._admitted
            or self._embeds
            or self._intake.is_compiling
            or (self._intake.is_ready and not is_full)
        )

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
        placement.keeper.has_pending_copy = False
        placement.remove_fillers(fillers)
        prefilled = []
        for seq_id, chunk in plan.prefill:
            sequence = placement.owner(seq_id)
            sequence.num_computed += chunk
            sequence.num_prefill_tokens += chunk
            placement.advance(sequence)
            prefilled.append((sequence.request_id, sequence.num_computed))
        for seq_id in plan.decode:
            placement.owner(seq_id).num_computed += 1
        out = []
        for sequence, token in zip(sampled, tokens, strict=True):
            if not sequence.is_decoding:
                self._begin_decoding(sequence, now_s)
            out.append(self._accept(sequence, token, now_s))
        placement.count_kv()
        self._prepare_decode()
        self._is_decode_only = self._is_only_decoding()
        step_s = now_s - start_s
        period_s, self._period_start_s = now_s - self._period_start_s, now_s
        self._rates = rates = learn_rates(
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
                period_s=period_s,
                num_prefill_tokens=num_prefill_tokens,
                num_decode_seqs=len(plan.decode),
                num_kv_tokens=num_kv_tokens,
                prefill_attention=attention,
                num_waiting=self.num_waiting,
                num_running=self.num_running,
                kv_tokens_used=placement.kv_tokens_used,
                num_preempted=num_preempted,
                prefilled=tuple(prefilled),
                rates=(rates.prefill_s_per_token, rates.decode_s),
            )
        )
        self._compute_masks()

    def _begin_decoding(self, sequence: Sequence, now_s: float) -> None:
        self._prefilling.remove(sequence)
        insort(self._decoding, sequence, key=_by_seq_id)
        sequence.is_decoding = True
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s

    def _prepare_decode(self) -> None:
        """What the decode-only step needs of the set of decoding sequences."""
        self._samplers = [s.sampler for s in self._decoding]
        self._has_masks = any(s.matcher is not None for s in self._decoding)
        ids = [s.seq_id for s in self._decoding]
        self._fillers = self._placement.fillers_for(ids)
        self._num_passes = count_passes(sorted([*ids, *self._fillers]))

    def _accept(self, sequence: Sequence, token: int, now_s: float) -> SequenceTokens:
        """One sampled token, in the front's terms; ends the sequence where it must."""
        num_before = sequence.num_decode_tokens
        finish = sequence.accept(token)
        if finish is not None:
            self._remove(sequence)
            return sequence.message(sequence.num_decode_tokens - num_before, finish, now_s)
        if sequence.is_plain:
            return SequenceTokens(sequence.request_id, (token,))
        return sequence.message(1)

    def _compute_masks(self) -> None:
        """Masks of the next step, once this one's tokens are on their way."""
        for sequence in tuple(self._decoding):
            if sequence.matcher is None or sequence.mask is not None:
                continue
            try:
                sequence.mask = next_mask(sequence.matcher)
            except FmedgeError as error:
                self._fail(sequence, error)
                continue
            if sequence.mask is None:
                self._finish_between_steps(sequence, "stop")

    # beginnings and ends

    def _admit(self) -> None:
        """Fill the slots; then give admitted sequences an id and the best prefix there is, as far
        as the step's budget will reach them. One whose prefix is being prefilled right now keeps
        its slot and is held back."""
        while self._intake.is_ready and self.num_running < self._info.slots:
            insort(self._admitted, self._intake.pop(), key=service_order)
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

    def _remove(self, sequence: Sequence) -> None:
        """Take a sequence out of wherever it is; its KV stays for others."""
        del self._by_request[sequence.request_id]
        if sequence.seq_id != NO_ID:
            (self._decoding if sequence.is_decoding else self._prefilling).remove(sequence)
            self._placement.finish(sequence)
            self._prepare_decode()
        elif sequence in self._admitted:
            self._admitted.remove(sequence)
        else:
            self._intake.remove(sequence)
        self._is_decode_only = False

    def _finish_between_steps(self, sequence: Sequence, finish: FinishReason) -> None:
        self._remove(sequence)
        self._emit(Step(sequences=(sequence.message(0, finish, self._clock()),)))

    def _fail(self, sequence: Sequence, error: FmedgeError) -> None:
        self._remove(sequence)
        self._emit(failure(sequence.request_id, error))

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
        self._finish_between_steps(running[0], "length")

    def _preempt(self, sequence: Sequence, *, is_whole: bool = True) -> None:
        """Free a sequence's KV; it waits in its old place and prefills its own tokens later."""
        (self._decoding if sequence.is_decoding else self._prefilling).remove(sequence)
        self._placement.evict_live(sequence, is_whole=is_whole)
        sequence.is_decoding = False
        self._intake.put_back(sequence)
        self._num_preempted += 1
        self._prepare_decode()
        self._is_decode_only = False

    def _repair(self, stepped: list[Sequence], fillers: list[int]) -> None:
        """After an aborted step some of its KV may be written: cut it off, then step anew."""
        self._is_decode_only = False
        for sequence in stepped:
            if not self._placement.cut_to_computed(sequence):
                self._preempt(sequence, is_whole=False)
        self._placement.remove_fillers(fillers)


def _by_seq_id(sequence: Sequence) -> int:
    return sequence.seq_id
