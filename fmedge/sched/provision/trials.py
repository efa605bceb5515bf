"""What every part of the planner's search shares: a choice is changed, placed, scored, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fmedge.sched.provision.demand import demands_of
from fmedge.sched.provision.evaluate import Choices, Evaluation, Evaluator
from fmedge.sched.provision.placing import Ground
from fmedge.sched.provision.request import Choice, ModelRequest, PlanRequest

MIN_GAIN = 0.05
"""Of the objective, by which a change has to make it less."""


@dataclass(frozen=True)
class Trials:
    request: PlanRequest
    ground: Ground
    evaluator: Evaluator

    @property
    def num_made(self) -> int:
        return len(self.evaluator.seen)

    def has_demand(self, model: ModelRequest) -> bool:
        return bool(demands_of(model.name, self.request.demand))

    def with_demand(self) -> Sequence[ModelRequest]:
        return [model for model in self.request.models if self.has_demand(model)]

    def num_usable(self, model: ModelRequest) -> int:
        """Devices that may hold its layers."""
        return int(self.ground.allowed(model.name).sum())

    def change(self, best: Evaluation, model: ModelRequest, choice: Choice) -> Evaluation | None:
        """`best` with another choice for one model; None where that does not fit."""
        choices: Choices = {**best.choices, model.name: choice}
        return self.evaluator.evaluate(choices)


def pick(
    best: Evaluation,
    tried: Evaluation | None,
    gain: float = MIN_GAIN,
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
