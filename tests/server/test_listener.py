"""The listening sockets: bound at once, or a message that says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fmedge.config import ServerConfig
from fmedge.errors import FmedgeError
from fmedge.server import listener


def test_a_free_port_is_the_same_on_every_address() -> None:
    config = ServerConfig(host="localhost", port=0)
    sockets = listener.listen(config)
    try:
        ports = {sock.getsockname()[1] for sock in sockets}
        assert len(ports) == 1
        assert listener.url(sockets, config) == f"http://localhost:{ports.pop()}"
    finally:
        listener.close(sockets, config)


def test_tls_shows_in_the_url() -> None:
    config = ServerConfig(port=0, tls_cert="c", tls_key="k")
    sockets = listener.listen(config)
    assert listener.url(sockets, config).startswith("https://127.0.0.1:")
    listener.close(sockets, config)


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
    assert listener.url(first, config) == f"unix:{path}"
    with pytest.raises(FmedgeError, match="in use by another server"):
        listener.listen(config)
    first[0].close()  # as a killed server does: the file stays
    assert path.exists()
    second = listener.listen(config)
    listener.close(second, config)
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
