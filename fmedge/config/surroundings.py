"""What of the environment is no setting of ours and matters all the same: proxies, the locale, and
where other libraries keep their files. For those who look for what is wrong."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

from msgspec import Struct

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Surroundings(Struct, frozen=True, kw_only=True):
    """proxies: the variables that name one, without their values, which may hold a password.
    no_proxy: hosts that they are not for. locale: the variable that decides it, with its value; ""
    where none does."""

    proxies: tuple[str, ...] = ()
    no_proxy: tuple[str, ...] = ()
    locale: str = ""


def surroundings(environ: Mapping[str, str] | None = None) -> Surroundings:
    env = os.environ if environ is None else environ
    names = [name for upper in _PROXIES for name in (upper, upper.lower())]
    hosts = ",".join(env.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    locales = (f"{name}={env[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG") if env.get(name))
    return Surroundings(
        proxies=tuple(name for name in names if env.get(name)),
        no_proxy=tuple(dict.fromkeys(host.strip() for host in hosts.split(",") if host.strip())),
        locale=next(locales, ""),
    )


def look_as_service(environ: MutableMapping[str, str] | None = None) -> None:
    """For a process that nobody started as a service, and that looks at one's configuration: the
    service's credentials have a place, the one where systemd puts those of fmedge.service."""
    env = os.environ if environ is None else environ
    env.setdefault("CREDENTIALS_DIRECTORY", "/run/credentials/fmedge.service")


def take_unit(shown: str, environ: MutableMapping[str, str] | None = None) -> None:
    """The environment of a service, for a process that is none and looks at what it would find.
    shown: what `systemctl show` prints of the unit."""
    env = os.environ if environ is None else environ
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        if name == "Environment":
            env.update(_assigned(shlex.split(value)))
        elif name == "EnvironmentFiles":  # such as /etc/fmedge/environment (ignore_errors=yes)
            with contextlib.suppress(OSError):
                text = Path(value.rpartition(" (")[0] or value).read_text("utf-8", "replace")
                env.update(_assigned(_unquoted(line) for line in text.splitlines()))


def _assigned(words: Iterable[str]) -> dict[str, str]:
    pairs = (word.split("=", 1) for word in words if "=" in word and not word.startswith("#"))
    return {name.strip(): value for name, value in pairs}


def _unquoted(line: str) -> str:
    name, sign, value = line.strip().partition("=")
    value = value.strip()
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return f"{name}{sign}{value[1:-1] if is_quoted else value}"
