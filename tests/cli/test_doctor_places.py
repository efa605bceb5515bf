"""What `fmedge doctor` says of files, folders, addresses, models, the clock and the service."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli.checks import system
from fmedge.cli.checks.files import (
    check_config_file,
    check_kernels,
    check_keys,
    check_space,
    check_state,
    lock_holder,
)
from fmedge.cli.checks.finding import Finding
from fmedge.cli.checks.models import check_models, largest_bytes
from fmedge.cli.checks.native import Build
from fmedge.cli.checks.network import check_address, check_proxies, owner_of_port
from fmedge.config import Config, load_config
from fmedge.config.places import kernel_folders
from fmedge.config.surroundings import Surroundings, surroundings
from fmedge.server.state import LOCK_NAME, StateStore
from tests.cli.fake_openai import FakeServer, document
from tests.server.test_access import make_certificate
from tests.synthetic import cached

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def said(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(f.check, f.status, f"{f.found} -> {f.advice}") for f in findings]


def only(findings: Iterable[Finding]) -> tuple[str, str]:
    """Status and text, where there is one finding."""
    ((_, status, text),) = said(findings)
    return status, text


def configured(**env: Any) -> Config:
    return load_config(environ={f"FMEDGE_{key.upper()}": str(v) for key, v in env.items()})


# --- files and folders ---


def test_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "fmedge.toml"
    file.write_text("[server]\nport = 1\n")
    file.chmod(0o644)
    assert only(check_config_file(load_config(str(file), environ={}), "", []))[0] == "ok"
    file.chmod(0o646)
    status, text = only(check_config_file(load_config(str(file), environ={}), "", []))
    assert (status, f"chmod o-w {file}" in text) == ("error", True)
    file.chmod(0o644)
    file.write_text("[client]\napi_key = 'k'\n")
    status, text = only(check_config_file(load_config(str(file), environ={}), "", []))
    assert (status, f"chmod 600 {file}" in text) == ("warning", True)


@needs_root
def test_a_configuration_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "fmedge.toml"
    file.touch(0o644)
    os.chown(file, 12345, 12345)
    status, text = only(check_config_file(load_config(str(file), environ={}), "", []))
    assert (status, "belongs to another user" in text) == ("warning", True)


def test_keys_and_certificates(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    config = configured(api_key_file=keys)
    assert only(check_keys(config))[0] == "error"
    keys.write_text("sk-secret\n")
    keys.chmod(0o600)
    assert only(check_keys(config)) == ("ok", f"1 API key(s) in {keys} -> ")
    for mode, who in ((0o604, "every user"), (0o640, "the file's group")):
        keys.chmod(mode)
        status, text = only(check_keys(config))
        assert status == "warning"
        assert f"{who} may read {keys} -> chmod 600 {keys}" in text
        assert "sk-secret" not in text
    cert, key = make_certificate(tmp_path)
    tls = configured(tls_cert=cert, tls_key=key)
    assert only(check_keys(tls))[0] == "ok"
    os.chmod(key, 0o644)
    assert only(check_keys(tls))[0] == "warning"
    assert only(check_keys(configured(tls_cert=key, tls_key=cert)))[0] == "error"


def test_the_state_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    config = configured(state_dir=folder)
    assert only(check_state(config))[0] == "ok"
    assert not folder.exists()
    folder.mkdir(mode=0o700)
    assert "writable" in only(check_state(config))[1]
    assert list(folder.iterdir()) == []
    folder.chmod(0o707)
    status, text = only(check_state(config))
    assert (status, f"chmod o-w {folder}" in text) == ("warning", True)
    below = configured(state_dir=tmp_path / "file" / "state")
    (tmp_path / "file").touch()
    status, text = only(check_state(below))
    assert (status, "cannot be made" in text) == ("warning", True)


def test_a_state_folder_in_use(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    assert lock_holder(tmp_path / LOCK_NAME) == 0
    store.open()
    try:
        assert lock_holder(tmp_path / LOCK_NAME) == os.getpid()
        text = only(check_state(configured(state_dir=tmp_path)))[1]
        assert f"in use by process {os.getpid()}" in text
    finally:
        store.close()
    assert lock_holder(tmp_path / LOCK_NAME) == 0
    with open(tmp_path / LOCK_NAME) as file:  # it took no lock itself
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@needs_root
def test_a_state_folder_with_files_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "lengths").touch()
    os.chown(tmp_path / "lengths", 12345, 12345)
    (_, first), (_, second) = [
        (s, t) for _, s, t in said(check_state(configured(state_dir=tmp_path)))
    ]
    assert "writable" in first
    assert (
        f"1 file(s) of another user, such as lengths -> chown -R --reference={tmp_path}" in second
    )


def test_a_state_folder_that_is_closed_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("os.scandir", closed)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: closed())
    status, text = only(check_state(configured(state_dir=tmp_path)))
    assert (status, "Permission denied: nothing new is kept" in text) == ("warning", True)
    monkeypatch.setattr(Path, "iterdir", closed)
    assert only(system.check_clock(tmp_path, 1e9, is_set=True, built_s=0.0))[0] == "ok"


def test_places_for_compiled_kernels(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken, sound = tmp_path / "file" / "kernels", tmp_path / "kernels"
    assert only(check_kernels([broken, sound])) == ("ok", f"compiled once, kept in {sound} -> ")
    status, text = only(check_kernels([broken]))
    assert (status, "is no folder" in text, "NUMBA_CACHE_DIR" in text) == ("warning", True, True)
    package = Path("/package")
    assert kernel_folders(package, {"NUMBA_CACHE_DIR": "/n"}) == (Path("/n"),)
    folders = kernel_folders(package, {"XDG_CACHE_HOME": "/c"})
    assert folders == (package / "__pycache__", Path("/c/fmedge"))


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    assert list(check_space("state", tmp_path, 0)) == []
    status, text = only(check_space("state", tmp_path / "not" / "there", 1 << 62))
    assert (status, "GB free on the disk" in text) == ("warning", True)


# --- addresses ---


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
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert only(check_address(configured(port=port))) == ("ok", f"{port} is free -> ")
    assert only(check_address(configured(port=0)))[0] == "ok"
    first, second = said(check_address(configured(port=port, host="203.0.113.7")))
    assert (first[1], "no address of this machine" in first[2]) == ("error", True)
    assert (second[0], second[1]) == ("access", "warning")
    assert only(check_address(configured(port=port, host="::1"))) in (
        ("ok", f"{port} is free -> "),
        ("error", "::1 is no address of this machine -> change host in the configuration (ip "
         "address lists what there is)"),
    )  # fmt: skip


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


# --- models ---


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def test_models_that_are_here(hub: Path, tmp_path: Path) -> None:
    sound, torn = cached("tiny"), tmp_path / "torn.gguf"
    data = sound.read_bytes()
    torn.write_bytes(data[: len(data) - 1000])
    config = configured(model=f"{sound},{torn}")
    assert largest_bytes(config) == len(data)
    first, second, cache = said(check_models(config, Build()))
    assert (first[1], "whole by its header" in first[2]) == ("ok", True)
    assert (second[1], "fetch the file again" in second[2]) == ("error", True)
    assert (cache[0], cache[1]) == ("model cache", "ok")
    unknown = said(check_models(config, Build(problem="no llama.cpp")))
    assert [status for _, status, _ in unknown] == ["ok", "ok", "ok"]


def test_models_that_are_not_here(hub: Path) -> None:
    blobs = hub / "models--org--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x.incomplete").write_bytes(b"\0" * 3000)
    config = configured(model="hf:org/a:Q4_K_M,./gone.gguf")
    first, second, *rest = said(check_models(config, Build()))
    assert first[1] == "warning"
    assert "a start fetches it -> fmedge pull hf:org/a:Q4_K_M" in first[2]
    assert second[1] == "error"
    assert "1 download(s) broke off, 3.0 kB" in rest[-1][2]


# --- system ---


def test_the_clock(tmp_path: Path) -> None:
    (tmp_path / "learned").touch()
    os.utime(tmp_path / "learned", (1000.0, 1000.0))

    def check(now_s: float, *, is_set: bool | None = True) -> tuple[str, str]:
        return only(system.check_clock(tmp_path, now_s, is_set=is_set, built_s=900.0))

    assert check(1001.0) == ("ok", "1970-01-01 00:16:41 UTC, synchronised -> ")
    assert check(1001.0, is_set=None)[0] == "ok"
    assert check(1001.0, is_set=False)[0] == "warning"
    assert "it jumped" in check(930.0)[1]
    assert check(900.0 - 2 * 86_400)[0] == "error"
    assert system.is_synchronised() in (True, False, None)


def test_locales() -> None:
    around = Surroundings(locale="LC_ALL=C")
    assert only(system.check_locale(around, files="utf-8", output="UTF-8"))[0] == "ok"
    status, text = only(system.check_locale(around, files="utf-8", output="iso8859-1"))
    assert (status, "LC_ALL=C: file names are utf-8" in text) == ("warning", True)


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(system.check_versions())[0] == "ok"
    asked = ["numpy<1", "no-such-package>=2", 'nothing>1; extra == "dev"', "msgspec"]
    monkeypatch.setattr(system, "requires", lambda _: asked)
    wrong = said(system.check_versions(("x",)))
    assert [status for _, status, _ in wrong] == ["error", "error"]
    assert "x needs numpy<1, but " in wrong[0][2]
    assert "x needs no-such-package>=2, which is not installed" in wrong[1][2]
    monkeypatch.undo()
    assert "all in one" in only(system.check_versions(("no-such-package",)))[1]


UNIT = "Id={}\nLoadState={}\nActiveState={}\nSubState={}\nResult=exit-code\nUnitFileState=enabled\n"


@pytest.mark.parametrize(
    ("load", "active", "sub", "status", "words"),
    [
        ("loaded", "active", "running", "ok", "fmedge.service is active (running), enabled"),
        ("loaded", "inactive", "dead", "ok", "fmedge.service is inactive (dead), enabled"),
        ("loaded", "failed", "failed", "error", "exit-code -> journalctl -u fmedge.service -n 50"),
        ("loaded", "activating", "auto-restart", "error", "it ends again and again"),
        ("masked", "inactive", "dead", "error", "systemctl unmask fmedge.service"),
        ("not-found", "inactive", "dead", "ok", "no unit of fmedge here"),
    ],
)
def test_units(load: str, active: str, sub: str, status: str, words: str) -> None:
    shown = UNIT.format("fmedge.service", load, active, sub)
    shown += "\n" + UNIT.format("fmedge.socket", "not-found", "inactive", "dead")
    found = only(system.of_units(shown))
    assert found[0] == status
    assert words in found[1]


def test_a_machine_without_systemd(tmp_path: Path) -> None:
    assert only(system.check_service(1.0, tmp_path))[0] == "ok"
