"""Where the server is to listen, and whether proxies stand between it and its clients."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from fmedge.cli.api import Api, ApiError
from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.cli.ps import server_url
from fmedge.config import Config
from fmedge.config.surroundings import Surroundings

ASK_TIMEOUT_S = 1.5
_MAX_SOCKET_PATH = 107
_LISTENING = "0A"  # TCP_LISTEN, as the kernel writes it


def check_address(config: Config) -> Iterator[Finding]:
    server = config.server
    if server.unix_socket:
        yield _check_socket(config, Path(server.unix_socket))
        return
    if not server.port:
        yield ok("port", "any that is free")
    else:
        yield from _check_port(config)
    if not server.api_key_file and not _is_loopback(server.host):
        yield warning(
            "access", f"anyone who reaches {server.host or 'any address'} may use this server",
            "set api_key_file: one key a line, chmod 600",
        )  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_port(config: Config) -> Iterator[Finding]:
    server = config.server
    try:
        found = socket.getaddrinfo(
            server.host or None, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as failure:
        reason = getattr(failure, "strerror", None) or str(failure)
        yield error("port", f"host {server.host!r}: {reason}", "change host in the configuration")
        return
    for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(address)
            except OSError as failure:
                yield _of_bind(config, failure)
                return
    yield ok("port", f"{server.port} is free")


def _of_bind(config: Config, failure: OSError) -> Finding:
    server = config.server
    match failure.errno:
        case errno.EADDRINUSE:
            owner = owner_of_port(server.port)
            if owner == "systemd":
                return ok("port", f"systemd listens on port {server.port}, and starts who serves")
            if answer := _served(config):
                return ok("port", f"a fmedge serves on port {server.port}: {answer}")
            return error(
                "port", f"{server.port} is in use by {owner or 'another program'}",
                "stop it, or choose another port",
            )  # fmt: skip
        case errno.EACCES | errno.EPERM:
            return error(
                "port", f"{server.port} is not for this user",
                "choose one from 1024 up, or grant CAP_NET_BIND_SERVICE",
            )  # fmt: skip
        case errno.EADDRNOTAVAIL:
            return error(
                "port", f"{server.host} is no address of this machine",
                "change host in the configuration (ip address lists what there is)",
            )  # fmt: skip
    return error("port", f"{server.host} port {server.port}: {failure.strerror}", "change host")


def owner_of_port(port: int, root: Path = Path("/")) -> str:
    """Who listens there, such as "nginx (pid 17)"; "" where that is not for this user to see."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        for line in _lines(root / "proc/net" / name)[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in (root / "proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # of another user, or gone
            if any(os.readlink(file) in inodes for file in (process / "fd").iterdir()):
                name = "".join(_lines(process / "comm"))
                return name if name == "systemd" else f"{name} (pid {process.name})"
    return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _served(config: Config) -> str:
    """What a fmedge at the configured address serves; "" where none answers in time."""
    url = server_url(config)
    api = Api(url, connect_timeout_s=ASK_TIMEOUT_S, read_timeout_s=ASK_TIMEOUT_S)
    try:
        _, body = api.get("/health")
    except ApiError:
        return ""
    if not isinstance(body, dict) or not isinstance(body.get("models"), dict):
        return ""
    return ", ".join(f"{name} {state}" for name, state in body["models"].items()) or "no model"


def _check_socket(config: Config, path: Path) -> Finding:
    check = "socket"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        return error(
            check, f"{path}: a path of more than {_MAX_SOCKET_PATH} bytes cannot be listened on",
            "choose a shorter unix_socket",
        )  # fmt: skip
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            return error(check, f"there is no folder {path.parent}", f"mkdir -p {path.parent}")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            return error(
                check, f"{path.parent} cannot be written by this user",
                "choose another unix_socket, or change the folder's owner",
            )  # fmt: skip
        return ok(check, f"{path} is free")
    except OSError as failure:
        return error(check, f"{path}: {failure.strerror}", "change the owner of its folder")
    if not stat.S_ISSOCK(mode):
        return error(check, f"{path} exists and is no socket", "choose another unix_socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ASK_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return ok(check, f"{path} was left behind; the next start removes it")
        except OSError as failure:
            reason = failure.strerror or str(failure)
            return error(check, f"{path}: {reason}", "stop who listens there, or remove it")
    if answer := _served(config):
        return ok(check, f"a fmedge serves on {path}: {answer}")
    return error(check, f"{path} is in use by another program", "choose another unix_socket")


def check_proxies(config: Config, around: Surroundings) -> Iterator[Finding]:
    """Most HTTP clients send everything to a proxy, requests to this very machine too."""
    if not around.proxies:
        yield ok("proxy", "none in the environment")
        return
    names = ", ".join(around.proxies)
    wanted = ["127.0.0.1", "localhost"]
    if config.server.host not in ("", "0.0.0.0", "::", *wanted):  # noqa: S104 - compared alone
        wanted.append(config.server.host)
    missing = [] if "*" in around.no_proxy else [h for h in wanted if h not in around.no_proxy]
    if missing and not config.server.unix_socket:
        yield warning(
            "proxy",
            f"{names} set, and NO_PROXY lacks {', '.join(missing)}: clients such as openai's send "
            "requests for this server to the proxy (fmedge's own commands never do)",
            f"export NO_PROXY={','.join(dict.fromkeys([*around.no_proxy, *wanted]))}",
        )
    else:
        yield ok("proxy", f"{names} set, but not for this server: fmedge pull goes through it")
