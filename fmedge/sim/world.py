"""A workload played to the scheduler core in virtual time.

The rule: the core is told what dispatch would tell it, when dispatch would, and nothing else; what
it decides is carried out at once. Who makes a step pass is the engine (`engine.py`); nothing here
knows how long anything takes.

The clock jumps from one event to the next: an arrival, a tick of 50 ms while anything is open, a
first token, an end. Steps in between are told in bulk, before whatever decides by them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf, nan
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from fmedge.errors import ConfigError
from fmedge.sched.core import (
    Arrival,
    Assign,
    CancelOn,
    CoreSettings,
    Effect,
    Fail,
    Observed,
    Refuse,
    SchedulerCore,
    StepFacts,
    Withdraw,
)
from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.facts import ReplicaFacts
from fmedge.sched.forecast import Forecaster
from fmedge.sched.live import LiveModel
from fmedge.sched.steps import StepLimits, StepRates
from fmedge.sched.steptime import StepModel
from fmedge.sched.workflow_call import WorkflowError
from fmedge.sim.outcome import Row, Status
from fmedge.sim.played import Played
from fmedge.sim.policies import Rules, rules
from fmedge.sim.workload import Call, Workload
from fmedge.types import WorkflowSettings

TICK_S = 0.05
STUCK_S = 3600.0
"""With no engine busy and nothing to come, whatever is still open after so long would be for ever:
the scheduler has lost it."""

EVENTS_A_REPORT = 256

NOTHING_TOLD = (0.0, 0.0)


class Engine(Protocol):
    """One replica's engine (`sim.engine.Engine` says what each of these is)."""

    @property
    def next_s(self) -> float: ...
    @property
    def stepped_s(self) -> float: ...
    @property
    def busy_s(self) -> float: ...
    @property
    def rates(self) -> StepRates: ...
    def submit(
        self,
        now_s: float,
        request_id: int,
        num_tokens: int,
        num_left: int,
        *,
        num_emitted: int = 0,
        priority: int = 0,
        prompt: bytes = b"",
        cache_key: str = "",
        is_stopped: bool = False,
    ) -> None: ...
    def cancel(self, now_s: float, request_id: int) -> None: ...
    def advance(self, now_s: float) -> None: ...
    def ended(self) -> Sequence[tuple[int, float, bool]]: ...
    def tokens(self) -> Sequence[tuple[int, int]]: ...
    def prefilled(self) -> Sequence[tuple[int, int]]: ...
    def samples(self) -> Sequence[tuple[int, int, float, float, float]]: ...
    def num_cached(self, request_id: int) -> int: ...
    def timings(self, request_id: int) -> tuple[float, float]: ...
    def num_emitted(self, request_id: int) -> int: ...


class Progress(Protocol):
    """What is new of one engine (`sim.bank.Progress`)."""

    @property
    def index(self) -> int: ...
    @property
    def stepped_s(self) -> float: ...
    @property
    def rates(self) -> tuple[float, float]: ...
    @property
    def tokens(self) -> list[tuple[int, int]]: ...
    @property
    def prefilled(self) -> list[tuple[int, int]]: ...


class Bank(Protocol):
    """All engines (`sim.bank.Bank`)."""

    @property
    def engines(self) -> Sequence[Engine]: ...
    def advance(self, now_s: float) -> None: ...
    def progress(self) -> Sequence[Progress]: ...


Prompts = Callable[[Call, int], bytes]
"""The packed prompt of a call by its place in the workload; b"" shares nothing."""


class Simulated(Struct, frozen=True, kw_only=True):
    """What became of a workload. rows: one of each call, in their order. end_s: on the world's
    clock. busy_s: by replica, while steps ran. num_submits: of calls to replicas; num_withdrawn: of
    those, taken back. ended: "" or why not everything came to its end."""

    rows: tuple[Row, ...]
    end_s: float
    busy_s: dict[str, float]
    num_submits: int
    num_withdrawn: int
    ended: str = ""


