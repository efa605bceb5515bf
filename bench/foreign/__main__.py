"""`python -m bench.foreign FOLDER`: the table for one engine's profile and log."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.foreign.engine import read_limits
from bench.foreign.profile import ProfileError
from bench.foreign.report import evaluate
from bench.foreign.row import stored_limits

NUMBERS = ("num_layers", "kv_tokens", "block_tokens", "unusable_blocks", "step_tokens",
           "max_sequences")  # fmt: skip
SWITCHES = ("reserve_prompt", "schedule_ahead", "prefix_caching")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.foreign",
        description="Estimates another engine's log from its per-operator profile: FOLDER holds "
        "dense.csv, attention.csv, per_sequence.csv, meta.yaml and requests.jsonl.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--limits", type=Path, help="TOML of the engine's limits; flags go first")
    for name in NUMBERS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    for name in SWITCHES:
        parser.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction)
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in (*NUMBERS, *SWITCHES)}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        limits = read_limits(options.limits or stored_limits(options.folder), options.folder, given)
        print(evaluate(options.folder, limits).text())
    except ProfileError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
