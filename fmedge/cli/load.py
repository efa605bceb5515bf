"""`fmedge load`: has a running server load a model now, whatever must go for it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from fmedge.cli.api import Api
from fmedge.cli.options import add_config_file, add_settings, read_config
from fmedge.cli.ps import server_url
from fmedge.cli.table import size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="MODEL", help="as the server calls it")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each")
    add_config_file(parser)
    add_settings(parser, "client")


def run(args: argparse.Namespace) -> int:
    for status in command(args, "load"):
        if args.json:
            print(json.dumps(status))
            continue
        where = ", ".join(f"{size(n)} on {device}" for device, n in _held(status).items())
        sys.stderr.write(f"{status['model']} is loaded: {where}\n")
    return 0


def command(args: argparse.Namespace, what: str) -> list[dict[str, Any]]:
    """Each model's state after it; ApiError in the server's words."""
    config = read_config(args, "client")
    api = Api(server_url(config), config.client.api_key)
    done = []
    for model in args.names:
        if sys.stderr.isatty():
            sys.stderr.write(f"{model}: {what}ing ...")
            sys.stderr.flush()
        try:
            done.append(api.post(f"/admin/models/{what}", {"model": model}))
        finally:
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
    return done


def _held(status: dict[str, Any]) -> dict[str, int]:
    held: dict[str, int] = {}
    for replica in status["replicas"]:
        if replica["state"] == "loaded":
            for device, num_bytes in replica["bytes"].items():
                held[device] = held.get(device, 0) + num_bytes
    return held
