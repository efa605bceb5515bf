"""Profiles on demand: of replicas that serve (POST /admin/profile), or of one started for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from fmedge.errors import ModelLoadError, ModelNotFoundError
from fmedge.http.decode import BodyDecoder
from fmedge.http.errors import json_response
from fmedge.replica.interface import Replica
from fmedge.replica.local import LocalReplica
from fmedge.replica.protocol import Embedded, Failed, Step
from fmedge.sched.profile import StepProfile
from fmedge.server.plan import ReplicaPlan
from fmedge.server.profiles import Profiler
from fmedge.types import EngineInfo, EngineSettings

CLOSE_TIMEOUT_S = 2.0
MAX_BUDGET_S = 120.0
LOAD_POLL_S = 0.1

Served = tuple[str, EngineSettings]
"""A replica by name, and what it was loaded with."""

Measure = Callable[[str, EngineSettings, float], Awaitable[StepProfile]]
"""Of a replica by name, for so many seconds at most."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ProfileRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/profile. replica: one of the model's, else each in turn. seconds:
    for each at most."""

    model: str
    replica: str | None = None
    seconds: Annotated[float, Meta(gt=0, le=MAX_BUDGET_S)] = 10.0


class ReplicaProfile(Struct, frozen=True, kw_only=True):
    """A replica with its profile."""

    replica: str
    model: str
    profile: StepProfile


class ProfileList(Struct, frozen=True, kw_only=True):
    """What POST /admin/profile answers, and `fmedge profile --json` prints."""

    profiles: list[ReplicaProfile]


_decoder = BodyDecoder(ProfileRequest)


def profile_handler(measure: Measure, replicas_of: Callable[[str], Sequence[Served]]) -> Handler:
    """POST /admin/profile: measures replicas that serve, one after the other.

    replicas_of: those of a model by its name or alias, ModelNotFoundError for any other. A replica
    that is not ready ends the request with 503; what was measured before it counts.
    """

    async def post_profile(request: web.Request) -> web.Response:
        body = _decoder.decode(await request.read())
        served = [
            (name, engine)
            for name, engine in replicas_of(body.model)
            if body.replica in (None, name)
        ]
        if not served:
            names = ", ".join(name for name, _ in replicas_of(body.model))
            raise ModelNotFoundError(
                f"Model `{body.model}` has no replica `{body.replica}`; it has {names}."
            )
        found = []
        for name, engine in served:
            profile = await measure(name, engine, body.seconds)
            found.append(ReplicaProfile(replica=name, model=body.model, profile=profile))
        return json_response(ProfileList(profiles=found))

    return post_profile


async def profile_fresh(
    plan: ReplicaPlan,
    model: str,
    profiler: Profiler,
    *,
    budget_s: float,
    on_load: Callable[[float], None] = lambda fraction: None,
    on_step: Callable[[Step], None] | None = None,
) -> ReplicaProfile:
    """Start a worker of this plan, measure it, end it.

    on_load: the fraction loaded, now and then. Raises as its load (ModelFileError,
    OutOfMemoryError, ModelLoadError) or Profiler.measure does.
    """
    replica = LocalReplica(plan.name, model, plan.engine)
    waiter = _Waiter()
    try:
        replica.start(waiter)
        while not waiter.changed.is_set():
            on_load(replica.status().load_fraction)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiter.changed.wait(), LOAD_POLL_S)
        if waiter.end_reason is not None:
            raise replica.load_error() or ModelLoadError(waiter.end_reason)
        profile = await profiler.measure(replica, plan.engine, budget_s=budget_s, on_step=on_step)
    finally:
        await replica.close(CLOSE_TIMEOUT_S)
    return ReplicaProfile(replica=plan.name, model=model, profile=profile)


class _Waiter:
    """A ReplicaListener that waits for ready, or for the end."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.end_reason: str | None = None

    def on_ready(self, replica: Replica, info: EngineInfo) -> None:
        self.changed.set()

    def on_gone(self, replica: Replica, reason: str) -> None:
        self.end_reason = reason
        self.changed.set()

    def on_step(self, replica: Replica, step: Step) -> None:
        """Only requests' steps come here, and there are none."""

    def on_embedded(self, replica: Replica, embedded: Embedded) -> None:
        """Nothing was asked for."""

    def on_failed(self, replica: Replica, failed: Failed) -> None:
        """Nothing was asked for."""

    def on_lost(self, replica: Replica, reason: str, *, crashed: bool) -> None:
        """The measuring hears of it itself."""
