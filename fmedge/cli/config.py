"""`fmedge config check`: reads a configuration as `serve` would, and says what it means."""

from __future__ import annotations

import argparse
import sys

import msgspec

from fmedge.cli.options import add_config_file, add_models, add_settings, read_config
from fmedge.config import Config, unknown_variables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check"], help="what to do")
    parser.add_argument("file", nargs="?", help="TOML configuration (or --config)")
    parser.add_argument("--json", action="store_true", help="print the whole configuration")
    add_config_file(parser)
    add_models(parser)
    add_settings(parser, "server", "defaults")


def run(args: argparse.Namespace) -> int:
    args.config = args.file or args.config
    config = read_config(args, "server", "defaults")
    for warning in unknown_variables():
        sys.stderr.write(f"fmedge: warning: {warning}\n")
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(_public(config)), indent=2).decode())
        return 0
    for name, where in config.sources.items():
        print(f"{name}  from {where}")
    for model in config.models:
        print(f"model  {model.name or model.model}  from {model.model}")
    print(f"{config.file or 'configuration'}: OK, {len(config.models)} model(s)")
    return 0


def _public(config: Config) -> dict[str, object]:
    """Everything but the client's key."""
    return {"server": config.server, "models": config.models, "sources": config.sources}
