"""The scheduler core in virtual time: real core, real step policy, engines that only pass time.

An engine runs `plan_step` over its sequences, and a step takes what its true step model says, times
noise from a seed. The core is told what dispatch would tell it, and nothing else.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from fmedge.sched.core import (
    Arrival,
    Assign,
    CancelOn,
    CoreSettings,
    Fail,
    Refuse,
    SchedulerCore,
    StepFacts,
    Withdraw,
)
from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.lengths import LengthPredictor
from fmedge.sched.steps import (
    SequenceState,
    StepLimits,
    StepRates,
    learn_rates,
    plan_step,
    prefill_budget,
)
from fmedge.sched.steptime import Curve, StepModel, step_time
from fmedge.types import BEST_EFFORT, Promise

TICK_S = 0.05


def cpu_like(speed: float) -> StepModel:
    """A small model on a CPU core: 3 ms for one sequence, 1.5 ms a further one, 0.4 ms a prompt
    token, at speed 1."""
    return StepModel(
        base_s=0.0015 / speed,
        prefill_base_s=0.001 / speed,
        prefill=Curve((0.0, 2048.0), (0.0, 0.8192 / speed)),
        decode=Curve((0.0, 64.0), (0.0, 0.096 / speed)),
        kv_s=4e-7 / speed,
        attention_s=4e-8 / speed,
    )


@dataclass
class Call:
    """One request of a workload. length: output tokens that it will give."""

    at_s: float
    num_prompt: int
    length: int
    promise: Promise = BEST_EFFORT
    api_key_id: str = ""
    kind: str = ""
    max_tokens: int = 1024
    priority: int = 0


@dataclass
class Result:
    """What became of it; times from the arrival on, nan if it never came to that."""

    call: Call
    ttft_s: float = math.nan
    e2e_s: float = math.nan
    last_s: float = math.nan
    num_tokens: int = 0
    num_submits: int = 0
    is_refused: bool = False
    is_failed: bool = False
    tokens_at: list[float] = field(default_factory=list)

    @property
    def held(self) -> bool:
        if math.isnan(self.e2e_s):
            return False
        promise = self.call.promise
        tpot_s = (self.e2e_s - self.ttft_s) / max(1, self.num_tokens - 1)
        return (
            self.ttft_s <= promise.ttft_s
            and tpot_s <= promise.tpot_s
            and self.e2e_s <= promise.e2e_s
        )


@dataclass
class _Sequence:
    request_id: int
    num_tokens: int  # prompt and what was emitted before
    priority: int
    arrival: int
    num_computed: int = 0
    is_decoding: bool = False


class Engine:
    """One replica: slots, its own queue in order of priority and arrival, one step at a time."""

    def __init__(self, model: StepModel, slots: int, noise: float, seed: int) -> None:
        self.packed = model.packed()
        self.slots = slots
        self.limits = StepLimits(max_tokens=512)
        self.rates = StepRates()
        self.waiting: list[_Sequence] = []
        self.running: list[_Sequence] = []
        self.is_stepping = False
        self.busy_s = 0.0
        self._noise = noise
        self._random = random.Random(seed)
        self._num_arrived = 0

    def submit(self, request_id: int, num_tokens: int, priority: int) -> None:
        self._num_arrived += 1
        self.waiting.append(_Sequence(request_id, num_tokens, priority, self._num_arrived))
        self.waiting.sort(key=lambda s: (-s.priority, s.arrival))

    def cancel(self, request_id: int) -> None:
        self.waiting = [s for s in self.waiting if s.request_id != request_id]
        self.running = [s for s in self.running if s.request_id != request_id]

    def begin_step(self) -> tuple[float, list[tuple[int, int]], list[int], bool] | None:
        """Plan a step: how long it takes, (request, tokens) prefilled, who gets a token, and
        whether it was a planned one. None if there is nothing to do."""
        while self.waiting and len(self.running) < self.slots:
            self.running.append(self.waiting.pop(0))
        if not self.running:
            return None
        prefilling = [s for s in self.running if not s.is_decoding]
        decoding = [s for s in self.running if s.is_decoding]
        if prefilling:
            budget = prefill_budget(
                self.rates, self.limits,
                num_decoding=len(decoding), num_prefilling=len(prefilling),
            )  # fmt: skip
            states = [
                SequenceState(
                    s.request_id,
                    1 if s.is_decoding else s.num_tokens - s.num_computed,
                    s.is_decoding,
                    s.priority,
                    s.arrival,
                )
                for s in self.running
            ]
            chunks = list(plan_step(states, budget, max_tokens=self.limits.max_tokens).prefill)
        else:
            chunks = []
        by_id = {s.request_id: s for s in prefilling}
        num_prefill = sum(n for _, n in chunks)
        attention = sum(n * (by_id[i].num_computed + n / 2) for i, n in chunks)
        kv = sum(s.num_computed for s in decoding)
        step_s = step_time(self.packed, num_prefill, len(decoding), kv, attention)
        step_s *= math.exp(self._random.gauss(0.0, self._noise))
        self.rates = learn_rates(
            self.rates, num_prefill_tokens=num_prefill, num_decoding=len(decoding), step_s=step_s
        )
        self.busy_s += step_s
        return step_s, chunks, [s.request_id for s in decoding], bool(chunks)


class World:
    """Replicas, a core, and a clock that jumps from event to event."""

    def __init__(
        self,
        speeds: Iterable[float],
        *,
        policy: str = "fmedge",
        settings: CoreSettings | None = None,
        slots: int = 4,
        noise: float = 0.05,
        profile_error: float = 1.0,
        seed: int = 0,
        tick_s: float = TICK_S,
    ) -> None:
        self.core = SchedulerCore(settings, policy)
        self.now_s = 0.0
        self.results: dict[int, Result] = {}
        self.engines: dict[str, Engine] = {}
        self.lengths = LengthPredictor()
        self.tick_s = tick_s
        self.num_withdrawn = 0
        self._profiles: dict[str, np.ndarray] = {}
        self._events: list[tuple[float, int, str, object]] = []
        self._num_events = 0
        self._where: dict[int, str] = {}
        self._has_tick = False
        for index, speed in enumerate(speeds):
            name = f"r{index}"
            self.engines[name] = Engine(cpu_like(speed), slots, noise, seed + index)
            self._profiles[name] = cpu_like(speed * profile_error).packed()
            self.core.on_replica_added(name, "m")
        for name in self.engines:
            self.ready(name)

    def ready(self, name: str) -> None:
        engine = self.engines[name]
        facts = ReplicaFacts(slots=engine.slots, ctx_size=8192, limits=engine.limits)
        self._apply(self.core.on_replica_ready(self.now_s, name, facts, self._profiles[name]))

    def lose(self, name: str, *, crashed: bool) -> None:
        engine = self.engines[name]
        for sequence in [*engine.waiting, *engine.running]:
            del self._where[sequence.request_id]
        engine.waiting, engine.running = [], []
        self._apply(self.core.on_replica_lost(self.now_s, name, crashed=crashed))

    def run(self, calls: Iterable[Call], until_s: float = math.inf) -> dict[int, Result]:
        """Everything to its end, or to until_s."""
        for request_id, call in enumerate(calls, 1 + len(self.results)):
            self.results[request_id] = Result(call)
            self._push(call.at_s, "arrive", request_id)
        while self._events:
            if self._events[0][0] > until_s:
                self.now_s = until_s
                break
            self.now_s, _, what, item = heapq.heappop(self._events)
            getattr(self, f"_on_{what}")(item)
        return self.results

    def arrival(self, request_id: int, call: Call) -> Arrival:
        return Arrival(
            request_id=request_id,
            model="m",
            num_prompt_tokens=call.num_prompt,
            max_tokens=call.max_tokens,
            priority=call.priority,
            promise=call.promise,
            api_key_id=call.api_key_id,
            lengths=self.lengths.predict((call.kind,), 1, call.max_tokens),
        )

    def _on_arrive(self, request_id: int) -> None:
        call = self.results[request_id].call
        self._apply(self.core.on_arrival(self.now_s, self.arrival(request_id, call)))
        if not self._has_tick:
            self._has_tick = True
            self._push(self.now_s + self.tick_s, "tick", None)

    def _on_tick(self, _: None) -> None:
        self._has_tick = self.core.num_open > 0
        self._apply(self.core.on_tick(self.now_s))
        if self._has_tick:
            self._push(self.now_s + self.tick_s, "tick", None)

    def _on_step(self, item: tuple[str, list[tuple[int, int]], list[int], bool]) -> None:
        name, chunks, decoded, is_planned = item
        engine, core, now_s = self.engines[name], self.core, self.now_s
        engine.is_stepping = False
        by_id = {s.request_id: s for s in engine.running}
        prefilled: list[tuple[int, int]] = []
        sampled = [i for i in decoded if i in by_id]
        for request_id in sampled:
            by_id[request_id].num_computed += 1
        for request_id, num_tokens in chunks:
            sequence = by_id.get(request_id)
            if sequence is None:
                continue  # cancelled meanwhile
            sequence.num_computed += num_tokens
            prefilled.append((request_id, sequence.num_computed))
            if sequence.num_computed >= sequence.num_tokens:
                sequence.is_decoding = True
                sampled.append(request_id)
        rates = engine.rates if is_planned else StepRates()
        facts = StepFacts(tuple(prefilled), rates.prefill_s_per_token, rates.decode_s)
        core.on_step(now_s, name, facts)
        effects = []
        for request_id in sampled:
            result = self.results[request_id]
            result.num_tokens += 1
            result.tokens_at.append(now_s)
            effects += core.on_tokens(now_s, request_id, 1)
            if math.isnan(result.ttft_s):
                result.ttft_s = now_s - result.call.at_s
                core.on_first_token(now_s, request_id, 0)
            if result.num_tokens >= min(result.call.length, result.call.max_tokens):
                engine.cancel(request_id)
                del self._where[request_id]
                result.e2e_s = now_s - result.call.at_s
                self.lengths.observe((result.call.kind,), result.num_tokens, False)
                effects += core.on_finish(now_s, request_id)
        self._apply(effects)
        self._step(name)

    def _apply(self, effects: Iterable[object]) -> None:
        touched: set[str] = set()
        for effect in effects:
            match effect:
                case Assign():
                    assert effect.request_id not in self._where, "assigned twice"
                    self._where[effect.request_id] = effect.replica
                    result = self.results[effect.request_id]
                    result.num_submits += 1
                    num_tokens = result.call.num_prompt + result.num_tokens
                    engine = self.engines[effect.replica]
                    engine.submit(effect.request_id, num_tokens, effect.engine_priority)
                    touched.add(effect.replica)
                case Withdraw() | CancelOn():
                    assert self._where.pop(effect.request_id) == effect.replica
                    self.engines[effect.replica].cancel(effect.request_id)
                    self.num_withdrawn += isinstance(effect, Withdraw)
                case Refuse():
                    self.results[effect.request_id].is_refused = True
                case Fail():
                    self.results[effect.request_id].is_failed = True
        for name in touched:
            self._step(name)

    def _step(self, name: str) -> None:
        engine = self.engines[name]
        if engine.is_stepping:
            return
        planned = engine.begin_step()
        if planned is not None:
            engine.is_stepping = True
            step_s, chunks, decoded, is_planned = planned
            self._push(self.now_s + step_s, "step", (name, chunks, decoded, is_planned))

    def _push(self, at_s: float, what: str, item: object) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (at_s, self._num_events, what, item))


INTERACTIVE = Promise(sla_class="interactive", ttft_s=0.6, tpot_s=0.03, target=0.9)


def mixed_calls(
    rate_per_s: float,
    duration_s: float,
    *,
    interactive: float = 0.5,
    promise: Promise = INTERACTIVE,
    seed: int = 0,
) -> list[Call]:
    """Poisson arrivals: short interactive calls with a promise, long batch calls without one."""
    draw = random.Random(seed)
    calls: list[Call] = []
    at_s = 0.0
    while True:
        at_s += draw.expovariate(rate_per_s)
        if at_s > duration_s:
            return calls
        if draw.random() < interactive:
            num_prompt = min(1024, 16 + round(draw.lognormvariate(5.0, 0.6)))
            length = min(512, 4 + round(draw.lognormvariate(3.8, 0.6)))
            calls.append(Call(at_s, num_prompt, length, promise, "chat", "chat"))
        else:
            num_prompt = min(2048, 32 + round(draw.lognormvariate(6.0, 0.6)))
            length = min(1000, 16 + round(draw.lognormvariate(5.2, 0.6)))
            calls.append(Call(at_s, num_prompt, length, BEST_EFFORT, "batch", "batch"))


@dataclass
class Score:
    """goodput: share of the promised weight that was kept. best_effort_tokens_per_s: emitted while
    calls arrived."""

    goodput: float
    best_effort_tokens_per_s: float
    num_promised: int
    num_refused: int
    kept_of_admitted: float


def score(results: Iterable[Result], duration_s: float) -> Score:
    results = list(results)
    promised = [r for r in results if r.call.promise is not BEST_EFFORT]
    weight = sum(r.call.promise.weight for r in promised)
    held = sum(r.call.promise.weight for r in promised if r.held)
    admitted = sum(r.call.promise.weight for r in promised if not r.is_refused)
    tokens = sum(
        sum(at_s <= duration_s for at_s in r.tokens_at)
        for r in results
        if r.call.promise is BEST_EFFORT
    )
    return Score(
        held / weight if weight else math.nan,
        tokens / duration_s,
        len(promised),
        sum(r.is_refused for r in promised),
        held / admitted if admitted else math.nan,
    )
