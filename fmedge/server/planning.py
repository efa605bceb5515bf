"""From a configuration to a plan: headers read, devices looked at, llama.cpp asked for sizes.

The rule: what somebody set is given, the rest is the planner's; the planner itself runs in a thread
and sees values only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from fmedge.config import Config, ModelConfig, names_of, nearest, state_dir
from fmedge.config.demand import DemandConfig
from fmedge.errors import ConfigError, FmedgeError
from fmedge.sched.provision.by_hand import by_hand
from fmedge.sched.provision.context import cells_of
from fmedge.sched.provision.demand import Demand, Spread
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.memory import Sizing
from fmedge.sched.provision.plan import DeviceUse, MemoryUse, Plan
from fmedge.sched.provision.request import MOST_REPLICAS, ModelRequest, PlanRequest
from fmedge.sched.provision.shape import ModelShape
from fmedge.server.state import StateStore
from fmedge.types import BEST_EFFORT, EngineSettings

if TYPE_CHECKING:
    from fmedge.models.registry import Registry
    from fmedge.replica.sizing import Sizer

log = logging.getLogger(__name__)

SIZING_TIMEOUT_S = 60.0
"""For one layout of one model; a plan without it has larger buffers, and is as sound."""

MOST_CELLS = 1 << 22
"""Of a KV cache that llama.cpp is asked to lay out: it keeps some 50 bytes for each."""

_PLANNED = ("ctx_size", "slots", "type_k", "type_v", "batch_size", "ubatch_size")


async def look_at_devices(
    config: Config,
    *,
    file: str = "",
    exclude: Sequence[str] = (),
    refresh: bool = False,
    is_serving: bool = False,
) -> tuple[Device, ...]:
    """Those of a device file, else of this machine and of the configured device servers.
    is_serving: nothing that is known is measured anew, as this machine has work."""
    from fmedge.server.devices import gather

    return await gather(
        file,
        config.rpc,
        folder=state_dir(config.server.state_dir),
        refresh=refresh,
        exclude=exclude,
        is_serving=is_serving,
    )


def request_of(
    config: Config,
    devices: Sequence[Device],
    *,
    demand: Sequence[DemandConfig] = (),
    running: Plan | None = None,
) -> PlanRequest:
    """ConfigError, ModelNotFoundError or ModelFileError for what cannot be planned."""
    from fmedge.models.registry import Registry

    registry = Registry()
    requests: list[ModelRequest] = []
    names: dict[str, str] = {}
    for model in config.models:
        request = model_request(model, registry, devices)
        if any(request.name == other.name for other in requests):
            raise ConfigError(f"two models are called {request.name!r}: give one a name of its own")
        requests.append(request)
        names |= dict.fromkeys((*names_of(model), request.name), request.name)
    return PlanRequest(
        models=tuple(requests),
        devices=tuple(devices),
        demand=tuple(stream_of(stream, names) for stream in demand),
        running=running,
    )


def model_request(
    model: ModelConfig,
    registry: Registry,
    devices: Sequence[Device],
    shapes: tuple[ModelShape, ...] = (),
) -> ModelRequest:
    """One model with its quantisations, the largest first. [[replica]] blocks are not looked at.
    shapes: of the files, where they have been read before."""
    sources = [registry.resolve(name) for name in (model.model, *model.quantisations)]
    name = model.name or sources[0].name
    shapes = shapes or _shapes(name, [source.paths for source in sources])
    engine = replace(model.engine, model_path="")
    placed = by_hand(engine, model.given, shapes[0], devices)
    is_counted = "replicas" in model.given
    return ModelRequest(
        name=name,
        shapes=shapes,
        engine=engine,
        given=model.given & frozenset(_PLANNED),
        min_replicas=model.replicas,
        max_replicas=model.replicas if is_counted else MOST_REPLICAS,
        ranges=placed.ranges,
        excluded=placed.excluded,
    )


def _shapes(name: str, files: Sequence[Sequence[str]]) -> tuple[ModelShape, ...]:
    from fmedge._native.gguf import read_header
    from fmedge.models.metadata import check_header
    from fmedge.models.same import check_same_model
    from fmedge.sched.provision.shapes import shape_of

    shapes = []
    first = None
    for paths in files:
        headers = [read_header(path) for path in paths]
        check_header(headers[0], split_headers=headers[1:])
        if first is None:
            first = headers[0]
        else:
            check_same_model(first, headers[0])
        shapes.append(shape_of(headers, name))
    return tuple(sorted(shapes, key=lambda shape: -shape.weight_bytes))


def stream_of(stream: DemandConfig, names: Mapping[str, str]) -> Demand:
    """names: of models, by what a file may call them. ConfigError for another."""
    if stream.model not in names:
        known = list(dict.fromkeys(names.values()))
        hint = nearest(stream.model, names) or f"; there are {', '.join(known)}"
        raise ConfigError(f"{stream.where}: model: no model is called {stream.model!r}{hint}")
    promise = BEST_EFFORT
    if stream.sla_class is not None:
        promise = stream.sla_class.promise(stream.sla)
    return Demand(
        model=names[stream.model],
        rate_per_s=stream.rate_per_s,
        prompt_tokens=Spread(stream.prompt_tokens.p50, stream.prompt_tokens.p95),
        output_tokens=Spread(stream.output_tokens.p50, stream.output_tokens.p95),
        promise=promise,
    )


async def make_plan(request: PlanRequest) -> Plan:
    """The plan, made with llama.cpp's own sizes of compute buffers, and what llama.cpp says that
    each of its replicas takes; NoPlanError. Off the event loop."""
    from fmedge.replica.sizing import Sizer

    async with Sizer() as sizer:
        sizes = _Sizes(sizer, request.devices, asyncio.get_running_loop())
        asked = msgspec.structs.replace(request, sizing=sizes)
        try:
            plan = await asyncio.to_thread(_timed_plan, asked)
        finally:
            sizes.give_up()
        return await _sized(plan, request, sizer)


async def _sized(plan: Plan, request: PlanRequest, sizer: Sizer) -> Plan:
    """With each replica's memory as llama.cpp lays this very placement out, where it does."""
    from fmedge.sched.provision.memory import exact_memory

    shapes = {shape.file: shape for model in request.models for shape in model.shapes}
    devices = {device.name: device for device in request.devices}
    exact: dict[tuple[str, str], MemoryUse] = {}
    for replica in plan.replicas:
        shape, engine = shapes[replica.file], replica.engine
        if _num_cells(shape, engine) > MOST_CELLS:
            continue
        others = [devices[part.device] for part in replica.ranges]
        try:
            rows = await sizer.size(engine.model_path, engine, others)
        except FmedgeError as error:
            log.debug("%s is not sized exactly: %s", replica.name, error)
            continue
        uses = exact_memory(shape, engine, replica.ranges, devices, rows)
        exact |= {(use.device, replica.name): use for use in uses}
    return replace(plan, devices=tuple(_with(use, exact) for use in plan.devices))


