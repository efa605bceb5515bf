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

from msgspec.structs import replace

from fmedge.sched.provision import moves
from fmedge.sched.provision.advice import reasons, warnings_of
from fmedge.sched.provision.assemble import assemble
from fmedge.sched.provision.climb import cut, improved, started
from fmedge.sched.provision.cost import OperatingPoint
from fmedge.sched.provision.demand import demands_of
from fmedge.sched.provision.evaluate import (
    Choices,
    Evaluation,
    Evaluator,
    meets,
    shares_of,
    usual_request,
)
from fmedge.sched.provision.growth import grown
from fmedge.sched.provision.placing import Ground, PlacedReplica, Placement
from fmedge.sched.provision.plan import NoPlanError, Plan, PlannedReplica
from fmedge.sched.provision.refusal import no_plan
from fmedge.sched.provision.request import Choice, ModelRequest, PlanRequest
from fmedge.sched.provision.trials import MIN_GAIN, Trials, pick

KV_GAIN = 0.1
"""By which half of the KV's bits must shorten one user's time."""

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
        self._trials = Trials(request, self.ground, self.evaluator)

    def run(self) -> Evaluation:
        """NoPlanError where nothing fits."""
        best = self._start()
        for model in self.request.models:
            best = self._quantised(best, model)
        best = cut(self._trials, improved(self._trials, best))
        best = grown(self._trials, best)
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
        while not meets(kept.models[model.name], _target(model, self.request)):
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
            self._trials.change(best, model, smaller)
            or self._trials.change(best, model, replace(smaller, num_replicas=first.num_replicas))
            or self._trials.change(best, model, least)
        )

    def _fitted(self, best: Evaluation, model: ModelRequest) -> Evaluation:
        """With slots as the demand needs; without, with KV of half the size where that brings one
        user much."""
        if self._trials.has_demand(model):
            return improved(self._trials, started(self._trials, best, model), only=model)
        half = moves.with_half_kv(model, best.choices[model.name])
        if half is not None:
            best = pick(best, self._trials.change(best, model, half), KV_GAIN)
        return best


def _point(model: ModelRequest, request: PlanRequest, choice: Choice) -> OperatingPoint:
    """What the split is made best for: the median request, alone."""
    num_prompt, num_output = usual_request(model, request, choice)
    return OperatingPoint(prompt_tokens=num_prompt, output_tokens=num_output)


def _target(model: ModelRequest, request: PlanRequest) -> float:
    targets = [stream.promise.target for stream in demands_of(model.name, request.demand)]
    return max(targets, default=DEFAULT_TARGET)