def simulate(
    specs: Sequence[ReplicaSpec],
    workload: Workload,
    policy: str = "fmedge",
    *,
    settings: CoreSettings | None = None,
    without: Collection[str] = (),
    seed: int = 0,
    told: Mapping[str, StepModel] | None = None,
    progress: Callable[[float, Sequence[Row]], bool | None] | None = None,
    limit_s: float | None = None,
    new_bank: Callable[[Sequence[ReplicaSpec]], Bank] | None = None,
    prompts: Prompts | None = None,
) -> Simulated:
    """Plays the workload to its end, or to limit_s of virtual time.

    policy, without: see `policies`. settings: of the core; seed: of policies that draw lots. told:
    what the scheduler is told of replicas' speed, by name; of those that are not in it the truth,
    without noise and slowdown. As steps go by they correct it, as they do a server's. progress: is
    told now and then how late it is and what has come to its end (rows, in order of that); True
    ends the run. prompts: None makes them from the calls' blocks.

    Ctrl-C ends it, too: what there is comes back, with `ended` saying so. ConfigError for an
    unknown policy, no replica, or a model that none of them serves.
    """
    chosen = rules(policy, without)
    if not specs:
        raise ConfigError("nothing to simulate: the cluster has no replica")
    if new_bank is None:
        from fmedge.sim import bank  # numba, which not every test needs

        new_bank = bank.Bank
    world = _World(
        specs,
        workload,
        chosen,
        chosen.settings(settings, seed),
        told or {},
        new_bank(specs),
        prompts or prompts_of(workload, chosen),
    )
    ended = ""
    try:
        ended = world.run(inf if limit_s is None else limit_s, progress)
    except KeyboardInterrupt:
        ended = "interrupted"
    return world.result(ended)


def prompts_of(workload: Workload, chosen: Rules) -> Prompts:
    """The workload's prompts, or none where nobody could tell them from others: nothing is shared,
    and nothing that was taken off a replica comes back to its KV."""
    if not chosen.estimates and not any(call.blocks for call in workload.calls):
        return lambda call, index: b""
    from fmedge.sim.load import prompt_tokens

    block_tokens = workload.block_tokens or 1
    return lambda call, index: prompt_tokens(call, index, block_tokens, 0, 1 << 24)


class _Replica:
    """live: what is told of its speed, corrected; None where nobody asks."""

    __slots__ = ("engine", "index", "live", "model", "name", "rates")

    def __init__(self, index: int, spec: ReplicaSpec, engine: Engine) -> None:
        self.index = index
        self.name = spec.name
        self.model = spec.model
        self.engine = engine
        self.live: LiveModel | None = None
        self.rates = NOTHING_TOLD  # that the core was told last


