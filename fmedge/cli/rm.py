"""`fmedge rm`: takes stored models away; asks first on a terminal."""

from __future__ import annotations

import argparse
import sys

from fmedge.cli.table import size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="NAME", help="as fmedge list shows it")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    from fmedge.config import EMBEDDED
    from fmedge.errors import FmedgeError, ModelNotFoundError
    from fmedge.models.stored import list_models, remove

    if EMBEDDED in args.models:
        raise FmedgeError(f"{EMBEDDED} is part of fmedge: it cannot be removed")
    stored = {model.name: model for model in list_models()}
    names = [name.removeprefix("hf:") for name in args.models]
    for name in names:  # all or nothing: a typo must not cost the others
        if name not in stored:
            raise ModelNotFoundError(f"no stored model is called {name!r}: see fmedge list")
    for name in names:
        if not args.yes and sys.stdin.isatty() and not _confirmed(name, stored[name].size_bytes):
            sys.stderr.write(f"{name} was kept.\n")
            continue
        freed_bytes = remove(name)
        sys.stderr.write(f"{name} is gone; {size(freed_bytes)} freed.\n")
    return 0


def _confirmed(name: str, num_bytes: int) -> bool:
    sys.stderr.write(f"Remove {name} ({size(num_bytes)})? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
