"""Designed steps on a real engine, timed as traffic's steps are.

The rule: what is timed are steps of a real `EngineLoop`, from plan to the message to the front, so
a sample's time holds everything that a token waits for; KV depth is real tokens, computed or copied
as traffic's would be. Only the prefill budget is ours. Steps that pay for a stream's copy, or that
are the first of another set of decoding sequences, are not samples.

It goes through the points in several rounds, so that a spell of noise falls on all of them alike,
and leaves out what would take too long. Wherever it ends, it leaves the engine empty.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from math import ceil
from time import perf_counter
from typing import Literal

from fmedge.errors import FmedgeError, NativeError
from fmedge.replica.loop import EngineLoop
from fmedge.replica.ports import EngineLike
from fmedge.replica.protocol import Failed, Measure, Measured, Step, Submit, WorkerMessage
from fmedge.sched.steps import TAIL_FACTOR, StepLimits
from fmedge.types import EngineInfo, SamplingParams

ROUNDS = (0.25, 0.5, 1.0, 1.0)
"""The share of the points that each round goes through: the first are the most telling ones, so
where time is short they are met in several spells of noise, and the last not at all."""

DECODES_PER_VISIT = 3
MAX_DECODES_PER_VISIT = 8
CHUNKS_PER_VISIT = 2
SLOW_STEP_S = 0.05
"""About the time of a visit's samples: slow chunks come singly, fast decoding steps in numbers."""

LONGEST_STEP_S = 1.25
"""The step policy bounds steps at 1 s; longer ones would only keep work waiting."""

SETUP_STEP_S = 0.25
"""Prefill that only makes KV deep goes in steps of about this, so that work never waits long."""

SETUP_SHARE = 0.4
"""Of the time that is left, the most that making KV deep for one point may take."""

WARM_UP_TOKENS = 32
WARM_UP_DECODES = 4
MIN_DEPTH = 4
MIN_DRIFT = 32


class _DesignedLoop(EngineLoop):
    """An engine loop whose prefill budget is set by hand, and that tells what it knows."""

    budget = WARM_UP_TOKENS

    def _budget(self) -> int:
        return self.budget

    def policy_budget(self) -> int:
        """What the step policy would prefill."""
        return super()._budget()

    def expected_s(self, num_prefill: int, num_decoding: int) -> float:
        """Time of such a step by the policy's own rates."""
        decode_s = self._rates.decode_s if num_decoding else 0.0
        return decode_s + num_prefill * self._rates.prefill_s_per_token

    def num_reusable(self, tokens: bytes) -> int:
        """Tokens of a prompt whose KV is here."""
        return self._placement.num_reusable("", tokens)

    def depth(self, request_id: int) -> int:
        """KV tokens of a sequence that decodes; 0 of any other."""
        sequence = self._by_request.get(request_id)
        return sequence.num_computed if sequence is not None and sequence.is_decoding else 0


class _StoppedError(Exception):
    def __init__(self, ended: Literal["time", "interrupted"]) -> None:
        super().__init__(ended)
        self.ended = ended


def measure(
    request: Measure,
    engine: EngineLike,
    emit: Callable[[WorkerMessage], None],
    *,
    run_step: Callable[[EngineLoop], bool],
    is_interrupted: Callable[[], bool],
    clock: Callable[[], float] = perf_counter,
) -> Measured:
    """Time the request's points on an engine that holds no KV.

    emit: gets each Step, of negative request ids. run_step: runs one step of a loop as its owner
    does for traffic. is_interrupted: asked before each step.
    """
    if not getattr(engine, "can_generate", True):
        return Measured(ended="unable", message="This model only embeds.")
    run = _Measurement(request, engine, emit, run_step, is_interrupted, clock)
    ended: Literal["complete", "time", "interrupted", "failed"] = "complete"
    message = ""
    try:
        run.go()
    except _StoppedError as stop:
        ended = stop.ended
    except FmedgeError as error:
        ended, message = "failed", str(error)
    finally:
        run.close()
        num_seqs: int = getattr(engine, "num_seqs", engine.info.slots)
        for seq_id in range(num_seqs):
            engine.seq_remove(seq_id)
    return Measured(tuple(run.samples), ended, message)


