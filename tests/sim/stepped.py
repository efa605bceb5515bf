"""An engine in virtual time that plans every step with the step policy itself: slow, plain, and
without prefixes or a shared KV pool. The world's double for the compiled one, and its oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from fmedge.sched.emulation import NUM_FACTORS, ReplicaSpec, step_factors
from fmedge.sched.steps import (
    SequenceState,
    StepLimits,
    StepRates,
    learn_rates,
    plan_step,
    prefill_budget,
)
from fmedge.sched.steptime import step_time


@dataclass
class _Sequence:
    request_id: int
    num_tokens: int
    num_left: int  # tokens that it will give
    ends_at_limit: bool
    priority: int
    order: int
    submit_s: float
    num_computed: int = 0
    num_given: int = 0
    is_decoding: bool = False
    start_s: float = inf
    first_s: float = inf


@dataclass
class _Step:
    end_s: float
    running: list[_Sequence]
    chunks: list[tuple[_Sequence, int]]
    decoding: list[_Sequence]
    sample: tuple[int, int, float, float, float]


@dataclass
class SteppedEngine:
    """What `fmedge.sim.world.Engine` asks for."""

    spec: ReplicaSpec
    has_eog: bool = True  # an answer that no limit ends takes one more step
    learns_each: int = 16  # of the steps that only decode
    stepped_s: float = -inf
    busy_s: float = 0.0
    rates: StepRates = field(default_factory=StepRates)
    num_steps: int = 0
    _waiting: list[_Sequence] = field(default_factory=list)
    _running: list[_Sequence] = field(default_factory=list)
    _begin_s: float = -inf
    _step: _Step | None = None
    _num_arrived: int = 0

    def __post_init__(self) -> None:
        self._limits = StepLimits(max_tokens=self.spec.engine.batch_size)
        self._rates = StepRates()
        self._packed = self.spec.steps.packed()
        self._factors = step_factors(self.spec.noise, self.spec.name)
        self._ended: list[tuple[int, float, bool]] = []
        self._tokens: dict[int, int] = {}
        self._prefilled: dict[int, int] = {}
        self._samples: list[tuple[int, int, float, float, float]] = []
        self._timings: dict[int, tuple[float, float]] = {}

    @property
    def next_s(self) -> float:
        step = self._planned()
        return inf if step is None else step.end_s

    def submit(
        self, now_s, request_id, num_tokens, num_left, *, num_emitted=0, priority=0, prompt=b"",
        cache_key="", is_stopped=False,
    ):  # fmt: skip
        self._touch(now_s)
        ends_at_limit = not (is_stopped and self.has_eog)
        self._num_arrived += 1
        sequence = _Sequence(
            request_id, num_tokens, num_left, ends_at_limit, priority, self._num_arrived, now_s
        )
        self._waiting.append(sequence)
        self._waiting.sort(key=lambda s: (-s.priority, s.order))

    def cancel(self, now_s, request_id):
        self._touch(now_s)
        self._waiting = [s for s in self._waiting if s.request_id != request_id]
        self._running = [s for s in self._running if s.request_id != request_id]
        if self._step is not None:  # its tokens are nobody's
            for sequence in self._step.running:
                if sequence.request_id == request_id:
                    sequence.request_id = -1
        self._tokens.pop(request_id, None)
        self._prefilled.pop(request_id, None)

    def num_emitted(self, request_id):
        return sum(s.num_given for s in self._running if s.request_id == request_id)

    def advance(self, now_s):
        while (step := self._planned()) is not None and step.end_s <= now_s:
            self._end(step)

    def ended(self):
        ended, self._ended = self._ended, []
        return ended

    def tokens(self):
        tokens, self._tokens = self._tokens, {}
        return list(tokens.items())

    def prefilled(self):
        prefilled, self._prefilled = self._prefilled, {}
        return list(prefilled.items())

    def samples(self):
        samples, self._samples = self._samples, []
        return samples

    def num_cached(self, request_id):
        return 0

    def timings(self, request_id):
        return self._timings[request_id]

    def _touch(self, now_s: float) -> None:
        """A step that has begun is not changed by what comes; one that begins now is."""
        self.advance(now_s)
        step = self._planned()
        if step is not None and self._begin_s < now_s:
            self._step = step
            return
        self._step = None
        self._begin_s = max(self._begin_s, now_s)

    def _planned(self) -> _Step | None:
        if self._step is None:
            self._step = self._plan()
        return self._step

    def _plan(self) -> _Step | None:
        free = self.spec.engine.slots - len(self._running)
        running = [*self._running, *self._waiting[:free]]
        if not running:
            return None
        decoding = [s for s in running if s.is_decoding]
        prefilling = [s for s in running if not s.is_decoding]
        chunks: list[tuple[_Sequence, int]] = []
        if prefilling:
            budget = prefill_budget(
                self._rates, self._limits,
                num_decoding=len(decoding), num_prefilling=len(prefilling),
            )  # fmt: skip
            states = [
                SequenceState(
                    i, 1 if s.is_decoding else s.num_tokens - s.num_computed, s.is_decoding,
                    s.priority, s.order,
                )
                for i, s in enumerate(running)
            ]  # fmt: skip
            plan = plan_step(states, budget, max_tokens=self._limits.max_tokens)
            chunks = [(running[handle], n) for handle, n in plan.prefill]
        num_prefill = sum(n for _, n in chunks)
        num_kv = sum(s.num_computed for s in decoding)
        attention = sum(n * (s.num_computed + n / 2) for s, n in chunks)
        step_s = step_time(self._packed, num_prefill, len(decoding), num_kv, attention)
        step_s *= self._factors[self.num_steps % NUM_FACTORS]
        sample = (num_prefill, len(decoding), num_kv, attention, step_s)
        return _Step(self._begin_s + step_s, running, chunks, decoding, sample)

    def _end(self, step: _Step) -> None:
        num_prefill, num_decoding, _, _, step_s = step.sample
        end_s = step.end_s
        self._step = None
        self.num_steps += 1
        self.busy_s += step_s
        self.stepped_s = end_s
        self._samples.append(step.sample)
        for sequence in step.running:
            if sequence.start_s == inf:
                sequence.start_s = self._begin_s
        self._waiting = [s for s in self._waiting if s not in step.running]
        self._running = [s for s in step.running if s.request_id >= 0]
        sampled = [s for s in step.decoding if s.request_id >= 0]
        for sequence in sampled:
            sequence.num_computed += 1
        for sequence, num_tokens in step.chunks:
            sequence.num_computed += num_tokens
            if sequence.request_id < 0:
                continue
            self._prefilled[sequence.request_id] = sequence.num_computed
            if sequence.num_computed >= sequence.num_tokens:
                sequence.is_decoding = True
                sequence.first_s = end_s
                sampled.append(sequence)
        if step.chunks or self.num_steps % self.learns_each == 0:
            self._rates = learn_rates(
                self._rates,
                num_prefill_tokens=num_prefill,
                num_decoding=num_decoding if step.chunks else 1,
                step_s=step_s,
            )
        if step.chunks:
            self.rates = self._rates
        self._begin_s = end_s
        for sequence in sampled:
            self._sample(sequence, end_s)

    def _sample(self, sequence: _Sequence, end_s: float) -> None:
        request_id = sequence.request_id
        if sequence.num_given < sequence.num_left:
            sequence.num_given += 1
            self._tokens[request_id] = self._tokens.get(request_id, 0) + 1
            is_last = sequence.ends_at_limit and sequence.num_given == sequence.num_left
        else:
            is_last = True
        if sequence.first_s == end_s or is_last:
            self._ended.append((request_id, end_s, is_last))
            self._timings[request_id] = (
                sequence.start_s - sequence.submit_s, sequence.first_s - sequence.start_s,
            )  # fmt: skip
        if is_last:
            self._running = [s for s in self._running if s is not sequence]


@dataclass
class _Progress:
    index: int
    stepped_s: float
    rates: tuple[float, float]
    tokens: list[tuple[int, int]]
    prefilled: list[tuple[int, int]]
    samples: list[tuple[int, int, float, float, float]]


class SteppedBank:
    """What `fmedge.sim.world.Bank` asks for; options are those of its engines."""

    def __init__(self, specs: Sequence[ReplicaSpec], **options: Any) -> None:
        self.engines = [SteppedEngine(spec, **options) for spec in specs]
        self._told = [0] * len(specs)

    def advance(self, now_s: float) -> None:
        for engine in self.engines:
            engine.advance(now_s)

    def progress(self) -> list[_Progress]:
        out = []
        for index, engine in enumerate(self.engines):
            if engine.num_steps != self._told[index]:
                self._told[index] = engine.num_steps
                rates = (engine.rates.prefill_s_per_token, engine.rates.decode_s)
                new = engine.tokens(), engine.prefilled(), engine.samples()
                out.append(_Progress(index, engine.stepped_s, rates, *new))
        return out
