"""What `fmedge doctor` says of the configuration's files and fmedge's own folders."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest

from fmedge.cli.checks import system
from fmedge.cli.checks.certificates import check_certificate
from fmedge.cli.checks.files import (
    check_config_file,
    check_kernels,
    check_keys,
    check_space,
    check_state,
    lock_holder,
)
from fmedge.config import ServerConfig, load_config
from fmedge.config.places import kernel_folders
from fmedge.server.access import tls_context
from fmedge.server.state import LOCK_NAME, StateStore
from tests.cli.findings import configured, only, said
from tests.server.test_access import make_certificate

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


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
    fits, soon = said(check_keys(tls))  # it is made for two days
    assert (fits[1], soon[1], "expires in 2 days" in soon[2]) == ("ok", "warning", True)
    os.chmod(key, 0o644)
    assert said(check_keys(tls))[0][1] == "warning"
    assert only(check_keys(configured(tls_cert=key, tls_key=cert)))[0] == "error"


def test_certificates_over_time(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    context = tls_context(ServerConfig(tls_cert=cert, tls_key=key))
    assert context is not None
    month_s = 30 * 86_400.0
    status, text = only(check_certificate(context, cert, time.time() - month_s))
    assert (status, f"{cert} holds until" in text) == ("ok", True)


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    """Made by openssl's own small authority, which takes dates."""
    cert, key = make_certificate(tmp_path)
    asked = tmp_path / "request.pem"
    (tmp_path / "index").touch()
    (tmp_path / "openssl.cnf").write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={tmp_path}/index\nnew_certs_dir={tmp_path}\n"
        "default_md=sha256\npolicy=any\nrand_serial=yes\n[any]\ncommonName=supplied\n"
    )
    request = ["openssl", "req", "-new", "-key", key, "-subj", "/CN=old", "-out", str(asked)]
    sign = ["openssl", "ca", "-batch", "-config", str(tmp_path / "openssl.cnf"), "-selfsign",
            "-keyfile", key, "-in", str(asked), "-out", cert, "-notext",
            "-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]  # fmt: skip
    for command in (request, sign):
        subprocess.run(command, check=True, capture_output=True)
    found = said(check_keys(configured(tls_cert=cert, tls_key=key)))
    assert found[-1][:2] == ("tls", "error")
    assert "has expired: clients refuse it" in found[-1][2]


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