class _Measurement:
    """One run: its loop, the sequences that decode in it, the samples so far."""

    def __init__(
        self,
        request: Measure,
        engine: EngineLike,
        emit: Callable[[WorkerMessage], None],
        run_step: Callable[[EngineLoop], bool],
        is_interrupted: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.samples: list[tuple[float, int, int, int, float]] = []
        info = engine.info
        self._points = request.points
        self._info = info
        self._send = emit
        self._run_step = run_step
        self._is_interrupted = is_interrupted
        self._clock = clock
        self._end_s = clock() + request.max_s
        limits = StepLimits(
            max_tokens=info.batch_size, decode_bound_s=SETUP_STEP_S, prefill_bound_s=SETUP_STEP_S
        )
        self._loop = _DesignedLoop(engine, self._emit, limits=limits, clock=clock)
        self._step: Step | None = None
        self._last_id = 0
        self._is_short = False  # some point was left out for want of time
        self._decoding: list[int] = []  # request ids, by age
        self._prompts = _Prompts(info)
        self._rng = random.Random(0)  # noqa: S311 - not a secret

    def go(self) -> None:
        """Raises _StoppedError when time was too short to measure every point in every round."""
        self._warm_up()
        for share in ROUNDS:
            for num_prefill, num_decoding, depth in self._points[: ceil(share * len(self._points))]:
                self._visit(num_prefill, num_decoding, max(depth, MIN_DEPTH))
        if self._is_short:
            raise _StoppedError("time")

    def close(self) -> None:
        self._loop.cancel(tuple(range(self._last_id, 0)))
        self._loop.clear_cache()
        self._loop.close()

    def _warm_up(self) -> None:
        """Pages of weights come in, and the loop learns its first rates."""
        if self._info.ctx_size <= WARM_UP_TOKENS + WARM_UP_DECODES + 1:
            return
        self._hold(1, WARM_UP_TOKENS)
        for _ in range(WARM_UP_DECODES):
            self._advance()

    # one point

    def _visit(self, num_prefill: int, num_decoding: int, depth: int) -> None:
        num_decoding = min(num_decoding, self._info.slots - (num_prefill > 0))
        num_prefill = min(num_prefill, self._info.batch_size - num_decoding)
        step_s = self._loop.expected_s(num_prefill, num_decoding)
        num_chunks = CHUNKS_PER_VISIT if step_s < SLOW_STEP_S else 1
        if not self._fits(num_prefill * num_chunks, num_decoding, depth):
            num_chunks = 1
        if num_prefill + num_decoding <= 0 or not self._fits(num_prefill, num_decoding, depth):
            return
        left_s = self._end_s - self._clock()
        setup_s = self._loop.expected_s(self._num_missing(num_prefill, num_decoding, depth), 0)
        if step_s > LONGEST_STEP_S:
            return
        if step_s > left_s or setup_s > SETUP_SHARE * left_s:
            self._is_short = True
            return
        self._hold(num_decoding, depth)
        if num_prefill:
            self._prefill(num_prefill, num_chunks, depth)
            return
        self._advance()
        end_s = self._clock() + SLOW_STEP_S
        for number in range(MAX_DECODES_PER_VISIT):
            if number < DECODES_PER_VISIT or self._clock() < end_s:
                self._advance(is_timed=True)

    def _fits(self, num_prefill: int, num_decoding: int, depth: int) -> bool:
        longest = depth + _num_new(num_prefill)
        if longest > self._info.ctx_size:
            return False
        num_kv = (num_decoding + (num_prefill > 0)) * (longest + _drift(depth))
        return not self._info.kv_unified or num_kv <= self._info.kv_tokens

    def _num_missing(self, num_prefill: int, num_decoding: int, depth: int) -> int:
        """Tokens to compute before the point's steps can run."""
        num_new = max(0, num_decoding - len(self._held(depth))) + (num_prefill > 0)
        if num_new == 0:
            return 0
        prompt = self._prompts.past(0, depth)
        num_once = depth - self._loop.num_reusable(prompt.tobytes())
        return num_once if self._prompts.is_shared else num_new * depth

    def _held(self, depth: int) -> list[int]:
        """Of the decoding sequences, those that may stay for this point."""
        most = min(depth + _drift(depth), self._info.ctx_size - _num_new(0))
        return [i for i in self._decoding if depth <= self._loop.depth(i) <= most]

    def _hold(self, num_decoding: int, depth: int) -> None:
        """Have so many sequences decode, each with about `depth` tokens of KV."""
        kept = self._held(depth)
        if len(kept) > num_decoding:
            # Traffic's sequences end in any order too: the gaps between their ids cost time.
            kept = sorted(self._rng.sample(kept, num_decoding), reverse=True)
        self._loop.cancel(tuple(i for i in self._decoding if i not in kept))
        self._decoding = kept
        while len(self._decoding) < num_decoding:
            self._add_decoding(depth)

    def _add_decoding(self, depth: int) -> None:
        is_alone = not self._decoding
        tokens = self._prompts.past(len(self._decoding), depth)
        request_id = self._submit(tokens, self._info.ctx_size)
        self._decoding.append(request_id)
        self._loop.budget = self._loop.policy_budget()
        self._advance()  # a stream's copy, perhaps
        while not self._loop.depth(request_id):
            self._loop.budget = self._loop.policy_budget()
            self._advance(is_timed=is_alone)

    def _prefill(self, num_prefill: int, num_chunks: int, depth: int) -> None:
        """Steps of just so many prefill tokens, from `depth` on, beside those that decode."""
        past = self._prompts.past(len(self._decoding), depth)
        fresh = self._prompts.fresh(1 + num_chunks * num_prefill)
        request_id = self._submit(past + fresh, 1)
        self._loop.budget = 1
        num_computed = self._prefilled(request_id)  # a stream's copy, perhaps
        while num_computed <= depth:
            left = depth + 1 - num_computed
            # The policy lets a rest that is a little longer than the budget go at once.
            most = int((left - 1 + num_chunks * num_prefill) / TAIL_FACTOR)
            self._loop.budget = max(1, min(left, most, self._loop.policy_budget()))
            num_computed = self._prefilled(request_id)
        self._loop.budget = num_prefill
        # Fresh tokens may be, by chance, those that another sequence went on with: then fewer.
        for _ in range((len(past) + len(fresh) - num_computed) // num_prefill):
            self._advance(is_timed=True)

    # one step

    def _prefilled(self, request_id: int) -> int:
        """Run a step; how many tokens of the sequence have KV then."""
        self._advance()
        return 0 if self._step is None else dict(self._step.prefilled).get(request_id, 0)

    def _advance(self, *, is_timed: bool = False) -> None:
        if self._is_interrupted():
            raise _StoppedError("interrupted")
        if self._clock() >= self._end_s:
            raise _StoppedError("time")
        self._step = None
        if not self._run_step(self._loop):
            raise NativeError("A designed step found nothing to do.")
        step = self._step
        if is_timed and step is not None:
            self.samples.append(
                (
                    step.period_s,
                    step.num_prefill_tokens,
                    step.num_decode_seqs,
                    step.num_kv_tokens,
                    step.prefill_attention,
                )
            )

    def _submit(self, tokens: array[int], max_tokens: int) -> int:
        self._last_id -= 1
        self._loop.submit(
            Submit(
                request_id=self._last_id,
                tokens=tokens.tobytes(),
                num_prompt_tokens=len(tokens),
                max_tokens=max_tokens,
                sampling=SamplingParams(seed=-self._last_id),
                ignore_eos=True,
                cache_prompt=self._prompts.is_shared,
            )
        )
        return self._last_id

    def _emit(self, message: WorkerMessage) -> None:
        if isinstance(message, Failed):
            raise NativeError(f"A designed sequence failed: {message.message}")
        if isinstance(message, Step):
            self._step = message
        self._send(message)


class _Prompts:
    """Pseudo-random tokens: one past for all sequences where KV can be copied from one to another,
    one for each where equal tokens would be the same cells or nothing can be copied."""

    def __init__(self, info: EngineInfo) -> None:
        self.is_shared = not info.kv_unified and not info.is_recurrent
        self._num_vocab = info.num_vocab
        self._ctx_size = info.ctx_size
        self._rng = random.Random(0)  # noqa: S311 - not a secret
        self._pasts: list[array[int]] = []

    def past(self, index: int, num_tokens: int) -> array[int]:
        """The first tokens of sequence `index`: always the same."""
        index = 0 if self.is_shared else index
        while len(self._pasts) <= index:
            self._pasts.append(self.fresh(self._ctx_size))
        return self._pasts[index][:num_tokens]

    def fresh(self, num_tokens: int) -> array[int]:
        """Tokens that no other sequence has."""
        return array("i", self._rng.choices(range(self._num_vocab), k=num_tokens))


def _num_new(num_prefill: int) -> int:
    """Tokens that a visit adds to a sequence's past, and one to spare."""
    return max(1 + num_prefill, MAX_DECODES_PER_VISIT + 1) + 2


def _drift(depth: int) -> int:
    """How much deeper than asked for a sequence may have become."""
    return max(MIN_DRIFT, depth // 4)