class _World:
    """The core, its replicas' engines, what is learned, and every call that is open."""

    def __init__(
        self,
        specs: Sequence[ReplicaSpec],
        workload: Workload,
        chosen: Rules,
        settings: CoreSettings,
        told: Mapping[str, StepModel],
        bank: Bank,
        prompts: Prompts,
    ) -> None:
        self._rules = chosen
        self._calls = workload.calls
        self._has_shared = any(call.blocks for call in workload.calls)
        self._prompts = prompts
        self._core = SchedulerCore(settings, chosen.core)
        self._forecaster = Forecaster(_workflows(workload))
        self._bank = bank
        self._replicas = [
            _Replica(i, spec, engine)
            for i, (spec, engine) in enumerate(zip(specs, bank.engines, strict=True))
        ]
        self._places = {replica.name: replica.index for replica in self._replicas}
        self._next_s = [inf] * len(specs)
        self._ctx_sizes = {
            model: min(spec.engine.ctx_size for spec in specs if spec.model == model)
            for model in dict.fromkeys(spec.model for spec in specs)
        }
        self._only_model = next(iter(self._ctx_sizes)) if len(self._ctx_sizes) == 1 else ""
        self._open: dict[int, Played] = {}
        self._rows: list[Row] = []  # in order of ends
        self._now_s = 0.0
        self._tick_s = inf
        self._idle_since_s = 0.0
        self._num_submits = self._num_withdrawn = 0
        self._arrivals: list[tuple[float, int]] = []
        self._awaited_by: dict[int, list[int]] = {}
        self._num_awaited: dict[int, int] = {}
        for index, call in enumerate(self._calls):
            self._check_model(call)
            if not call.after:
                self._arrivals.append((call.at_s, index))
                continue
            self._num_awaited[index] = len(call.after)
            for other in call.after:
                self._awaited_by.setdefault(other, []).append(index)
        heapq.heapify(self._arrivals)
        for spec in specs:
            self._core.on_replica_added(spec.name, spec.model)
        for replica, spec in zip(self._replicas, specs, strict=True):
            self._begin(replica, spec, told.get(spec.name, spec.steps))

    def run(
        self, limit_s: float, progress: Callable[[float, Sequence[Row]], bool | None] | None
    ) -> str:
        """To the end; why it came early, if it did."""
        num_events = 0
        while True:
            arrival_s = self._arrivals[0][0] if self._arrivals else inf
            engine_s = min(self._next_s)
            now_s = min(engine_s, self._tick_s, arrival_s)
            if now_s > limit_s:
                if now_s == inf:
                    return ""
                self._now_s = limit_s
                return f"ended at {limit_s:g} s of its own time"
            if now_s == inf:
                return ""
            self._now_s = now_s
            num_events += 1
            if engine_s == now_s:
                self._idle_since_s = now_s
                replica = self._replicas[self._next_s.index(now_s)]
                self._take_ended(replica, now_s)
            elif self._tick_s == now_s:
                self._on_tick(now_s)
                if engine_s == arrival_s == inf and now_s > self._idle_since_s + STUCK_S:
                    return f"{len(self._open)} calls wait that nothing will ever serve"
            else:
                self._idle_since_s = now_s
                self._on_arrival(now_s, heapq.heappop(self._arrivals)[1])
            if progress is None or num_events % EVENTS_A_REPORT:
                continue
            if progress(now_s, self._rows):
                return "ended as soon as enough was known"

    def result(self, ended: str) -> Simulated:
        rows: list[Row | None] = [None] * len(self._calls)
        for row in self._rows:
            rows[row.call] = row
        for played in self._open.values():
            name = self._replicas[played.replica].name if played.replica >= 0 else ""
            rows[played.index] = played.row(self._now_s, "unfinished", name)
        return Simulated(
            rows=tuple(row or Row(call=i, at_s=nan, status="unsent") for i, row in enumerate(rows)),
            end_s=self._now_s,
            busy_s={replica.name: replica.engine.busy_s for replica in self._replicas},
            num_submits=self._num_submits,
            num_withdrawn=self._num_withdrawn,
            ended=ended,
        )

    # --- events ---

    def _on_arrival(self, now_s: float, index: int) -> None:
        call = self._calls[index]
        model = call.model or self._only_model
        room = self._ctx_sizes[model] - call.num_prompt
        played = Played(index, call, model, max(room, 1), now_s)
        request_id = index + 1
        if room < 1:
            self._end(played, now_s, "failed")
            return
        try:
            context = self._forecaster.begin(now_s, request_id, played.workflow, call.api_key)
        except WorkflowError:
            self._end(played, now_s, "failed")
            return
        played.prompt = prompt = self._prompts(call, index)
        knows = self._rules.knows_lengths
        arrival = Arrival(
            request_id=request_id,
            model=model,
            num_prompt_tokens=call.num_prompt,
            max_tokens=max(1, played.num_given) if knows else played.max_tokens,
            min_tokens=max(1, played.num_given) if knows else 0,
            priority=call.priority,
            promise=call.promise,
            api_key_id=call.api_key,
            prompt=prompt if self._rules.sees_prefixes else b"",
            workflow=played.workflow,
        )
        arrival = self._forecaster.foretell(arrival, played.keys, context)
        if not self._rules.predicts:
            arrival = replace(arrival, lengths=None)
        if self._rules.estimates:
            self._catch_up(now_s)
        effects = self._core.on_arrival(now_s, arrival)
        if effects and isinstance(effects[0], Refuse):
            self._forecaster.abandon(now_s, request_id)
            self._end(played, now_s, "refused")
        else:
            self._open[request_id] = played
            self._carry_out(now_s, effects)
        if self._tick_s == inf:
            self._tick_s = now_s + TICK_S

    def _on_tick(self, now_s: float) -> None:
        if self._rules.estimates:
            self._catch_up(now_s)
        self._carry_out(now_s, self._core.on_tick(now_s))
        self._forecaster.tick(now_s)
        self._tick_s = now_s + TICK_S if self._core.num_open else inf

    def _take_ended(self, replica: _Replica, now_s: float) -> None:
        """First tokens and ends, as a step's message has them."""
        self._catch_up_with(replica, now_s)
        for request_id, end_s, is_last in replica.engine.ended():
            played = self._open.get(request_id)
            if played is None:
                continue
            queue_s, prefill_s = replica.engine.timings(request_id)
            if played.first_s != played.first_s and played.num_given:
                played.first_s = end_s
                played.num_cached = replica.engine.num_cached(request_id)
                self._core.on_first_token(end_s, request_id, played.num_cached)
            if is_last:
                self._finish(replica, played, end_s, queue_s, prefill_s)
        self._next_s[replica.index] = replica.engine.next_s

    def _finish(
        self, replica: _Replica, played: Played, now_s: float, queue_s: float, prefill_s: float
    ) -> None:
        request_id = played.index + 1
        if played.first_s != played.first_s:  # it ended without a token
            played.first_s = now_s
        self._forecaster.finished(now_s, request_id, played.ended(queue_s, prefill_s))
        if self._rules.estimates:
            if self._core.num_waiting(replica.model):
                self._catch_up(now_s)
        else:
            self._core.on_tokens(now_s, request_id, played.num_given)
        l_q_s = played.assigned_s - played.arrived_s + queue_s
        ttft_s, e2e_s = played.first_s - played.arrived_s, now_s - played.arrived_s
        was_resumed = played.num_submits > 1
        observed = Observed(
            ttft_s=ttft_s,
            l_q_s=l_q_s,
            l_x_s=e2e_s - l_q_s,
            e2e_s=e2e_s,
            link_s=nan if was_resumed else max(0.0, ttft_s - l_q_s - prefill_s),
            num_output_tokens=played.num_given,
            tokens=played.output() if self._has_shared else b"",
        )
        del self._open[request_id]
        self._end(played, now_s, "ok", replica.name)
        self._carry_out(now_s, self._core.on_finish(now_s, request_id, observed))

    # --- the core's knowledge and its will ---

    def _begin(self, replica: _Replica, spec: ReplicaSpec, told: StepModel) -> None:
        engine = spec.engine
        facts = ReplicaFacts(
            slots=engine.slots,
            ctx_size=engine.ctx_size,
            limits=StepLimits(max_tokens=engine.batch_size),
            kv_unified=engine.kv_unified,
            kv_tokens=engine.kv_tokens or engine.ctx_size * engine.slots,
        )
        live = LiveModel(told)
        if self._rules.estimates:
            replica.live = live
        self._carry_out(
            0.0,
            self._core.on_replica_ready(
                0.0, spec.name, facts, live.packed, keeps_prefixes=not spec.is_recurrent
            ),
        )

    def _catch_up(self, now_s: float) -> None:
        """The core knows of every step that has ended."""
        self._bank.advance(now_s)
        for new in self._bank.progress():
            self._tell(
                self._replicas[new.index], new.stepped_s, new.rates, new.tokens, new.prefilled
            )

    def _catch_up_with(self, replica: _Replica, now_s: float) -> None:
        """The core knows of every step of one replica; where it does not estimate, of what it
        listens to."""
        engine = replica.engine
        engine.advance(now_s)
        rates = (engine.rates.prefill_s_per_token, engine.rates.decode_s)
        if replica.live is not None:
            self._tell(replica, engine.stepped_s, rates, engine.tokens(), engine.prefilled())
        elif rates != replica.rates:
            replica.rates = rates
            self._core.on_step(engine.stepped_s, replica.name, StepFacts((), *rates))

    def _tell(
        self,
        replica: _Replica,
        stepped_s: float,
        rates: tuple[float, float],
        tokens: Sequence[tuple[int, int]],
        prefilled: Sequence[tuple[int, int]],
    ) -> None:
        if replica.live is not None:
            for num_prefill, num_decoding, num_kv, attention, step_s in replica.engine.samples():
                replica.live.observe(num_prefill, num_decoding, num_kv, attention, step_s)
        told = NOTHING_TOLD if rates == replica.rates else rates  # as a step that only decodes
        replica.rates = rates
        facts = StepFacts(tuple(prefilled), *told)
        self._core.on_progress_bulk(stepped_s, replica.name, tokens, facts)

    def _carry_out(self, now_s: float, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Assign():
                    self._submit(now_s, effect)
                case Withdraw() | CancelOn():
                    self._withdraw(now_s, effect)
                case Fail():
                    played = self._open.pop(effect.request_id)
                    self._forecaster.abandon(now_s, effect.request_id)
                    self._end(played, now_s, "failed")
                case Refuse():
                    raise AssertionError("only an arrival is refused")

    def _submit(self, now_s: float, effect: Assign) -> None:
        played = self._open[effect.request_id]
        replica = self._replicas[self._places[effect.replica]]
        self._num_submits += 1
        played.num_submits += 1
        played.assigned_s = now_s
        played.replica = replica.index
        engine = replica.engine
        engine.submit(
            now_s,
            effect.request_id,
            played.call.num_prompt + played.num_emitted,
            played.num_given - played.num_emitted,
            num_emitted=played.num_emitted,
            priority=effect.engine_priority,
            prompt=played.prompt,
            is_stopped=not played.is_cut,
        )
        self._next_s[replica.index] = engine.next_s

    def _withdraw(self, now_s: float, effect: Withdraw | CancelOn) -> None:
        played = self._open[effect.request_id]
        replica = self._replicas[self._places[effect.replica]]
        engine = replica.engine
        played.num_emitted += engine.num_emitted(effect.request_id)
        played.replica = -1
        engine.cancel(now_s, effect.request_id)
        self._next_s[replica.index] = engine.next_s
        self._num_withdrawn += isinstance(effect, Withdraw)

    # --- ends ---

    def _end(self, played: Played, now_s: float, status: Status, replica: str = "") -> None:
        """It is over; who waits for it comes, or never will."""
        self._rows.append(played.row(now_s, status, replica))
        if self._awaited_by:
            self._release(played.index, now_s, is_ok=status == "ok")

    def _release(self, index: int, now_s: float, *, is_ok: bool) -> None:
        pending = [(index, is_ok)]
        while pending:
            index, is_ok = pending.pop()
            for other in self._awaited_by.pop(index, ()):
                num_left = self._num_awaited.get(other, 0) - 1
                if num_left < 0:
                    continue  # it was given up already
                if not is_ok:
                    del self._num_awaited[other]
                    self._rows.append(Row(call=other, at_s=nan, status="unsent"))
                    pending.append((other, False))
                elif num_left:
                    self._num_awaited[other] = num_left
                else:
                    del self._num_awaited[other]
                    due_s = now_s + self._calls[other].at_s
                    heapq.heappush(self._arrivals, (due_s, other))

    def _check_model(self, call: Call) -> None:
        if not (call.model or self._only_model):
            raise ConfigError(
                "the workload names no model, and the cluster serves several: "
                + ", ".join(self._ctx_sizes)
            )
        if call.model and call.model not in self._ctx_sizes:
            raise ConfigError(
                f"the workload asks for the model {call.model!r}, which the cluster does not "
                f"serve; it serves {', '.join(self._ctx_sizes)}"
            )


def _workflows(workload: Workload) -> dict[str, WorkflowSettings]:
    """Those that calls belong to; without a promise where the workload has none for them."""
    names = dict.fromkeys(call.workflow for call in workload.calls if call.workflow)
    return {name: workload.workflows.get(name, WorkflowSettings(name=name)) for name in names}
