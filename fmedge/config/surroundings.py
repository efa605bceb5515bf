"""What of the environment is no setting of ours and matters all the same: proxies, the locale, and
where other libraries keep their files. For those who look for what is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

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
