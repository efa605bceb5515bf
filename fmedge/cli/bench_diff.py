"""`fmedge bench diff`: exit 1 where the new runs are worse than the base, beyond doubt and beyond
the threshold."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from fmedge.cli import EXIT_FAILED
from fmedge.cli.bench_files import run_files
from fmedge.cli.table import aligned, duration, percent
from fmedge.errors import ConfigError
from fmedge.sim.compare import METRICS, SHARES, USUAL, Comparison, compare
from fmedge.sim.run_file import read_run

_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "end to end"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for side, text in (("base", "runs to compare with"), ("new", "runs to judge")):
        parser.add_argument(
            side, metavar=side.upper(),
            help=f"{text}: a file of fmedge bench --out or simulate --out, several with commas "
            "between, or a folder of them",
        )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, default=2.0, metavar="PCT",
        help="changes up to so many per cent are nobody's concern [2]",
    )  # fmt: skip
    parser.add_argument(
        "--metric", action="append", default=[], metavar="M",
        help=f"what to compare, several with commas between, of {', '.join(METRICS)} "
        f"[{', '.join(USUAL)}]",
    )  # fmt: skip
    parser.add_argument(
        "--confidence", type=float, default=95.0, metavar="PCT",
        help="that all intervals together hold what they say [95]",
    )  # fmt: skip
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="of the bootstrap [1000]"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap [0]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    metrics = _metrics(args.metric)
    if not 0 <= args.threshold < 100:
        raise ConfigError(f"--threshold {args.threshold:g}: must be at least 0 and less than 100")
    if not 50 <= args.confidence < 100:
        raise ConfigError(f"--confidence {args.confidence:g}: must be at least 50, less than 100")
    if not 100 <= args.resamples <= 100_000:
        raise ConfigError(f"--resamples {args.resamples}: must be 100 to 100000")
    base, new = ([read_run(path) for path in run_files(text)] for text in (args.base, args.new))
    found = compare(
        base,
        new,
        metrics=metrics,
        threshold=args.threshold / 100,
        confidence=args.confidence / 100,
        resamples=args.resamples,
        seed=args.seed,
        progress=_show if sys.stderr.isatty() else None,
    )
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if args.json:
        document = msgspec.to_builtins(found) | {"is_worse": found.is_worse}
        print(msgspec.json.encode(document).decode())
    else:
        print("\n".join(_lines(found, Path(args.base).name, Path(args.new).name)))
    return EXIT_FAILED if found.is_worse else 0


def _metrics(texts: list[str]) -> tuple[str, ...]:
    """In the order given, each once."""
    if not texts:
        return USUAL
    names = [part.strip() for text in texts for part in text.split(",")]
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"--metric {name}: no such metric; there are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def _show(done: int, count: int) -> None:
    sys.stderr.write(f"\r\x1b[K{done}/{count} metrics")
    sys.stderr.flush()


def _lines(found: Comparison, base: str, new: str) -> list[str]:
    how = "call by call" if found.is_paired else "as two samples"
    lines = [
        f"{base} ({_runs(found.num_base)}) and {new} ({_runs(found.num_new)}), compared {how}",
        *(f"note: {note}" for note in found.notes),
        "",
    ]
    header = ("", "base", "new", "change", f"{100 * found.confidence:g} % sure", "calls", "")
    rows = []
    for change in found.changes:
        is_known = change.low == change.low  # not nan
        rows.append(
            (
                _name(change.metric),
                _value(change.metric, change.base),
                _value(change.metric, change.new),
                _signed(change.ratio) if change.ratio == change.ratio else "-",
                f"{_signed(change.low)} to {_signed(change.high)}" if is_known else "-",
                str(change.num),
                change.verdict.upper() if change.verdict == "worse" else change.verdict,
            )
        )
    lines += aligned(header, rows)
    if found.is_paired and any(change.metric.endswith("_p50") for change in found.changes):
        lines.append("change of p50: the median of the calls' own changes")
    limit = f"{100 * found.threshold:g} %"
    if found.is_worse:
        lines += ["", f"WORSE by more than {limit}: " + ", ".join(
            _name(change.metric) for change in found.changes if change.verdict == "worse"
        )]  # fmt: skip
    else:
        lines += ["", f"no regression beyond {limit}"]
    return lines


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _name(metric: str) -> str:
    if metric in SHARES:
        return metric
    measure, _, statistic = metric.partition("_")
    return f"{_NAMES[measure]} {statistic}"


def _value(metric: str, value: float) -> str:
    if value != value:
        return "-"
    if metric == "attainment":
        return percent(value)
    return f"{value:.3f}/s" if metric == "goodput" else duration(1e3 * value)


def _signed(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
