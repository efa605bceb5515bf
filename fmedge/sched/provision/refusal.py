"""What to say when nothing fits: how much is missing, and the smallest changes that would help.

The rule: a change is named only after a plan with it was found to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from msgspec import structs

from fmedge.sched.provision import moves
from fmedge.sched.provision.evaluate import Choices
from fmedge.sched.provision.placing import Ground
from fmedge.sched.provision.plan import NoPlanError
from fmedge.sched.provision.request import Choice, ModelRequest
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.sched.provision.words import GIB, gib

# Bits per weight of a model of llama.cpp's usual quantisations, about.
_QUANTS = (
    ("Q8_0", 8.5), ("Q6_K", 6.57), ("Q5_K_M", 5.7), ("Q4_K_M", 4.89), ("Q4_K_S", 4.67),
    ("IQ4_XS", 4.46), ("Q3_K_M", 4.0), ("Q3_K_S", 3.64), ("IQ3_XXS", 3.25), ("Q2_K", 3.16),
    ("IQ2_XXS", 2.38), ("IQ1_S", 2.0),
)  # fmt: skip
MOST_NAMED = 6
"""Devices that a message lists."""

_MOST_MORE_BYTES = 1 << 42
_PRECISION_BYTES = 64 << 20


def no_plan(ground: Ground, least: Choices) -> NoPlanError:
    """least: the choices of every model when nothing more could be given up."""
    needed = sum(_least_bytes(ground, name, choice) for name, choice in least.items())
    excluded = ground.request.excluded
    usable = [device for device in ground.devices if device.name not in excluded]
    there = sum(device.capacity_bytes for device in usable)
    names = " and ".join(least)
    have = _listed([device.name for device in usable])
    together = " together have" if len(usable) > 1 else " has"
    message = f"no plan: {names} need{'s' if len(least) == 1 else ''} at least {gib(needed)}"
    message += f", and {have or 'no device'}{together} {gib(there)}"
    if needed <= there:
        message += ", but no way to divide it fits"
    changes = tuple(_changes(ground, least))
    if changes:
        message += f". The smallest change that would do: {changes[0]}"
    return NoPlanError(message, changes)


def _least_bytes(ground: Ground, name: str, choice: Choice) -> int:
    """On devices of any kind, without what devices themselves cost."""
    problem = ground.problem(name, choice)
    base = problem.base_bytes if problem.base_bytes is not None else np.zeros(1, np.int64)
    return int(problem.nbytes[0].min(axis=1).sum() + base.sum()) * choice.num_replicas


def _changes(ground: Ground, least: Choices) -> Iterator[str]:
    models = ground.request.models
    for model in models:
        yield from _fewer(ground, least, model)
    for model in models:
        yield from _shorter(ground, least, model)
    for model in models:
        yield from _half_kv(ground, least, model)
    if ground.request.excluded:
        yield from _nothing_excluded(ground, least)
    for model in models:
        yield from _smaller(ground, least, model)
    yield from _more_memory(ground, least)
    if len(models) > 1:
        for model in models:
            rest = {name: choice for name, choice in least.items() if name != model.name}
            if ground.place(rest) is not None:
                yield f"leave out {model.name}"


def _fits(ground: Ground, least: Choices, model: ModelRequest, choice: Choice) -> bool:
    return ground.place({**least, model.name: choice}) is not None


def _fewer(ground: Ground, least: Choices, model: ModelRequest) -> Iterator[str]:
    """Replicas or slots that somebody asked for."""
    choice = least[model.name]
    if choice.num_replicas > 1:
        fits = _largest(
            1,
            choice.num_replicas - 1,
            lambda n: _fits(ground, least, model, structs.replace(choice, num_replicas=n)),
        )
        if fits:
            yield f"{_counted(fits, 'replica')} of {model.name} instead of {choice.num_replicas}"
    if choice.slots > 1:
        fits = _largest(
            1,
            choice.slots - 1,
            lambda n: _fits(ground, least, model, structs.replace(choice, slots=n)),
        )
        if fits:
            yield f"{_counted(fits, 'slot')} for {model.name} instead of {choice.slots}"


def _shorter(ground: Ground, least: Choices, model: ModelRequest) -> Iterator[str]:
    choice = least[model.name]
    step = moves.CTX_STEP
    fits = _largest(
        2,
        choice.ctx_size // step - 1,
        lambda n: _fits(ground, least, model, structs.replace(choice, ctx_size=n * step)),
    )
    if fits:
        yield f"a context of {fits * step} tokens for {model.name} instead of {choice.ctx_size}"


def _half_kv(ground: Ground, least: Choices, model: ModelRequest) -> Iterator[str]:
    free = structs.replace(model, given=model.given - {"type_k", "type_v"})
    half = moves.with_half_kv(free, least[model.name])
    if half is not None and _fits(ground, least, model, half):
        yield f"a KV cache of type {half.type_k} for {model.name} instead of f16"


def _nothing_excluded(ground: Ground, least: Choices) -> Iterator[str]:
    request = structs.replace(ground.request, excluded=frozenset())
    whole = Ground(request=request, points=ground.points, shares=ground.shares)
    if whole.place(least) is not None:
        yield f"do not exclude {' and '.join(sorted(ground.request.excluded))}"


def _smaller(ground: Ground, least: Choices, model: ModelRequest) -> Iterator[str]:
    """The largest usual quantisation that would fit."""
    choice = least[model.name]
    shape = model.shapes[choice.shape]
    bits = 8 * shape.weight_bytes / max(1.0, shape.num_params)
    for quant, quant_bits in _QUANTS:
        if quant_bits >= bits * 0.99:
            continue
        smaller = _scaled(shape, quant_bits / bits)
        other = structs.replace(model, shapes=(smaller,))
        models = tuple(other if m.name == model.name else m for m in ground.request.models)
        request = structs.replace(ground.request, models=models, sizing=None)
        trial = Ground(request=request, points=ground.points, shares=ground.shares)
        if trial.place({**least, model.name: structs.replace(choice, shape=0)}) is not None:
            yield (
                f"a smaller quantisation of {model.name}, such as {quant} (about "
                f"{gib(smaller.weight_bytes)} instead of {gib(shape.weight_bytes)})"
            )
            return


def _scaled(shape: ModelShape, factor: float) -> ModelShape:
    def scaled(layer: LayerShape) -> LayerShape:
        return structs.replace(
            layer,
            weight_bytes=round(layer.weight_bytes * factor),
            expert_bytes=round(layer.expert_bytes * factor),
        )

    known: dict[LayerShape, LayerShape] = {}
    return structs.replace(
        shape,
        layers=tuple(known.setdefault(layer, scaled(layer)) for layer in shape.layers),
        input_bytes=round(shape.input_bytes * factor),
        output_bytes=round(shape.output_bytes * factor),
        tied_bytes=round(shape.tied_bytes * factor),
    )


def _more_memory(ground: Ground, least: Choices) -> Iterator[str]:
    """On the one device where least is missing."""
    found: list[tuple[int, int]] = []
    for d, device in enumerate(ground.devices):
        if device.name in ground.request.excluded:
            continue

        def fits(num_bytes: int, d: int = d) -> bool:
            capacity = ground.capacity.copy()
            capacity[d] += num_bytes
            return ground.place(least, capacity=capacity) is not None

        high = _PRECISION_BYTES
        while high < _MOST_MORE_BYTES and not fits(high):
            high *= 2
        if high >= _MOST_MORE_BYTES:
            continue
        low = high // 2 if high > _PRECISION_BYTES else 0
        while high - low > _PRECISION_BYTES:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        found.append((high, d))
    if found:
        missing, d = min(found)
        device = ground.devices[d]
        total = (device.memory_bytes + missing) / GIB
        yield f"{gib(missing)} more memory on {device.name} ({total:.1f} GiB in all)"


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest of low..high that fits, 0 where none does; what fits, fits with less too."""
    if high < low or not fits(low):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _listed(names: list[str]) -> str:
    """Such as "gpu0, gpu1 and CPU"."""
    if len(names) > MOST_NAMED:
        return f"{len(names)} devices"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
