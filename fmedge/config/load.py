"""From TOML file, environment and flags to a Config. The environment and flags win over the file
for every model. Whatever is not understood is a ConfigError that names where it stands."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fmedge.config import blocks
from fmedge.config.blocks import ModelBlock
from fmedge.config.cross import cross_check
from fmedge.config.files import read_toml
from fmedge.config.promises import SlaConfig, WorkflowConfig
from fmedge.config.rpc import RpcConfig, check_servers, rpc_block
from fmedge.config.settings import (
    EMBEDDED,
    ENV_PREFIX,
    MODEL_KEYS,
    ClientConfig,
    Config,
    ModelConfig,
    ReplicaConfig,
    ServerConfig,
    Setting,
    settings,
)
from fmedge.config.values import nearest, parse, unknown
from fmedge.errors import ConfigError
from fmedge.types import EngineSettings


def load_config(
    file: str | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    models: Iterable[Mapping[str, Any]] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read `file` (else $FMEDGE_CONFIG, else none), the environment, then flags.

    flags: setting key -> text or bool, absent or None where not given.
    models: from --model and --alias: {"model": str, "aliases": [str, ...]}, and of some verbs
    "name" and "quantisations"; they replace the file's list, but a name that the file defines
    keeps the file's settings.
    """
    env = os.environ if environ is None else environ
    known = {s.key: s for s in settings("server", "defaults", "client")}
    file = file or env.get(ENV_PREFIX + "CONFIG") or None
    layers = _Layers()
    if file:
        _from_file(layers, read_toml(Path(file)), Path(file), known)
    layers.overrides |= _from_env(env, known)
    layers.overrides |= {
        known[key]: (known[key].flag, value)
        for key, value in (flags or {}).items()
        if value is not None
    }
    for setting, (where, value) in layers.overrides.items():
        layers.values[setting.section][setting.key] = (where, parse(setting, value, where))
    chosen = list(models) or _models_from_env(env)
    return _build(layers, chosen, file or "")


class _Layers:
    """Values by section and key, each with the place that it came from; and the file's blocks."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, tuple[str, Any]]] = {
            "server": {}, "defaults": {}, "client": {},
        }  # fmt: skip
        self.overrides: dict[Setting, tuple[str, Any]] = {}
        self.models: list[ModelBlock] = []
        self.replicas: list[ReplicaConfig] = []
        self.rpc: list[RpcConfig] = []
        self.sla: dict[str, SlaConfig] = {}
        self.workflows: dict[str, WorkflowConfig] = {}
        self.places: dict[str, str] = {}


def _from_file(
    layers: _Layers, table: dict[str, Any], path: Path, known: dict[str, Setting]
) -> None:
    sections = [*layers.values, "model", "replica", "rpc", "sla", "workflows"]
    for section, content in table.items():
        if section not in sections:
            raise unknown(str(path), section, sections, known)
        if section == "sla":
            layers.sla = blocks.classes(content, path, known, layers.places)
        elif section == "workflows":
            layers.workflows = blocks.workflows(content, path, known, layers.places)
        elif section in layers.values:
            if not isinstance(content, dict):
                raise ConfigError(f"{path}: {section} must be a table: write [{section}]")
            keys = [s.key for s in known.values() if s.section == section]
            for key, value in content.items():
                where = f"{path}: [{section}] {key}"
                if key not in keys:
                    raise unknown(f"{path}: [{section}]", key, keys, known)
                checked = blocks.check_in(path, known[key], value, where)
                layers.values[section][key] = (where, checked)
    for number, block in enumerate(blocks.blocks(table, "model", path), 1):
        layers.models.append(blocks.model_block(block, number, path, known))
    for number, block in enumerate(blocks.blocks(table, "replica", path), 1):
        layers.replicas.append(blocks.replica_block(block, number, path, known))
    for number, block in enumerate(blocks.blocks(table, "rpc", path), 1):
        layers.rpc.append(rpc_block(block, number, path))
    check_servers(tuple(layers.rpc))


def _from_env(env: Mapping[str, str], known: dict[str, Setting]) -> dict[Setting, tuple[str, Any]]:
    return {s: (s.env, env[s.env]) for s in known.values() if env.get(s.env, "") != ""}


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A warning for each FMEDGE_* variable that is no setting. Not an error: an environment
    is shared with other programs (Kubernetes, for one, sets FMEDGE_SERVICE_HOST)."""
    env = os.environ if environ is None else environ
    names = [s.env for s in settings("server", "defaults", "client")]
    names += [ENV_PREFIX + "CONFIG", ENV_PREFIX + "MODEL", ENV_PREFIX + "ALIAS"]
    strangers = [n for n in env if n.startswith(ENV_PREFIX) and n not in names]
    return [f"{n} in the environment is not a setting{nearest(n, names)}" for n in strangers]


def _models_from_env(env: Mapping[str, str]) -> list[Mapping[str, Any]]:
    specs = [s.strip() for s in env.get(ENV_PREFIX + "MODEL", "").split(",") if s.strip()]
    aliases = [s.strip() for s in env.get(ENV_PREFIX + "ALIAS", "").split(",") if s.strip()]
    if aliases and len(specs) != 1:
        raise ConfigError(
            "FMEDGE_ALIAS names the one model of FMEDGE_MODEL; for several models use a config file"
        )
    return [{"model": spec, "aliases": aliases} for spec in specs]


def _choose_models(chosen: list[Mapping[str, Any]], entries: list[ModelBlock]) -> list[ModelBlock]:
    if not chosen:
        return entries or [ModelBlock("the default", EMBEDDED, EMBEDDED)]
    by_name = {name: e for e in entries for name in (*e.aliases, e.name, e.model) if name}
    result = []
    for choice in chosen:
        entry = by_name.get(choice["model"], ModelBlock("--model", choice["model"]))
        aliases = tuple(choice.get("aliases", ()))
        others = tuple(choice.get("quantisations", ()))
        result.append(
            msgspec.structs.replace(
                entry,
                name=choice.get("name", "") or entry.name,
                aliases=(*entry.aliases, *aliases),
                quantisations=(*entry.quantisations, *others),
            )
        )
    return result


def _build(layers: _Layers, chosen: list[Mapping[str, Any]], file: str) -> Config:
    plain = {
        section: {key: value for key, (_, value) in pairs.items()}
        for section, pairs in layers.values.items()
    }
    overridden = {s.key for s in layers.overrides if s.section == "defaults"}
    models = []
    for entry in _choose_models(chosen, layers.models):
        own = {k: v for k, (_, v) in entry.values.items() if k not in overridden}
        engine = plain["defaults"] | own
        values = {key: engine.pop(key) for key in MODEL_KEYS if key in engine}
        models.append(
            ModelConfig(
                model=entry.model,
                name=entry.name,
                aliases=entry.aliases,
                engine=EngineSettings(model_path="", **engine),
                quantisations=entry.quantisations,
                given=frozenset(engine) | frozenset(values),
                **values,
            )
        )
    config = Config(
        server=ServerConfig(**plain["server"]),
        client=ClientConfig(**plain["client"]),
        models=tuple(models),
        replicas=tuple(
            msgspec.structs.replace(
                replica, engine={k: v for k, v in replica.engine.items() if k not in overridden}
            )
            for replica in layers.replicas
        ),
        rpc=tuple(layers.rpc),
        sla=layers.sla,
        workflows=layers.workflows,
        is_narrowed=bool(chosen),
        file=file,
        sources={
            f"{section}.{key}": where
            for section, pairs in layers.values.items()
            for key, (where, _) in pairs.items()
        }
        | layers.places,
    )
    cross_check(config)
    return config
