"""One server's emulated cluster: the devices that it says are here, the replicas on them, and what
is told of those.

The rule: what stands in for hardware is made from the plan in force, the cluster file and nothing
else; it says of itself what a real replica of that plan would.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fmedge.replica.emulated.engine import engine_info
from fmedge.replica.emulated.replica import EmulatedReplica
from fmedge.sched.provision.apply import host_expert_layers
from fmedge.sched.provision.device import HOST
from fmedge.server.emulation import check_slowdowns, devices_of, load_s_of, spec_of
from fmedge.types import DeviceMemory

if TYPE_CHECKING:
    from fmedge.config.cluster import ClusterConfig
    from fmedge.sched.emulation import ReplicaSpec
    from fmedge.sched.provision.device import Device
    from fmedge.sched.provision.plan import MemoryUse, Plan, PlannedReplica
    from fmedge.sched.provision.shape import ModelShape
    from fmedge.sched.steptime import StepModel
    from fmedge.types import EngineInfo, Vocab


SWITCH_S = 0.0005
"""How long a thread that computes, such as the planner's, keeps the event loop from announcing a
step: the interpreter's own 5 ms would be a good part of one."""


class Emulation:
    """`prepare` with the first plan, then make replicas."""

    def __init__(self, cluster: ClusterConfig) -> None:
        """ConfigError for a card that is not known."""
        self.cluster = cluster
        self._devices = devices_of(cluster)
        self._by_name = {device.name: device for device in self._devices}
        self._vocabs: dict[str, Vocab] = {}
        self._specs: dict[str, ReplicaSpec] = {}

    @property
    def note(self) -> str:
        """For people who might take it for a server."""
        return f"EMULATED: {Path(self.cluster.path).name}; answers mean nothing"

    def look(self) -> Sequence[Device]:
        return self._devices

    async def prepare(self, plan: Plan) -> None:
        """ConfigError for what the cluster file says of replicas that are not planned;
        ModelFileError for a file without a usable vocabulary."""
        sys.setswitchinterval(SWITCH_S)
        check_slowdowns(self.cluster, [replica.name for replica in plan.replicas])
        self._vocabs = await open_vocabs({replica.file for replica in plan.replicas})

    def replica(
        self, planned: PlannedReplica, shape: ModelShape, memory: Sequence[MemoryUse]
    ) -> EmulatedReplica:
        """memory: what the plan says that it takes."""
        spec = spec_of(self.cluster, planned, shape, self._by_name)
        self._specs[spec.name] = spec
        vocab = self._vocabs[planned.file]
        info = info_of(spec, vocab, planned, shape, memory)
        return EmulatedReplica(spec, vocab, info=info, load_s=load_s_of(self.cluster, shape))

    def reckoned(self, name: str) -> StepModel:
        """What is believed of a replica that cannot be measured."""
        return self._specs[name].steps


async def open_vocabs(files: set[str]) -> dict[str, Vocab]:
    """By file. One that is no described model may be hostile: a child opens it first."""
    from fmedge._native.vocab import Vocab as NativeVocab
    from fmedge.replica.sizing import Sizer

    opened: dict[str, Vocab] = {}
    async with Sizer() as sizer:
        for file in sorted(files):
            await sizer.check_vocab(file)
            opened[file] = await asyncio.to_thread(NativeVocab.open, file)
    return opened


def info_of(
    spec: ReplicaSpec,
    vocab: Vocab,
    planned: PlannedReplica,
    shape: ModelShape,
    memory: Sequence[MemoryUse],
) -> EngineInfo:
    """What an engine would say that has done as it was planned."""
    held: list[str] = []
    experts: list[str] = []
    for part in planned.ranges:
        held += [part.device] * part.num_layers
        on_host = host_expert_layers(part, shape)
        for i in range(part.first_layer, min(part.last_layer + 1, shape.num_layers)):
            has_experts = shape.layers[i].expert_bytes > 0
            experts.append((HOST if i in on_host else part.device) if has_experts else "")
    return replace(
        engine_info(spec, vocab),
        num_embd=shape.num_embd,
        num_layers=shape.num_layers,
        num_params=int(shape.num_params),
        model_bytes=shape.weight_bytes,
        ctx_train=shape.ctx_train,
        description=f"{shape.architecture} {shape.quant}, emulated",
        memory=tuple(
            DeviceMemory(use.device, use.weights, use.context, use.compute) for use in memory
        ),
        layer_devices=tuple(held),
        expert_devices=tuple(experts),
        window_tokens=max(layer.window for layer in shape.layers),
    )
