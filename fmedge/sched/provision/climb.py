"""The search for choices that serve a demand: slots, replicas and KV type, step by step.

The rule: a step is taken when the objective falls by MIN_GAIN; what then proves to be idle goes.
"""

from __future__ import annotations

from math import ceil

from msgspec.structs import replace

from fmedge.sched.provision import moves
from fmedge.sched.provision.demand import demands_of
from fmedge.sched.provision.evaluate import Evaluation, ModelScore
from fmedge.sched.provision.request import ModelRequest
from fmedge.sched.provision.trials import Trials, pick

FIRST_TRIES = (4, 8, 16, 32)
"""Slots from which the search for a demand starts."""

BUSY_SHARE = 0.7
"""Of a replica's time, that may be used where requests come at random and nobody waits long."""

CUT_LOSS = 0.01
"""Of the objective, for which replicas and slots are not worth their memory."""

EXACT_KV_LOSS = 0.1
"""Of the objective, that the KV cache's full precision is worth."""

MOST_EVALUATIONS = 120
"""After these the search ends where it is."""


def started(trials: Trials, best: Evaluation, model: ModelRequest) -> Evaluation:
    """The best of some pairs of slots and as many replicas as the demand then needs: from
    there on small steps do."""
    if model.ranges:
        return best
    choice = best.choices[model.name]
    most = min(model.max_replicas, trials.num_usable(model))
    for slots in (choice.slots,) if "slots" in model.given else FIRST_TRIES:
        wide = replace(choice, slots=slots)
        one = trials.change(best, model, wide)
        half = moves.with_half_kv(model, wide)
        if one is None and half is not None:
            wide, one = half, trials.change(best, model, half)
        if one is None:
            break
        best = pick(best, one)
        number = min(most, _needed(trials, one.models[model.name], model))
        while number > wide.num_replicas:
            tried = trials.change(best, model, replace(wide, num_replicas=number))
            if tried is not None:
                best = pick(best, tried)
                break
            number = max(wide.num_replicas, number * 2 // 3)
    return best


def _needed(trials: Trials, score: ModelScore, model: ModelRequest) -> int:
    """Replicas like its first one that the demand keeps busy for BUSY_SHARE of the time."""
    speed = score.speeds[0]
    slots = speed.engine.slots
    busy_s = 0.0
    for stream in demands_of(model.name, trials.request.demand):
        prompt, output = stream.prompt_tokens.mean, stream.output_tokens.mean
        chunk = min(prompt, speed.engine.ubatch_size)
        prefill_s = speed.steps.step_s(chunk, 0, 0, chunk * chunk / 2) * prompt / chunk
        step_s = speed.steps.step_s(0, slots, slots * (prompt + output / 2))
        busy_s += stream.rate_per_s * (prefill_s + output * step_s / slots)
    return max(1, ceil(busy_s / BUSY_SHARE))


def improved(trials: Trials, best: Evaluation, only: ModelRequest | None = None) -> Evaluation:
    """Hill climbing over the models with demand."""
    models = [only] if only else trials.with_demand()
    is_moving = True
    while is_moving and trials.num_made < MOST_EVALUATIONS:
        is_moving = False
        for model in models:
            choice = best.choices[model.name]
            for other in moves.moves(model, choice, trials.num_usable(model)):
                tried = trials.change(best, model, other)
                better = pick(best, tried, model=model)
                if better is not best:
                    best, is_moving = better, True
                    break
    return best


def cut(trials: Trials, best: Evaluation) -> Evaluation:
    """Without what the demand does not need: what helped one step may be idle in the end."""
    for model in trials.with_demand():
        start_s = best.cost_s
        is_cutting = True
        while is_cutting:
            is_cutting = False
            for other in moves.cuts(model, best.choices[model.name]):
                tried = trials.change(best, model, other)
                is_exact = other.type_k != best.choices[model.name].type_k
                most_loss = EXACT_KV_LOSS if is_exact else CUT_LOSS
                if tried is not None and tried.cost_s <= start_s * (1 + most_loss):
                    best, is_cutting = tried, True
                    break
    return best
