"""`fmedge serve`: the configuration, and then the server."""

from __future__ import annotations

import argparse

from fmedge.cli.options import add_config_file, add_models, add_settings, read_config
from fmedge.cli.pull import fetch_missing
from fmedge.config import names_of
from fmedge.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_file(parser)
    add_models(parser)
    add_settings(parser, "server", "defaults")
    # of a command that starts a server for itself: see private_server.py
    parser.add_argument("--lifeline-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    config = read_config(args, "server", "defaults")
    if not config.models:
        raise ConfigError(
            "no model to serve: name one with --model PATH, --model hf:ORG/REPO, FMEDGE_MODEL, or "
            "a [[model]] of the config file (fmedge list shows what is on this machine)"
        )
    wanted = [file for model in config.models for file in (model.model, *model.quantisations)]
    served = {name for model in config.models for name in names_of(model)}
    wanted += [r.file for r in config.replicas if r.model in served or not config.is_narrowed]
    fetch_missing(wanted)
    from fmedge.server import run as serve

    return serve(config, lifeline_fd=args.lifeline_fd)
