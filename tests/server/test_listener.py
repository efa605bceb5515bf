"""The listening sockets: bound at once, or a message that says what to do."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fmedge.config import ServerConfig
from fmedge.errors import FmedgeError
from fmedge.server import listener


def test_a_free_port_is_the_same_on_every_address() -> None:
    config = ServerConfig(host="localhost", port=0)
    with contextlib.closing(listener.listen(config)) as listening:
        ports = {sock.getsockname()[1] for sock in listening.sockets}
        assert len(ports) == 1
        assert listening.url == f"http://localhost:{ports.pop()}"


def test_tls_shows_in_the_url() -> None:
    config = ServerConfig(port=0, tls_cert="c", tls_key="k")
    with contextlib.closing(listener.listen(config)) as listening:
        assert listening.url.startswith("https://127.0.0.1:")


def test_port_in_use() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(FmedgeError, match=f"port {port} on 127.0.0.1 is in use.*--port"):
            listener.listen(ServerConfig(port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 300])
def test_hosts_that_are_not_ours(host: str) -> None:
    with pytest.raises(FmedgeError, match=r"no address of this machine|cannot listen on host"):
        listener.listen(ServerConfig(host=host, port=0))


def test_unix_socket_and_its_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    config = ServerConfig(unix_socket=str(path))
    first = listener.listen(config)
    assert first.url == f"unix:{path}"
    with pytest.raises(FmedgeError, match="in use by another server"):
        listener.listen(config)
    first.sockets[0].close()  # as a killed server does: the file stays
    assert path.exists()
    second = listener.listen(config)
    second.close()
    assert not path.exists()


def test_unix_socket_in_the_way_of_something(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("precious")
    with pytest.raises(FmedgeError, match="is no socket"):
        listener.listen(ServerConfig(unix_socket=str(file)))
    assert file.read_text() == "precious"
    for bad in (tmp_path / "no" / "s", tmp_path / ("x" * 200)):
        with pytest.raises(FmedgeError, match="cannot listen on"):
            listener.listen(ServerConfig(unix_socket=str(bad)))


@pytest.mark.parametrize(
    ("host", "key_file", "is_warned"),
    [
        ("127.0.0.1", "", False),
        ("localhost", "", False),
        ("0.0.0.0", "", True),
        ("", "", True),
        ("0.0.0.0", "keys", False),
    ],
)
def test_an_open_server_is_warned_of(
    host: str, key_file: str, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = ServerConfig(host=host, port=0, api_key_file=key_file)
    with caplog.at_level(logging.WARNING), contextlib.closing(listener.listen(config)):
        assert ("--api-key-file" in caplog.text) is is_warned


def test_passed_sockets_are_taken_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s"
    with socket.create_server(("0.0.0.0", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        passed = [(os.dup(tcp.fileno()), "web"), (os.dup(unix.fileno()), "local")]
        config = ServerConfig(port=9, unix_socket="/nowhere", tls_cert="c", tls_key="k")
        listening = listener.listen(config, passed)
        port = tcp.getsockname()[1]
        assert listening.url == f"https://0.0.0.0:{port} and unix:{path}"
        assert "anyone who reaches 0.0.0.0" in caplog.text
        assert not any(os.get_inheritable(fd) for fd, _ in passed)
        listening.close()
        assert path.exists()  # it is the service manager's
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def datagram() -> int:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock.detach()


def connection() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (datagram, "takes no streams: use ListenStream="),
        (connection, "not a listening socket: use Accept=no"),
        (lambda: os.open(os.devnull, os.O_RDONLY), "is no socket: use ListenStream="),
        (lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach(), "is of family"),
    ],
)
def test_passed_sockets_that_cannot_be_used(make: Callable[[], int], words: str) -> None:
    fd = make()
    try:
        with pytest.raises(FmedgeError, match=rf"socket 'web' \(descriptor {fd}\).*{words}"):
            listener.listen(ServerConfig(), [(fd, "web")])
        os.fstat(fd)  # still open: it is not ours
    finally:
        os.close(fd)


def test_a_passed_socket_that_is_not_there() -> None:
    with pytest.raises(FmedgeError, match=r"'web' .* cannot be used: Bad file descriptor"):
        listener.listen(ServerConfig(), [(1 << 20, "web")])


def test_a_passed_socket_without_a_file() -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("")  # the kernel chooses a name
        made.listen()
        name = made.getsockname()[1:].decode()
        passed = [(os.dup(made.fileno()), "x")]
        with contextlib.closing(listener.listen(ServerConfig(), passed)) as listening:
            assert listening.url == f"unix:@{name}"
