"""A cluster that is described, not here: its plan, and each planned replica as what emulation and
simulation take.

The rule: `serve --emulate` and `simulate` ask the provisioner the same question, of which no
measurement of this machine, nothing learned and no state is a part: so they get the same replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fmedge.config import Config, ModelConfig, check_engine, state_dir
from fmedge.config.cluster import ClusterConfig, ClusterModel
from fmedge.errors import ConfigError
from fmedge.sched.emulation import Noise, ReplicaSpec
from fmedge.server.state import StateStore
from fmedge.types import EngineSettings

if TYPE_CHECKING:
    from fmedge.sched.provision.device import Device
    from fmedge.sched.provision.plan import Plan, PlannedReplica
    from fmedge.sched.provision.shape import ModelShape
    from fmedge.server.placements import Placements

FOLDER = "described"
"""Under the state folder: the files of described models."""


def devices_of(cluster: ClusterConfig) -> tuple[Device, ...]:
    """ConfigError for a card that is not known, with those that look like it."""
    from fmedge.server.described import described

    return described(cluster.devices)


def config_of(cluster: ClusterConfig, base: Config | None = None) -> Config:
    """`base` with the cluster's models and classes, whose described models are written where they
    are not yet. Nothing is kept of conversations that leave their replica, as nothing is there to
    keep. ConfigError for what contradicts itself, or a folder that cannot be written."""
    base = base or Config()
    server = base.server
    if server.placement == "manual":
        raise ConfigError(
            'an emulated cluster is planned: placement = "manual" leaves nobody to do it'
        )
    folder = state_dir(server.state_dir)
    models = tuple(_model_config(model, folder) for model in cluster.models)
    return replace(
        base,
        server=replace(server, kv_store_mib=0, kv_disk_mib=0),
        models=models,
        replicas=(),
        rpc=(),
        sla={**base.sla, **cluster.sla},
        is_narrowed=True,
    )


def _model_config(model: ClusterModel, folder: Path | None) -> ModelConfig:
    engine = EngineSettings(model_path="", **model.engine)
    check_engine(engine, model.where)
    given = frozenset(model.engine)
    return ModelConfig(
        model=_file_of(model, folder),
        name=model.name,
        replicas=model.replicas or 1,
        pinned=model.pinned,
        engine=engine,
        given=given if model.replicas is None else given | {"replicas"},
    )


def _file_of(model: ClusterModel, folder: Path | None) -> str:
    if model.figures is None:
        return model.file
    if folder is None:
        raise ConfigError(
            f"{model.where}: there is no home folder to write the described model to: set "
            "--state-dir"
        )
    from fmedge.models.described import described_model

    return str(described_model(model.figures, folder / FOLDER, model.where))


async def plan_of(cluster: ClusterConfig, config: Config) -> tuple[Plan, Placements]:
    """What runs where, and who knows the models' shapes. config: `config_of` the cluster.
    NoPlanError where it cannot hold all models at a time; ConfigError, ModelNotFoundError or
    ModelFileError."""
    from fmedge.server.placements import Placements
    from fmedge.server.plan import plan_models

    plans = await asyncio.to_thread(plan_models, config.models)
    placements = Placements(config, plans, StateStore(None), cluster.demand)
    devices = devices_of(cluster)
    plan = await placements.make(devices, placements.expected(), takes_turns=False)
    return plan, placements


async def plan_cluster(
    cluster: ClusterConfig, config: Config | None = None
) -> tuple[Plan, tuple[ReplicaSpec, ...]]:
    """The plan, and each replica of it. Otherwise as `plan_of`."""
    if config is None:
        config = await asyncio.to_thread(config_of, cluster)
    plan, placements = await plan_of(cluster, config)
    check_slowdowns(cluster, [planned.name for planned in plan.replicas])
    devices = {device.name: device for device in devices_of(cluster)}
    return plan, tuple(
        spec_of(cluster, planned, placements.shape_of(planned), devices)
        for planned in plan.replicas
    )


def specs_of(
    cluster: ClusterConfig, base: Config | None = None
) -> tuple[Plan, tuple[ReplicaSpec, ...]]:
    """`plan_cluster` where no event loop runs."""
    return asyncio.run(plan_cluster(cluster, config_of(cluster, base)))


def spec_of(
    cluster: ClusterConfig,
    planned: PlannedReplica,
    shape: ModelShape,
    devices: Mapping[str, Device],
) -> ReplicaSpec:
    """One planned replica on the cluster's own devices, whatever the plan took them for."""
    from fmedge.sched.provision import cost
    from fmedge.sched.provision.context import cells_of, layer_context_bytes
    from fmedge.sched.provision.demand import Spread

    engine = planned.engine
    spread = cluster.emulation.output_tokens
    cells = cells_of(shape, engine)
    context_bytes = sum(layer_context_bytes(shape, i, cells) for i in range(shape.num_layers))
    return ReplicaSpec(
        name=planned.name,
        model=planned.model,
        engine=engine,
        steps=cost.step_model(shape, engine, planned.ranges, devices),
        noise=noise_of(cluster),
        num_ids=cells.num_seqs,
        copy_bytes=0 if engine.kv_unified else context_bytes // engine.slots,
        is_recurrent=any(layer.state_bytes for layer in shape.layers),
        output_tokens=Spread(spread.p50, spread.p95),
    )


def noise_of(cluster: ClusterConfig) -> Noise:
    """As the cluster file says."""
    emulation = cluster.emulation
    return Noise(
        sigma=emulation.sigma,
        straggler_share=emulation.straggler_share,
        straggler_factor=emulation.straggler_factor,
        slowdown=emulation.slowdown,
        seed=emulation.seed,
    )


def load_s_of(cluster: ClusterConfig, shape: ModelShape) -> float:
    """Seconds that a replica takes to load."""
    load_gb_s = cluster.emulation.load_gb_s
    return shape.weight_bytes / (1e9 * load_gb_s) if load_gb_s else 0.0


def check_slowdowns(cluster: ClusterConfig, replicas: Sequence[str]) -> None:
    """ConfigError for a replica that [emulation] slows down and no plan has."""
    for name in cluster.emulation.slowdown:
        if name not in replicas:
            raise ConfigError(
                f"{cluster.path}: [emulation] slowdown: no replica is called {name!r}; there are "
                f"{', '.join(replicas)}"
            )
