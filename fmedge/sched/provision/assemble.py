"""A found evaluation as the Plan that people and workers read."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from statistics import median

from fmedge.sched.provision.apply import engine_of as engine_with_ranges
from fmedge.sched.provision.evaluate import Evaluation, Evaluator, ModelScore, usual_request
from fmedge.sched.provision.placing import Ground, PlacedReplica
from fmedge.sched.provision.plan import (
    DeviceUse,
    Placed,
    Plan,
    PlannedReplica,
    Predicted,
    Range,
    ReplicaUse,
)
from fmedge.sched.provision.request import engine_of
from fmedge.sched.provision.shape import ModelShape


def assemble(found: Evaluation, evaluator: Evaluator) -> Plan:
    """solve_ms is the caller's to measure; rejected and warnings are advice.py's."""
    ground = evaluator.ground
    names: list[str] = []
    replicas: list[PlannedReplica] = []
    placed_in_order: list[PlacedReplica] = []
    for model in ground.request.models:
        score = found.models[model.name]
        for number, i in enumerate(score.fastest_first):
            name = f"{model.name}/{number}"
            names.append(name)
            placed_in_order.append(score.replicas[i])
            replicas.append(
                _replica(name, score.replicas[i], predicted(score, i, evaluator), ground)
            )
    placement = found.placement
    gap = 0.0
    if placement.cost_s > 0:
        gap = max(0.0, (placement.cost_s - placement.bound_s) / placement.cost_s)
    return Plan(
        objective=found.cost_s,
        solve_ms=0.0,
        replicas=tuple(replicas),
        devices=device_uses(ground, names, placed_in_order),
        gap=gap if gap > 1e-6 else 0.0,
    )


def predicted(score: ModelScore, index: int, evaluator: Evaluator) -> Predicted:
    """Of one replica: alone where there is no demand, else the medians of what it is given."""
    speed, alone = score.speeds[index], score.alone[index]
    model = evaluator.ground.models[score.replicas[index].model]
    num_prompt, num_output = usual_request(
        model, evaluator.ground.request, score.replicas[index].choice
    )
    ttft_s, tpot_s = alone.ttft_s, alone.tpot_s
    if score.load is not None:
        own = [s for s in score.load.served if s.replica == index and isfinite(s.e2e_s)]
        if own:
            ttft_s = median(s.ttft_s for s in own)
            tpot_s = median(s.tpot_s for s in own)
    slots = speed.engine.slots
    depth = num_prompt + num_output // 2
    return Predicted(
        ttft_ms=ttft_s * 1e3,
        tpot_ms=tpot_s * 1e3,
        prefill_tok_s=num_prompt / alone.ttft_s,
        decode_tok_s=1 / alone.tpot_s,
        total_decode_tok_s=slots / speed.steps.step_s(0, slots, slots * depth),
        attainment=score.load.attainment if score.load is not None else None,
    )


def device_uses(
    ground: Ground, names: Sequence[str], replicas: Sequence[PlacedReplica]
) -> tuple[DeviceUse, ...]:
    uses = []
    for device in ground.devices:
        breakdown = tuple(
            ReplicaUse(replica=name, memory=memory)
            for name, replica in zip(names, replicas, strict=True)
            for memory in replica.memory
            if memory.device == device.name and memory.total
        )
        uses.append(
            DeviceUse(
                name=device.name,
                capacity_bytes=device.capacity_bytes,
                used_bytes=sum(use.memory.total for use in breakdown),
                breakdown=breakdown,
            )
        )
    return tuple(uses)


def _replica(name: str, replica: PlacedReplica, told: Predicted, ground: Ground) -> PlannedReplica:
    model = ground.models[replica.model]
    shape = model.shapes[replica.choice.shape]
    base = engine_of(model, replica.choice)
    engine = engine_with_ranges(replica.ranges, shape, ground.by_name, base)
    return PlannedReplica(
        model=model.name,
        name=name,
        file=shape.file,
        placement=placement_of(shape, replica.ranges, ground),
        ctx_size=replica.choice.ctx_size,
        slots=replica.choice.slots,
        batch=base.batch_size,
        kv_type=replica.choice.kv_type,
        predicted=told,
        ranges=replica.ranges,
        engine=engine,
    )


def placement_of(shape: ModelShape, ranges: Sequence[Range], ground: Ground) -> tuple[Placed, ...]:
    """Weights by device and layers; the embedding and experts on the host first, if one is
    described."""
    host = next((device.name for device in ground.devices if device.is_host), None)
    parts: list[Placed] = []
    if host is not None:
        parts.append(
            Placed(
                device=host, first_layer=0, last_layer=0, tensors="input", bytes=shape.input_bytes
            )
        )
    for part in ranges:
        if not part.num_host_experts or host is None:
            parts.append(_placed(shape, part.device, part.first_layer, part.last_layer, "all"))
            continue
        with_experts = [
            i
            for i in range(part.first_layer, min(part.last_layer + 1, shape.num_layers))
            if shape.layers[i].expert_bytes
        ]
        last = with_experts[part.num_host_experts - 1]
        parts.append(_placed(shape, host, with_experts[0], last, "experts"))
        parts.append(_placed(shape, part.device, part.first_layer, last, "dense"))
        if last < part.last_layer:
            parts.append(_placed(shape, part.device, last + 1, part.last_layer, "all"))
    return tuple(parts)


def _placed(shape: ModelShape, device: str, first: int, last: int, tensors: str) -> Placed:
    nbytes = shape.output_bytes if last == shape.num_layers else 0
    for layer in shape.layers[first : last + 1]:
        if tensors == "experts":
            nbytes += layer.expert_bytes
        else:
            nbytes += layer.weight_bytes - (layer.expert_bytes if tensors == "dense" else 0)
    return Placed(device=device, first_layer=first, last_layer=last, tensors=tensors, bytes=nbytes)  # type: ignore[arg-type]
