"""`fmedge unload`: has a running server unload a model; the next request loads it again."""

from __future__ import annotations

import argparse
import json
import sys

from fmedge.cli.load import add_arguments, command

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    for status in command(args, "unload"):
        if args.json:
            print(json.dumps(status))
        else:
            sys.stderr.write(f"{status['model']} is {status['state']}.\n")
    return 0
