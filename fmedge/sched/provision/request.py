"""What the planner is asked, as values; and what it may choose for one model."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from fmedge.sched.provision.demand import Demand
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.memory import Sizing
from fmedge.sched.provision.plan import Plan, Range
from fmedge.sched.provision.shape import ModelShape
from fmedge.types import EngineSettings

DEFAULT_CTX_SIZE = 8192
SMALLEST_CTX_SIZE = 2048
MOST_SLOTS = 64
MOST_REPLICAS = 64
SizingOf = Callable[[ModelShape, EngineSettings], Sizing | None]
"""What llama.cpp itself says it needs for compute, as far as that is known."""


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One model to place. shapes: its quantisations, from which one is chosen. engine: settings
    that hold in any case; of these, `given` names the ones that somebody fixed (any of "ctx_size",
    "slots", "type_k", "type_v", "batch_size", "ubatch_size"), while ctx_size, slots and KV types
    are otherwise chosen. ranges: where layers shall lie, () as is best. excluded: names of devices
    that it must not use. weight: its worth beside other models'."""

    name: str
    shapes: tuple[ModelShape, ...]
    engine: EngineSettings
    given: frozenset[str] = frozenset()
    min_replicas: int = 1
    max_replicas: int = MOST_REPLICAS
    ranges: tuple[Range, ...] = ()
    excluded: frozenset[str] = frozenset()
    weight: float = 1.0


class PlanRequest(Struct, frozen=True, kw_only=True):
    """Models, the devices for them, and what they will be asked for (() as nobody said).

    excluded: names of devices that no model uses. running: the plan in force; among plans about as
    good, the one that changes less of it wins.
    """

    models: tuple[ModelRequest, ...]
    devices: tuple[Device, ...]
    demand: tuple[Demand, ...] = ()
    excluded: frozenset[str] = frozenset()
    sizing: SizingOf | None = None
    running: Plan | None = None
    seed: int = 0


class Choice(Struct, frozen=True, kw_only=True):
    """What is decided of a model before its layers are placed: index of its shape, tokens of each
    sequence, sequences at once, type of K and V, and how many replicas of it there are."""

    shape: int
    ctx_size: int
    slots: int
    type_k: str
    type_v: str
    num_replicas: int = 1

    @property
    def kv_type(self) -> str:
        return self.type_k if self.type_k == self.type_v else f"{self.type_k}/{self.type_v}"


def engine_of(model: ModelRequest, choice: Choice) -> EngineSettings:
    """The settings of the choice; nothing of them says where layers lie."""
    from msgspec.structs import replace

    return replace(
        model.engine,
        model_path=model.shapes[choice.shape].file,
        ctx_size=choice.ctx_size,
        slots=choice.slots,
        type_k=choice.type_k,
        type_v=choice.type_v,
    )
