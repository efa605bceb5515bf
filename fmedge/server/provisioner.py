"""Keeps deciding what runs where: plans at start, and anew when devices, demand or promises say so.

When to look again is `sched.provision.replan`'s to say, what then to run the planner's, and how to
get there residency's. This module gathers what they need to know and learns from loads: where
llama.cpp put what, and what did not fit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from fmedge.config import Config
from fmedge.errors import DeviceError, FmedgeError
from fmedge.replica.rpc import parse_endpoint
from fmedge.sched.provision import observed
from fmedge.sched.provision.apply import differences, excess_bytes
from fmedge.sched.provision.margins import failed_device
from fmedge.sched.provision.plan import MemoryUse, NoPlanError, Plan, PlannedReplica
from fmedge.sched.provision.replan import Replanner, bytes_by_replica, renamed
from fmedge.types import BEST_EFFORT, EngineInfo, Promise

if TYPE_CHECKING:
    from fmedge.dispatch import Dispatcher
    from fmedge.sched.decision import Decision
    from fmedge.sched.profile import StepProfile
    from fmedge.sched.provision.demand import Demand
    from fmedge.sched.provision.device import Device
    from fmedge.sched.provision.shape import ModelShape
    from fmedge.server.placements import Placements
    from fmedge.server.residency import ModelManager

REVIEW_S = 5.0
LOST_REVIEW_S = 1.0
"""Between two looks at device servers, which may be gone."""

WINDOW_S = 60.0
CONNECT_TIMEOUT_S = 2.0
MOST_ERROR = 0.25
"""Of a fit that says something of a device."""

DECODE_DEPTH, PREFILL_TOKENS = 256, 256
"""Where predicted and measured steps are compared."""

DEFAULT_TARGET = 0.9

log = logging.getLogger(__name__)


class ProvisionerStatus(Struct, frozen=True, kw_only=True):
    """For `fmedge ps`. why: of the plan in force; age_s: since it was made. problems: what keeps a
    better one from being made."""

    why: str
    age_s: float
    num_plans: int
    objective: float
    devices: dict[str, bool]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]


class Prospect(Struct, frozen=True, kw_only=True):
    """What a provisioner would do with another configuration; `adopt` makes it so."""

    config: Config
    placements: Placements
    promises: Mapping[str, Promise]
    devices: dict[str, Device]
    present: frozenset[str]
    rates: dict[str, float]
    plan: Plan


class Provisioner:
    """One server's. `plan` first, then `watch`; everything on one event loop.

    promises: of SLA classes by name.
    """

    def __init__(
        self,
        config: Config,
        placements: Placements,
        promises: Mapping[str, Promise],
        replanner: Replanner | None = None,
        *,
        look: Callable[[], Sequence[Device]] | None = None,
        looking: asyncio.Task[Sequence[Device]] | None = None,
    ) -> None:
        """look: what devices there are, in place of those of this machine and its servers.
        looking: a look at those that has begun, for the first plan."""
        self._config = config
        self.placements = placements
        self._promises = promises
        self._replanner = replanner or Replanner()
        self._look_elsewhere = look
        self._looking = looking
        self._devices: dict[str, Device] = {}
        self._plan: Plan | None = None
        self._why = "the server started"
        self._planned_s = time.monotonic()
        self._num_plans = 0
        self._problems: tuple[str, ...] = ()
        self._loaded: set[str] = set()
        self.planning = asyncio.Lock()
        """Held while a plan is made and put in force."""
        self._watching: asyncio.Task[None] | None = None

    async def plan(self) -> Plan:
        """The first plan. NoPlanError and others where there is none."""
        looking, self._looking = self._looking, None
        found = await (self._look(self._config) if looking is None else looking)
        self._devices = {device.name: device for device in found}
        demand = self.placements.expected()
        plan = await self.placements.make(tuple(self._devices.values()), demand)
        for warning in plan.warnings:
            log.warning("%s", warning)
        rates: dict[str, float] = {}
        for stream in demand:
            rates[stream.model] = rates.get(stream.model, 0.0) + stream.rate_per_s
        self._take(plan, rates, "the server started")
        return plan

    def watch(self, dispatcher: Dispatcher, manager: ModelManager) -> None:
        """From now on plan anew when that is called for."""
        self._watching = asyncio.create_task(self._watch(dispatcher, manager), name="provisioner")

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def foresee(
        self,
        config: Config,
        placements: Placements,
        promises: Mapping[str, Promise],
        *,
        changed: Collection[str] | None,
        taken: Collection[str],
        recent: Iterable[Decision],
    ) -> Prospect:
        """The plan for another configuration; hold `planning` until it is adopted. changed: models
        that are new, gone or otherwise than they were; None: nothing that is planned for is, so
        the plan stays. taken: names of replicas that there are. recent: decisions, of which demand
        is learned. As `plan` raises."""
        assert self._plan is not None
        devices, present = self._devices, self._replanner.devices
        if config.rpc != self._config.rpc:
            found = await self._look(config, is_serving=True)
            devices = {d.name: self._devices.get(d.name, d) for d in found}
            present = frozenset(map(_key, devices.values()))
        expected = placements.expected()
        seen = observed.observe(recent, time.monotonic(), WINDOW_S, self._planned_s)
        seen = {key: one for key, one in seen.items() if placements.knows(one.model)}
        demand = self._demand(seen, promises)
        asked = {stream.model for stream in demand}
        demand += [stream for stream in expected if stream.model not in asked]
        plan = self._plan
        if changed is not None:
            usable = [device for device in devices.values() if _key(device) in present]
            wanted = await placements.make_beside(usable, demand, self._plan, changed)
            for warning in wanted.warnings:
                log.warning("%s", warning)
            plan = renamed(self._plan.replicas, wanted, taken)
        rates: dict[str, float] = {}
        for stream in demand:
            rates[stream.model] = rates.get(stream.model, 0.0) + stream.rate_per_s
        return Prospect(
            config=config,
            placements=placements,
            promises=promises,
            devices=devices,
            present=present,
            rates=rates,
            plan=plan,
        )

    def adopt(self, prospect: Prospect) -> None:
        """From now on it is so. Who holds the manager applies the plan."""
        self._config, self.placements = prospect.config, prospect.placements
        self._promises, self._devices = prospect.promises, prospect.devices
        if prospect.plan is not self._plan:
            self._why = ""
            self._take(
                prospect.plan, prospect.rates, "the configuration was read anew", prospect.present
            )

    def status(self) -> ProvisionerStatus:
        plan = self._plan
        return ProvisionerStatus(
            why=self._why,
            age_s=time.monotonic() - self._planned_s,
            num_plans=self._num_plans,
            objective=plan.objective if plan else 0.0,
            devices={
                name: _key(device) in self._replanner.devices
                for name, device in self._devices.items()
            },
            warnings=plan.warnings if plan else (),
            problems=self._problems,
        )

    def planned(self, model: str) -> list[PlannedReplica]:
        """A model's replicas in the plan in force."""
        return [r for r in self._plan.replicas if r.model == model] if self._plan else []

    def facts(self, planned: PlannedReplica) -> tuple[ModelShape, list[MemoryUse]]:
        """What a replica that was planned holds, and what it takes of devices in the plan in
        force."""
        uses = [] if self._plan is None else uses_of(self._plan, planned.name)
        return self.placements.shape_of(planned), uses

    # --- what loads teach ---

    async def loaded(self, name: str, info: EngineInfo) -> None:
        """A replica has loaded: compare what llama.cpp did with what was planned."""
        plan = self._plan
        planned = next((r for r in plan.replicas if r.name == name), None) if plan else None
        if plan is None or planned is None or name in self._loaded:
            return
        self._loaded.add(name)
        uses = uses_of(plan, name)
        for difference in differences(planned, info, uses):
            log.warning("replica %s is not as planned: %s", name, difference)
        for device_name, num_bytes in excess_bytes(planned, info, uses).items():
            device = self._devices.get(device_name)
            if device is not None:
                self.placements.learned.margins.on_loaded(device, num_bytes)
        await self.placements.save()

    async def measured(self, name: str, profile: StepProfile) -> None:
        """A replica's steps were measured: compare what they take with what was predicted."""
        if profile.fitted is None or profile.fitted.median_error > MOST_ERROR or not self._plan:
            return
        planned = next((r for r in self._plan.replicas if r.name == name), None)
        if planned is None:
            return
        shape = self.placements.shape_of(planned)
        from fmedge.sched.provision.cost import step_model

        speeds = self.placements.learned.speeds
        devices = {d.name: speeds.applied(d) for d in self._devices.values()}
        foretold = step_model(shape, planned.engine, planned.ranges, devices)
        num_prefill = min(PREFILL_TOKENS, planned.engine.batch_size)
        steps = ((0, 1, DECODE_DEPTH, 0.0), (num_prefill, 0, 0, num_prefill**2 / 2))
        decode, prefill = ((foretold.step_s(*step), profile.model.step_s(*step)) for step in steps)
        holders = [self._devices[part.device] for part in planned.ranges]
        speeds.on_measured(holders, decode, prefill)
        log.info(
            "replica %s decodes in %.2f ms a token where %.2f were predicted",
            name, decode[1] * 1e3, decode[0] * 1e3,
        )  # fmt: skip
        await self.placements.save()

    async def replan(
        self, planned: PlannedReplica, reason: str
    ) -> tuple[PlannedReplica, dict[str, int]] | None:
        """Another placement for a replica that could not be loaded, under the same name, with its
        bytes by device; None where only the same would come out."""
        name = failed_device(reason, self._devices)
        if name is None or self._plan is None:
            return None
        margin = self.placements.learned.margins.on_failure(self._devices[name])
        log.warning(
            "%s did not fit on %s: %d MiB of that are left free from now on",
            planned.name, name, margin.total >> 20,
        )  # fmt: skip
        await self.placements.save()
        async with self.planning:
            plan = await self.placements.make(self._present(), running=self._plan)
        others = [r for r in self._plan.replicas if r.name != planned.name]
        plan = renamed(others, plan)
        taken = {r.name for r in others}
        new = next(
            (r for r in plan.replicas if r.model == planned.model and r.name not in taken), None
        )
        if new is None or (new.ranges, new.engine) == (planned.ranges, planned.engine):
            return None
        return replace(new, name=planned.name), bytes_by_replica(plan)[new.name]

    # --- when to look again ---

    async def _watch(self, dispatcher: Dispatcher, manager: ModelManager) -> None:
        wait_s = LOST_REVIEW_S if self._config.rpc else REVIEW_S
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self._review(dispatcher, manager)
            except FmedgeError as error:
                log.warning("planning anew failed, so things stay as they are: %s", error)
            except Exception:
                log.exception("planning anew failed, so things stay as they are")

    async def _review(self, dispatcher: Dispatcher, manager: ModelManager) -> None:
        now_s = time.monotonic()
        since_s = self._planned_s
        seen = observed.observe(dispatcher.recent(), now_s, WINDOW_S, since_s)
        seen = {key: one for key, one in seen.items() if self.placements.knows(one.model)}
        present = await self._present_names()
        signals = [one.signal(self._target(one.sla_class)) for one in seen.values()]
        reason = self._replanner.review(now_s, signals, present)
        if not reason:
            return
        log.info("planning anew: %s", reason)
        async with self.planning:
            await self._again(reason, seen, present, manager)

    async def _again(
        self,
        reason: str,
        seen: Mapping[str, observed.Observed],
        present: frozenset[str],
        manager: ModelManager,
    ) -> None:
        assert self._plan is not None
        if not present <= {_key(device) for device in self._devices.values()}:
            # What is known keeps its memory as it was before anything of ours lay there.
            found = {
                device.name: device for device in await self._look(self._config, is_serving=True)
            }
            self._devices = found | self._devices
        rates = observed.rates(seen)
        try:
            devices = [d for d in self._devices.values() if _key(d) in present]
            plan = await self.placements.make(
                devices, self._demand(seen, self._promises), self._plan
            )
        except NoPlanError as error:
            self._problems = (str(error), *error.changes)
            log.warning("%s; no other plan is possible: %s", reason, error)
            self._replanner.planned(time.monotonic(), rates, present)
            return
        plan = renamed(self._plan.replicas, plan, manager.names)
        is_same = {r.name for r in plan.replicas} == {r.name for r in self._plan.replicas}
        if is_same:
            log.info("the plan stays as it is")
        self._take(plan, rates, self._why if is_same else reason, present)
        if not is_same:
            manager.apply(plan)

    def _take(
        self,
        plan: Plan,
        rates: Mapping[str, float],
        why: str,
        present: frozenset[str] | None = None,
    ) -> None:
        now_s = time.monotonic()
        if why != self._why or self._plan is None:
            self._planned_s = now_s
            self._num_plans += 1
        self._plan, self._why, self._problems = plan, why, ()
        self._loaded &= {replica.name for replica in plan.replicas}
        names = frozenset(map(_key, self._devices.values())) if present is None else present
        self._replanner.planned(now_s, rates, names)

    # --- what there is ---

    async def _look(self, config: Config, *, is_serving: bool = False) -> Sequence[Device]:
        from fmedge.server.planning import look_at_devices

        if self._look_elsewhere is not None:
            return self._look_elsewhere()
        return await look_at_devices(config, is_serving=is_serving)

    def _present(self) -> list[Device]:
        return [d for d in self._devices.values() if _key(d) in self._replanner.devices]

    async def _present_names(self) -> frozenset[str]:
        """This machine's devices, and the addresses of device servers that listen."""
        local = {_key(device) for device in self._devices.values() if not device.endpoint}
        endpoints = [server.endpoint for server in self._config.rpc]
        listens = await asyncio.gather(*(_listens(endpoint) for endpoint in endpoints))
        return frozenset(local | {e for e, is_up in zip(endpoints, listens, strict=True) if is_up})

    def _target(self, sla_class: str) -> float:
        promise = self._promises.get(sla_class)
        return DEFAULT_TARGET if promise is None else promise.target

    def _demand(
        self, seen: Mapping[str, observed.Observed], promises: Mapping[str, Promise]
    ) -> list[Demand]:
        from fmedge.sched.provision.demand import Demand, Spread

        return [
            Demand(
                model=one.model,
                rate_per_s=one.rate_per_s,
                prompt_tokens=Spread(max(1, one.prompt_p50), max(1, one.prompt_p95)),
                output_tokens=Spread(max(1, one.output_p50), max(1, one.output_p95)),
                promise=promises.get(one.sla_class, BEST_EFFORT),
            )
            for one in seen.values()
            if one.num_requests >= self._replanner.settings.min_requests
        ]


def _key(device: Device) -> str:
    """What is there or not: this machine's device, or a whole server."""
    return device.endpoint or device.name


async def _listens(endpoint: str) -> bool:
    try:
        host, port = parse_endpoint(endpoint)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError, DeviceError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def uses_of(plan: Plan, name: str) -> list[MemoryUse]:
    """What a plan says that a replica takes of devices."""
    return [part.memory for use in plan.devices for part in use.breakdown if part.replica == name]
