"""A bare Debian made of this one's essential packages: a folder with dpkg, a shell and no Python.

The rule: nothing is fetched and nothing of this machine is changed: files are copied, and what runs
in the root has mounts and process ids of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fmedge import __version__

BUILD = Path(__file__).resolve().parents[2] / "packaging" / "debian" / "build.py"
INFO = Path("/var/lib/dpkg/info")
STATUS = Path("/var/lib/dpkg/status")
UNNEEDED = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/")
MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
ENTER = """
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
exec chroot "$0" "$@"
"""
TIMEOUT_S = 300.0


class DebianRoot:
    """The folder, and what happens in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in MERGED:
            if Path("/", name).is_symlink():
                (folder / Path("/", name).readlink()).mkdir(parents=True)
                (folder / name).symlink_to(Path("/", name).readlink())
        stanzas = essential()
        for stanza in stanzas.values():
            self._copy_package(stanza)
        admin = folder / "var/lib/dpkg"
        (admin / "status").write_text("".join(f"{stanza}\n\n" for stanza in stanzas.values()))
        for name in ("updates", "triggers", "info"):
            (admin / name).mkdir(parents=True, exist_ok=True)
        for name in ("passwd", "group", "shadow"):
            shutil.copy2(f"/etc/{name}", folder / "etc" / name)
        for name in ("dev", "proc", "run", "tmp", "root"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "tmp").chmod(0o1777)

    def _copy_package(self, stanza: str) -> None:
        name = field(stanza, "Package")
        qualified = f"{name}:{field(stanza, 'Architecture')}"
        prefix = qualified if (INFO / f"{qualified}.list").exists() else name
        target = self.folder / "var/lib/dpkg/info"
        target.mkdir(parents=True, exist_ok=True)
        for file in INFO.glob(f"{prefix}.*"):
            shutil.copy2(file, target / file.name)
        for line in (INFO / f"{prefix}.list").read_text().splitlines():
            if not line.startswith(UNNEEDED):
                self._copy(Path(line))

    def _copy(self, path: Path) -> None:
        target = self.folder / path.relative_to("/")
        if path.is_symlink() or path.is_file():
            if not target.is_symlink() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target, follow_symlinks=False)
        elif path.is_dir():
            target.mkdir(parents=True, exist_ok=True)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs it in there; whatever it starts ends with it."""
        outside = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        done = subprocess.run(
            [*outside, "sh", "-ec", ENTER, str(self.folder), *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
                 "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def dpkg(self, *arguments: str) -> str:
        """dpkg's output, of both kinds."""
        done = self.run("dpkg", *arguments)
        return done.stdout + done.stderr

    def path(self, name: str) -> Path:
        """A place in there, by its name in there. Links that are absolute are not for us."""
        return self.folder / name.lstrip("/")


def build_package(folder: Path, out: Path, revision: str, compression: str = "gzip") -> Path:
    """The package of a program's folder, as `make deb` builds it but for its compression."""
    options = ["--folder", str(folder), "--out", str(out), "--revision", revision]
    done = subprocess.run(
        [sys.executable, str(BUILD), *options, "--compression", compression],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    (file,) = out.glob(f"fmedge_{__version__}-{revision}_*.deb")
    return file


def why_not() -> str:
    """Why there can be none here; empty where there can."""
    for tool in ("dpkg", "dpkg-deb", "unshare", "chroot"):
        if shutil.which(tool) is None:
            return f"no {tool} here"
    if not STATUS.is_file():
        return "this is no Debian"
    try:
        tried = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", "mount -t tmpfs none /mnt"]
        if subprocess.run(tried, capture_output=True, timeout=30).returncode == 0:
            return ""
    except subprocess.TimeoutExpired:
        pass
    return "a root needs a user who may mount"


def essential() -> dict[str, str]:
    """The stanzas of dpkg's status of the essential packages, and of what they depend on."""
    installed = {}
    providers: dict[str, str] = {}
    for stanza in STATUS.read_text().split("\n\n"):
        if "\nStatus: install ok installed" in stanza:
            installed[field(stanza, "Package")] = stanza
            for word in re.split(r",\s*", field(stanza, "Provides")):
                providers.setdefault(word.partition(" ")[0], field(stanza, "Package"))
    waiting = [name for name, stanza in installed.items() if field(stanza, "Essential") == "yes"]
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        name = name if name in installed else providers[name]
        if name in found:
            continue
        found[name] = installed[name]
        needs = f"{field(installed[name], 'Depends')},{field(installed[name], 'Pre-Depends')}"
        for choices in filter(None, re.split(r",\s*", needs)):
            names = [re.split(r"[ :(]", choice.strip())[0] for choice in choices.split("|")]
            there = [n for n in names if n in installed or n in providers]
            waiting += there[:1]
    return found


def field(stanza: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", stanza, re.M)
    return found[1] if found else ""
