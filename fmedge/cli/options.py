"""Flags made from the settings of fmedge.config, so that none is spelled twice."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from fmedge.config import Config, Setting, load_config, settings

_METAVARS = {
    int: "N", float: "X", "host": "HOST", "unix_socket": "FILE", "api_key_file": "FILE",
    "chat_template_file": "FILE", "tls_cert": "FILE", "tls_key": "FILE", "url": "URL",
    "api_key": "KEY", "state_dir": "FOLDER", "demand_file": "FILE", "record": "FILE",
}  # fmt: skip
_GROUPS = {"server": "server", "defaults": "engine, for every model", "client": "server to ask"}


def add_settings(
    parser: argparse.ArgumentParser, *sections: str, without: Sequence[str] = ()
) -> None:
    """One flag for each setting of the sections but for the keys `without`; values stay text for
    load_config to check."""
    for section in sections:
        group = parser.add_argument_group(_GROUPS[section])
        for setting in settings(section):
            if setting.key not in without:
                _add(group, setting)


def _add(group: Any, setting: Setting) -> None:
    text = f"{setting.help} [{_shown(setting.default)}]".replace("%", "%%")
    if setting.is_bool:
        group.add_argument(
            setting.flag, dest=setting.key, action=argparse.BooleanOptionalAction, help=text
        )
        return
    kind = getattr(setting.type, "__origin__", setting.type)
    metavar = "|".join(c for c in setting.choices if c) or _METAVARS.get(
        setting.key, _METAVARS.get(kind, "LIST" if _is_list(setting) else "VALUE")
    )
    group.add_argument(setting.flag, dest=setting.key, metavar=metavar, help=text)


def _is_list(setting: Setting) -> bool:
    return setting.default is None or isinstance(setting.default, tuple)


def _shown(default: Any) -> str:
    if default is None:
        return "all GPUs"
    if default == "" or default == ():
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


class ModelAction(argparse.Action):
    """--model adds a model, --alias names the last one added (or the first to come)."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        models: list[dict[str, Any]] = getattr(namespace, "models", None) or []
        if option_string == "--model" or self.dest == "model":
            early = models.pop()["aliases"] if models and models[-1]["model"] is None else []
            models.append({"model": str(values), "aliases": early})
        elif models:
            models[-1]["aliases"].append(str(values))
        else:
            models.append({"model": None, "aliases": [str(values)]})
        namespace.models = models


def add_models(parser: argparse.ArgumentParser) -> None:
    """--model and --alias, repeatable."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model", action=ModelAction, metavar="NAME|PATH|hf:ORG/REPO[:QUANT|/FILE]",
        help="model to serve; repeat for more [those of the configuration, else embedded]",
    )  # fmt: skip
    group.add_argument(
        "--alias", action=ModelAction, metavar="A", help="another name of the --model before it"
    )


def add_config_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML configuration [$FMEDGE_CONFIG]")


def read_config(args: argparse.Namespace, *sections: str) -> Config:
    """The configuration with the parsed flags on top."""
    flags = {s.key: getattr(args, s.key, None) for s in settings(*sections)}
    models = getattr(args, "models", None) or []
    if models and models[0]["model"] is None:
        from fmedge.errors import ConfigError

        raise ConfigError("--alias needs a --model that it names")
    return load_config(getattr(args, "config", None), flags=flags, models=models)
