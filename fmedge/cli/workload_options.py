"""What is played, and by which promises: options of the verbs that play a workload."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from fmedge.cli.numbers import at_least, positive
from fmedge.cli.slas import add_slas, read_slas

if TYPE_CHECKING:
    from fmedge.sim.workload import Workload

_SECRET = ("--api-key", "--headers")
"""Options whose values are not written down; --header is the beginning of one."""


def add_workload(parser: Any) -> None:
    """--workload and how to read it, but for --rate, --requests and --seed, which verbs give a
    meaning without a workload too."""
    parser.add_argument(
        "--workload", metavar="FILE|SPEC",
        help="what to play: a trace (Azure CSV, Mooncake JSONL, log of serve --record), a workload "
        "file (TOML), or a line such as poisson:rate=5,duration=60,prompt=512/2048,output=128/512",
    )  # fmt: skip
    parser.add_argument(
        "--skip", type=at_least(0), default=0, metavar="N", help="leave out the first N calls [0]"
    )
    parser.add_argument(
        "--scale", type=positive, default=1.0, metavar="X", help="lengths times X [1]"
    )
    parser.add_argument(
        "--longest", type=at_least(2), metavar="N",
        help="cut calls to N tokens, prompt and output [no]",
    )  # fmt: skip
    add_slas(parser)


def read_workload(args: argparse.Namespace) -> Workload:
    """The workload that the options name, with promises. ConfigError says what is wrong."""
    from fmedge.sim.load import load_workload

    slas = read_slas(args.sla)
    workload = load_workload(
        args.workload,
        rate=args.rate or None,
        requests=args.requests,
        skip=args.skip,
        seed=args.seed,
        classes=slas.classes,
        longest=args.longest,
        scale=args.scale,
    )
    return slas.applied(workload)


def command_options(args: argparse.Namespace) -> dict[str, Any]:
    """What a command was told, as it is written beside what came of it; no secrets."""
    told = {
        name: value
        for name, value in sorted(vars(args).items())
        if value is not None and value not in ("", [], {}) and name not in ("api_key", "headers")
    }
    return told | {"command": [os.path.basename(sys.argv[0]), *_without_secrets(sys.argv[1:])]}


def _without_secrets(words: list[str]) -> list[str]:
    """Keys and headers replaced by dots; argparse knows an option by its beginning too."""
    shown: list[str] = []
    is_secret = False
    for word in words:
        name, equals, _ = word.partition("=")
        hides = len(name) > 2 and any(option.startswith(name) for option in _SECRET)
        if hides and equals:
            shown.append(f"{name}=...")
        else:
            shown.append("..." if is_secret else word)
        is_secret = hides and not equals
    return shown
