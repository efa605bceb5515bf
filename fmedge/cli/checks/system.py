"""The clock, the locale, the libraries' versions and the service's state."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from shutil import which

from fmedge import __version__
from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.config.surroundings import Surroundings
from fmedge.errors import ConfigError

_UNSYNCHRONISED = 5  # adjtimex's TIME_ERROR
_DAY_S = 86_400.0
_AHEAD_S = 60.0
UNITS = ("fmedge.service", "fmedge.socket")


class _Timex(ctypes.Structure):
    """The kernel's struct timex, of which all is read and nothing set (modes is 0)."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 508))


def is_synchronised() -> bool | None:
    """Whether the kernel knows of somebody who sets the clock; None where it does not tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = getattr(libc, "adjtimex", lambda _: -1)(ctypes.byref(_Timex()))
    return None if state < 0 else state != _UNSYNCHRONISED


def check_clock(
    folder: Path | None, now_s: float, *, is_set: bool | None, built_s: float | None = None
) -> Iterator[Finding]:
    """folder: of what is learned. is_set: see is_synchronised. built_s: when fmedge was installed,
    None asks."""
    if built_s is None:
        built_s = Path(__file__).stat().st_mtime
    newest_s = max((entry.stat().st_mtime for entry in _entries(folder)), default=0.0)
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    how = "set it, and have it kept: timedatectl set-ntp true (or install chrony)"
    if now_s < built_s - _DAY_S:
        yield error("clock", f"{shown} is before fmedge was installed: certificates will fail", how)
    elif newest_s > now_s + _AHEAD_S:
        yield warning("clock", f"{shown}, but what was learned was written later: it jumped", how)
    elif is_set is False:
        yield warning(
            "clock", f"{shown}; nobody keeps it: times in logs may be wrong (promises go by "
            "another clock)",
            how,
        )  # fmt: skip
    else:
        yield ok("clock", f"{shown}{', synchronised' if is_set else ''}")


def _entries(folder: Path | None) -> list[Path]:
    try:
        return list(folder.iterdir()) if folder is not None else []
    except OSError:  # not there yet, or not for us: the check of the folder says so
        return []


def check_locale(around: Surroundings, *, files: str, output: str) -> Iterator[Finding]:
    """files, output: how this process encodes file names, and what it prints."""
    said = around.locale or "no locale set"
    if "utf" in files.lower() and "utf" in output.lower():
        yield ok("locale", f"{said}; UTF-8")
    else:
        yield warning(
            "locale", f"{said}: file names are {files}, output is {output}",
            "export LC_ALL=C.UTF-8, or other characters come out as \\x..",
        )  # fmt: skip


def check_versions(packages: Sequence[str] = ("fmedge", "numba")) -> Iterator[Finding]:
    """Whether what is installed is what these packages ask for."""
    python = f"Python {sys.version.split()[0]}"
    try:
        wrong = [line for package in packages for line in _unmet(package)]
    except PackageNotFoundError:  # all in one file, with what it was built with
        yield ok("versions", f"fmedge {__version__}, {python}, all in one")
        return
    for line in wrong:
        yield error("versions", line, "install it in a new virtual environment, or see pip check")
    if not wrong:
        yield ok("versions", f"fmedge {__version__}, {python}; the libraries are what they ask for")


def _unmet(package: str) -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in requires(package) or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield f"{package} needs {wanted.name}{wanted.specifier}, which is not installed"
        else:
            if not wanted.specifier.contains(found, prereleases=True):
                yield f"{package} needs {wanted.name}{wanted.specifier}, but {found} is installed"


def unit_shown(timeout_s: float) -> str:
    """What systemd says of the service's environment; ConfigError where there is no service."""
    command = ["systemctl", "show", "--property=LoadState,Environment,EnvironmentFiles", UNITS[0]]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise ConfigError(f"--service: systemctl does not answer: {failure}") from failure
    shown = done.stdout.decode("utf-8", "replace")
    if "LoadState=loaded" not in shown.splitlines():
        said = done.stderr.decode("utf-8", "replace").strip() or f"there is no {UNITS[0]}"
        raise ConfigError(f"--service: {said}; leave the flag out to look as yourself")
    return shown


def check_service(timeout_s: float, root: Path = Path("/")) -> Iterator[Finding]:
    """What systemd says of our units, where there is one. root: where `run` lies."""
    if not (root / "run/systemd/system").is_dir() or which("systemctl") is None:
        yield ok("service", "systemd does not run here")
        return
    keys = "--property=Id,LoadState,ActiveState,SubState,Result,UnitFileState"
    shown = ""
    for scope in ("--system", "--user"):
        done = subprocess.run(
            ["systemctl", scope, "show", keys, *UNITS], capture_output=True, timeout=timeout_s,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        shown += done.stdout.decode("utf-8", "replace") + "\n"
    yield from of_units(shown)


def of_units(shown: str) -> Iterator[Finding]:
    """From what `systemctl show` prints: blocks of KEY=VALUE lines, one for each unit."""
    found = False
    for block in shown.split("\n\n"):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if facts.get("LoadState", "not-found") == "not-found":
            continue
        found = True
        name = facts.get("Id", "?")
        text = f"{name} is {facts.get('ActiveState', '?')} ({facts.get('SubState', '?')})"
        if facts["LoadState"] != "loaded":
            yield error("service", f"{name}: {facts['LoadState']}",
                        f"systemctl cat {name}; a masked one: systemctl unmask {name}")  # fmt: skip
        elif facts.get("ActiveState") == "failed":
            yield error("service", f"{text}: {facts.get('Result', '?')}",
                        f"journalctl -u {name} -n 50, then systemctl restart {name}")  # fmt: skip
        elif facts.get("SubState") == "auto-restart":
            yield error("service", f"{text}: it ends again and again",
                        f"journalctl -u {name} -n 50")  # fmt: skip
        else:
            yield ok("service", f"{text}, {facts.get('UnitFileState') or 'not enabled'}")
    if not found:
        yield ok("service", "no unit of fmedge here")
