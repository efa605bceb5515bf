"""`fmedge pull`: a model from the hub into its usual cache, with a progress bar."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from fmedge.cli.table import size
from fmedge.config import EMBEDDED
from fmedge.errors import ModelNotFoundError

if TYPE_CHECKING:
    from fmedge.models.pull import PullProgress
    from fmedge.models.registry import ModelSource

BAR_WIDTH = 30
REFRESH_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="hf:ORG/REPO[@REVISION][:QUANT|/FILE.gguf]")
    parser.add_argument("--json", action="store_true", help="print where it lies as JSON")


def run(args: argparse.Namespace) -> int:
    if args.model == EMBEDDED:
        from fmedge.models.registry import Registry

        source = Registry().resolve(args.model)
        sys.stderr.write(f"{EMBEDDED} is part of fmedge: there is nothing to fetch.\n")
    elif not args.model.startswith("hf:"):
        raise ModelNotFoundError(f"{args.model!r} is not on the hub's form: write hf:ORG/REPO")
    else:
        source = fetch(args.model)
    if args.json:
        print(json.dumps({"name": source.name, "path": source.path, "paths": source.paths}))
    else:
        print(source.path)
    return 0


def fetch(spec: str) -> ModelSource:
    """Pulls it, showing progress on stderr if that is a terminal."""
    from fmedge.models.pull import pull

    bar = ProgressBar()
    try:
        return pull(spec, bar.show if sys.stderr.isatty() else None)
    finally:
        bar.clear()


def fetch_missing(specs: Iterable[str]) -> None:
    """Pulls those hf:... that are not on this machine; other kinds of names are left alone."""
    wanted = [spec for spec in dict.fromkeys(specs) if spec.startswith("hf:")]
    if not wanted:
        return
    from fmedge.errors import ModelFileError
    from fmedge.models.registry import Registry

    registry = Registry()
    for spec in wanted:
        try:
            registry.resolve(spec)
        except (ModelNotFoundError, ModelFileError):
            sys.stderr.write(f"fmedge: pulling {spec}\n")
            fetch(spec)


class ProgressBar:
    """One line on the terminal, redrawn a few times a second."""

    def __init__(self) -> None:
        self._started_s = self._drawn_s = 0.0
        self._first_bytes = 0

    def show(self, progress: PullProgress) -> None:
        now_s = monotonic()
        if not self._started_s:
            # what was there from before does not count as speed
            self._started_s, self._first_bytes = now_s, progress.done_bytes
        elif now_s - self._drawn_s < REFRESH_S and progress.done_bytes < progress.total_bytes:
            return
        self._drawn_s = now_s
        sys.stderr.write("\r\x1b[K" + self.line(progress, now_s - self._started_s))
        sys.stderr.flush()

    def line(self, progress: PullProgress, elapsed_s: float) -> str:
        """The bar, sizes, speed and what is left."""
        done, total = progress.done_bytes, progress.total_bytes
        share = done / total if total else 1.0
        bar = ("#" * int(share * BAR_WIDTH)).ljust(BAR_WIDTH, ".")
        text = f"[{bar}] {share:4.0%}  {size(done)} of {size(total)}"
        if progress.is_verifying:
            return f"{text}  verifying {progress.file}"
        speed = (done - self._first_bytes) / elapsed_s if elapsed_s > 0 else 0.0
        if speed > 0 and done < total:
            left_s = round((total - done) / speed)
            text += f"  {size(speed)}/s  {left_s // 60}:{left_s % 60:02d} left"
        return text

    def clear(self) -> None:
        if self._started_s:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
