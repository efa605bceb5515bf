"""Builds the single binary: build/binary/fmedge/ (the folder) and dist/fmedge-VERSION-linux-ARCH.

The rule: all that goes in is installed beside this Python; llama.cpp alone may be another build
(--llama), as one that is for every processor takes long to compile.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from folder import ROOT, BuildError, build_folder, fingerprint, installed_llama
from pack import pack

from fmedge import __version__

FOLDER = ROOT / "build" / "binary" / "fmedge"
TARGET = ROOT / "dist" / f"fmedge-{__version__}-linux-{platform.machine()}"
LEVEL = 9
"""Of zstd. 55 MB of such libraries became 22 MB with 3, 20 MB with 9 in 5 times as long, and 17 MB
with 19 in 125 times as long, which also take longer to unpack."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build fmedge as one file that needs no Python.")
    parser.add_argument(
        "--llama", type=absolute, metavar="FOLDER",
        help="the llama_cpp package to put in (default: the one that is installed)",
    )  # fmt: skip
    parser.add_argument("--folder", type=absolute, default=FOLDER, help=f"default: {FOLDER}")
    parser.add_argument("--target", type=absolute, default=TARGET, help=f"default: {TARGET}")
    parser.add_argument("--level", type=int, default=LEVEL, help="zstd's; default: %(default)s")
    parser.add_argument(
        "--only", choices=("folder", "file"), help="the other is there, or not wanted"
    )
    parser.add_argument(
        "--if-changed", action="store_true", help="keep the folder if it would be the same"
    )
    args = parser.parse_args()
    try:
        if args.only != "file":
            make_folder(args.folder, args.llama or installed_llama(), args.if_changed)
            sys.stdout.write(f"{args.folder}: {size_of(args.folder) / 1e6:.0f} MB\n")
        if args.only != "folder":
            pack(args.folder, args.target, args.level)
            sys.stdout.write(f"{args.target}: {args.target.stat().st_size / 1e6:.0f} MB\n")
    except BuildError as error:
        sys.stderr.write(f"build: error: {error}\n")
        return 1
    return 0


def make_folder(folder: Path, llama: Path, is_kept: bool) -> None:
    """With a note beside it of what went into it."""
    note = folder.with_name(folder.name + ".fingerprint")
    found = fingerprint(llama)
    if is_kept and note.is_file() and note.read_text() == found:
        return
    note.unlink(missing_ok=True)
    build_folder(folder, llama)
    note.write_text(found)


def absolute(word: str) -> Path:
    """What is started here works in the project's folder."""
    return Path(word).absolute()


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
