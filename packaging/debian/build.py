"""`make deb`: the Debian package, from the binary's folder, the units and the command line itself.

The rule: dpkg-deb alone is needed, and the same input gives the same package: times are
SOURCE_DATE_EPOCH, which is the last commit's where nobody sets it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import man
import notices
from conffile import commented

from fmedge import __version__, cli
from fmedge.cli.commands import commands
from fmedge.cli.completion import script

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
DOC = "usr/share/doc/fmedge"
SCRIPTS = {
    "bash": "usr/share/bash-completion/completions/fmedge",
    "zsh": "usr/share/zsh/vendor-completions/_fmedge",
    "fish": "usr/share/fish/vendor_completions.d/fmedge.fish",
}
UNITS = ("fmedge.service", "fmedge.socket")
CONFFILES = ("etc/fmedge/fmedge.toml", "etc/fmedge/environment")


class BuildError(Exception):
    """What is missing, and what to do."""


def main() -> int:
    """Writes the package; returns 1 after one line where something is missing."""
    parser = argparse.ArgumentParser(description="Builds the Debian package.")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "binary" / "fmedge", metavar="FOLDER",
        help="the folder that make binary builds",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="FOLDER")
    parser.add_argument("--revision", default="1", help="Debian's own part of the version [1]")
    parser.add_argument(
        "--compression", choices=["xz", "gzip", "none"], default="xz", help="of the package [xz]"
    )
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="fmedge-deb-") as work:
            root = Path(work) / "root"
            file = build(root, args.folder, f"{__version__}-{args.revision}", args.out, args)
    except (BuildError, notices.NoticeError, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"deb: error: {error}\n")
        return 1
    print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    return 0


def build(root: Path, folder: Path, version: str, out: Path, args: argparse.Namespace) -> Path:
    if not (folder / "fmedge").is_file():
        raise BuildError(f"{folder} holds no binary of fmedge. Run: make binary")
    if shutil.which("dpkg-deb") is None:
        raise BuildError("there is no dpkg-deb here. On Debian: apt install dpkg")
    epoch_s = _epoch_s()
    architecture = _output("dpkg", "--print-architecture")
    _program(root, folder)
    _documents(root, folder, version, epoch_s)
    _units(root)
    _configuration(root)
    _control(root, version, architecture, _libc(folder))
    _same_times(root, epoch_s)
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"fmedge_{version}_{architecture}.deb"
    how = ["--root-owner-group", f"-Z{args.compression}", *["-z1"] * (args.compression == "gzip")]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s)}
    part = file.with_suffix(".part")
    command = ["dpkg-deb", *how, "--build", str(root), str(part)]
    try:
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def _program(root: Path, folder: Path) -> None:
    target = root / "usr" / "lib" / "fmedge"
    target.parent.mkdir(parents=True)
    shutil.copytree(folder, target, symlinks=True)
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path == target / "fmedge" else 0o644)
    link = root / "usr" / "bin" / "fmedge"
    link.parent.mkdir()
    link.symlink_to("../lib/fmedge/fmedge")


def _documents(root: Path, folder: Path, version: str, epoch_s: int) -> None:
    _write(root, "usr/share/man/man1/fmedge.1.gz", man.page(commands(cli.parsers())))
    for shell, path in SCRIPTS.items():
        _write(root, path, script(shell))
    _write(root, f"{DOC}/copyright", (HERE / "copyright").read_text())
    _write(root, f"{DOC}/changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    _write(root, f"{DOC}/THIRD-PARTY-NOTICES.gz", notices.text(folder))
    entry = (
        f"fmedge ({version}) stable; urgency=medium\n\n"
        "  * What changed: /usr/share/doc/fmedge/changelog.gz\n\n"
        f" -- {_maintainer()}  {formatdate(epoch_s)}\n"
    )
    _write(root, f"{DOC}/changelog.Debian.gz", entry)
    example = (ROOT / "packaging" / "fmedge.example.toml").read_text()
    _write(root, f"{DOC}/examples/fmedge.toml", example)
    overrides = (HERE / "lintian-overrides").read_text()
    _write(root, "usr/share/lintian/overrides/fmedge", overrides)


def _units(root: Path) -> None:
    for kind, folder in (("system", "systemd"), ("user", "systemd/user")):
        for name in UNITS:
            text = (ROOT / "packaging" / folder / name).read_text()
            _write(root, f"usr/lib/systemd/{kind}/{name}", text)
    groups = (ROOT / "packaging" / "systemd" / "fmedge.sysusers").read_text()
    _write(root, "usr/lib/sysusers.d/fmedge.conf", groups)


def _configuration(root: Path) -> None:
    example = (ROOT / "packaging" / "fmedge.example.toml").read_text()
    _write(root, "etc/fmedge/fmedge.toml", commented(example))
    _write(root, "etc/fmedge/environment", (HERE / "environment").read_text())
    (root / "etc/fmedge/environment").chmod(0o640)  # tokens


def _control(root: Path, version: str, architecture: str, libc: str) -> None:
    files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    sums = [
        f"{hashlib.file_digest(p.open('rb'), 'md5').hexdigest()}  {p.relative_to(root)}\n"
        for p in files
        if str(p.relative_to(root)) not in CONFFILES
    ]
    values = {
        "VERSION": version,
        "ARCHITECTURE": architecture,
        "MAINTAINER": _maintainer(),
        "INSTALLED_SIZE": str(sum(-(-p.stat().st_size // 1024) for p in files)),
        "LIBC": libc,
    }
    control = (HERE / "control.in").read_text()
    _write(root, "DEBIAN/control", re.sub(r"@(\w+)@", lambda name: values[name[1]], control))
    _write(root, "DEBIAN/md5sums", "".join(sums))
    _write(root, "DEBIAN/conffiles", "".join(f"/{name}\n" for name in CONFFILES))
    for name in ("postinst", "prerm", "postrm"):
        _write(root, f"DEBIAN/{name}", (HERE / name).read_text())
        (root / "DEBIAN" / name).chmod(0o755)


def _libc(folder: Path) -> str:
    """The oldest C library that has all which the folder's programs and libraries ask for."""
    found = {(2, 0)}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if data[:4] == b"\x7fELF":
                found |= {
                    (int(major), int(minor))
                    for major, minor in re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?=[\0.])", data)
                }
    return ".".join(map(str, max(found)))


def _maintainer() -> str:
    """As Debian's own tools take it from the environment."""
    name = os.environ.get("DEBFULLNAME", "The fmedge developers")
    return f"{name} <{os.environ.get('DEBEMAIL', 'fmedge@packages.invalid')}>"


def _epoch_s() -> int:
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    if (ROOT / ".git").exists():
        return int(_output("git", "-C", str(ROOT), "log", "-1", "--format=%ct"))
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)


def _same_times(root: Path, epoch_s: int) -> None:
    for path in [root, *root.rglob("*")]:
        os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _write(root: Path, name: str, text: str) -> None:
    """A file with its folders, of the modes that packages have; compressed where its name says."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0) if name.endswith(".gz") else data)
    path.chmod(0o644)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
