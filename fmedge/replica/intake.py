"""What arrives, until it may run: checked, given a sampler and a grammar, queued by urgency.

The queue is bounded; a preempted sequence comes back into its old place whatever the bound says.
"""

from __future__ import annotations

from bisect import insort
from concurrent.futures import Future, wait

from fmedge.errors import FmedgeError, RequestError
from fmedge.replica.constrain import Constrained, GrammarCompiler
from fmedge.replica.ports import EngineLike, NewSampler
from fmedge.replica.protocol import Failed, Submit
from fmedge.replica.sequence import Sequence
from fmedge.sched.steps import service_order

COMPILE_POLL_S = 0.005


class Intake:
    """Waiting sequences in service order, and those whose grammar is being compiled."""

    def __init__(self, engine: EngineLike, new_sampler: NewSampler, max_waiting: int) -> None:
        self._info = engine.info
        self._can_generate: bool = getattr(engine, "can_generate", True)
        self._new_sampler = new_sampler
        self._max_waiting = max_waiting
        self._eog = frozenset(engine.vocab.eog_tokens)
        self._compiler = GrammarCompiler(engine.vocab, engine.info.num_vocab)
        self._compiling: dict[int, tuple[Sequence, Future[Constrained]]] = {}
        self._waiting: list[Sequence] = []
        self._num_arrived = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._compiling)

    @property
    def is_compiling(self) -> bool:
        return bool(self._compiling)

    @property
    def only_compiles(self) -> bool:
        """True if nothing waits but for a grammar, and none is ready."""
        compiling = self._compiling.values()
        return bool(compiling) and not (self._waiting or any(f.done() for _, f in compiling))

    @property
    def is_ready(self) -> bool:
        """True if some sequence only waits for a slot."""
        return bool(self._waiting)

    def take(self, submit: Submit, now_s: float) -> Sequence | Failed:
        """A new sequence, not queued yet, or why there is none."""
        problem = self._problem_of(submit)
        if problem is not None:
            return Failed(submit.request_id, "invalid", problem)
        if len(self) >= self._max_waiting:
            text = f"{self._max_waiting} requests wait on this replica already; try again later."
            return Failed(submit.request_id, "overloaded", text)
        self._num_arrived += 1
        sequence = Sequence(submit, self._num_arrived, now_s, self._info)
        try:
            self._give_sampler(sequence, submit)
        except FmedgeError as error:
            return failure(submit.request_id, error)
        return sequence

    def queue(self, sequence: Sequence, submit: Submit) -> None:
        """Let a new sequence wait, once its grammar is compiled if it has one."""
        if submit.grammar is None:
            self.put_back(sequence)
            return
        emitted = sequence.tokens[submit.num_prompt_tokens :]
        future = self._compiler.compile(submit.grammar, emitted)
        self._compiling[submit.request_id] = (sequence, future)

    def put_back(self, sequence: Sequence) -> None:
        insort(self._waiting, sequence, key=service_order)

    def pop(self) -> Sequence:
        """The most urgent waiting sequence."""
        return self._waiting.pop(0)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, if it is here."""
        compiling = self._compiling.pop(sequence.request_id, None)
        if compiling is not None:
            compiling[1].cancel()
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def poll_compiled(self) -> list[tuple[Sequence, FmedgeError | None]]:
        """Queue sequences whose grammar is ready. Given back: those that need not run after all,
        with what is wrong with their grammar, or None where it admits nothing (more)."""
        over: list[tuple[Sequence, FmedgeError | None]] = []
        for request_id in [i for i, (_, f) in self._compiling.items() if f.done()]:
            sequence, future = self._compiling.pop(request_id)
            try:
                constrained = future.result()
            except FmedgeError as error:
                over.append((sequence, error))
                continue
            sequence.matcher, sequence.mask = constrained.matcher, constrained.mask
            if sequence.mask is None:
                over.append((sequence, None))
            else:
                self.put_back(sequence)
        return over

    def wait_compiled(self) -> None:
        """Give grammars in the making a moment, where nothing else is to be done."""
        futures = [future for _, future in self._compiling.values()]
        wait(futures, timeout=COMPILE_POLL_S, return_when="FIRST_COMPLETED")

    def close(self) -> None:
        self._compiler.close()

    def _problem_of(self, submit: Submit) -> str | None:
        num_tokens = len(submit.tokens) // 4
        if not self._can_generate:
            return "This model only embeds; it cannot generate text."
        if num_tokens == 0 or len(submit.tokens) % 4:
            return "The prompt has no tokens."
        if not 0 < submit.num_prompt_tokens <= num_tokens:
            return f"{submit.num_prompt_tokens} prompt tokens said, {num_tokens} tokens sent."
        if submit.num_prompt_tokens >= self._info.ctx_size:
            return (
                f"The prompt has {submit.num_prompt_tokens} tokens, but this model serves at most "
                f"{self._info.ctx_size} tokens of prompt and output together."
            )
        return None

    def _give_sampler(self, sequence: Sequence, submit: Submit) -> None:
        stops = frozenset(submit.stop_token_ids)
        if submit.ignore_eos:
            sequence.banned_after = tuple(sorted(self._eog - stops))
        else:
            stops |= self._eog
        banned = sequence.banned_after
        min_len = min(submit.num_prompt_tokens + submit.min_tokens, sequence.end_len)
        if submit.min_tokens > 0 and len(sequence.tokens) < min_len:
            sequence.unban_at = min_len
            banned = tuple(sorted(self._eog | stops))
        sequence.stops = stops
        sequence.sampler = self._new_sampler(
            submit.sampling,
            self._info.num_vocab,
            submit.tokens,
            sequence.num_emitted_before,
            banned,
        )


def failure(request_id: int, error: FmedgeError) -> Failed:
    """The message for a request that alone went wrong."""
    return Failed(request_id, "invalid" if isinstance(error, RequestError) else "error", str(error))
