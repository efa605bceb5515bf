"""The listening sockets: bound before anything else starts, so that a port in use costs nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from fmedge.config import ServerConfig
from fmedge.errors import ConfigError, FmedgeError

BACKLOG = 1024
PROBE_TIMEOUT_S = 1.0


def listen(config: ServerConfig) -> list[socket.socket]:
    """One socket for each address of the host, or the one Unix socket."""
    if config.unix_socket:
        return [_listen_unix(Path(config.unix_socket))]
    try:
        found = socket.getaddrinfo(
            config.host or None, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on host {config.host!r}: {reason}") from error
    opened: list[socket.socket] = []
    port = config.port
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # all addresses share the port that the first was given
            sock.bind((address[0], port, *address[2:]))
            sock.listen(BACKLOG)
            sock.setblocking(False)
            port = sock.getsockname()[1]
    except OSError as error:
        for sock in opened:
            sock.close()
        raise _explained(error, config.host, port) from error
    return opened


def _explained(error: OSError, host: str, port: int) -> FmedgeError:
    match error.errno:
        case errno.EADDRINUSE:
            return FmedgeError(
                f"port {port} on {host} is in use by another program: stop it, or choose another "
                "port with --port (0 takes a free one)"
            )
        case errno.EACCES | errno.EPERM:
            return FmedgeError(
                f"no permission to listen on port {port}: choose one from 1024 up with --port, or "
                "grant CAP_NET_BIND_SERVICE"
            )
        case errno.EADDRNOTAVAIL:
            return FmedgeError(f"{host} is no address of this machine: change --host")
    return FmedgeError(f"cannot listen on {host} port {port}: {error.strerror}")


def _listen_unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except (OSError, ValueError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise FmedgeError(f"cannot listen on {path}: {reason}") from error
    except FmedgeError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _remove_stale(path: Path) -> None:
    """A socket that a killed server left behind is in the way; one that answers is in use."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FmedgeError(f"{path} exists and is no socket: choose another --unix-socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FmedgeError(f"{path} is in use by another server")


def close(sockets: list[socket.socket], config: ServerConfig) -> None:
    """Closes them; a Unix socket's file goes too."""
    for sock in sockets:
        sock.close()
    if config.unix_socket:
        with contextlib.suppress(OSError):
            os.unlink(config.unix_socket)


def url(sockets: list[socket.socket], config: ServerConfig) -> str:
    """Where clients reach it."""
    if config.unix_socket:
        return f"unix:{config.unix_socket}"
    address = sockets[0].getsockname()
    # the name that was asked for, which a certificate may be for
    host = config.host or address[0]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if config.tls_cert else 'http'}://{host}:{address[1]}"
