"""`fmedge list`: the models in the hub's cache on this machine."""

from __future__ import annotations

import argparse
import sys

import msgspec

from fmedge.cli.table import print_table, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    from fmedge._native.gguf import read_header
    from fmedge.models.stored import hub_cache_dir, list_models

    models = list_models(read_header=read_header)
    if args.json:
        print(msgspec.json.encode(models).decode())
        return 0
    if not models:
        sys.stderr.write(
            f"No model in {hub_cache_dir()}. Fetch one: fmedge pull hf:ORG/REPO[:QUANT]\n"
        )
        return 0
    rows = [
        [
            model.name,
            model.architecture or "-",
            model.quant or "-",
            size(model.size_bytes),
            "" if model.is_complete else "incomplete",
        ]
        for model in models
    ]
    print_table(["NAME", "ARCHITECTURE", "QUANT", "SIZE", ""], rows)
    return 0
