"""The listening sockets: bound before anything else starts, so that a port in use costs nothing; or
taken over from the service manager, which then decides where, and keeps them open without us."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from fmedge.config import ServerConfig
from fmedge.errors import ConfigError, FmedgeError

BACKLOG = 1024
PROBE_TIMEOUT_S = 1.0

log = logging.getLogger(__name__)


class Listening(Struct, frozen=True):
    """Where one server listens. path: of the Unix socket that is ours to remove, or "". is_passed:
    the sockets stay open without us."""

    sockets: tuple[socket.socket, ...]
    urls: tuple[str, ...]
    path: str = ""
    is_passed: bool = False

    @property
    def url(self) -> str:
        """Where clients reach it, for people."""
        return " and ".join(self.urls)

    def close(self) -> None:
        """Closes them; a Unix socket's file goes too, if we made it."""
        for sock in self.sockets:
            sock.close()
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def listen(config: ServerConfig, passed: Sequence[tuple[int, str]] = ()) -> Listening:
    """On the sockets that were passed (descriptors with their names, see `config.service`); else on
    one for each address of the host, or on the one Unix socket."""
    if passed:
        sockets = [_adopt(fd, name) for fd, name in passed]
        urls = tuple(_url(sock, config) for sock in sockets)
        log.info("listening where the service manager does: %s; host, port and unix_socket do not "
                 "count", " and ".join(urls))  # fmt: skip
        listening = Listening(tuple(sockets), urls, is_passed=True)
    elif config.unix_socket:
        sock = _listen_unix(Path(config.unix_socket))
        listening = Listening((sock,), (_url(sock, config),), config.unix_socket)
    else:
        sockets = _listen_tcp(config)
        # the name that was asked for, which a certificate may be for
        listening = Listening(tuple(sockets), (_url(sockets[0], config, config.host),))
    if not config.api_key_file:
        _warn_if_open(listening.sockets)
    return listening


def _adopt(fd: int, name: str) -> socket.socket:
    """A socket that the service manager opened. FmedgeError for what no requests can come from."""
    where = f"socket {name!r} (descriptor {fd}) of the service manager"
    try:
        os.set_inheritable(fd, False)
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise FmedgeError(f"{where} is no socket: use ListenStream= alone")
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise FmedgeError(f"{where} cannot be used: {error.strerror}") from error
    wrong = ""
    if sock.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        wrong = f"is of family {sock.family}: use ListenStream= with a port, an address or a path"
    elif sock.type != socket.SOCK_STREAM:
        wrong = "takes no streams: use ListenStream="
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        wrong = "is a connection, not a listening socket: use Accept=no"
    if wrong:
        sock.detach()  # it is not ours to close
        raise FmedgeError(f"{where} {wrong}")
    sock.setblocking(False)
    return sock


def _warn_if_open(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            continue
        address = sock.getsockname()[0]
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            log.warning("anyone who reaches %s may use this server: set an --api-key-file", address)


def _listen_tcp(config: ServerConfig) -> list[socket.socket]:
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


def _url(sock: socket.socket, config: ServerConfig, host: str = "") -> str:
    """Where clients reach it, by this name of the machine if there is one."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        if isinstance(address, bytes):  # of the abstract namespace
            address = "@" + os.fsdecode(address[1:])
        return f"unix:{address}"
    host = host or address[0]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if config.tls_cert else 'http'}://{host}:{address[1]}"
