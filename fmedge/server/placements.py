"""Plans for one server's models: made, kept for the next start, and made again with what loads
taught.

The rule: what fits together is planned together; models that do not are planned one by one, each
with all the memory that pinned ones leave, and take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fmedge import __version__
from fmedge.config import Config, ModelConfig, ReplicaConfig, names_of
from fmedge.config.demand import DemandConfig
from fmedge.sched.provision.corrections import Corrections
from fmedge.sched.provision.margins import Margins
from fmedge.sched.provision.plan import DeviceUse, NoPlanError, Plan, PlannedReplica
from fmedge.server.kept_plans import KeptPlans
from fmedge.server.planning import load_streams, make_plan, model_request, stream_of
from fmedge.server.state import StateStore

if TYPE_CHECKING:
    from fmedge.sched.provision.demand import Demand
    from fmedge.sched.provision.device import Device
    from fmedge.sched.provision.request import ModelRequest, PlanRequest
    from fmedge.sched.provision.shape import ModelShape
    from fmedge.server.plan import ModelPlan

MARGINS, SPEEDS = "margins", "speeds"
LEAST_CAPACITY = 0.8
"""A kept plan is used while devices have no more memory than it knew, but for this share."""

log = logging.getLogger(__name__)


class Learned(Struct, frozen=True):
    """What loads taught of devices: how much of them to leave free, and how fast they are."""

    margins: Margins
    speeds: Corrections

    @classmethod
    def of(cls, store: StateStore) -> Learned:
        return cls(
            Margins.from_bytes(store.load(MARGINS) or b""),
            Corrections.from_bytes(store.load(SPEEDS) or b""),
        )

    def applied(self, device: Device) -> Device:
        return self.margins.applied(self.speeds.applied(device))


class Placements:
    """The models of a configuration, as requests to the planner. A replica of a [[replica]] block
    is planned like a model of its own, since it differs from the others."""

    def __init__(
        self,
        config: Config,
        plans: Sequence[ModelPlan],
        store: StateStore,
        demand: Sequence[DemandConfig] = (),
    ) -> None:
        """demand: expected beside what the configuration's demand file says."""
        self._config = config
        self._demand = tuple(demand)
        self._names = {
            name: plan.name
            for plan, model in zip(plans, config.models, strict=True)
            for name in (*names_of(model), *plan.aliases, plan.name)
        }
        self._store = store
        self._plans = KeptPlans(store.folder)
        self.learned = Learned.of(store)
        self._shapes: dict[str, tuple[ModelShape, ...]] = {}
        """Of what is planned, by its name, once its files have been read."""
        self._configs: list[tuple[str, str, ModelConfig]] = []
        """(what is planned, the model that it is of, its configuration)"""
        self._kv_bytes = (config.server.kv_store_mib << 20) * (len(plans) + 1)
        """Of the host, for conversations that left their replicas: beside each model's, and once
        for those whose replica was unloaded."""
        self._pinned = {
            plan.name for plan, model in zip(plans, config.models, strict=True) if model.pinned
        }
        for plan, model in zip(plans, config.models, strict=True):
            own = [r for r in config.replicas if r.model in (plan.name, *plan.aliases, model.model)]
            if not own:
                self._configs.append((plan.name, plan.name, replace(model, name=plan.name)))
            for block, planned in zip(own, plan.replicas if own else (), strict=True):
                made = _of_block(block, model, planned.name, planned.engine.model_path)
                self._configs.append((planned.name, plan.name, made))

    def succeed(self, other: Placements, changed: Collection[str]) -> None:
        """Go on with what another configuration's have learned, and what they have read of models
        that are not among the changed."""
        self.learned = other.learned
        for name, model, _ in self._configs:
            if model not in changed and name in other._shapes:
                self._shapes[name] = other._shapes[name]

    def expected(self) -> list[Demand]:
        """What is known before anything was asked. ConfigError."""
        streams = load_streams(self._config, self._config.server.demand_file)
        streams = (*self._demand, *streams)
        return [stream_of(stream, self._names) for stream in streams]

    def knows(self, model: str) -> bool:
        """Whether a model of this name is planned for."""
        return any(model == own for _, own, _ in self._configs)

    async def make(
        self,
        devices: Sequence[Device],
        demand: Sequence[Demand] = (),
        running: Plan | None = None,
        *,
        takes_turns: bool = True,
    ) -> Plan:
        """A plan for these devices, less what loads taught. NoPlanError where not even one by one
        everything fits (or not at a time, unless models take turns); other FmedgeErrors for what
        cannot be planned."""
        request = await asyncio.to_thread(self._request, devices, demand, running)
        key = self._key(request)
        is_first = running is None
        kept = await asyncio.to_thread(self._kept, key, request.devices) if is_first else None
        if kept is not None:
            return kept
        try:
            plan = await make_plan(request)
        except NoPlanError as error:
            if len(request.models) == 1 or not takes_turns:
                raise
            log.info("not all models fit at a time, so they take turns: %s", error)
            plan = await self._make_apart(request)
        plan = self._by_model(plan)
        if is_first:
            await asyncio.to_thread(self._plans.save, key, plan)
        return plan

    async def make_beside(
        self,
        devices: Sequence[Device],
        demand: Sequence[Demand],
        running: Plan,
        changed: Collection[str],
    ) -> Plan:
        """As `make`, where a configuration was read anew: models but for the changed ones stay as
        they run, if the changed ones fit beside them and nothing else gains much."""
        known = {model for _, model, _ in self._configs}
        kept = tuple(r for r in running.replicas if r.model in known - set(changed))
        if not kept:
            return await self.make(devices, demand)
        staying = _part(running, {replica.name for replica in kept})
        beside = await self._beside(devices, demand, staying)
        return await self.make(devices, demand, beside or staying)

    async def _beside(
        self, devices: Sequence[Device], demand: Sequence[Demand], staying: Plan
    ) -> Plan | None:
        """What stays, and the other models in the memory that it leaves; None where they do not
        fit there."""
        stays = {replica.model for replica in staying.replicas}
        request = await asyncio.to_thread(self._request, devices, demand, None)
        owner = {name: model for name, model, _ in self._configs}
        others = tuple(m for m in request.models if owner[m.name] not in stays)
        if not others:
            return staying
        used = {use.name: use.used_bytes for use in staying.devices}
        left = tuple(
            replace(device, memory_bytes=device.memory_bytes - used.get(device.name, 0))
            for device in request.devices
        )
        if any(device.memory_bytes <= 0 for device in left):
            return None
        try:
            found = await make_plan(_of(replace(request, models=others, devices=left)))
        except NoPlanError:
            return None
        return _merged([staying, self._by_model(found)], request.devices)

    async def save(self) -> None:
        """What loads taught."""
        await asyncio.to_thread(self._store.save, MARGINS, self.learned.margins.to_bytes())
        await asyncio.to_thread(self._store.save, SPEEDS, self.learned.speeds.to_bytes())

    def shape_of(self, planned: PlannedReplica) -> ModelShape:
        """Of the file of a replica that was planned here."""
        known = (shape for shapes in self._shapes.values() for shape in shapes)
        return next(shape for shape in known if shape.file == planned.file)

    def _request(
        self, devices: Sequence[Device], demand: Sequence[Demand], running: Plan | None
    ) -> PlanRequest:
        from fmedge.models.registry import Registry
        from fmedge.sched.provision.request import PlanRequest

        registry = Registry()
        usable = tuple(self._usable(device) for device in devices)
        models = tuple(
            model_request(m, registry, usable, self._shapes.get(name, ()))
            for name, _, m in self._configs
        )
        self._shapes = {model.name: model.shapes for model in models}
        return PlanRequest(
            models=models,
            devices=usable,
            demand=tuple(part for stream in demand for part in self._shares(stream)),
            running=None if running is None else self._as_asked(running),
        )

    def _usable(self, device: Device) -> Device:
        device = self.learned.applied(device)
        if not device.is_host:
            return device
        return replace(device, reserve_bytes=device.reserve_bytes + self._kv_bytes)

    def _shares(self, stream: Demand) -> list[Demand]:
        """What each thing that is planned of a model gets of its requests."""
        names = [name for name, model, _ in self._configs if model == stream.model]
        rate_per_s = stream.rate_per_s / max(1, len(names))
        return [replace(stream, model=name, rate_per_s=rate_per_s) for name in names]

    def _as_asked(self, running: Plan) -> Plan:
        """With each replica under the name of what it was planned for."""
        own = {name for name, model, _ in self._configs if name != model}
        return replace(
            running,
            replicas=tuple(
                replace(r, model=r.name) if r.name in own else r for r in running.replicas
            ),
        )

    async def _make_apart(self, request: PlanRequest) -> Plan:
        owner = {name: model for name, model, _ in self._configs}
        pinned = tuple(m for m in request.models if owner[m.name] in self._pinned)
        parts = [await make_plan(_of(replace(request, models=pinned)))] if pinned else []
        used = {use.name: use.used_bytes for part in parts for use in part.devices}
        left = tuple(
            replace(device, memory_bytes=device.memory_bytes - used.get(device.name, 0))
            for device in request.devices
        )
        asked = (
            _of(replace(request, models=group, devices=left))
            for group in self._groups(request, pinned)
        )
        parts += [await make_plan(part) for part in asked]
        return _merged(parts, request.devices)

    def _groups(
        self, request: PlanRequest, pinned: Sequence[ModelRequest]
    ) -> list[tuple[ModelRequest, ...]]:
        """Replicas of one model are planned together."""
        groups: dict[str, tuple[ModelRequest, ...]] = {}
        for (_, model, _), asked in zip(self._configs, request.models, strict=True):
            if asked not in pinned:
                groups[model] = (*groups.get(model, ()), asked)
        return list(groups.values())

    def _by_model(self, plan: Plan) -> Plan:
        """With replicas of [[replica]] blocks under their model and their own name."""
        owner = {name: model for name, model, _ in self._configs}
        names = {r.name: r.model if owner[r.model] != r.model else r.name for r in plan.replicas}
        return replace(
            plan,
            replicas=tuple(
                replace(r, name=names[r.name], model=owner[r.model]) for r in plan.replicas
            ),
            devices=tuple(
                replace(
                    use,
                    breakdown=tuple(replace(b, replica=names[b.replica]) for b in use.breakdown),
                )
                for use in plan.devices
            ),
        )

    def _kept(self, key: str, devices: Sequence[Device]) -> Plan | None:
        """The plan of an earlier start, where nothing that it was made of has changed."""
        plan = self._plans.load(key)
        capacity = {device.name: device.capacity_bytes for device in devices}
        if plan is None or {use.name for use in plan.devices} != set(capacity):
            return None
        for use in plan.devices:
            if max(_together(plan, use)) > capacity[use.name]:
                return None
            if use.capacity_bytes < LEAST_CAPACITY * capacity[use.name]:
                return None
        devices_now = tuple(replace(use, capacity_bytes=capacity[use.name]) for use in plan.devices)
        return replace(plan, devices=devices_now)

    def _key(self, request: PlanRequest) -> str:
        """Of everything that a plan is made of, but for what differs from look to look: how much
        memory happens to be free, and what a process happens to take."""
        devices = [replace(d, memory_bytes=0, backend_bytes=0) for d in request.devices]
        asked = (__version__, request.models, request.demand, devices, sorted(self._pinned))
        return sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def _of(request: PlanRequest) -> PlanRequest:
    """With what is asked and what runs of its models alone."""
    names = {model.name for model in request.models}
    running = request.running
    if running is not None:
        own = tuple(replica for replica in running.replicas if replica.model in names)
        running = replace(running, replicas=own) if own else None
    demand = tuple(stream for stream in request.demand if stream.model in names)
    return replace(request, demand=demand, running=running)


