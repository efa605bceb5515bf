"""What a service manager says to a process that it starts, in systemd's words: where it wants to
hear that we are ready, how often that we live, which sockets it holds open, and where our
credentials and log lines go."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from msgspec import Struct

from fmedge.errors import ConfigError

FIRST_FD = 3
MAX_FDS = 256
CREDENTIALS = "${CREDENTIALS_DIRECTORY}"


class ServiceLink(Struct, frozen=True):
    """notify_socket: "" where nobody listens. watchdog_s: it wants a sign of life within this
    time; 0: it does not watch. fds: listening sockets that it opened, with the names it gave."""

    notify_socket: str = ""
    watchdog_s: float = 0.0
    fds: tuple[tuple[int, str], ...] = ()


def take_service(environ: MutableMapping[str, str] | None = None) -> ServiceLink:
    """What it says to this process, and takes that out of the environment, as no child of ours is
    meant. ConfigError for what makes no sense."""
    env = os.environ if environ is None else environ
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
             "LISTEN_FDNAMES")  # fmt: skip
    said = {name: env.pop(name) for name in names if name in env}
    address = said.get("NOTIFY_SOCKET", "")
    if address and not address.startswith(("/", "@")):
        raise ConfigError(f"NOTIFY_SOCKET={address}: expected a path, or @ and a name")
    watchdog_us = 0
    if _is_ours(said, "WATCHDOG_PID", needed=False):
        watchdog_us = _number(said, "WATCHDOG_USEC")
    return ServiceLink(address, watchdog_us / 1e6, _fds(said))


def _fds(said: Mapping[str, str]) -> tuple[tuple[int, str], ...]:
    if not _is_ours(said, "LISTEN_PID", needed=True):
        return ()
    count = _number(said, "LISTEN_FDS")
    if count > MAX_FDS:
        raise ConfigError(f"LISTEN_FDS={count}: at most {MAX_FDS} sockets are taken")
    given = said.get("LISTEN_FDNAMES", "")
    labels = given.split(":") if given else ["unknown"] * count
    if len(labels) != count:
        raise ConfigError(
            f"LISTEN_FDNAMES={given}: {len(labels)} names for LISTEN_FDS={count} sockets"
        )
    return tuple((FIRST_FD + index, label) for index, label in enumerate(labels))


def _is_ours(said: Mapping[str, str], name: str, *, needed: bool) -> bool:
    """Whether what goes with this process id is for us; else it was inherited."""
    return _number(said, name) == os.getpid() if name in said else not needed


def _number(said: Mapping[str, str], name: str) -> int:
    text = said.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigError(f"{name}={text}: expected a number; the service manager sets it")
    return int(text)


def is_journal(fd: int, environ: Mapping[str, str] | None = None) -> bool:
    """Whether what is written there becomes entries of the journal. The variable alone does not
    say so: a shell that was started by a service has it too."""
    env = os.environ if environ is None else environ
    if not env.get("JOURNAL_STREAM"):
        return False
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return env["JOURNAL_STREAM"] == f"{status.st_dev}:{status.st_ino}"


def credential(text: str, where: str, environ: Mapping[str, str] | None = None) -> str:
    """A path of a file, whose ${CREDENTIALS_DIRECTORY} is the folder in which the service manager
    put the service's secrets."""
    if not text.startswith(CREDENTIALS):
        return text
    folder = _credentials_dir(environ)
    if not folder:
        raise ConfigError(
            f"{where}: {text}: there is no CREDENTIALS_DIRECTORY: it is there where a service "
            "manager starts fmedge with LoadCredential="
        )
    return folder + text[len(CREDENTIALS) :]


def is_credential(path: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether the service manager put it there, for us alone, whatever its mode says."""
    folder = _credentials_dir(environ)
    return bool(folder) and os.path.dirname(os.path.abspath(path)) == folder


def _credentials_dir(environ: Mapping[str, str] | None) -> str:
    folder = (os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY", "")
    return os.path.normpath(folder) if os.path.isabs(folder) else ""
