"""Slots and context for models that nobody said anything of: one user first, then as many as fit.

The rule: things grow as long as one user loses little by it, and each stream of a full house is
still comfortable or half as fast as one alone.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from fmedge.sched.provision import moves
from fmedge.sched.provision.evaluate import COMFORTABLE_TOK_S, Evaluation, ModelScore
from fmedge.sched.provision.request import Choice, ModelRequest
from fmedge.sched.provision.trials import Trials

FIRST_LOSS, GROWTH_LOSS = 0.1, 0.03
"""Of one user's speed, for the first slots and for all that comes after."""

FULL_HOUSE_SHARE = 0.5

FIRST_SLOTS = 4
"""Slots grow to so many before the context does."""

GROWN_CTX_SIZE = 32_768
MOST_IDLE_SLOTS = 32

MOST_EVALUATIONS = 240
"""After these the search ends where it is."""


def grown(trials: Trials, best: Evaluation) -> Evaluation:
    """More slots and context for models that nobody said anything of."""
    best = _grow_by(trials, best, lambda m, c: moves.more_slots(m, c, FIRST_SLOTS), FIRST_LOSS)
    best = _grow_by(trials, best, _more_context, GROWTH_LOSS)
    return _grow_by(trials, best, lambda m, c: moves.more_slots(m, c, MOST_IDLE_SLOTS), GROWTH_LOSS)


def _grow_by(
    trials: Trials,
    best: Evaluation,
    step: Callable[[ModelRequest, Choice], Choice | None],
    most_loss: float,
) -> Evaluation:
    """Turn by turn, so that models share what memory is left."""
    growing = [m for m in trials.request.models if not trials.has_demand(m)]
    start = best
    while growing and trials.num_made < MOST_EVALUATIONS:
        for model in list(growing):
            more = step(model, best.choices[model.name])
            tried = None if more is None else trials.change(best, model, more)
            if tried is None or not _is_still_good(tried, start, model, most_loss):
                growing.remove(model)
            else:
                best = tried
    return best


def _more_context(model: ModelRequest, choice: Choice) -> Choice | None:
    most = min(model.shapes[choice.shape].ctx_train, GROWN_CTX_SIZE)
    if "ctx_size" in model.given or 2 * choice.ctx_size > most:
        return None
    return replace(choice, ctx_size=2 * choice.ctx_size)


def _is_still_good(
    tried: Evaluation, start: Evaluation, model: ModelRequest, most_loss: float
) -> bool:
    """For all models together, for the one that grows, and for each stream of a full house."""
    if tried.cost_s > start.cost_s * (1 + most_loss):
        return False
    now = tried.models[model.name]
    if now.cost_s > start.models[model.name].cost_s * (1 + most_loss):
        return False
    alone_s = now.best_alone.tpot_s
    return full_house_s(now) <= max(1 / COMFORTABLE_TOK_S, alone_s / FULL_HOUSE_SHARE)


def full_house_s(score: ModelScore) -> float:
    """Seconds a token of each stream, all slots of the first replica decoding at the depth of the
    usual request."""
    speed = score.speeds[0]
    slots = speed.engine.slots
    depth = min(speed.engine.ctx_size, 1024)
    return speed.steps.step_s(0, slots, slots * depth)