def _part(plan: Plan, names: Collection[str]) -> Plan:
    """Of a plan, these replicas."""
    devices = []
    for use in plan.devices:
        own = tuple(part for part in use.breakdown if part.replica in names)
        used_bytes = sum(part.memory.total for part in own)
        devices.append(replace(use, breakdown=own, used_bytes=used_bytes))
    replicas = tuple(replica for replica in plan.replicas if replica.name in names)
    return replace(plan, replicas=replicas, devices=tuple(devices), rejected=(), warnings=())


def _of_block(block: ReplicaConfig, model: ModelConfig, name: str, path: str) -> ModelConfig:
    given = model.given | frozenset(block.engine) | {"replicas"}
    return ModelConfig(
        model=path, name=name, engine=block.engine_of(model), given=given, pinned=model.pinned
    )


def _together(plan: Plan, use: DeviceUse) -> list[int]:
    """What is on a device at a time: everything, or where that is too much the largest model."""
    if use.used_bytes <= use.capacity_bytes:
        return [use.used_bytes]
    model_of = {replica.name: replica.model for replica in plan.replicas}
    by_model: dict[str, int] = {}
    for part in use.breakdown:
        model = model_of[part.replica]
        by_model[model] = by_model.get(model, 0) + part.memory.total
    return list(by_model.values())


def _merged(parts: Sequence[Plan], devices: Sequence[Device]) -> Plan:
    uses = []
    for device in devices:
        own = [use for part in parts for use in part.devices if use.name == device.name]
        uses.append(
            DeviceUse(
                name=device.name,
                capacity_bytes=device.capacity_bytes,
                used_bytes=sum(use.used_bytes for use in own),
                breakdown=tuple(part for use in own for part in use.breakdown),
            )
        )
    return Plan(
        objective=sum(part.objective for part in parts),
        solve_ms=sum(part.solve_ms for part in parts),
        replicas=tuple(replica for part in parts for replica in part.replicas),
        devices=tuple(uses),
        rejected=tuple(item for part in parts for item in part.rejected),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
        gap=max(part.gap for part in parts),
    )
