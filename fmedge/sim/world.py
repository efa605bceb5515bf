"""A workload played to the scheduler core in virtual time.

The rule: the core is told what dispatch would tell it, when dispatch would, and nothing else; what
it decides is carried out at once. Who makes a step pass is the engine (`engine.py`); nothing here
knows how long anything takes.

The clock jumps from one event to the next: an arrival, a tick of 50 ms while anything is open, a
first token, an end. Steps in between are told in bulk, before whatever decides by them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf, nan

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
    Withdraw,
)
from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.forecast import Forecaster
from fmedge.sched.steptime import StepModel
from fmedge.sched.workflow_call import WorkflowError
from fmedge.sim.garbage import garbage_set_aside
from fmedge.sim.outcome import INTERRUPTED, Row, Status
from fmedge.sim.pending import Pending
from fmedge.sim.played import Played
from fmedge.sim.policies import Rules, rules
from fmedge.sim.ports import Bank, Prompts
from fmedge.sim.prompts import prompts_of
from fmedge.sim.replicas import Replica, Replicas
from fmedge.sim.served import only_model, workflows_of
from fmedge.sim.workload import Workload

TICK_S = 0.05
STUCK_S = 3600.0
"""With no engine busy and nothing to come, whatever is still open after so long would be for ever:
the scheduler has lost it."""

EVENTS_A_REPORT = 256

Listener = Callable[[float, Sequence[Row]], bool | None]
"""Is told the time and the rows of what has come to its end so far; True ends the run."""


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
    progress: Listener | None = None,
    limit_s: float | None = None,
    new_bank: Callable[[Sequence[ReplicaSpec]], Bank] | None = None,
    prompts: Prompts | None = None,
) -> Simulated:
    """Plays the workload to its end, or to limit_s of virtual time.

    policy, without: see `policies`. settings: of the core; seed: of policies that draw lots. told:
    what the scheduler is told of replicas' speed, by name; of those that are not in it the truth,
    without noise and slowdown. As steps go by they correct it, as they do a server's. progress: is
    told now and then. prompts: None makes them from the calls' blocks.

    Ctrl-C ends it, too: what there is comes back, with `ended` saying so. ConfigError for an
    unknown policy, no replica, or a model that none of them serves.
    """
    chosen = rules(policy, without)
    if not specs:
        raise ConfigError("nothing to simulate: the cluster has no replica")
    if new_bank is None:
        from fmedge.sim import bank  # numba, which not every test needs

        new_bank = bank.Bank
    core = SchedulerCore(chosen.settings(settings, seed), chosen.core)
    replicas = Replicas(specs, new_bank(specs), core, estimates=chosen.estimates, told=told or {})
    prompts = prompts or prompts_of(workload, can_return=chosen.estimates)
    world = _World(workload, chosen, core, replicas, prompts)
    ended = ""
    try:
        with garbage_set_aside():
            ended = world.run(inf if limit_s is None else limit_s, progress)
    except KeyboardInterrupt:
        ended = INTERRUPTED
    return world.result(ended)


class _World:
    """The clock, what is learned, and every call that is open, by the id of its request."""

    def __init__(
        self,
        workload: Workload,
        chosen: Rules,
        core: SchedulerCore,
        replicas: Replicas,
        prompts: Prompts,
    ) -> None:
        self._rules = chosen
        self._calls = workload.calls
        self._has_shared = any(call.blocks for call in workload.calls)
        self._prompts = prompts
        self._core = core
        self._replicas = replicas
        self._only_model = only_model(workload, tuple(replicas.ctx_sizes))
        self._forecaster = Forecaster(workflows_of(workload))
        self._pending = Pending(workload.calls)
        self._open: dict[int, Played] = {}
        self._rows: list[Row] = []  # in order of ends
        self._now_s = 0.0
        self._tick_s = inf
        self._stirred_s = 0.0  # when anything but a tick was last
        self._num_submits = self._num_withdrawn = 0
        self._carry_out(0.0, replicas.begin())

    def run(self, limit_s: float, progress: Listener | None) -> str:
        """To the end; why it came early, if it did."""
        num_events = 0
        while True:
            arrival_s = self._pending.next_s
            engine_s, replica = self._replicas.next_event()
            now_s = min(engine_s, self._tick_s, arrival_s)
            if now_s == inf:
                return ""
            if now_s > limit_s:
                self._now_s = limit_s
                return f"ended at {limit_s:g} s of its own time"
            self._now_s = now_s
            if engine_s == now_s:
                self._stirred_s = now_s
                self._take_ended(replica, now_s)
            elif self._tick_s == now_s:
                self._on_tick(now_s)
                if engine_s == arrival_s == inf and now_s > self._stirred_s + STUCK_S:
                    return f"{len(self._open)} calls wait that nothing will ever serve"
            else:
                self._stirred_s = now_s
                self._on_arrival(now_s, self._pending.pop())
            num_events += 1
            if progress is None or num_events % EVENTS_A_REPORT:
                continue
            if progress(now_s, self._rows):
                return "ended as soon as enough was known"

    def result(self, ended: str) -> Simulated:
        rows: list[Row | None] = [None] * len(self._calls)
        for row in self._rows:
            rows[row.call] = row
        for played in self._open.values():
            rows[played.index] = played.row(self._now_s, "unfinished", played.replica)
        return Simulated(
            rows=tuple(row or _unsent(index) for index, row in enumerate(rows)),
            end_s=self._now_s,
            busy_s=self._replicas.busy_s(),
            num_submits=self._num_submits,
            num_withdrawn=self._num_withdrawn,
            ended=ended,
        )

    # --- events ---

    def _on_arrival(self, now_s: float, index: int) -> None:
        call = self._calls[index]
        model = call.model or self._only_model
        room = self._replicas.ctx_sizes[model] - call.num_prompt
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
        played.prompt = self._prompts(call, index)
        arrival = self._forecaster.foretell(
            self._arrival(played, request_id, model), played.keys, context
        )
        if not self._rules.predicts:
            arrival = replace(arrival, lengths=None)
        self._replicas.catch_up(now_s)
        effects = self._core.on_arrival(now_s, arrival)
        if effects and isinstance(effects[0], Refuse):
            self._forecaster.abandon(now_s, request_id)
            self._end(played, now_s, "refused")
        else:
            self._open[request_id] = played
            self._carry_out(now_s, effects)
        if self._tick_s == inf:
            self._tick_s = now_s + TICK_S

    def _arrival(self, played: Played, request_id: int, model: str) -> Arrival:
        call, most, least = played.call, played.max_tokens, 0
        if self._rules.knows_lengths:
            most = least = max(1, played.num_given)
        return Arrival(
            request_id=request_id,
            model=model,
            num_prompt_tokens=call.num_prompt,
            max_tokens=most,
            min_tokens=least,
            priority=call.priority,
            promise=call.promise,
            api_key_id=call.api_key,
            prompt=played.prompt if self._rules.sees_prefixes else b"",
            workflow=played.workflow,
        )

    def _on_tick(self, now_s: float) -> None:
        self._replicas.catch_up(now_s)
        self._carry_out(now_s, self._core.on_tick(now_s))
        self._forecaster.tick(now_s)
        self._tick_s = now_s + TICK_S if self._core.num_open else inf

    def _take_ended(self, replica: Replica, now_s: float) -> None:
        """First tokens and ends, as a step's message has them."""
        self._replicas.catch_up_with(replica, now_s)
        engine = replica.engine
        for request_id, end_s, is_last in engine.ended():
            played = self._open.get(request_id)
            if played is None:
                continue
            if played.first_s != played.first_s:  # nan: none has come
                played.first_s = end_s
                played.num_cached = engine.num_cached(request_id)
                if played.num_given:
                    self._core.on_first_token(end_s, request_id, played.num_cached)
            if is_last:
                self._finish(replica, played, end_s)
        self._replicas.changed(replica)

    def _finish(self, replica: Replica, played: Played, now_s: float) -> None:
        request_id = played.index + 1
        queue_s, prefill_s = replica.engine.timings(request_id)
        self._forecaster.finished(now_s, request_id, played.ended(queue_s, prefill_s))
        if not self._rules.estimates:
            self._core.on_tokens(now_s, request_id, played.num_given)
        elif self._core.num_waiting(replica.model):
            self._replicas.catch_up(now_s)
        l_q_s = played.assigned_s - played.arrived_s + queue_s
        ttft_s, e2e_s = played.first_s - played.arrived_s, now_s - played.arrived_s
        observed = Observed(
            ttft_s=ttft_s,
            l_q_s=l_q_s,
            l_x_s=e2e_s - l_q_s,
            e2e_s=e2e_s,
            link_s=nan if played.num_submits > 1 else max(0.0, ttft_s - l_q_s - prefill_s),
            num_output_tokens=played.num_given,
            tokens=played.output() if self._has_shared else b"",
        )
        del self._open[request_id]
        self._end(played, now_s, "ok")
        self._carry_out(now_s, self._core.on_finish(now_s, request_id, observed))

    # --- what the core decides ---

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
        replica = self._replicas[effect.replica]
        self._num_submits += 1
        played.num_submits += 1
        played.assigned_s = now_s
        played.replica = replica.name
        replica.engine.submit(
            now_s,
            effect.request_id,
            played.call.num_prompt + played.num_emitted,
            played.num_given - played.num_emitted,
            num_emitted=played.num_emitted,
            priority=effect.engine_priority,
            prompt=played.prompt,
            is_stopped=not played.is_cut,
        )
        self._replicas.changed(replica)

    def _withdraw(self, now_s: float, effect: Withdraw | CancelOn) -> None:
        played = self._open[effect.request_id]
        replica = self._replicas[effect.replica]
        played.num_emitted += replica.engine.num_emitted(effect.request_id)
        played.replica = ""
        replica.engine.cancel(now_s, effect.request_id)
        self._replicas.changed(replica)
        self._num_withdrawn += isinstance(effect, Withdraw)

    # --- ends ---

    def _end(self, played: Played, now_s: float, status: Status) -> None:
        """It is over; who waits for it comes, or never will."""
        self._rows.append(played.row(now_s, status, played.replica))
        lost = self._pending.ended(played.index, now_s, is_ok=status == "ok")
        self._rows += [_unsent(index) for index in lost]


def _unsent(index: int) -> Row:
    return Row(call=index, at_s=nan, status="unsent")
