"""`fmedge plan`: which model would run where, how fast, and why not otherwise."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fmedge.cli.options import add_config_file, add_settings, read_config
from fmedge.cli.pull import fetch_missing
from fmedge.config import Config, settings
from fmedge.errors import ConfigError

if TYPE_CHECKING:
    from fmedge.sched.provision.device import Device
    from fmedge.sched.provision.plan import Plan


class _ModelAction(argparse.Action):
    """--model adds a model, --quantisation another file of the last one added."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        models = getattr(namespace, "models", None) or []
        text = str(values)
        if option_string == "--model":
            name, separator, file = text.partition("=")
            is_named = bool(separator and name) and not os.path.exists(text)
            is_named = is_named and "/" not in name and not name.startswith("hf:")
            models.append(
                {
                    "model": file if is_named else text,
                    "name": name if is_named else "",
                    "aliases": [],
                    "quantisations": [],
                }
            )
        elif models:
            models[-1]["quantisations"].append(text)
        else:
            raise argparse.ArgumentError(self, "needs a --model before it")
        namespace.models = models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to plan")
    group.add_argument(
        "--model", action=_ModelAction, metavar="[NAME=]MODEL",
        help="path, name or hf:ORG/REPO[:QUANT|/FILE]; repeatable [those of the "
        "configuration, else embedded]",
    )  # fmt: skip
    group.add_argument(
        "--quantisation", action=_ModelAction, metavar="MODEL",
        help="another quantisation of the --model before it, of which one is chosen; repeatable",
    )  # fmt: skip
    group.add_argument(
        "--devices", dest="devices_file", metavar="FILE",
        help="plan for the devices described there instead of those that are here",
    )  # fmt: skip
    group.add_argument(
        "--cluster", metavar="FILE",
        help="plan a cluster file, with its own models, devices and demand, as serve --emulate and "
             "simulate do",
    )  # fmt: skip
    group.add_argument(
        "--demand", metavar="FILE", help="what requests to expect [one user, then as many as fit]"
    )
    group.add_argument(
        "--exclude", action="append", default=[], metavar="DEVICE",
        help="a device to leave alone; repeatable",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--explain", action="store_true", help="say all that was not chosen, and why"
    )
    add_config_file(parser)
    add_settings(parser, "defaults", without=("devices",))  # --devices is a file here


def run(args: argparse.Namespace) -> int:
    config = read_config(args, "defaults")
    if args.cluster:
        return _report(args, lambda: _plan_cluster(args, config))
    fetch_missing(file for model in config.models for file in (model.model, *model.quantisations))
    return _report(args, lambda: _plan(args, config))


def _plan(args: argparse.Namespace, config: Config) -> tuple[Plan, Sequence[Device]]:
    import asyncio

    from fmedge.server.planning import load_streams, plan_for

    demand = load_streams(config, args.demand or "")
    return asyncio.run(
        plan_for(config, devices_file=args.devices_file or "", demand=demand, exclude=args.exclude)
    )


def _plan_cluster(args: argparse.Namespace, config: Config) -> tuple[Plan, Sequence[Device]]:
    given = {
        "--model": getattr(args, "models", None),
        "--devices": args.devices_file,
        "--demand": args.demand,
        "--exclude": args.exclude or None,
        **{s.flag: getattr(args, s.key, None) for s in settings("defaults") if s.key != "devices"},
    }
    for flag, value in given.items():
        if value is not None:
            raise ConfigError(f"{flag} and --cluster: say it in {args.cluster}, which is complete")
    from fmedge.config.cluster import load_cluster
    from fmedge.server.emulation import devices_of, specs_of

    cluster = load_cluster(args.cluster, config.sla)
    fetch_missing(model.file for model in cluster.models if model.file)
    found, _ = specs_of(cluster, config)
    return found, devices_of(cluster)


def _report(args: argparse.Namespace, make: Callable[[], tuple[Plan, Sequence[Device]]]) -> int:
    from fmedge.cli.plan_report import plan_json, refuse, show
    from fmedge.sched.provision.plan import NoPlanError

    try:
        found, devices = make()
    except NoPlanError as error:
        return refuse(error, is_json=args.json)
    if args.json:
        print(json.dumps(plan_json(found)))
    else:
        show(found, devices, is_explained=args.explain)
    return 0
