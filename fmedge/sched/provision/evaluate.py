"""One set of choices, placed and scored: what it costs everybody together, in seconds.

The rule: cost is the mean over models (by their requests' rates and weights) of the time that a
request takes and of what broken promises cost (score.MISS_S). A model that nobody expects requests
for is judged by one user alone on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct, structs

from fmedge.sched.provision.contention import busy_share, device_shares, slowdowns
from fmedge.sched.provision.demand import Call, demands_of, workload
from fmedge.sched.provision.placing import Ground, PlacedReplica, Placement
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.problems import steps_of
from fmedge.sched.provision.request import Choice, ModelRequest, PlanRequest, engine_of
from fmedge.sched.provision.score import (
    USER_OUTPUT,
    USER_PROMPT,
    Plain,
    Score,
    Served,
    Speed,
    score,
    serve_one,
)

Choices = dict[str, Choice]

NO_SLOWDOWN = 1.02

COMFORTABLE_TOK_S = 20.0
"""Some three times as fast as people read."""


class ModelScore(Struct, frozen=True, kw_only=True):
    """One model's replicas in a placement. alone: what one request gets on each of them, idle.
    load: the replayed demand, None without. cost_s: of this model's requests."""

    replicas: tuple[PlacedReplica, ...]
    speeds: tuple[Speed, ...]
    alone: tuple[Served, ...]
    load: Score | None
    cost_s: float

    @property
    def fastest_first(self) -> list[int]:
        """Indices of the replicas, by one request's time on each."""
        times_s = [served.e2e_s for served in self.alone]
        return sorted(range(len(times_s)), key=times_s.__getitem__)

    @property
    def best_alone(self) -> Served:
        return self.alone[self.fastest_first[0]]


class Evaluation(Struct, frozen=True, kw_only=True):
    """cost_s: the objective. slower: model -> device -> how many times longer it would compute
    there, or does, for other models' sake; {} where none does."""

    choices: Choices
    placement: Placement
    models: dict[str, ModelScore]
    cost_s: float
    slower: dict[str, dict[str, float]]


