"""Which class of service a request belongs to that names none: by API key, model or tier, as the
configuration's [sla.NAME] sections say, with every name looked up once at start."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from fmedge.config import Config, nearest, not_served
from fmedge.errors import ConfigError
from fmedge.http.settings import ApiKey, HttpSettings
from fmedge.server.plan import ModelPlan
from fmedge.types import Promise, WorkflowSettings

log = logging.getLogger(__name__)


def http_settings(
    config: Config, keys: tuple[ApiKey, ...], plans: Sequence[ModelPlan]
) -> HttpSettings:
    """ConfigError for a class of a key or a model that does not exist."""
    server = config.server
    return HttpSettings(
        api_keys=keys,
        isolate_cache_by_key=server.isolate_cache_by_key,
        cors_origins=server.cors_origins,
        max_body_bytes=server.max_body_mib << 20,
        max_concurrent_requests=server.max_concurrent_requests,
        max_connections=server.max_connections,
        keepalive_timeout_s=server.keepalive_timeout_s,
        sla_classes=sla_promises(config),
        class_of_key=class_of_key(config, keys),
        class_of_model=class_of_model(config, plans),
        class_of_tier={
            tier: name for name, sla in config.sla.items() for tier in sla.service_tiers
        },
        default_class=server.default_sla,
        workflows=workflow_settings(config),
    )


def sla_promises(config: Config) -> dict[str, Promise]:
    """By class."""
    return {name: sla.promise(name) for name, sla in config.sla.items()}


def workflow_settings(config: Config) -> Mapping[str, WorkflowSettings]:
    """By name."""
    return {name: workflow.settings(name) for name, workflow in config.workflows.items()}


def class_of_key(config: Config, keys: Sequence[ApiKey]) -> dict[str, str]:
    """API key id -> class. Empty where no keys are asked for."""
    if not keys:
        return {}
    ids = [key.id for key in keys]
    secrets = {key.secret for key in keys}
    chosen: dict[str, str] = {}
    for name, sla in config.sla.items():
        for key in sla.keys:
            where = f"{config.file}: [sla.{name}] keys"
            file = config.server.api_key_file
            if key in secrets and key not in ids:  # it shall not be found in a log
                raise ConfigError(
                    f"{where}: an API key itself stands here: write NAME KEY in {file}, and the "
                    "name here"
                )
            if key not in ids:
                hint = nearest(key, ids) or f"; there are {_listed(ids)}"
                raise ConfigError(f"{where}: {file} has no key called {key!r}{hint}")
            chosen[key] = name
    return chosen


def class_of_model(config: Config, plans: Sequence[ModelPlan]) -> dict[str, str]:
    """Served name (never an alias) -> class."""
    served = {name: plan.name for plan in plans for name in (plan.name, *plan.aliases)}
    # What [[model]] calls its file may stand for the model, too, where no name is the same.
    given = {model.model: plan.name for model, plan in zip(config.models, plans, strict=True)}
    chosen: dict[str, str] = {}
    for name, sla in config.sla.items():
        for model in sla.models:
            where = f"{config.file}: [sla.{name}] models"
            plan_name = served.get(model) or given.get(model)
            if plan_name is None:
                if config.is_narrowed:
                    log.info("%s: %r is not served this time", where, model)
                    continue
                raise ConfigError(f"{where}: {not_served(model, list(served))}")
            if chosen.setdefault(plan_name, name) != name:
                raise ConfigError(
                    f"{where}: {model!r} is {plan_name}, which is in [sla.{chosen[plan_name]}] "
                    "too: name it in one of them"
                )
    return chosen


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
