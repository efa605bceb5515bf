"""What a plan is: replicas, what each device holds of them, and what was not chosen and why."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fmedge.errors import FmedgeError
from fmedge.types import EngineSettings


class Range(Struct, frozen=True, kw_only=True):
    """Layers first_layer..last_layer (inclusive) on one device; layer number num_layers is the
    output head. num_host_experts: of its first so many layers with experts, these lie on the
    host."""

    device: str
    first_layer: int
    last_layer: int
    num_host_experts: int = 0

    @property
    def num_layers(self) -> int:
        return self.last_layer - self.first_layer + 1


class Placed(Struct, frozen=True, kw_only=True):
    """Part of a replica's weights on a device, layers as in Range. tensors: "all", or "experts"
    and "dense" where a layer's experts lie elsewhere, or "input" (the token embedding)."""

    device: str
    first_layer: int
    last_layer: int
    tensors: Literal["all", "dense", "experts", "input"]
    bytes: int


class Predicted(Struct, frozen=True, kw_only=True):
    """At the demand's median request: TTFT and TPOT in ms, prefill and decode of one stream in
    tokens/s; attainment: share of the demand's requests whose SLA holds, None without demand."""

    ttft_ms: float
    tpot_ms: float
    prefill_tok_s: float
    decode_tok_s: float
    total_decode_tok_s: float = 0.0
    attainment: float | None = None


class PlannedReplica(Struct, frozen=True, kw_only=True):
    """One replica to start. ranges: in the order of layers (the host's, if any, first). engine:
    all that its worker needs."""

    model: str
    name: str
    file: str
    placement: tuple[Placed, ...]
    ctx_size: int
    slots: int
    batch: int
    kv_type: str
    predicted: Predicted
    ranges: tuple[Range, ...]
    engine: EngineSettings


class MemoryUse(Struct, frozen=True, kw_only=True):
    """Bytes of one replica on one device. backend: what the process costs there beside buffers."""

    device: str
    weights: int = 0
    context: int = 0
    compute: int = 0
    backend: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.context + self.compute + self.backend


class ReplicaUse(Struct, frozen=True, kw_only=True):
    replica: str
    memory: MemoryUse


class DeviceUse(Struct, frozen=True, kw_only=True):
    name: str
    capacity_bytes: int
    used_bytes: int
    breakdown: tuple[ReplicaUse, ...] = ()


class Rejected(Struct, frozen=True, kw_only=True):
    """Something that the plan leaves out ("gpu1", "chat at Q8_0", "16 slots of chat") and why, as
    a sentence with figures."""

    what: str
    why: str


class Plan(Struct, frozen=True, kw_only=True):
    """objective: the value that was minimised, in seconds (docs/planning.md); gap: how far, as a
    share, it may be from the best, 0 where that is proven."""

    objective: float
    solve_ms: float
    replicas: tuple[PlannedReplica, ...]
    devices: tuple[DeviceUse, ...]
    rejected: tuple[Rejected, ...] = ()
    warnings: tuple[str, ...] = ()
    gap: float = 0.0


class NoPlanError(FmedgeError):
    """No plan holds what was asked. changes: the smallest ones that would make one possible, as
    sentences, the smallest first."""

    def __init__(self, message: str, changes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.changes = changes
