"""From TOML file, environment and flags to a Config. The environment and flags win over the file
for every model. Whatever is not understood is a ConfigError that names where it stands."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta, Struct

from fmedge.config.settings import (
    ENV_PREFIX,
    MODEL_KEYS,
    ClientConfig,
    Config,
    ModelConfig,
    ServerConfig,
    Setting,
    bare,
    settings,
)
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
    models: from --model and --alias: {"model": str, "aliases": [str, ...]}; they replace the
    file's list, but a name that the file defines keeps the file's settings.
    """
    env = os.environ if environ is None else environ
    known = {s.key: s for s in settings("server", "defaults", "client")}
    file = file or env.get(ENV_PREFIX + "CONFIG") or None
    layers = _Layers()
    table = _read_toml(Path(file)) if file else {}
    entries = _from_file(layers, table, Path(file), known) if file else []
    layers.overrides |= _from_env(env, known)
    layers.overrides |= {
        known[key]: (known[key].flag, value)
        for key, value in (flags or {}).items()
        if value is not None
    }
    for setting, (where, value) in layers.overrides.items():
        layers.values[setting.section][setting.key] = (where, _parse(setting, value, where))
    chosen = list(models) or _models_from_env(env)
    return _build(layers, _choose_models(chosen, entries), file or "")


class _Layers:
    """Values by section and key, each with the place that it came from."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, tuple[str, Any]]] = {
            "server": {}, "defaults": {}, "client": {},
        }  # fmt: skip
        self.overrides: dict[Setting, tuple[str, Any]] = {}


class _Entry(Struct):
    """A [[model]] of the file: its own engine values by key, with their places."""

    where: str
    model: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    values: dict[str, tuple[str, Any]] = {}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config file: {error.strerror}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _from_file(
    layers: _Layers, table: dict[str, Any], path: Path, known: dict[str, Setting]
) -> list[_Entry]:
    sections = [*layers.values, "model"]
    for section, content in table.items():
        if section not in sections:
            raise _unknown(str(path), section, sections, known)
        if section == "model":
            continue
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {section} must be a table: write [{section}]")
        keys = [s.key for s in known.values() if s.section == section]
        for key, value in content.items():
            where = f"{path}: [{section}] {key}"
            if key not in keys:
                raise _unknown(f"{path}: [{section}]", key, keys, known)
            layers.values[section][key] = (where, _check_in(path, known[key], value, where))
    blocks = table.get("model", [])
    if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
        raise ConfigError(f"{path}: models are a list of tables: write [[model]] for each")
    return [_entry(block, number, path, known) for number, block in enumerate(blocks, 1)]


def _entry(block: dict[str, Any], number: int, path: Path, known: dict[str, Setting]) -> _Entry:
    where = f"{path}: [[model]] number {number}"
    engine = {s.key: s for s in known.values() if s.section == "defaults"}
    if "model" not in block:
        raise ConfigError(f'{where}: needs model = "PATH, NAME or hf:ORG/REPO"')
    entry = _Entry(where, "")
    for key, value in block.items():
        place = f"{where}: {key}"
        if key in engine:
            entry.values[key] = (place, _check_in(path, engine[key], value, place))
        elif key == "aliases":
            entry.aliases = _convert(value, tuple[str, ...], place)
        elif key in ("model", "name"):
            setattr(entry, key, _convert(value, Annotated[str, Meta(min_length=1)], place))
        else:
            raise _unknown(where, key, ["model", "name", "aliases", *engine], known)
    beside = path.parent / Path(entry.model).expanduser()
    if not entry.model.startswith("hf:") and beside.is_file():
        entry.model = str(beside)
    return entry


def _check_in(file: Path, setting: Setting, value: Any, where: str) -> Any:
    """A value of a file; paths in it are relative to it."""
    checked = _check(setting, value, where)
    return str(file.parent / checked) if setting.is_path and checked else checked


def _from_env(env: Mapping[str, str], known: dict[str, Setting]) -> dict[Setting, tuple[str, Any]]:
    return {s: (s.env, env[s.env]) for s in known.values() if env.get(s.env, "") != ""}


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A warning for each FMEDGE_* variable that is no setting. Not an error: an environment
    is shared with other programs (Kubernetes, for one, sets FMEDGE_SERVICE_HOST)."""
    env = os.environ if environ is None else environ
    names = [s.env for s in settings("server", "defaults", "client")]
    names += [ENV_PREFIX + "CONFIG", ENV_PREFIX + "MODEL", ENV_PREFIX + "ALIAS"]
    strangers = [n for n in env if n.startswith(ENV_PREFIX) and n not in names]
    return [f"{n} in the environment is not a setting{_nearest(n, names)}" for n in strangers]


