"""Builds the single binary: build/binary/fmedge/ (the folder) and dist/fmedge-VERSION-linux-ARCH.

The rule: all that goes in is installed beside this Python; llama.cpp alone may be another build
(--llama), as one that is for every processor takes long to compile.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from folder import ROOT, BuildError, build_folder, installed_llama

FOLDER = ROOT / "build" / "binary" / "fmedge"


def main() -> int:
    parser = argparse.ArgumentParser(description="Build fmedge as one file that needs no Python.")
    parser.add_argument(
        "--llama", type=Path, metavar="FOLDER",
        help="the llama_cpp package to put in (default: the one that is installed)",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        build_folder(FOLDER, args.llama or installed_llama())
    except BuildError as error:
        sys.stderr.write(f"build: error: {error}\n")
        return 1
    sys.stdout.write(f"{FOLDER}: {size_of(FOLDER) / 1e6:.0f} MB\n")
    return 0


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
