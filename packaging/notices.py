"""`python packaging/notices.py FILE` writes the licences of all that a binary of fmedge holds.

The rule: what a distribution's own metadata calls a licence is quoted whole; one that brings none
is an error, as its text would be missing where it must stand.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAMES = ("LICEN", "COPYING", "NOTICE")
# What PyInstaller takes from the machine that builds, by the name that it has in the folder, and
# the package under whose name Debian keeps its licence.
LIBRARIES = {
    "libbz2.so": "libbz2-1.0", "libcrypto.so": "libssl3", "libssl.so": "libssl3",
    "libffi.so": "libffi8", "libgcc_s.so": "libgcc-s1", "libgomp.so": "libgomp1",
    "liblzma.so": "liblzma5", "libncursesw.so": "libncursesw6", "libreadline.so": "libreadline8",
    "libsqlite3.so": "libsqlite3-0",
    "libstdc++.so": "libstdc++6", "libtinfo.so": "libtinfo6", "libuuid.so": "libuuid1",
    "libz.so": "zlib1g", "libzstd.so": "libzstd1", "libexpat.so": "libexpat1",
}  # fmt: skip
LINE = "=" * 80


class NoticeError(Exception):
    """Something has no licence text here."""


def text(folder: Path | None = None) -> str:
    """The notices; with those of the system's libraries in `folder`, a built binary."""
    parts = [("Python", [Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"])]
    parts += [(name, files) for name, files in _distributions(needed("fmedge"))]
    if folder is not None:
        parts += list(_libraries(folder))
    start = (
        "fmedge itself is licensed under the Apache License 2.0. This binary holds the following\n"
        "software of others, under the licences that are quoted here.\n"
    )
    quoted = (
        f"{LINE}\n{name}\n{LINE}\n\n"
        + "\n".join(file.read_text("utf-8", errors="replace").strip("\n") + "\n" for file in files)
        for name, files in parts
    )
    return "\n".join([start, *quoted])


def needed(name: str) -> list[Distribution]:
    """The distributions that `name` needs, directly or not, without its extras; by name."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(line) for line in distribution(name).requires or ()]
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name)
        if key in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[key] = distribution(wanted.name)
        waiting += [Requirement(line) for line in found[key].requires or ()]
    return [found[key] for key in sorted(found)]


def _distributions(found: list[Distribution]) -> Iterator[tuple[str, list[Path]]]:
    for each in found:
        files = [
            Path(str(each.locate_file(file)))
            for file in each.files or ()
            if ".dist-info" in file.parts[0] and file.name.upper().startswith(NAMES)
        ]
        name = f"{each.name} {each.version}"
        if not files:
            raise NoticeError(f"{name} has no licence among its files")
        yield name, files


def _libraries(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    packages: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("lib*.so*")):
        package = LIBRARIES.get(path.name.partition(".so")[0] + ".so")
        if package is not None:
            packages.setdefault(package, []).append(path.name)
    for package, names in packages.items():
        file = Path("/usr/share/doc") / package / "copyright"
        if not file.is_file():
            raise NoticeError(f"{names[0]}: there is no {file}. Build on Debian, or add it there")
        yield ", ".join(dict.fromkeys(names)), [file.resolve()]


def main() -> int:
    arguments = [Path(word) for word in sys.argv[1:]]
    try:
        arguments[0].write_text(text(*arguments[1:]), encoding="utf-8")
    except NoticeError as error:
        sys.stderr.write(f"notices: error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
