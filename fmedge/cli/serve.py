"""`fmedge serve`: the configuration, and then the server."""

from __future__ import annotations

import argparse
from functools import partial

from fmedge.cli.options import add_config_file, add_models, add_settings, read_config
from fmedge.cli.pull import fetch_missing
from fmedge.config import Config, names_of, settings
from fmedge.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_file(parser)
    add_models(parser)
    add_settings(parser, "server", "defaults")
    group = parser.add_argument_group("emulation")
    group.add_argument(
        "--emulate", metavar="FILE",
        help="serve the models of a cluster file as if its devices were here: real scheduling, "
             "real time, no real answers",
    )  # fmt: skip
    group.add_argument(
        "--apart", action="store_true",
        help="of --emulate: each replica as an endpoint of its own, from --port on, for somebody "
             "else's router",
    )  # fmt: skip
    # of a command that starts a server for itself: see private_server.py
    parser.add_argument("--lifeline-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    config = read_config(args, "server", "defaults")
    if args.emulate:
        return _emulate(args, config)
    if args.apart:
        raise ConfigError("--apart is for emulated replicas: give --emulate FILE with it")
    wanted = [file for model in config.models for file in (model.model, *model.quantisations)]
    served = {name for model in config.models for name in names_of(model)}
    wanted += [r.file for r in config.replicas if r.model in served or not config.is_narrowed]
    fetch_missing(wanted)
    from fmedge.server import run as serve

    # A server that lives for one command ends with it.
    reread = partial(read_config, args, "server", "defaults") if args.lifeline_fd is None else None
    return serve(config, lifeline_fd=args.lifeline_fd, reread=reread)


def _emulate(args: argparse.Namespace, config: Config) -> int:
    given = ["--model"] if getattr(args, "models", None) else []
    given += [s.flag for s in settings("defaults") if getattr(args, s.key, None) is not None]
    if given:
        raise ConfigError(
            f"{given[0]} and --emulate: the cluster file says what its models are; say it in a "
            f"[[model]] of {args.emulate}"
        )
    from fmedge.config.cluster import load_cluster

    cluster = load_cluster(args.emulate, config.sla)
    fetch_missing(model.file for model in cluster.models if model.file)
    if args.apart:
        from fmedge.server.apart import run as serve_apart

        return serve_apart(config, cluster)
    from fmedge.server import run as serve
    from fmedge.server.reload import refuse_all

    return serve(config, lifeline_fd=args.lifeline_fd, cluster=cluster, reread=refuse_all)
