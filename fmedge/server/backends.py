"""The replicas of one server: as configured, or planned, loaded in turns and planned again.

With placement = "manual" each replica is what its configuration says, and stays. Else the
provisioner plans, the model manager loads what fits and what is asked for, and `watch` keeps both
up to date. In an emulation all of that is the same but for the devices and the replicas themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fmedge.config import Config
from fmedge.errors import ModelNotFoundError
from fmedge.replica.local import LocalReplica
from fmedge.sched.core import ESTIMATING
from fmedge.server.kv_places import KvPlaces
from fmedge.server.placements import Placements
from fmedge.server.plan import ModelPlan, longest_request, serve_model
from fmedge.server.profiles import Profiler
from fmedge.server.promises import sla_promises
from fmedge.server.provisioner import Provisioner
from fmedge.server.state import StateStore
from fmedge.types import EngineInfo, EngineSettings

if TYPE_CHECKING:
    from aiohttp import web

    from fmedge.dispatch import Dispatcher
    from fmedge.models.child import Sandbox
    from fmedge.models.served import ServedModel
    from fmedge.replica.interface import Replica
    from fmedge.sched.decision import Decision
    from fmedge.sched.profile import StepProfile
    from fmedge.sched.provision.device import Device
    from fmedge.sched.provision.plan import PlannedReplica
    from fmedge.sched.resident import ModelRule
    from fmedge.server.changes import Changes
    from fmedge.server.emulated import Emulation
    from fmedge.server.provisioner import Prospect
    from fmedge.server.residency import ModelManager

LOAD_TIMEOUT_S = 3600.0


class Backends:
    """Create it on the event loop; `start`, then what needs models, then `close`."""

    def __init__(
        self,
        config: Config,
        plans: Sequence[ModelPlan],
        state: StateStore,
        profiler: Profiler,
        kv: KvPlaces,
        emulation: Emulation | None = None,
        looking: asyncio.Task[Sequence[Device]] | None = None,
    ) -> None:
        """looking: a look at the devices that has begun, as `Provisioner` takes it."""
        self._config = config
        self.plans = plans
        self._state = state
        self._profiler = profiler
        self._kv = kv
        self._emulation = emulation
        self._engines: dict[str, tuple[str, EngineSettings]] = {}
        """Of each replica that was ever made, by name: its model and what it was loaded with."""
        self._renderer: Sandbox | None = None
        """For the first model's template, until that is served."""
        self.manager: ModelManager | None = None
        self.provisioner: Provisioner | None = None
        if config.server.placement != "manual":
            demand = () if emulation is None else emulation.cluster.demand
            look = None if emulation is None else emulation.look
            placements = Placements(config, plans, state, demand)
            self.provisioner = Provisioner(
                config, placements, sla_promises(config), look=look, looking=looking
            )

    async def start(self, dispatcher: Dispatcher) -> None:
        """Returns when every model serves that shall be loaded from the start.

        UnavailableError where one cannot be, NoPlanError where it fits nowhere.
        """
        if self.provisioner is None:
            for plan in self.plans:
                for replica in plan.replicas:
                    self.add(dispatcher, replica.name, plan.name, replica.engine)
        else:
            await self._start_planned(dispatcher, self.provisioner)
        await asyncio.to_thread(self._start_renderer)
        await dispatcher.wait_ready(LOAD_TIMEOUT_S)
        if self._config.server.placement == "auto" and self.provisioner and self.manager:
            self.provisioner.watch(dispatcher, self.manager)

    def _start_renderer(self) -> None:
        """A child, while the model loads: a small one takes no longer."""
        from fmedge.models.template import renderer

        if not self.plans[0].metadata.is_embedding:
            self._renderer = renderer()
            self._renderer.start()

    async def _start_planned(self, dispatcher: Dispatcher, provisioner: Provisioner) -> None:
        from fmedge.sched.resident import ResidencySettings
        from fmedge.server.residency import ModelManager

        server = self._config.server
        plan = await provisioner.plan()
        if self._emulation is not None:
            await self._emulation.prepare(plan)
        self.manager = ModelManager(
            dispatcher,
            self._make_planned,
            settings=ResidencySettings(min_resident_s=server.min_resident_s),
            save_kv=self._kv.outlives_replicas,
            replan=provisioner.replan,
            learn=provisioner.loaded,
        )
        self.manager.apply(plan, self._rules())
        await self.manager.start()

    def _rules(self) -> dict[str, ModelRule]:
        from fmedge.sched.resident import ModelRule

        keep_alive_s = self._config.server.keep_alive_s
        return {
            plan.name: ModelRule(is_pinned=model.pinned, keep_alive_s=keep_alive_s)
            for plan, model in zip(self.plans, self._config.models, strict=True)
        }

    async def close(self) -> None:
        """No more decisions; replicas are the dispatcher's to close."""
        if self._renderer is not None:
            self._renderer.close()
        if self.provisioner is not None:
            await self.provisioner.close()
        if self.manager is not None:
            await self.manager.close()

    def _make_planned(self, planned: PlannedReplica) -> Replica:
        if self._emulation is not None and self.provisioner is not None:
            self._engines[planned.name] = planned.model, planned.engine
            shape, memory = self.provisioner.facts(planned)
            return self._emulation.replica(planned, shape, memory)
        return self._make(planned.name, planned.model, planned.engine)

    def _make(self, name: str, model: str, engine: EngineSettings) -> Replica:
        self._engines[name] = model, engine
        return LocalReplica(name, model, engine, kv_store=self._kv.settings)

    # --- another configuration (exchange.py) ---

    async def foresee(
        self,
        config: Config,
        plans: Sequence[ModelPlan],
        changes: Changes,
        recent: Iterable[Decision],
    ) -> Prospect:
        """What would be planned for it. As `Provisioner.foresee` raises; not with placement =
        "manual"."""
        assert self.provisioner is not None
        moved = {*changes.added, *changes.removed, *changes.replaced, *changes.changed}
        placements = Placements(config, plans, self._state)
        placements.succeed(self.provisioner.placements, moved)
        return await self.provisioner.foresee(
            config,
            placements,
            sla_promises(config),
            changed=moved if changes.is_placed_anew else None,
            taken=() if self.manager is None else self.manager.names,
            recent=recent,
        )

    def adopt(
        self,
        config: Config,
        plans: Sequence[ModelPlan],
        prospect: Prospect | None,
        leaving: Iterable[str],
    ) -> None:
        """From now on it is so; models that leave keep what they have until they have left."""
        self._config, self.plans = config, plans
        if prospect is None or self.provisioner is None or self.manager is None:
            return
        self.provisioner.adopt(prospect)
        for model in leaving:
            self.manager.leave(model)
        self.manager.set_least_time(config.server.min_resident_s)
        self.manager.apply(prospect.plan, self._rules())

    def add(self, dispatcher: Dispatcher, name: str, model: str, engine: EngineSettings) -> None:
        """Another replica, with placement = "manual"."""
        dispatcher.add_replica(self._make(name, model, engine))

    # --- profiles ---

    async def profile(self, replica: Replica, info: EngineInfo) -> StepProfile | None:
        """What a replica that has loaded costs; None where nobody asks."""
        if self._config.server.policy not in ESTIMATING:
            return None
        profile = await self._profiler.obtain(replica, self._engines[replica.name][1])
        if self.provisioner is not None and profile.source == "measured":
            await self.provisioner.measured(replica.name, profile)
        return profile

    async def _measure(
        self, dispatcher: Dispatcher, name: str, engine: EngineSettings, budget_s: float
    ) -> StepProfile:
        async def measured(replica: Replica, _: EngineInfo) -> StepProfile:
            return await self._profiler.measure(replica, engine, budget_s=budget_s)

        return await dispatcher.measure(name, measured)

    def _replicas_of(self, dispatcher: Dispatcher, model: str) -> list[tuple[str, EngineSettings]]:
        name = self._name_of(model)
        running = next((m.replicas for m in dispatcher.status().models if m.name == name), ())
        return [(load.status.name, self._engines[load.status.name][1]) for load in running]

    def _name_of(self, model: str) -> str:
        for plan in self.plans:
            if model in (plan.name, *plan.aliases):
                return plan.name
        raise ModelNotFoundError(f"The model `{model[:100]}` is not served here.")

    # --- what is served ---

    async def serve_models(self, dispatcher: Dispatcher) -> dict[str, ServedModel]:
        """The models as http needs them. A vocabulary is opened in a thread, as a large one takes
        its time, and only after a worker or a child of the sizer has survived the file."""
        from fmedge.replica.sizing import Sizer

        loaded = {
            load.status.name: load.status.info
            for model in dispatcher.status().models
            for load in model.replicas
            if load.status.info is not None
        }
        served: dict[str, ServedModel] = {}
        async with Sizer() as sizer:
            for plan in self.plans:
                engines = self._engines_of(plan)
                name = next((name for name in engines if name in loaded), "")
                if name:
                    path = engines[name].model_path
                else:
                    path = plan.engine.model_path
                    await sizer.check_vocab(path)
                ctx_size = longest_request(engines, loaded)
                renderer, self._renderer = self._renderer, None
                served[plan.name] = await asyncio.to_thread(
                    serve_model, plan, path, ctx_size, renderer
                )
        return served

    def _engines_of(self, plan: ModelPlan) -> dict[str, EngineSettings]:
        """Of the model's replicas, by name."""
        if self.provisioner is None:
            return {replica.name: replica.engine for replica in plan.replicas}
        return {r.name: r.engine for r in self.provisioner.planned(plan.name)}

    def add_routes(self, app: web.Application, dispatcher: Dispatcher) -> None:
        """What administrators ask and tell."""
        from fmedge.server import admin
        from fmedge.server.profiling import profile_handler

        manager, provisioner = self.manager, self.provisioner
        admin.add_routes(
            app,
            dispatcher.status,
            lambda: self.plans,
            residency=list if manager is None else manager.status,
            provisioner=lambda: None if provisioner is None else provisioner.status(),
        )
        if manager is not None:
            from fmedge.server import residency_routes

            residency_routes.add_routes(app, manager, self._name_of)
        measure = partial(self._measure, dispatcher)
        replicas_of = partial(self._replicas_of, dispatcher)
        app.router.add_post("/admin/profile", profile_handler(measure, replicas_of))