def _with(use: DeviceUse, exact: Mapping[tuple[str, str], MemoryUse]) -> DeviceUse:
    breakdown = tuple(
        replace(part, memory=exact.get((use.name, part.replica), part.memory))
        for part in use.breakdown
    )
    used_bytes = sum(part.memory.total for part in breakdown)
    return replace(use, breakdown=breakdown, used_bytes=used_bytes)


def _timed_plan(request: PlanRequest) -> Plan:
    from fmedge.sched.provision.planner import plan

    started_s = perf_counter()
    made = plan(request)
    return replace(made, solve_ms=(perf_counter() - started_s) * 1e3)


class GivenUpError(Exception):
    """A plan that nobody wants any more is not made to its end."""


class _Sizes:
    """Asks llama.cpp once for each octave of context and slots, the most of which is as good for
    the others in it: compute buffers grow little with either. Called in the planner's thread."""

    def __init__(
        self, sizer: Sizer, devices: Sequence[Device], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._sizer = sizer
        self._devices = devices
        self._loop = loop
        self._known: dict[EngineSettings, Sizing | None] = {}
        self._failed: set[str] = set()
        self._is_given_up = False
        self._answer: Future[Sizing] | None = None

    def give_up(self) -> None:
        """Nobody wants the plan any more, if it is not there yet: its thread ends, which would
        else keep this process from ending."""
        self._is_given_up = True
        if self._answer is not None:
            self._answer.cancel()

    def __call__(self, shape: ModelShape, engine: EngineSettings) -> Sizing | None:
        asked = replace(
            engine, slots=_power_of_two(engine.slots), ctx_size=_power_of_two(engine.ctx_size)
        )
        if asked not in self._known:
            self._known[asked] = self._ask(shape, asked)
        return self._known[asked]

    def _ask(self, shape: ModelShape, engine: EngineSettings) -> Sizing | None:
        if shape.file in self._failed or _num_cells(shape, engine) > MOST_CELLS:
            return None
        question = self._sizer.sizing(shape, engine, self._devices)
        self._answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        if self._is_given_up:
            self._answer.cancel()
        try:
            return self._answer.result(SIZING_TIMEOUT_S)
        except CancelledError:
            raise GivenUpError from None
        except (FmedgeError, TimeoutError) as error:
            self._failed.add(shape.file)
            why = str(error).partition("\n")[0]
            log.warning("%s: llama.cpp does not size it, so bounds do: %s", shape.name, why)
            return None


def _power_of_two(value: int) -> int:
    """The least that is no less."""
    return 1 << max(0, value - 1).bit_length()


def _num_cells(shape: ModelShape, engine: EngineSettings) -> int:
    cells = cells_of(shape, engine)
    return cells.num_cells * cells.num_streams


async def plan_for(
    config: Config,
    *,
    devices_file: str = "",
    demand: Sequence[DemandConfig] = (),
    exclude: Sequence[str] = (),
    running: Plan | None = None,
) -> tuple[Plan, tuple[Device, ...]]:
    """All of it: devices looked at, models read, the plan made."""
    devices = await look_at_devices(config, file=devices_file, exclude=exclude)
    if not devices_file:
        from fmedge.server.placements import Learned

        learned = Learned.of(StateStore(state_dir(config.server.state_dir), is_writer=False))
        devices = tuple(learned.applied(device) for device in devices)
    request = request_of(config, devices, demand=demand, running=running)
    return await make_plan(request), devices


def load_streams(config: Config, file: str) -> tuple[DemandConfig, ...]:
    """The demand file, whose classes may be the configuration's; () without one."""
    from fmedge.config.demand import load_demand

    return load_demand(Path(file), config.sla) if file else ()
