"""`fmedge config check`: reads a configuration as `serve` would, and says what it means."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

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
        _check_keys(config)
        print(msgspec.json.format(msgspec.json.encode(_public(config)), indent=2).decode())
        return 0
    for name, where in config.sources.items():
        print(f"{name}  from {where}")
    for line in _described(config):
        print(line)
    _check_keys(config)
    print(f"{config.file or 'configuration'}: OK, {len(config.models)} model(s)")
    return 0


def _described(config: Config) -> Iterator[str]:
    """What the blocks of the file come to, a line each."""
    for model in config.models:
        yield f"model  {model.name or model.model}  from {model.model}"
    for replica in config.replicas:
        file = f"  from {replica.file}" if replica.file else ""
        own = "".join(f"  {key} {value}" for key, value in replica.engine.items())
        yield f"replica  {replica.name or '(numbered)'}  of {replica.model}{file}{own}"
    for name, sla in config.sla.items():
        chosen = [*sla.keys, *sla.models, *sla.service_tiers]
        chosen += ["all others"] if name == config.server.default_sla else []
        times = {"TTFT": sla.ttft_ms, "TPOT": sla.tpot_ms, "end to end": sla.e2e_ms}
        yield (
            f"class  {name}  {_times(times)}  in {sla.target:.4g} of cases, else {sla.on_miss}  "
            f"for {', '.join(chosen) or 'requests that name it'}"
        )
    for name, workflow in config.workflows.items():
        times = {"end to end": workflow.e2e_ms}
        yield f"workflow  {name}  {_times(times) or 'no promise'}"


def _times(times: dict[str, float | None]) -> str:
    return "  ".join(f"{what} {value:g} ms" for what, value in times.items() if value is not None)


def _check_keys(config: Config) -> None:
    """The keys that classes name are in another file, which may be on another machine."""
    if not any(sla.keys for sla in config.sla.values()):
        return
    from fmedge.server.access import read_api_keys
    from fmedge.server.promises import class_of_key

    if not os.access(config.server.api_key_file, os.R_OK):
        sys.stderr.write(
            f"fmedge: warning: {config.server.api_key_file} cannot be read here: the keys of "
            "classes were not checked\n"
        )
        return
    class_of_key(config, read_api_keys(config.server))


def _public(config: Config) -> dict[str, object]:
    """Everything but the client's key."""
    return {
        "server": config.server,
        "models": config.models,
        "replicas": config.replicas,
        "sla": config.sla,
        "workflows": config.workflows,
        "sources": config.sources,
    }
