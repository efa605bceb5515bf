"""One server's models exchanged for those of another configuration, while requests run.

The rule: `prepare` does all that can fail and changes nothing that requests see; `commit` cannot
fail. What leaves goes in the background: what is open of it finishes, its replicas end, and then
its name is free, for the model that replaces it where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from fmedge.config import Config
from fmedge.errors import FmedgeError
from fmedge.sched.provision.context import DEFAULT_CTX_SIZE
from fmedge.server.changes import Changes, with_names_kept
from fmedge.server.plan import ModelPlan, longest_request, serve_model

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fmedge.dispatch import Dispatcher
    from fmedge.models.served import ServedModel
    from fmedge.server.backends import Backends
    from fmedge.server.provisioner import Prospect
    from fmedge.types import EngineInfo, EngineSettings

LOAD_TIMEOUT_S = 3600.0
LEAVE_TIMEOUT_S = 120.0
"""For the processes of a model of which nothing is open any more."""

log = logging.getLogger(__name__)


class Prepared(Struct, kw_only=True):
    """served: all models as http needs them. prospect: what is planned, None with placement
    "manual". started: replicas of that which serve already."""

    config: Config
    plans: tuple[ModelPlan, ...]
    changes: Changes
    served: dict[str, ServedModel]
    prospect: Prospect | None = None
    started: tuple[str, ...] = ()


class Exchange:
    """One server's, on its event loop."""

    def __init__(self, backends: Backends, dispatcher: Dispatcher) -> None:
        self._backends = backends
        self._dispatcher = dispatcher
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """`prepare` and `commit` in it: nothing else is planned meanwhile."""
        provisioner = self._backends.provisioner
        async with contextlib.nullcontext() if provisioner is None else provisioner.planning:
            yield

    async def prepare(
        self,
        config: Config,
        plans: Sequence[ModelPlan],
        changes: Changes,
        served: Mapping[str, ServedModel],
    ) -> Prepared:
        """FmedgeError for what cannot be; then everything is as it was. served: the models as they
        are."""
        prospect: Prospect | None = None
        started: tuple[str, ...] = ()
        if self._backends.provisioner is None:
            plans = [self._by_hand(plan) for plan in plans]
            started = await self._start(plans, changes)
        else:
            recent = self._dispatcher.recent()
            prospect = await self._backends.foresee(config, plans, changes, recent)
        try:
            made = await self._serve(plans, changes, served, prospect)
        except Exception:
            await self._undo(started)
            raise
        return Prepared(
            config=config,
            plans=tuple(plans),
            changes=changes,
            served=made,
            prospect=prospect,
            started=started,
        )

    def commit(self, prepared: Prepared, served: Mapping[str, ServedModel]) -> None:
        """From now on it is so. served: the models as they were."""
        config, changes = prepared.config, prepared.changes
        names = {plan.name for plan in prepared.plans}
        for name in self._leaving:  # of an earlier exchange
            self._dispatcher.let_go(name, is_replaced=name in names)
        fresh = [name for name in changes.leaving if name not in self._leaving]
        for name in fresh:
            self._dispatcher.let_go(name, is_replaced=name in names)
        self._backends.adopt(config, prepared.plans, prepared.prospect, fresh)
        for name in fresh:
            work = self._depart(name, config.server.drain_timeout_s)
            self._leaving[name] = self._spawn(work)
        if prepared.prospect is None:
            kept = {r.name for plan in prepared.plans for r in plan.replicas}
            gone = [
                name
                for model in names - set(self._leaving)
                for name in self._dispatcher.roster.of(model)
                if name not in kept
            ]
            self._spawn(self._end(gone, config.server.drain_timeout_s))
            for plan in prepared.plans:
                self._complete(plan)
        now = {id(model.template) for model in prepared.served.values()}
        closing = [model for model in served.values() if id(model.template) not in now]
        for model in closing:
            self._spawn(self._close(model, self._leaving.get(model.name)))

    async def close(self) -> None:
        """Nothing leaves any more: replicas are the dispatcher's to close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- preparing ---

    def _by_hand(self, plan: ModelPlan) -> ModelPlan:
        """As its configuration says, with the names of replicas that go on."""
        roster = self._dispatcher.roster
        taken = {name for model in roster.statuses() for name in roster.of(model.name)}
        before = [p for p in self._backends.plans if p.name == plan.name]
        return with_names_kept(before[0].replicas if before else (), plan, taken)

    async def _start(self, plans: Sequence[ModelPlan], changes: Changes) -> tuple[str, ...]:
        """The new replicas, beside those that there are; returns when they serve. Those of a model
        whose name is still another's come when that has left."""
        roster = self._dispatcher.roster
        busy = {*self._leaving, *changes.replaced}
        wanted = [
            (plan.name, replica)
            for plan in plans
            if plan.name not in busy
            for replica in plan.replicas
            if replica.name not in roster.of(plan.name)
        ]
        started = tuple(replica.name for _, replica in wanted)
        try:
            for model, replica in wanted:
                self._backends.add(self._dispatcher, replica.name, model, replica.engine)
            await roster.wait_serving(started, LOAD_TIMEOUT_S)
        except Exception:
            await self._undo(started)
            raise
        return started

    async def _undo(self, started: Sequence[str]) -> None:
        roster = self._dispatcher.roster
        await self._end(started)
        served = {plan.name for plan in self._backends.plans}
        for model in roster.statuses():
            if model.name not in served and not roster.of(model.name):
                roster.forget_model(model.name)

    async def _serve(
        self,
        plans: Sequence[ModelPlan],
        changes: Changes,
        served: Mapping[str, ServedModel],
        prospect: Prospect | None,
    ) -> dict[str, ServedModel]:
        """A vocabulary is opened after a child has survived its file."""
        from fmedge.replica.sizing import Sizer

        loaded = {
            load.status.name: load.status.info
            for model in self._dispatcher.status().models
            for load in model.replicas
            if load.status.info is not None
        }
        made: dict[str, ServedModel] = {}
        async with Sizer() as sizer:
            for plan in plans:
                old = served.get(plan.name)
                is_new = old is None or plan.name in changes.coming
                engines = _engines(plan, prospect)
                if is_new:
                    await sizer.check_vocab(plan.engine.model_path)
                    is_free = plan.name not in {*self._leaving, *changes.replaced}
                    ctx_size = _longest(plan, engines, loaded if is_free else {})
                    made[plan.name] = await asyncio.to_thread(
                        serve_model, plan, plan.engine.model_path, ctx_size
                    )
                    continue
                assert old is not None
                ctx_size = _longest(plan, engines, loaded)
                was = next(one for one in self._backends.plans if one.name == plan.name)
                if (was.metadata, was.chat_template) != (plan.metadata, plan.chat_template):
                    made[plan.name] = await asyncio.to_thread(
                        serve_model, plan, plan.engine.model_path, ctx_size, vocab=old.vocab
                    )
                elif (plan.aliases, ctx_size) != (old.aliases, old.ctx_size):
                    made[plan.name] = old.known_as(plan.aliases, ctx_size)
                else:
                    made[plan.name] = old
        return made

    def _complete(self, plan: ModelPlan) -> None:
        """Begin to load what a model by hand has not: its name was another's until just now."""
        if plan.name in self._leaving:
            return
        there = self._dispatcher.roster.of(plan.name)
        for replica in plan.replicas:
            if replica.name not in there:
                self._backends.add(self._dispatcher, replica.name, plan.name, replica.engine)

    # --- leaving ---

    async def _depart(self, name: str, drain_s: float) -> None:
        roster = self._dispatcher.roster
        await self._dispatcher.let_finish(name, drain_s)
        manager = self._backends.manager
        if manager is None:
            await self._end(roster.of(name))
            has_left = not roster.of(name)
        else:
            has_left = await manager.wait_left(name, LEAVE_TIMEOUT_S)
        if not has_left:
            log.error("%s cannot be unloaded, so nothing takes its name until a restart", name)
            return
        roster.forget_model(name)
        del self._leaving[name]
        log.info("%s has left", name)
        if manager is not None:
            manager.free(name)
            return
        for plan in self._backends.plans:
            if plan.name == name:
                self._complete(plan)

    async def _end(self, replicas: Sequence[str], deadline_s: float = 0.0) -> None:
        """What they run may take so long to finish, and then goes on elsewhere, if it can."""

        async def end(name: str) -> None:
            try:
                await self._dispatcher.roster.retire(name, deadline_s)
            except FmedgeError as error:
                log.warning("%s", error)

        await asyncio.gather(*map(end, replicas))

    async def _close(self, model: ServedModel, leaving: asyncio.Task[None] | None) -> None:
        """Its renderer, when nobody needs that any more."""
        if leaving is not None:
            await asyncio.wait((leaving,))
        await asyncio.to_thread(model.close)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a change of the configuration was not carried out to its end",
                      exc_info=task.exception())  # fmt: skip


def _longest(
    plan: ModelPlan, engines: Mapping[str, EngineSettings], loaded: Mapping[str, EngineInfo]
) -> int:
    """As `longest_request`; of a model that nobody has loaded or planned, what it will be."""
    if any(engine.ctx_size for engine in engines.values()) or engines.keys() & loaded.keys():
        return longest_request(engines, loaded)
    return min(plan.metadata.ctx_train or DEFAULT_CTX_SIZE, DEFAULT_CTX_SIZE)


def _engines(plan: ModelPlan, prospect: Prospect | None) -> dict[str, EngineSettings]:
    """Of the model's replicas, by name."""
    if prospect is None:
        return {replica.name: replica.engine for replica in plan.replicas}
    return {r.name: r.engine for r in prospect.plan.replicas if r.model == plan.name}
