"""Why a plan is not otherwise, and what to be warned of: sentences with figures.

The rule: every figure is that of a plan that was really made and judged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from fmedge.sched.provision import moves
from fmedge.sched.provision.demand import demands_of
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.evaluate import Evaluation, Evaluator
from fmedge.sched.provision.growth import MOST_IDLE_SLOTS
from fmedge.sched.provision.placing import PlacedReplica
from fmedge.sched.provision.plan import Rejected
from fmedge.sched.provision.problems import steps_of
from fmedge.sched.provision.request import Choice, ModelRequest, engine_of
from fmedge.sched.provision.score import Served, Speed
from fmedge.sched.provision.split import Part, Split, explain
from fmedge.sched.provision.words import gib, percent, rate, seconds

MOST_DEVICES = 8
"""Devices of which it is said why they are left out; equal ones count once."""


def reasons(best: Evaluation, evaluator: Evaluator) -> tuple[Rejected, ...]:
    """What was not chosen, and why: devices, quantisations, slots, replicas."""
    found: list[Rejected] = []
    found += _devices(best, evaluator)
    for model in evaluator.ground.request.models:
        found += _quantisations(best, evaluator, model)
        found += _replicas(best, evaluator, model)
        found += _slots(best, evaluator, model)
    return tuple(found)


def _devices(best: Evaluation, evaluator: Evaluator) -> Iterator[Rejected]:
    ground = evaluator.ground
    used = {part.device for replica in best.placement.replicas for part in replica.ranges}
    with_experts = any(
        part.num_host_experts for replica in best.placement.replicas for part in replica.ranges
    )
    told: dict[tuple[object, ...], list[str]] = {}
    for d, device in enumerate(ground.devices):
        if device.name in used or (device.is_host and with_experts):
            continue
        if device.name in ground.request.excluded:
            yield Rejected(what=device.name, why="excluded")
            continue
        same = (device.kind, device.bandwidth_gb_s, device.tflop_s, device.capacity_bytes)
        if same in told:
            continue
        told[same] = [device.name]
        if len(told) > MOST_DEVICES:
            return
        reason = _left_out(best, evaluator, d, device)
        if reason:
            yield Rejected(what=device.name, why=reason)


def _left_out(best: Evaluation, evaluator: Evaluator, d: int, device: Device) -> str:
    """For the model that would lose least by using the device."""
    ground = evaluator.ground
    reasons: list[tuple[float, str]] = []
    for model in ground.request.models:
        if model.ranges or not ground.allowed(model.name)[d]:
            continue
        score = best.models[model.name]
        index = score.fastest_first[0]
        replica, without = score.replicas[index], score.alone[index]
        problem = ground.problem(model.name, replica.choice)
        split = _split_of(replica, ground.index)
        with_it = explain(problem, _left_for(best, evaluator, replica), split, d).with_it
        if with_it is None:
            least = problem.fixed_bytes[d] + problem.nbytes[:, :, d].min()
            free = _left_for(best, evaluator, replica)[d]
            what = f"a layer of {model.name} needs {gib(int(least))}"
            reasons.append((float("inf"), f"left out: {what}, and it has {gib(int(free))}"))
            continue
        served = _serve(evaluator, model, replica.choice, with_it)
        reasons.append(
            (
                served.e2e_s / without.e2e_s,
                _compare(model, without, served, len(ground.request.models) > 1),
            )
        )
    return min(reasons)[1] if reasons else "left out: no model may use it"


def _compare(model: ModelRequest, without: Served, with_it: Served, is_named: bool) -> str:
    whose = f" of {model.name}" if is_named else ""
    now, then = 1 / without.tpot_s, 1 / with_it.tpot_s
    if then < now * 0.995:
        return f"left out: with it decode{whose} falls from {rate(now)} to {rate(then)} tok/s"
    if with_it.ttft_s > without.ttft_s * 1.005:
        return (
            f"left out: with it the first token{whose} takes {seconds(with_it.ttft_s)} instead of "
            f"{seconds(without.ttft_s)}"
        )
    return f"left out: it makes nothing{whose} faster"


def _split_of(replica: PlacedReplica, index: dict[str, int]) -> Split:
    parts = tuple(
        Part(index[r.device], r.first_layer, r.last_layer, r.num_host_experts)
        for r in replica.ranges
    )
    return Split(ranges=parts, cost_s=0.0, bound_s=0.0)


def _left_for(best: Evaluation, evaluator: Evaluator, replica: PlacedReplica) -> NDArray[np.int64]:
    """int64[D]: memory that the other replicas leave to this one."""
    ground = evaluator.ground
    left = ground.capacity.copy()
    for other in best.placement.replicas:
        if other is not replica:
            left -= ground.bytes_of(other.memory)
    return np.maximum(left, 0)


def _serve(evaluator: Evaluator, model: ModelRequest, choice: Choice, split: Split) -> Served:
    """The usual request alone on a replica of this split."""
    ground = evaluator.ground
    engine = engine_of(model, choice)
    steps = steps_of(model.shapes[choice.shape], engine, ground.ranges(split), ground.by_name)
    speed = Speed(name="0", steps=steps, engine=engine)
    return evaluator.served_alone(speed, model, choice)


def _quantisations(
    best: Evaluation, evaluator: Evaluator, model: ModelRequest
) -> Iterator[Rejected]:
    choice = best.choices[model.name]
    chosen = best.models[model.name]
    for index, shape in enumerate(model.shapes):
        if index == choice.shape:
            continue
        what = f"{model.name} at {shape.quant} ({gib(shape.weight_bytes)})"
        other = replace(choice, shape=index, type_k=model.engine.type_k, type_v=model.engine.type_v)
        tried = evaluator.evaluate({**best.choices, model.name: other})
        if tried is None:
            yield Rejected(what=what, why="does not fit")
            continue
        now, then = chosen.best_alone, tried.models[model.name].best_alone
        speeds = f"decode {rate(1 / then.tpot_s)} tok/s instead of {rate(1 / now.tpot_s)}"
        holds = _attainments(tried, best, model)
        if index < choice.shape:
            yield Rejected(what=what, why=f"too slow: {speeds}{holds}")
        else:
            yield Rejected(what=what, why=f"not needed: {speeds}{holds}, and less exact")


def _attainments(tried: Evaluation, best: Evaluation, model: ModelRequest) -> str:
    then, now = tried.models[model.name].load, best.models[model.name].load
    if then is None or now is None or then.attainment is None or now.attainment is None:
        return ""
    if percent(then.attainment) == percent(now.attainment):
        return ""
    return f", promises hold for {percent(then.attainment)} instead of {percent(now.attainment)}"


def _replicas(best: Evaluation, evaluator: Evaluator, model: ModelRequest) -> Iterator[Rejected]:
    """One more: only where a demand could use it."""
    if not demands_of(model.name, evaluator.ground.request.demand):
        return
    choice = best.choices[model.name]
    more = moves.more_replicas(model, choice, len(evaluator.ground.devices))
    if more is None:
        return
    tried = evaluator.evaluate({**best.choices, model.name: more})
    what = f"{more.num_replicas} replicas of {model.name}"
    if tried is None:
        yield Rejected(what=what, why="do not fit")
        return
    yield Rejected(what=what, why=_gain(best, tried, model))


def _gain(best: Evaluation, tried: Evaluation, model: ModelRequest) -> str:
    now, then = best.models[model.name], tried.models[model.name]
    assert now.load is not None
    assert then.load is not None
    before, after = _mean_e2e_s(now.load.served), _mean_e2e_s(then.load.served)
    text = f"requests would take {seconds(after)} on average instead of {seconds(before)}"
    if seconds(after) == seconds(before):
        text = "requests would be served no sooner"
    others = tried.cost_s > best.cost_s and after < before
    worse = ", at the cost of other models" if others else ""
    return text + _attainments(tried, best, model) + worse


def _mean_e2e_s(served: tuple[Served, ...]) -> float:
    ended = [s.e2e_s for s in served if s.e2e_s < float("inf")]
    return sum(ended) / len(ended) if ended else float("inf")


def _slots(best: Evaluation, evaluator: Evaluator, model: ModelRequest) -> Iterator[Rejected]:
    choice = best.choices[model.name]
    more = moves.more_slots(model, choice)
    if more is None:
        return
    what = f"{more.slots} slots of {model.name}"
    tried = evaluator.evaluate({**best.choices, model.name: more})
    if tried is None:
        yield Rejected(what=what, why="their KV cache does not fit")
        return
    if demands_of(model.name, evaluator.ground.request.demand):
        yield Rejected(what=what, why=_gain(best, tried, model))
        return
    now, then = best.models[model.name], tried.models[model.name]
    alone, beside = now.best_alone.tpot_s, then.best_alone.tpot_s
    if beside > alone * 1.02:
        yield Rejected(
            what=what,
            why=f"one user's decode would fall from {rate(1 / alone)} to {rate(1 / beside)} tok/s",
        )
        return
    if more.slots > MOST_IDLE_SLOTS:
        yield Rejected(what=what, why="more than one expects where no demand is known (--demand)")
        return
    full_s = then.speeds[0].steps.step_s(0, more.slots, more.slots * 1024)
    yield Rejected(
        what=what,
        why=f"with all of them busy each would get {rate(1 / full_s)} tok/s, and one alone gets "
        f"{rate(1 / alone)}",
    )


def warnings_of(best: Evaluation, evaluator: Evaluator) -> tuple[str, ...]:
    """What the plan holds that nobody may have wanted."""
    ground = evaluator.ground
    found: list[str] = []
    if not any(device.is_host for device in ground.devices):
        kept = sum(
            ground.shape_of(replica.model, replica.choice).input_bytes
            for replica in best.placement.replicas
        )
        found.append(
            "no CPU is among the devices: what llama.cpp keeps in the host's memory "
            f"(embeddings of {gib(kept)}, and buffers) is not counted"
        )
    for model in ground.request.models:
        choice = best.choices[model.name]
        shape = model.shapes[choice.shape]
        wanted = moves.first_choice(model, ground.request)
        if not shape.is_known:
            found.append(
                f"{model.name}: the architecture {shape.architecture!r} is not known: its memory "
                "is an upper bound"
            )
        if choice.ctx_size < wanted.ctx_size:
            found.append(
                f"{model.name} serves {choice.ctx_size} tokens of context: {wanted.ctx_size} do "
                "not fit"
            )
        found += _missed(best, evaluator, model)
    return tuple(found)


def _missed(best: Evaluation, evaluator: Evaluator, model: ModelRequest) -> Iterator[str]:
    load = best.models[model.name].load
    if load is None:
        return
    streams = demands_of(model.name, evaluator.ground.request.demand)
    target = max(stream.promise.target for stream in streams)
    if load.attainment is not None and load.attainment < target:
        yield (
            f"{model.name}: promises hold for {percent(load.attainment)} of requests, and "
            f"{percent(target)} shall: these devices can do no better"
        )
    elif not load.is_steady:
        yield f"{model.name}: requests come faster than these devices can serve them"
