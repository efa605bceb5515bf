"""API keys and TLS: every mistake is found before the port opens."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fmedge.config import ServerConfig
from fmedge.errors import ConfigError
from fmedge.server.access import read_api_keys, tls_context


def keys_of(tmp_path: Path, text: str | bytes, mode: int = 0o600) -> dict[str, str]:
    file = tmp_path / "keys"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return {key.id: key.secret for key in read_api_keys(ServerConfig(api_key_file=str(file)))}


def test_keys_with_and_without_names(tmp_path: Path) -> None:
    found = keys_of(tmp_path, "# team\nalice  sk-1\n\n  sk-2\n")
    assert found["alice"] == "sk-1"
    (other,) = found.keys() - {"alice"}
    assert found[other] == "sk-2"
    assert "sk-2" not in other


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no API key"),
        ("# only\n", "holds no API key"),
        ("a b c\n", "line 1"),
        ("ok\nk\u00e9y\n", "line 2: a key is printable ASCII"),
        ("a x\na y\n", "a second key called 'a'"),
        (b"\xff\n", "not UTF-8"),
    ],
)
def test_wrong_key_files(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        keys_of(tmp_path, text)
    assert "keys" in str(caught.value)


def test_missing_key_file() -> None:
    with pytest.raises(ConfigError, match="/nowhere: cannot read the API key file"):
        read_api_keys(ServerConfig(api_key_file="/nowhere"))


def test_readable_keys_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys_of(tmp_path, "k\n")
    assert not caplog.records
    keys_of(tmp_path, "k\n", 0o644)
    assert "chmod 600" in caplog.text


def make_certificate(folder: Path, *, password: str = "") -> tuple[str, str]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    encryption = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", *encryption],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(cert), str(key)


def test_tls(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    assert tls_context(ServerConfig()) is None
    assert tls_context(ServerConfig(tls_cert=cert, tls_key=key)) is not None
    with pytest.raises(ConfigError, match="no certificate with its key"):
        tls_context(ServerConfig(tls_cert=key, tls_key=cert))
    with pytest.raises(ConfigError, match="/nowhere"):
        tls_context(ServerConfig(tls_cert=cert, tls_key="/nowhere"))


def test_an_encrypted_tls_key(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, password="secret")
    with pytest.raises(ConfigError, match="encrypted"):
        tls_context(ServerConfig(tls_cert=cert, tls_key=key))
