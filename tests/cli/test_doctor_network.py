"""What `fmedge doctor` says of ports, sockets and proxies."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from fmedge.cli.checks.network import check_address, check_proxies, owner_of_port
from fmedge.config.surroundings import Surroundings, surroundings
from tests.cli.fake_openai import FakeServer, document
from tests.cli.findings import configured, only, said


async def test_a_port_that_a_fmedge_has() -> None:
    body = {"status": "loading", "models": {"m": "loading"}}
    async with FakeServer(lambda *_: [document(503, body)]).running() as server:
        port = server.url.rpartition(":")[2]
        found = await asyncio.to_thread(lambda: list(check_address(configured(port=port))))
    assert only(found) == ("ok", f"a fmedge serves on port {port}: m loading -> ")


async def test_a_port_that_another_program_has() -> None:
    async with FakeServer(lambda *_: [document(200, {"status": "ok"})]).running() as server:
        port = int(server.url.rpartition(":")[2])
        found = await asyncio.to_thread(lambda: list(check_address(configured(port=port))))
        assert f"(pid {os.getpid()})" in owner_of_port(port)
    status, text = only(found)
    assert status == "error"
    assert f"(pid {os.getpid()}) -> stop it, or choose another port" in text


def test_a_port_whose_owner_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmedge.cli.checks.network.ASK_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert only(check_address(configured(port=mute.getsockname()[1])))[0] == "error"


def test_ports_and_hosts() -> None:
    with (
        socket.socket() as held
    ):  # bound but not listening: nobody else is given the port meanwhile
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        assert only(check_address(configured(port=port))) == ("ok", f"{port} is free -> ")
        first, second = said(check_address(configured(port=port, host="203.0.113.7")))
    assert (first[1], "no address of this machine" in first[2]) == ("error", True)
    assert (second[0], second[1]) == ("access", "warning")
    assert only(check_address(configured(port=0)))[0] == "ok"


def test_a_port_for_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    status, text = only(check_address(configured(port=80)))
    assert (status, "CAP_NET_BIND_SERVICE" in text) == ("error", True)


def test_systemd_listens_for_us(tmp_path: Path) -> None:
    """As /proc of such a machine shows it."""
    (tmp_path / "proc/net").mkdir(parents=True)
    row = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 777 1"
    (tmp_path / "proc/net/tcp").write_text(f"  sl  local_address ...\n{row}\n")
    (tmp_path / "proc/1/fd").mkdir(parents=True)
    (tmp_path / "proc/1/comm").write_text("systemd\n")
    (tmp_path / "proc/1/fd/5").symlink_to("socket:[777]")
    assert owner_of_port(8080, tmp_path) == "systemd"
    assert owner_of_port(8081, tmp_path) == ""


def test_unix_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # its own path may be too long for a socket

    def check(path: str) -> tuple[str, str]:
        return only(check_address(configured(unix_socket=path)))

    assert check("s") == ("ok", "s is free -> ")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("s")
        sock.listen()
        monkeypatch.setattr("fmedge.cli.checks.network.ASK_TIMEOUT_S", 0.1)
        assert check("s")[0] == "error"
    assert check("s") == ("ok", "s was left behind; the next start removes it -> ")
    assert Path("s").exists()
    Path("f").touch()
    assert "exists and is no socket" in check("f")[1]
    assert "there is no folder none -> mkdir -p none" in check("none/s")[1]
    assert "cannot be listened on" in check("x" * 108)[1]


@pytest.mark.parametrize(
    ("proxies", "no_proxy", "host", "status"),
    [
        ((), (), "127.0.0.1", "ok"),
        (("http_proxy",), (), "127.0.0.1", "warning"),
        (("http_proxy",), ("localhost",), "127.0.0.1", "warning"),
        (("http_proxy",), ("127.0.0.1", "localhost"), "127.0.0.1", "ok"),
        (("http_proxy",), ("127.0.0.1", "localhost"), "0.0.0.0", "ok"),
        (("http_proxy",), ("127.0.0.1", "localhost"), "192.0.2.1", "warning"),
        (("http_proxy",), ("*",), "192.0.2.1", "ok"),
    ],
)
def test_proxies(
    proxies: tuple[str, ...], no_proxy: tuple[str, ...], host: str, status: str
) -> None:
    around = Surroundings(proxies=proxies, no_proxy=no_proxy)
    found = only(check_proxies(configured(host=host), around))
    assert found[0] == status
    if status == "warning":
        assert f"export NO_PROXY={','.join(dict.fromkeys([*no_proxy, '127.0.0.1']))}" in found[1]


def test_surroundings_tell_no_password() -> None:
    env = {"HTTPS_PROXY": "http://me:secret@proxy", "no_proxy": " a, b,a", "LANG": "de_DE",
           "LC_ALL": ""}  # fmt: skip
    found = surroundings(env)
    assert found == Surroundings(proxies=("HTTPS_PROXY",), no_proxy=("a", "b"), locale="LANG=de_DE")
    assert "secret" not in repr(found)