@dataclass
class Evaluator:
    """Evaluates choices on one ground, and remembers them."""

    ground: Ground
    calls: dict[str, tuple[Call, ...]]
    shares: dict[str, float]
    seen: dict[tuple[tuple[str, Choice], ...], Evaluation | None] = field(default_factory=dict)
    steps: dict[tuple[str, Choice, tuple[Range, ...]], tuple[Speed, Served]] = field(
        default_factory=dict
    )

    @classmethod
    def of(cls, request: PlanRequest, ground: Ground) -> Evaluator:
        calls = {
            model.name: workload(demands_of(model.name, request.demand), seed=request.seed)
            for model in request.models
        }
        return cls(ground=ground, calls=calls, shares=shares_of(request))

    def evaluate(self, choices: Choices, *, is_final: bool = False) -> Evaluation | None:
        """None where the choices do not fit."""
        key = tuple(sorted(choices.items()))
        if is_final or key not in self.seen:
            self.seen[key] = self._evaluated(choices, is_final=is_final)
        return self.seen[key]

    def _evaluated(self, choices: Choices, *, is_final: bool) -> Evaluation | None:
        """The best of several ways to place them: all models together; one after the other, where
        some have several replicas; and where replicas get in each other's way, with that known."""
        best = self._better(None, choices, self.ground.place(choices, is_final=is_final))
        if len(choices) > 1 and any(choice.num_replicas > 1 for choice in choices.values()):
            in_turn = self.ground.place(choices, is_final=is_final, in_turn=True)
            best = self._better(best, choices, in_turn)
        if best is not None and best.slower:
            apart = self.ground.place(choices, is_final=is_final, slower=best.slower)
            best = self._better(best, choices, apart)
        return best

    def _better(
        self, best: Evaluation | None, choices: Choices, placement: Placement | None
    ) -> Evaluation | None:
        if placement is None:
            return best
        found = self.judge(choices, placement)
        return found if best is None or found.cost_s < best.cost_s else best

    def judge(self, choices: Choices, placement: Placement) -> Evaluation:
        """What a placement is worth."""
        models = {
            name: self._score(name, [r for r in placement.replicas if r.model == name])
            for name in choices
        }
        slower: dict[str, dict[str, float]] = {}
        if len(placement.replicas) > 1 and any(score.load for score in models.values()):
            models, slower = self._beside_others(models)
        cost_s = sum(self.shares[name] * models[name].cost_s for name in models)
        return Evaluation(
            choices=dict(choices), placement=placement, models=models, cost_s=cost_s,
            slower=slower,
        )  # fmt: skip

    def _beside_others(
        self, models: dict[str, ModelScore]
    ) -> tuple[dict[str, ModelScore], dict[str, dict[str, float]]]:
        """Scored again where replicas share a busy device, and how much slower which device is for
        which model; nothing of that where no device is shared."""
        places = [(name, i) for name, score in models.items() for i in range(len(score.replicas))]
        shares, busy = {}, {}
        for number, (name, i) in enumerate(places):
            score = models[name]
            shares[number] = device_shares(self.ground, score.replicas[i])
            busy[number] = 0.0
            if score.load is not None:
                busy[number] = busy_share(score.speeds[i], i, score.load, self.calls[name])
        slower = slowdowns(shares, busy, list(self.ground.by_name))
        means = {
            place: sum(share * slower[number][device] for device, share in shares[number].items())
            for number, place in enumerate(places)
        }
        if max(means.values()) < NO_SLOWDOWN:
            return models, {}
        again = {
            name: self._score(name, list(score.replicas), [
                means[name, i] for i in range(len(score.replicas))
            ])
            for name, score in models.items()
        }  # fmt: skip
        return again, {name: slower[places.index((name, 0))] for name in models}

    def _score(
        self, name: str, replicas: list[PlacedReplica], slower: Sequence[float] = ()
    ) -> ModelScore:
        speeds, alone = [], []
        for number, replica in enumerate(replicas):
            speed, served = self._speed(replica, number)
            if slower:
                speed = structs.replace(speed, slowdown=slower[number])
                served = Served(
                    served.replica,
                    served.ttft_s * slower[number],
                    served.tpot_s * slower[number],
                    served.e2e_s * slower[number],
                    served.is_held,
                )
            speeds.append(speed)
            alone.append(served)
        calls = self.calls[name]
        load = score(speeds, calls) if calls else None
        return ModelScore(
            replicas=tuple(replicas),
            speeds=tuple(speeds),
            alone=tuple(alone),
            load=load,
            cost_s=load.cost_s if load else min(served.e2e_s for served in alone),
        )

    def _speed(self, replica: PlacedReplica, number: int) -> tuple[Speed, Served]:
        key = (replica.model, replica.choice, replica.ranges)
        if key not in self.steps:
            ground, model = self.ground, self.ground.models[replica.model]
            engine = engine_of(model, replica.choice)
            steps = steps_of(
                model.shapes[replica.choice.shape], engine, replica.ranges, ground.by_name
            )
            speed = Speed(name="", steps=steps, engine=engine)
            self.steps[key] = speed, self.served_alone(speed, model, replica.choice)
        speed, served = self.steps[key]
        return Speed(name=str(number), steps=speed.steps, engine=speed.engine), served

    def served_alone(self, speed: Speed, model: ModelRequest, choice: Choice) -> Served:
        """The usual request, alone on a replica. On a single device few are tried."""
        bodies = Plain if len(self.ground.devices) == 1 else None
        tokens = usual_request(model, self.ground.request, choice)
        return serve_one(speed, *tokens, bodies=bodies)


def usual_request(model: ModelRequest, request: PlanRequest, choice: Choice) -> tuple[int, int]:
    """Tokens of prompt and output of the median request, or of the one user's; at most what the
    context takes."""
    streams = demands_of(model.name, request.demand)
    num_prompt, num_output = USER_PROMPT, USER_OUTPUT
    if streams:
        most = max(streams, key=lambda stream: stream.rate_per_s)
        num_prompt, num_output = round(most.prompt_tokens.p50), round(most.output_tokens.p50)
    num_prompt = max(1, min(num_prompt, choice.ctx_size * 3 // 4))
    return num_prompt, max(2, min(num_output, choice.ctx_size - num_prompt))


def shares_of(request: PlanRequest) -> dict[str, float]:
    """What part each model has in the objective: its weight times its rate, a model without demand
    counting as one of mean rate; they sum to 1."""
    rates = {
        model.name: sum(stream.rate_per_s for stream in demands_of(model.name, request.demand))
        for model in request.models
    }
    known = [rate for rate in rates.values() if rate > 0]
    usual = sum(known) / len(known) if known else 1.0
    parts = {m.name: m.weight * (rates[m.name] or usual) for m in request.models}
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def meets(model: ModelScore, target: float) -> bool:
    """Whether what was promised holds; where nothing was, whether a reader need not wait."""
    if model.load is not None and model.load.attainment is not None:
        return model.load.attainment >= target
    if model.load is not None and not model.load.is_steady:
        return False
    return model.best_alone.tpot_s * COMFORTABLE_TOK_S <= 1