def history_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where `fmedge run` keeps what was typed: $XDG_STATE_HOME/fmedge/history."""
    env = os.environ if environ is None else environ
    base = env.get("XDG_STATE_HOME", "")
    return (Path(base) if base else Path.home() / ".local" / "state") / "fmedge" / "history"


def _models_from_env(env: Mapping[str, str]) -> list[Mapping[str, Any]]:
    specs = [s.strip() for s in env.get(ENV_PREFIX + "MODEL", "").split(",") if s.strip()]
    aliases = [s.strip() for s in env.get(ENV_PREFIX + "ALIAS", "").split(",") if s.strip()]
    if aliases and len(specs) != 1:
        raise ConfigError(
            "FMEDGE_ALIAS names the one model of FMEDGE_MODEL; for several models use a config file"
        )
    return [{"model": spec, "aliases": aliases} for spec in specs]


def _choose_models(chosen: list[Mapping[str, Any]], entries: list[_Entry]) -> list[_Entry]:
    if not chosen:
        return entries
    by_name = {name: e for e in entries for name in (*e.aliases, e.name, e.model) if name}
    result = []
    for choice in chosen:
        entry = by_name.get(choice["model"], _Entry("--model", choice["model"]))
        aliases = tuple(choice.get("aliases", ()))
        result.append(msgspec.structs.replace(entry, aliases=(*entry.aliases, *aliases)))
    return result


def _build(layers: _Layers, entries: list[_Entry], file: str) -> Config:
    plain = {
        section: {key: value for key, (_, value) in pairs.items()}
        for section, pairs in layers.values.items()
    }
    overridden = {s.key for s in layers.overrides if s.section == "defaults"}
    models = []
    for entry in entries:
        own = {k: v for k, (_, v) in entry.values.items() if k not in overridden}
        engine = plain["defaults"] | own
        values = {key: engine.pop(key) for key in MODEL_KEYS if key in engine}
        models.append(
            ModelConfig(
                model=entry.model,
                name=entry.name,
                aliases=entry.aliases,
                engine=EngineSettings(model_path="", **engine),
                **values,
            )
        )
    config = Config(
        server=ServerConfig(**plain["server"]),
        client=ClientConfig(**plain["client"]),
        models=tuple(models),
        file=file,
        sources={
            f"{section}.{key}": where
            for section, pairs in layers.values.items()
            for key, (where, _) in pairs.items()
        },
    )
    _cross_check(config)
    return config


def _cross_check(config: Config) -> None:
    server = config.server
    if bool(server.tls_cert) != bool(server.tls_key):
        missing = "tls_key" if server.tls_cert else "tls_cert"
        raise ConfigError(f"TLS needs both a certificate and its key: {missing} is missing")
    taken: dict[str, str] = {}
    for model in config.models:
        label = model.name or model.model
        for name in dict.fromkeys((model.name, *model.aliases)):
            if not name:
                continue
            if name in taken:
                raise ConfigError(
                    f"two models are called {name!r} ({taken[name]} and {label}): names and "
                    "aliases must differ"
                )
            taken[name] = label
        engine = model.engine
        if engine.ubatch_size > engine.batch_size:
            raise ConfigError(
                f"{label}: ubatch_size {engine.ubatch_size} is larger than batch_size "
                f"{engine.batch_size}"
            )
        if engine.kv_tokens and not engine.kv_unified:
            raise ConfigError(f"{label}: kv_tokens has no effect without kv_unified = true")


def _parse(setting: Setting, value: Any, where: str) -> Any:
    """A flag's or variable's text as the setting's type; text lists are separated by commas."""
    if not isinstance(value, str):
        return _check(setting, value, where)
    kind, text = bare(setting.type), value.strip()
    if kind is str or setting.choices:
        return _check(setting, text, where)
    if setting.key == "tensor_overrides":
        pairs = [part.rpartition("=") for part in text.split(",") if part]
        if any(not sep or not left or not right for left, sep, right in pairs):
            raise ConfigError(f"{where}: expected REGEX=BUFFER_TYPE[,...], got {text!r}")
        return tuple((left, right) for left, _, right in pairs)
    if kind not in (int, float, bool):
        if text == "none" and type(None) in get_args(kind):
            return ()
        return _check(setting, [part.strip() for part in text.split(",") if part.strip()], where,
                      strict=False)  # fmt: skip
    if setting.env == "FMEDGE_PORT" and text.startswith("tcp://"):
        raise ConfigError(
            f"{where}={text}: not a port. Kubernetes sets this for a service named fmedge: turn "
            "enableServiceLinks off, or name the service otherwise"
        )
    return _check(setting, text, where, strict=False)


def _check(setting: Setting, value: Any, where: str, *, strict: bool = True) -> Any:
    if setting.choices and isinstance(value, str) and value not in setting.choices:
        allowed = ", ".join(c or '""' for c in setting.choices)
        raise ConfigError(
            f"{where}: {value!r} is not one of {allowed}{_nearest(value, setting.choices)}"
        )
    if setting.key == "tensor_overrides" and isinstance(value, dict):
        value = list(value.items())
    return _convert(value, setting.type, where, strict=strict)


def _convert(value: Any, kind: Any, where: str, *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0].replace("`", "")
        if not strict:  # text was given, as it must be: what counts is what it should read as
            reason = reason.partition(", got ")[0]
        reason = reason[:1].lower() + reason[1:]
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise ConfigError(f"{where}: {reason} (got {shown})") from error


def _nearest(word: str, words: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, [w for w in words if w], n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(where: str, key: str, allowed: list[str], known: Mapping[str, Setting]) -> ConfigError:
    hint = _nearest(key, allowed)
    home = known.get(key)
    if home is not None:
        hint = f"; it belongs to [{home.section}]"
    elif not hint:
        hint = f"; known are {', '.join(allowed)}"
    return ConfigError(f"{where}: unknown key {key!r}{hint}")
