"""What must fit together across sections of a configuration, once each value is sound by itself."""

from __future__ import annotations

from collections.abc import Sequence

from fmedge.config.promises import check_choice
from fmedge.config.settings import EMBEDDED, Config, ModelConfig, ReplicaConfig
from fmedge.config.values import nearest
from fmedge.errors import ConfigError
from fmedge.types import EngineSettings


def cross_check(config: Config) -> None:
    """ConfigError for what contradicts itself or names what is not there."""
    server = config.server
    if bool(server.tls_cert) != bool(server.tls_key):
        missing = "tls_key" if server.tls_cert else "tls_cert"
        raise ConfigError(f"TLS needs both a certificate and its key: {missing} is missing")
    _check_models(config.models)
    where = config.sources.get("server.default_sla", "")
    check_choice(config.sla, server.default_sla, config.file, where)
    for name, sla in config.sla.items():
        place = f"{config.file}: [sla.{name}]"
        is_without_keys = config.sources.get("server.api_key_file") == "--api-key-file"
        if sla.keys and not server.api_key_file and not is_without_keys:
            raise ConfigError(
                f"{place} keys: there are no API keys: set [server] api_key_file, in which these "
                "are the names of keys"
            )
        for model in sla.models:
            _check_served(config, model, f"{place} models")
    _check_replicas(config)


def _check_models(models: Sequence[ModelConfig]) -> None:
    taken: dict[str, str] = {}
    for model in models:
        label = model.name or model.model
        for name in dict.fromkeys((model.name, *model.aliases)):
            if not name:
                continue
            if name in taken:
                raise ConfigError(
                    f"two models are called {name!r} ({taken[name]} and {label}): names and "
                    "aliases must differ"
                )
            if name == EMBEDDED != model.model:
                raise ConfigError(
                    f"{model.model}: {name!r} is the name of the model that is part of fmedge: "
                    "call this one something else"
                )
            taken[name] = label
        check_engine(model.engine, label)


def check_engine(engine: EngineSettings, label: str) -> None:
    """ConfigError for engine settings that contradict each other; `label` is whose they are."""
    if engine.ubatch_size > engine.batch_size:
        raise ConfigError(
            f"{label}: ubatch_size {engine.ubatch_size} is larger than batch_size "
            f"{engine.batch_size}"
        )
    if engine.kv_tokens and not engine.kv_unified:
        raise ConfigError(f"{label}: kv_tokens has no effect without kv_unified = true")


def _check_replicas(config: Config) -> None:
    taken: dict[str, str] = {}
    for replica in config.replicas:
        if replica.name in taken:
            raise ConfigError(
                f"{replica.where}: name: {replica.name!r} is the name of {taken[replica.name]} "
                "too: give each replica its own"
            )
        if replica.name:
            taken[replica.name] = replica.where.rpartition(": ")[2]
        _check_served(config, replica.model, f"{replica.where}: model")
        model = next((m for m in config.models if replica.model in names_of(m)), None)
        if model is not None:
            check_replica(replica, model)


def check_replica(replica: ReplicaConfig, model: ModelConfig) -> None:
    """ConfigError where a replica cannot be one of this model."""
    label = model.name or model.model
    if model.replicas != 1:
        raise ConfigError(
            f"{replica.where}: {label} has replicas = {model.replicas}, and [[replica]] blocks "
            "that name each: leave replicas at 1, or remove the blocks"
        )
    engine = replica.engine_of(model)
    check_engine(engine, replica.where)
    if engine.pooling != model.engine.pooling:
        raise ConfigError(
            f"{replica.where}: pooling {engine.pooling!r} is not {label}'s "
            f"{model.engine.pooling!r}: its embeddings would not compare with the others'"
        )


def names_of(model: ModelConfig) -> tuple[str, ...]:
    """What a configuration may call a model; not all that it will be called, if it has no name."""
    return tuple(name for name in (model.name, *model.aliases, model.model) if name)


def _check_served(config: Config, name: str, where: str) -> None:
    """A model without a name gets one from its file, which only the server looks up."""
    known = [n for model in config.models for n in names_of(model)]
    if name in known or config.is_narrowed or not all(model.name for model in config.models):
        return
    raise ConfigError(f"{where}: {not_served(name, known)}")


def not_served(name: str, known: Sequence[str]) -> str:
    """Of a model that is named but not served; `known` are those that are."""
    hint = nearest(name, known) or f"; there are {', '.join(known)}; others need a [[model]] block"
    return f"no model is called {name!r}{hint}"
