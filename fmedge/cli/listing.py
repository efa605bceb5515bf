"""`fmedge list`: the models on this machine: fmedge's own, and those in the hub's cache."""

from __future__ import annotations

import argparse
import sys

import msgspec

from fmedge.cli.table import print_table, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    from fmedge._native.gguf import read_header
    from fmedge.models.embedded import as_stored
    from fmedge.models.stored import hub_cache_dir, list_models

    own = as_stored(read_header)
    stored = list_models(read_header=read_header)
    models = [*([own] if own is not None else []), *stored]
    if args.json:
        print(msgspec.json.encode(models).decode())
        return 0
    rows = [
        [
            model.name,
            model.architecture or "-",
            model.quant or "-",
            size(model.size_bytes),
            "built in" if model.is_built_in else "" if model.is_complete else "incomplete",
        ]
        for model in models
    ]
    if rows:
        print_table(["NAME", "ARCHITECTURE", "QUANT", "SIZE", ""], rows)
    if not stored:
        sys.stderr.write(
            f"No model in {hub_cache_dir()}. Fetch one: fmedge pull hf:ORG/REPO[:QUANT]\n"
        )
    return 0
