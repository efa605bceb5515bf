"""The Resource Provisioner: from models, devices and demand to a plan.

The rules, in this order:

- What fits nowhere is refused with the smallest changes that would help; nothing is planned that
  memory.py does not say fits.
- Where something is too large it gives up, in this order: the KV cache's second half of bits, the
  larger quantisations, half of the context.
- Of several quantisations the largest one that keeps its promises (without promises: that decodes
  COMFORTABLE_TOK_S) is taken; where none does, the one that costs least.
- With demand: slots, replicas and KV type are changed step by step as long as the objective
  (evaluate.py) falls by MIN_GAIN.
- Without: one user first. Then slots grow to FIRST_SLOTS, then the context, then slots again, as
  long as one user loses no more than FIRST_LOSS or GROWTH_LOSS, and each stream of a full house is
  still comfortable or half as fast as one alone.
- A plan in force stays where the best is not better by MIN_GAIN.

Deterministic: the same request gives the same plan, but for solve_ms, which the caller measures.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from msgspec.structs import replace

from fmedge.sched.provision import moves
from fmedge.sched.provision.advice import reasons, warnings_of
from fmedge.sched.provision.assemble import assemble
from fmedge.sched.provision.cost import OperatingPoint
from fmedge.sched.provision.demand import demands_of
from fmedge.sched.provision.evaluate import (
    Choices,
    Evaluation,
    Evaluator,
    ModelScore,
    meets,
    shares_of,
    usual_request,
)
from fmedge.sched.provision.placing import Ground, PlacedReplica, Placement
from fmedge.sched.provision.plan import NoPlanError, Plan, PlannedReplica
from fmedge.sched.provision.refusal import no_plan
from fmedge.sched.provision.request import Choice, ModelRequest, PlanRequest

COMFORTABLE_TOK_S = 20.0
"""Some three times as fast as people read."""

MIN_GAIN = 0.05
KV_GAIN = 0.1
"""By which half of the KV's bits must shorten one user's time."""

FIRST_TRIES = (4, 8, 16, 32)
"""Slots from which the search for a demand starts."""

BUSY_SHARE = 0.7
"""Of a replica's time, that may be used where requests come at random and nobody waits long."""

CUT_LOSS = 0.01
"""Of the objective, for which replicas and slots are not worth their memory."""

FIRST_LOSS, GROWTH_LOSS = 0.1, 0.03
"""Of one user's speed, for the first slots and for all that comes after."""

FULL_HOUSE_SHARE = 0.5
FIRST_SLOTS = 4
"""Slots grow to so many before the context does."""

GROWN_CTX_SIZE = 32_768
MOST_IDLE_SLOTS = 32
"""Without demand."""

MOST_EVALUATIONS = 120
DEFAULT_TARGET = 0.9


def plan(request: PlanRequest) -> Plan:
    """NoPlanError where the models do not fit, with the changes that would help."""
    if not request.devices:
        raise NoPlanError("no plan: there is no device to place anything on")
    search = Search(request)
    best = search.run()
    kept = search.of_plan(request.running) if request.running is not None else None
    if kept is not None and best.cost_s >= kept.cost_s * (1 - MIN_GAIN):
        best = kept
    return _told(best, search, assemble(best, search.evaluator))


def rescore(request: PlanRequest, running: Plan) -> Plan | None:
    """A plan in force, with objective and predictions for the request's demand and devices; None
    where it is no plan for them: a device is gone, memory is short, models differ."""
    if not request.devices:
        return None
    search = Search(request)
    kept = search.of_plan(running)
    return None if kept is None else _told(kept, search, assemble(kept, search.evaluator))


def _told(found: Evaluation, search: Search, made: Plan) -> Plan:
    return replace(
        made,
        rejected=reasons(found, search.evaluator),
        warnings=warnings_of(found, search.evaluator),
    )


