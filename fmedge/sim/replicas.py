"""The replicas of a simulation, and what the scheduler core is told of their steps.

The rule: as dispatch tells it. Each step corrects what was told of a replica's speed, tokens and
prefill are known as soon as their step has ended, and nothing is known of a step under way. A
policy that makes no estimates hears only what it goes by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from msgspec import Struct

from fmedge.sched.core import Effect, SchedulerCore, StepFacts
from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.facts import ReplicaFacts
from fmedge.sched.live import LiveModel
from fmedge.sched.steps import StepLimits
from fmedge.sched.steptime import StepModel
from fmedge.sim.ports import Bank, Engine, Progress, Sample

DEFAULT_CTX_SIZE = 8192
NOTHING_TOLD = (0.0, 0.0)


class Replica:
    """live: what is told of its speed, corrected by its steps. rates: of its step policy, as the
    core was told last."""

    __slots__ = ("engine", "index", "live", "model", "name", "rates")

    def __init__(self, index: int, spec: ReplicaSpec, engine: Engine, told: StepModel) -> None:
        self.index = index
        self.name = spec.name
        self.model = spec.model
        self.engine = engine
        self.live = LiveModel(told)
        self.rates = NOTHING_TOLD


class Replicas:
    """In the order of their specifications. estimates: whether the policy wants to know all."""

    def __init__(
        self,
        specs: Sequence[ReplicaSpec],
        bank: Bank,
        core: SchedulerCore,
        *,
        estimates: bool,
        told: Mapping[str, StepModel],
    ) -> None:
        self._specs = specs
        self._bank = bank
        self._core = core
        self._estimates = estimates
        self._all = [
            Replica(index, spec, engine, told.get(spec.name, spec.steps))
            for index, (spec, engine) in enumerate(zip(specs, bank.engines, strict=True))
        ]
        self._by_name = {replica.name: replica for replica in self._all}
        self._next_s = [inf] * len(specs)
        self.ctx_sizes = {
            model: min(_ctx_size(spec) for spec in specs if spec.model == model)
            for model in dict.fromkeys(spec.model for spec in specs)
        }

    def __getitem__(self, name: str) -> Replica:
        return self._by_name[name]

    def begin(self) -> list[Effect]:
        """All are ready, at time 0."""
        core = self._core
        for spec in self._specs:
            core.on_replica_added(spec.name, spec.model)
        effects: list[Effect] = []
        for spec, replica in zip(self._specs, self._all, strict=True):
            effects += core.on_replica_ready(
                0.0,
                spec.name,
                _facts(spec),
                replica.live.packed,
                keeps_prefixes=not spec.is_recurrent,
            )
        return effects

    def next_event(self) -> tuple[float, Replica]:
        """When a first token or an end may come next, and where; inf where none will."""
        next_s = self._next_s
        at_s = min(next_s)
        return at_s, self._all[next_s.index(at_s)]

    def changed(self, replica: Replica) -> None:
        """Its engine was told something, or has got on."""
        self._next_s[replica.index] = replica.engine.next_s

    def catch_up(self, now_s: float) -> None:
        """The core knows of every step of every replica that has ended, if it wants to."""
        if not self._estimates:
            return
        self._bank.advance(now_s)
        for new in self._bank.progress():
            self._tell(self._all[new.index], new)

    def catch_up_with(self, replica: Replica, now_s: float) -> None:
        """The same of one replica."""
        engine = replica.engine
        engine.advance(now_s)
        told = engine.rates
        rates = (told.prefill_s_per_token, told.decode_s)
        if self._estimates:
            tokens, prefilled = engine.tokens(), engine.prefilled()
            new = _New(replica.index, engine.stepped_s, rates, tokens, prefilled, engine.samples())
            self._tell(replica, new)
        elif rates != replica.rates:
            replica.rates = rates
            self._core.on_step(engine.stepped_s, replica.name, StepFacts((), *rates))

    def busy_s(self) -> dict[str, float]:
        return {replica.name: replica.engine.busy_s for replica in self._all}

    def _tell(self, replica: Replica, new: Progress) -> None:
        observe = replica.live.observe
        for num_prefill, num_decoding, num_kv, attention, step_s in new.samples:
            observe(num_prefill, num_decoding, num_kv, attention, step_s)
        # A step that only decodes tells no rates.
        told = NOTHING_TOLD if new.rates == replica.rates else new.rates
        replica.rates = new.rates
        facts = StepFacts(tuple(new.prefilled), *told)
        self._core.on_progress_bulk(new.stepped_s, replica.name, new.tokens, facts)


class _New(Struct):
    """`Progress` of one engine alone."""

    index: int
    stepped_s: float
    rates: tuple[float, float]
    tokens: Sequence[tuple[int, int]]
    prefilled: Sequence[tuple[int, int]]
    samples: Sequence[Sample]


def _ctx_size(spec: ReplicaSpec) -> int:
    return spec.engine.ctx_size or DEFAULT_CTX_SIZE


def _facts(spec: ReplicaSpec) -> ReplicaFacts:
    """As dispatch makes them of a loaded engine."""
    engine, ctx_size = spec.engine, _ctx_size(spec)
    return ReplicaFacts(
        slots=engine.slots,
        ctx_size=ctx_size,
        limits=StepLimits(max_tokens=engine.batch_size),
        kv_unified=engine.kv_unified,
        kv_tokens=engine.kv_tokens or ctx_size * engine.slots,
    )
