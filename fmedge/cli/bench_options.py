"""Options of `fmedge bench` that are of a workload alone; bench_replay acts on them."""

from __future__ import annotations

import argparse
from typing import Any

from fmedge.cli.numbers import not_negative


def add_arguments(group: Any) -> None:
    group.add_argument(
        "--lengths", choices=["emulated", "forced", "free"],
        help="what makes an answer as long as the workload says: the seed, for fmedge serve "
        "--emulate; max_tokens and ignore_eos; or max_tokens alone [forced]",
    )  # fmt: skip
    group.add_argument(
        "--warmup-s", type=not_negative, default=0.0, metavar="S",
        help="arrivals of the first S seconds are sent and not counted [0]",
    )  # fmt: skip
    group.add_argument(
        "--headers", "--header", action="append", default=[], type=_header, metavar="NAME:VALUE",
        help="of every request; repeat for more",
    )  # fmt: skip
    group.add_argument(
        "--promises", choices=["auto", "yes", "no"], default="auto",
        help="tell the server what each call is promised, in fmedge's headers [auto: to a fmedge]",
    )  # fmt: skip
    group.add_argument(
        "--prompt-seed", type=int, metavar="N",
        help="of what prompts say; a server that has met them answers from its cache [new ones]",
    )  # fmt: skip
    group.add_argument("--label", default="", metavar="TEXT", help="what reports call this run")
    group.add_argument("--cluster", default="", metavar="FILE", help="to keep with the result")
    group.add_argument("--out", metavar="FILE", help="write the whole run there, as JSON")
    group.add_argument("--report", metavar="FILE", help="write a report: FILE.html or FILE.png")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    is_plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not colon or not is_plain or not value.isprintable():
        raise argparse.ArgumentTypeError("expected NAME:VALUE")
    return name, value.strip()
