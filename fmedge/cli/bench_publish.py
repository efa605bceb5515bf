"""`fmedge bench report`: runs as a page or a picture."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fmedge.cli.bench_files import run_files
from fmedge.errors import ConfigError
from fmedge.sim.run import Run
from fmedge.sim.run_file import read_run, write_whole

PAGES, PICTURES = (".html", ".htm"), (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN.json", help="of fmedge bench or simulate; or a folder"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="FILE.html or FILE.png")


def run(args: argparse.Namespace) -> int:
    check_report(args.out, "--out")
    paths = [path for text in args.runs for path in run_files(text)]
    write_report([read_run(path) for path in paths], args.out)
    print(args.out)
    return 0


def check_report(path: str, option: str) -> None:
    """ConfigError, before anything is measured, for what would fail at the end."""
    suffix = Path(path).suffix.lower()
    if suffix not in (*PAGES, *PICTURES):
        raise ConfigError(f"{option} {path}: the file's name must end in "
                          f"{', '.join((*PAGES, *PICTURES))}")  # fmt: skip
    if suffix in PICTURES and find_spec("matplotlib") is None:
        raise ConfigError(f"{option} {path} needs matplotlib: pip install 'fmedge[plot]'")
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no such folder")


def write_report(runs: Sequence[Run], path: str) -> None:
    """A page or a picture, by the name's end; whole or not at all."""
    from fmedge.cli.bench_page import page

    labels = labelled(runs)
    has_drawing = find_spec("matplotlib") is not None
    if Path(path).suffix.lower() in PAGES:
        drawing = ""
        if has_drawing:
            from fmedge.cli.bench_figures import figure, svg

            drawing = svg(figure(runs, labels))
        content = page(runs, labels, drawing).encode()
    else:
        import io

        from fmedge.cli.bench_figures import figure

        buffer = io.BytesIO()
        figure(runs, labels).savefig(buffer, format=Path(path).suffix.lower()[1:], dpi=150)
        content = buffer.getvalue()
    write_whole(content, path)


def labelled(runs: Sequence[Run]) -> list[str]:
    """What each run is called. Runs of one name and different workloads or rates stay one curve;
    only what is the same in all but the time it was made is numbered."""
    seen: Counter[tuple[str, str]] = Counter()
    labels = []
    for run in runs:
        name = run.label or run.policy or run.target or run.kind
        seen[name, run.asked] += 1
        number = seen[name, run.asked]
        labels.append(name if number == 1 else f"{name} ({number})")
    return labels
