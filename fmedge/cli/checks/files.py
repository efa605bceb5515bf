"""The configuration's files and fmedge's own folders: there, ours, and closed to others."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from fmedge.cli.checks.certificates import check_certificate
from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.config import Config, state_dir
from fmedge.errors import ConfigError
from fmedge.server.state import LOCK_NAME

CREDENTIALS = Path("/run/credentials")
"""Where systemd puts a service's secrets, while it runs."""

_LOW_BYTES = 256 << 20
_MAX_ENTRIES = 500


def check_config_file(config: Config, problem: str, strangers: Sequence[str]) -> Iterator[Finding]:
    """problem: why the configuration cannot be read, "" for nothing. strangers: warnings of the
    environment's unknown variables."""
    if problem:
        yield error("config", problem, "correct it; all below is of the defaults")
    elif not config.file:
        yield ok("config", "no file: defaults, environment and flags")
    else:
        yield _check_owner(config)
    for stranger in strangers:
        yield warning("config", stranger, "correct or unset it")


def _check_owner(config: Config) -> Finding:
    path = Path(config.file)
    status = path.stat()
    has_key = config.sources.get("client.api_key", "").startswith(str(path))
    if status.st_mode & stat.S_IWOTH:
        return error("config", f"every user may change {path}", f"chmod o-w {path}")
    if status.st_uid not in (0, os.geteuid()):
        return warning(
            "config", f"{path} belongs to another user, who decides what is served here",
            f"chown root {path}",
        )  # fmt: skip
    if has_key and status.st_mode & 0o077:
        return warning(
            "config", f"{path} holds an API key that others may read", f"chmod 600 {path}"
        )
    return ok("config", f"{path}: {len(config.models)} model(s)")


def check_keys(config: Config) -> Iterator[Finding]:
    """The files of API keys and TLS, as the server will read them."""
    from fmedge.server.access import read_api_keys, tls_context

    server = config.server
    if server.api_key_file:
        path = Path(server.api_key_file)
        if _is_handed_over(path):
            yield ok("keys", f"{path.name}: handed over by systemd when the service starts")
        else:
            try:
                number = len(read_api_keys(server))
            except ConfigError as failure:
                yield error("keys", str(failure), "correct the file, or whom it belongs to")
            else:
                yield _of_secret("keys", path, f"{number} API key(s) in {path}")
    if server.tls_cert:
        if _is_handed_over(Path(server.tls_key)):
            yield ok("tls", "handed over by systemd when the service starts")
            return
        try:
            context = tls_context(server)
        except ConfigError as failure:
            yield error("tls", str(failure), "correct the files, or whom they belong to")
            return
        yield _of_secret("tls", Path(server.tls_key), f"{server.tls_cert} fits its key")
        if context is not None:
            yield from check_certificate(context, server.tls_cert, time.time())


def _is_handed_over(path: Path) -> bool:
    return CREDENTIALS in path.parents and not os.access(path, os.R_OK)


def _of_secret(check: str, path: Path, text: str) -> Finding:
    mode = path.stat().st_mode
    if mode & 0o077 and CREDENTIALS not in path.parents:
        who = "every user" if mode & 0o007 else "the file's group"
        return warning(check, f"{text}; {who} may read {path}", f"chmod 600 {path}")
    return ok(check, text)


def check_state(config: Config) -> Iterator[Finding]:
    """The folder for what is learned. Without it the server serves all the same."""
    folder = state_dir(config.server.state_dir)
    if folder is None:
        yield warning(
            "state", "there is no home folder for what is learned",
            "set state_dir, or XDG_STATE_HOME",
        )  # fmt: skip
        return
    if not folder.is_dir():
        problem = writing_problem(folder)
        if folder.exists():
            yield warning("state", f"{folder} is no folder", "remove it, or set another state_dir")
        elif problem:
            yield warning("state", f"{folder} cannot be made: {problem}", "set another state_dir")
        else:
            yield ok("state", f"{folder} is made at the first start")
        return
    status = folder.stat()
    if os.geteuid() not in (0, status.st_uid):
        yield warning(
            "state", f"{folder} belongs to another user: what was learned there is not used",
            "set another state_dir, or run as that user",
        )  # fmt: skip
    elif status.st_mode & stat.S_IWOTH:
        yield warning("state", f"every user may write to {folder}: it is not used",
                      f"chmod o-w {folder}")  # fmt: skip
    elif problem := writing_problem(folder):
        yield warning("state", f"{folder}: {problem}: nothing new is kept",
                      "make it writable, or set another state_dir")  # fmt: skip
    else:
        holder = lock_holder(folder / LOCK_NAME)
        used = f", in use by process {holder}" if holder else ""
        yield ok("state", f"{folder}: writable{used}")
    if not os.access(folder, os.R_OK | os.X_OK):
        return
    with os.scandir(folder) as entries:
        foreign = [e.name for e in islice(entries, _MAX_ENTRIES)
                   if e.stat(follow_symlinks=False).st_uid != status.st_uid]  # fmt: skip
    if foreign:
        yield warning(
            "state", f"{folder}: {len(foreign)} file(s) of another user, such as {foreign[0]}",
            f"chown -R --reference={folder} {folder}",
        )  # fmt: skip
    yield from check_space("state", folder)


def check_kernels(folders: Sequence[Path]) -> Iterator[Finding]:
    """folders: where compiled kernels may be kept; the first that is writable is taken."""
    problems = {folder: writing_problem(folder) for folder in folders}
    for folder, problem in problems.items():
        if not problem:
            yield ok("kernels", f"compiled once, kept in {folder}")
            yield from check_space("kernels", folder)
            return
    shown = "; ".join(f"{folder}: {problem}" for folder, problem in problems.items())
    yield warning(
        "kernels", f"no place for compiled kernels, so that each start compiles them ({shown})",
        "set NUMBA_CACHE_DIR to a folder that this user may write to",
    )  # fmt: skip


def check_space(check: str, folder: Path, wanted: int = _LOW_BYTES) -> Iterator[Finding]:
    """Nothing where there is enough."""
    place = existing(folder)
    free = shutil.disk_usage(place).free
    counts = os.statvfs(place)
    if free < wanted:
        yield warning(
            check, f"{free / 1e9:.2f} GB free on the disk of {folder}",
            "make room; fmedge rm removes downloaded models",
        )  # fmt: skip
    elif counts.f_files and not counts.f_favail:
        yield warning(check, f"no more files fit the disk of {folder}", "remove files there")


def existing(path: Path) -> Path:
    """It, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def writing_problem(folder: Path) -> str:
    """Why this user cannot write there (make it, where it is missing); "" where nothing is in the
    way. Tried by a file without a name, of which nothing stays."""
    place = existing(folder)
    if not place.is_dir():
        return f"{place} is no folder"
    try:
        if place == folder:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"\0")
                file.flush()
        elif os.statvfs(place).f_flag & os.ST_RDONLY:
            return "the file system is read-only"
        elif not os.access(place, os.W_OK | os.X_OK):
            return f"no permission to write to {place}"
    except OSError as failure:
        return failure.strerror or str(failure)
    return ""


def lock_holder(path: Path, root: Path = Path("/")) -> int:
    """The process that holds a lock on the file; 0 for none. Asked of the kernel, as trying would
    be in the way of a server that starts just now."""
    try:
        inode = path.stat().st_ino
        lines = (root / "proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        fields = line.split()
        if "FLOCK" in fields and "->" not in fields and fields[5].endswith(f":{inode}"):
            return int(fields[4])
    return 0
