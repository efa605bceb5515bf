"""What a decision of the scheduler costs: arrivals at a core whose replicas are all busy.

Times are of the whole event, as dispatch calls it: estimates on every replica, the choice, its
record, and whatever is assigned or withdrawn for it.
"""

from __future__ import annotations

import random
import statistics
from array import array
from time import perf_counter

from bench.context import Bench, Outcome, Skipped
from fmedge.sched.core import (
    Arrival,
    Assign,
    CoreSettings,
    Effect,
    Refuse,
    SchedulerCore,
    StepFacts,
    Withdraw,
)
from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.lengths import LengthPredictor
from fmedge.sched.steps import StepLimits
from fmedge.sched.steptime import Curve, StepModel
from fmedge.types import BEST_EFFORT, Promise

SIZES = ((8, 8, 64, 100.0), (64, 16, 1000, 1000.0))
"""Replicas, slots of each, requests in flight in all, the most that p99 may be in microseconds."""

NUM_DECISIONS = 2000
NUM_WARM_UP = 300
TICK_EVERY = 3
MAX_STEP_EVENTS = 32
PROMPT_TOKENS = 256
MAX_TOKENS = 512
INTERACTIVE = Promise(sla_class="interactive", ttft_s=1.0, tpot_s=0.05)


async def run(bench: Bench) -> list[Outcome | Skipped]:
    found: list[Outcome | Skipped] = []
    for num_replicas, slots, num_in_flight, most_us in SIZES:
        p50s, p99s, ticks, tokens = [], [], [], []
        for number in range(bench.rounds):
            traffic = Traffic(num_replicas, slots, num_in_flight, seed=number)
            traffic.run(NUM_WARM_UP)
            traffic.forget_times()
            traffic.run(NUM_DECISIONS)
            p50s.append(_quantile_us(traffic.decision_s, 0.5))
            p99s.append(_quantile_us(traffic.decision_s, 0.99))
            ticks.append(_quantile_us(traffic.tick_s, 0.99))
            tokens.append(_quantile_us(traffic.tokens_s, 0.99))
            bench.say(
                f"  {num_replicas} replicas, {num_in_flight} in flight, round {number}: decision "
                f"p50 {p50s[-1]:.0f} us, p99 {p99s[-1]:.0f} us; tick p99 {ticks[-1]:.0f} us; "
                f"tokens p99 {tokens[-1]:.1f} us"
            )
        row = f"decision, {num_replicas} x {num_in_flight:,}"
        detail = {"p50_us": p50s, "tick_p99_us": ticks, "tokens_p99_us": tokens}
        found.append(
            Outcome(row, "p99", statistics.median(p99s), "us", most_us, False, tuple(p99s), detail)
        )
    return found


class Traffic:
    """A core with as many requests in flight as wanted, at all stages of progress: one ends, one
    arrives. Half of them have a promise. Only the core runs; replicas do what it assumes."""

    def __init__(self, num_replicas: int, slots: int, num_in_flight: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._core = SchedulerCore(CoreSettings(max_waiting=10 * num_in_flight))
        self._num_in_flight = num_in_flight
        self._where: dict[int, str] = {}
        self._fresh: list[int] = []  # assigned, and not prefilled yet
        self._num_arrived = 0
        self._now_s = 0.0
        self._interval_s = 0.5 / num_in_flight
        self._lengths = LengthPredictor()
        for _ in range(300):
            self._lengths.observe(("chat",), self._random.randint(10, 200), False)
            self._lengths.observe(("batch",), self._random.randint(50, 500), False)
        limits = StepLimits(max_tokens=512)
        facts = ReplicaFacts(slots=slots, ctx_size=8192, limits=limits)
        for number in range(num_replicas):
            name = f"replica {number}"
            self._core.on_replica_added(name, "m")
            packed = _model(self._random.uniform(0.3, 1.0)).packed()
            self._core.on_replica_ready(0.0, name, facts, packed)
        self.forget_times()

    def forget_times(self) -> None:
        self.decision_s, self.tick_s, self.tokens_s = array("d"), array("d"), array("d")

    def run(self, num_decisions: int) -> None:
        for _ in range(num_decisions + self._num_in_flight - self._core.num_open):
            while self._core.num_open >= self._num_in_flight:
                self._end_one()
            self._arrive()
            self._step_some()
            if self._num_arrived % TICK_EVERY == 0:
                self._tick()

    def _arrive(self) -> None:
        self._num_arrived += 1
        self._now_s += self._interval_s
        kind = self._random.choice(("chat", "batch"))
        prompt = array("i", [self._random.randrange(32_000) for _ in range(PROMPT_TOKENS)])
        arrival = Arrival(
            self._num_arrived,
            "m",
            PROMPT_TOKENS,
            MAX_TOKENS,
            promise=INTERACTIVE if kind == "chat" else BEST_EFFORT,
            api_key_id=f"key {self._num_arrived % 5}",
            lengths=self._lengths.predict((kind,), 1, MAX_TOKENS),
            prompt=prompt.tobytes(),
        )
        is_full = self._core.num_open == self._num_in_flight - 1
        start_s = perf_counter()
        effects = self._core.on_arrival(self._now_s, arrival)
        if is_full:
            self.decision_s.append(perf_counter() - start_s)
        self._apply(effects)

    def _end_one(self) -> None:
        request_id = self._random.choice(list(self._where))
        del self._where[request_id]
        self._apply(self._core.on_finish(self._now_s, request_id))

    def _step_some(self) -> None:
        core, now_s = self._core, self._now_s
        for request_id in self._fresh:
            where = self._where.get(request_id)
            if where is not None:
                core.on_step(now_s, where, StepFacts(((request_id, PROMPT_TOKENS),), 4e-4, 4e-3))
                core.on_tokens(now_s, request_id, 1)
                core.on_first_token(now_s, request_id, 0)
        self._fresh.clear()
        running = list(self._where)
        for request_id in self._random.sample(running, min(len(running), MAX_STEP_EVENTS)):
            start_s = perf_counter()
            core.on_tokens(now_s, request_id, 1)
            self.tokens_s.append(perf_counter() - start_s)

    def _tick(self) -> None:
        start_s = perf_counter()
        effects = self._core.on_tick(self._now_s)
        self.tick_s.append(perf_counter() - start_s)
        self._apply(effects)

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Assign():
                    self._where[effect.request_id] = effect.replica
                    self._fresh.append(effect.request_id)
                case Withdraw():
                    del self._where[effect.request_id]
                case Refuse():
                    raise AssertionError("the queue has room, and this class does not refuse")


def _model(speed: float) -> StepModel:
    """A small model on a CPU core: 3 ms for one sequence, 1.5 ms a further one, at speed 1."""
    return StepModel(
        base_s=0.0015 / speed,
        prefill_base_s=0.001 / speed,
        prefill=Curve((0.0, 2048.0), (0.0, 0.8 / speed)),
        decode=Curve((0.0, 64.0), (0.0, 0.096 / speed)),
        kv_s=4e-7 / speed,
        attention_s=4e-8 / speed,
    )


def _quantile_us(times_s: array[float], u: float) -> float:
    ordered = sorted(times_s)
    return 1e6 * ordered[min(len(ordered) - 1, int(u * len(ordered)))]