class Search:
    """One request's search. Choices go from model name to Choice."""

    def __init__(self, request: PlanRequest) -> None:
        self.request = request
        points = {
            model.name: _point(model, request, moves.first_choice(model, request))
            for model in request.models
        }
        self.ground = Ground(request=request, points=points, shares=shares_of(request))
        self.evaluator = Evaluator.of(request, self.ground)

    def run(self) -> Evaluation:
        best = self._start()
        for model in self.request.models:
            best = self._quantised(best, model)
        best = self._cut(self._improved(best))
        best = self._grown(best)
        final = self.evaluator.evaluate(best.choices, is_final=True)
        return final or best

    def of_plan(self, plan: Plan) -> Evaluation | None:
        """A plan as this search would have found it; None where it could not have."""
        choices: Choices = {}
        replicas: list[PlacedReplica] = []
        for model in self.request.models:
            own = [replica for replica in plan.replicas if replica.model == model.name]
            choice = self._choice_of(model, own)
            if choice is None:
                return None
            choices[model.name] = choice
            replicas += [self.ground.placed(model.name, choice, r.ranges) for r in own]
        if len(replicas) != len(plan.replicas) or not self.ground.holds(replicas):
            return None
        placement = Placement(replicas=tuple(replicas), cost_s=0.0, bound_s=0.0)
        return self.evaluator.judge(choices, placement)

    def _choice_of(self, model: ModelRequest, own: list[PlannedReplica]) -> Choice | None:
        files = [shape.file for shape in model.shapes]
        names = set(self.ground.by_name) - self.request.excluded - model.excluded
        found = {
            Choice(
                shape=files.index(replica.file),
                ctx_size=replica.ctx_size,
                slots=replica.slots,
                type_k=replica.engine.type_k,
                type_v=replica.engine.type_v,
                num_replicas=len(own),
            )
            for replica in own
            if replica.file in files and all(part.device in names for part in replica.ranges)
        }
        is_whole = len(found) == 1 and all(replica.file in files for replica in own)
        is_whole = is_whole and all(p.device in names for r in own for p in r.ranges)
        return found.pop() if is_whole else None

    def _start(self) -> Evaluation:
        """The most that fits, giving up what is easiest to miss of the largest model first."""
        wanted = {m.name: moves.first_choice(m, self.request) for m in self.request.models}
        choices = dict(wanted)
        while True:
            found = self.evaluator.evaluate(choices)
            if found is not None:
                return found
            by_size = sorted(self.request.models, key=lambda m: -self._size(m, choices[m.name]))
            for model in by_size:
                less = moves.relaxed(model, self.request, choices[model.name])
                if less is not None:
                    choices[model.name] = less
                    break
            else:
                raise no_plan(self.ground, choices)

    def _size(self, model: ModelRequest, choice: Choice) -> int:
        problem = self.ground.problem(model.name, choice)
        return int(problem.nbytes[0].max(axis=1).sum()) * choice.num_replicas

    def _quantised(self, best: Evaluation, model: ModelRequest) -> Evaluation:
        """With the largest quantisation that is good enough; else the best."""
        found = self._fitted(best, model)
        kept = found
        while not self._is_good(kept.models[model.name], model):
            choice = kept.choices[model.name]
            if choice.shape + 1 >= len(model.shapes):
                return found
            tried = self._try_smaller(kept, model, choice)
            if tried is None:
                return found
            kept = self._fitted(tried, model)
            if kept.cost_s < found.cost_s * (1 - MIN_GAIN):
                found = kept
        return kept

    def _try_smaller(
        self, best: Evaluation, model: ModelRequest, choice: Choice
    ) -> Evaluation | None:
        """The next quantisation with as many replicas and slots, else with the least of both."""
        engine = model.engine
        smaller = replace(
            choice, shape=choice.shape + 1, type_k=engine.type_k, type_v=engine.type_v
        )
        first = moves.first_choice(model, self.request)
        least = replace(smaller, num_replicas=first.num_replicas, slots=first.slots)
        return (
            self._try(best, model, smaller)
            or self._try(best, model, replace(smaller, num_replicas=first.num_replicas))
            or self._try(best, model, least)
        )

    def _fitted(self, best: Evaluation, model: ModelRequest) -> Evaluation:
        """With slots as the demand needs; without, with KV of half the size where that brings one
        user much."""
        if demands_of(model.name, self.request.demand):
            return self._improved(self._started(best, model), only=model)
        half = moves.with_half_kv(model, best.choices[model.name])
        if half is not None:
            best = self._if_better(best, self._try(best, model, half), KV_GAIN)
        return best

    def _started(self, best: Evaluation, model: ModelRequest) -> Evaluation:
        """The best of some pairs of slots and as many replicas as the demand then needs: from
        there on small steps do."""
        if model.ranges:
            return best
        choice = best.choices[model.name]
        most = min(model.max_replicas, self._num_usable(model))
        for slots in (choice.slots,) if "slots" in model.given else FIRST_TRIES:
            wide = replace(choice, slots=slots)
            one = self._try(best, model, wide)
            half = moves.with_half_kv(model, wide)
            if one is None and half is not None:
                wide, one = half, self._try(best, model, half)
            if one is None:
                break
            best = self._if_better(best, one, MIN_GAIN)
            number = min(most, self._needed(one.models[model.name], model))
            while number > wide.num_replicas:
                tried = self._try(best, model, replace(wide, num_replicas=number))
                if tried is not None:
                    best = self._if_better(best, tried, MIN_GAIN)
                    break
                number = max(wide.num_replicas, number * 2 // 3)
        return best

    def _needed(self, score: ModelScore, model: ModelRequest) -> int:
        """Replicas like its first one that the demand keeps busy for BUSY_SHARE of the time."""
        speed = score.speeds[0]
        slots = speed.engine.slots
        busy_s = 0.0
        for stream in demands_of(model.name, self.request.demand):
            prompt, output = stream.prompt_tokens.mean, stream.output_tokens.mean
            chunk = min(prompt, speed.engine.ubatch_size)
            prefill_s = speed.steps.step_s(chunk, 0, 0, chunk * chunk / 2) * prompt / chunk
            step_s = speed.steps.step_s(0, slots, slots * (prompt + output / 2))
            busy_s += stream.rate_per_s * (prefill_s + output * step_s / slots)
        return max(1, ceil(busy_s / BUSY_SHARE))

    def _improved(self, best: Evaluation, only: ModelRequest | None = None) -> Evaluation:
        """Hill climbing over the models with demand."""
        models = [only] if only else self._with_demand()
        is_moving = True
        while is_moving and len(self.evaluator.seen) < MOST_EVALUATIONS:
            is_moving = False
            for model in models:
                choice = best.choices[model.name]
                for other in moves.moves(model, choice, self._num_usable(model)):
                    tried = self._try(best, model, other)
                    better = self._if_better(best, tried, MIN_GAIN, model)
                    if better is not best:
                        best, is_moving = better, True
                        break
        return best

    def _cut(self, best: Evaluation) -> Evaluation:
        """Without what the demand does not need: what helped one step may be idle in the end."""
        for model in self._with_demand():
            limit_s = best.cost_s * (1 + CUT_LOSS)
            is_cutting = True
            while is_cutting:
                is_cutting = False
                for other in moves.cuts(model, best.choices[model.name]):
                    tried = self._try(best, model, other)
                    if tried is not None and tried.cost_s <= limit_s:
                        best, is_cutting = tried, True
                        break
        return best

    def _with_demand(self) -> list[ModelRequest]:
        return [m for m in self.request.models if demands_of(m.name, self.request.demand)]

    def _grown(self, best: Evaluation) -> Evaluation:
        """More slots and context for models that nobody said anything of."""
        best = self._grow_by(best, lambda m, c: moves.more_slots(m, c, FIRST_SLOTS), FIRST_LOSS)
        best = self._grow_by(best, self._more_context, GROWTH_LOSS)
        return self._grow_by(
            best, lambda m, c: moves.more_slots(m, c, MOST_IDLE_SLOTS), GROWTH_LOSS
        )

    def _grow_by(
        self,
        best: Evaluation,
        step: Callable[[ModelRequest, Choice], Choice | None],
        most_loss: float,
    ) -> Evaluation:
        """Turn by turn, so that models share what memory is left."""
        growing = [m for m in self.request.models if not demands_of(m.name, self.request.demand)]
        start = best
        while growing and len(self.evaluator.seen) < 2 * MOST_EVALUATIONS:
            for model in list(growing):
                more = step(model, best.choices[model.name])
                tried = None if more is None else self._try(best, model, more)
                if tried is None or not self._is_still_good(tried, start, model, most_loss):
                    growing.remove(model)
                else:
                    best = tried
        return best

    def _more_context(self, model: ModelRequest, choice: Choice) -> Choice | None:
        most = min(model.shapes[choice.shape].ctx_train, GROWN_CTX_SIZE)
        if "ctx_size" in model.given or 2 * choice.ctx_size > most:
            return None
        return replace(choice, ctx_size=2 * choice.ctx_size)

    def _is_still_good(
        self, tried: Evaluation, start: Evaluation, model: ModelRequest, most_loss: float
    ) -> bool:
        """For all models together, for the one that grows, and for each stream of a full house."""
        if tried.cost_s > start.cost_s * (1 + most_loss):
            return False
        now = tried.models[model.name]
        if now.cost_s > start.models[model.name].cost_s * (1 + most_loss):
            return False
        alone_s = now.best_alone.tpot_s
        return full_house_s(now) <= max(1 / COMFORTABLE_TOK_S, alone_s / FULL_HOUSE_SHARE)

    def _try(self, best: Evaluation, model: ModelRequest, choice: Choice) -> Evaluation | None:
        choices: Choices = {**best.choices, model.name: choice}
        return self.evaluator.evaluate(choices)

    def _if_better(
        self,
        best: Evaluation,
        tried: Evaluation | None,
        gain: float,
        model: ModelRequest | None = None,
    ) -> Evaluation:
        """`tried` if it gains so much; or (where it is about a model) if that gains twice as much
        of its own and nobody loses by it: a model of few requests counts for little in all."""
        if tried is None:
            return best
        if tried.cost_s < best.cost_s * (1 - gain):
            return tried
        if model is None or tried.cost_s > best.cost_s:
            return best
        before, after = best.models[model.name].cost_s, tried.models[model.name].cost_s
        return tried if after < before * (1 - 2 * gain) else best

    def _is_good(self, score: ModelScore, model: ModelRequest) -> bool:
        return meets(score, _target(model, self.request), COMFORTABLE_TOK_S)

    def _num_usable(self, model: ModelRequest) -> int:
        return int(self.ground.allowed(model.name).sum())


def full_house_s(score: ModelScore) -> float:
    """Seconds a token of each stream, all slots of the first replica decoding at the depth of the
    usual request."""
    speed = score.speeds[0]
    slots = speed.engine.slots
    depth = min(speed.engine.ctx_size, 1024)
    return speed.steps.step_s(0, slots, slots * depth)


def _point(model: ModelRequest, request: PlanRequest, choice: Choice) -> OperatingPoint:
    """What the split is made best for: the median request, alone."""
    num_prompt, num_output = usual_request(model, request, choice)
    return OperatingPoint(prompt_tokens=num_prompt, output_tokens=num_output)


def _target(model: ModelRequest, request: PlanRequest) -> float:
    targets = [stream.promise.target for stream in demands_of(model.name, request.demand)]
    return max(targets, default=DEFAULT_TARGET)
