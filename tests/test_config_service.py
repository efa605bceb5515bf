"""What a service manager says in the environment: taken once, by the process that is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fmedge.config import load_config
from fmedge.config.service import ServiceLink, credential, is_credential, is_journal, take_service
from fmedge.errors import ConfigError

ME = str(os.getpid())


def test_nothing_said() -> None:
    assert take_service({"PATH": "/bin"}) == ServiceLink()


def test_everything_is_taken_out_of_the_environment() -> None:
    env = {
        "NOTIFY_SOCKET": "@fmedge",
        "WATCHDOG_USEC": "2500000",
        "WATCHDOG_PID": ME,
        "LISTEN_FDS": "2",
        "LISTEN_PID": ME,
        "LISTEN_FDNAMES": "http:local",
        "PATH": "/bin",
    }
    assert take_service(env) == ServiceLink("@fmedge", 2.5, ((3, "http"), (4, "local")))
    assert env == {"PATH": "/bin"}


def test_a_watchdog_without_a_process_id_is_for_us() -> None:
    assert take_service({"WATCHDOG_USEC": "1000000"}).watchdog_s == 1.0


def test_sockets_without_names() -> None:
    link = take_service({"LISTEN_FDS": "1", "LISTEN_PID": ME})
    assert link.fds == ((3, "unknown"),)


@pytest.mark.parametrize(
    "env",
    [
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "0", "LISTEN_PID": ME},
        {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"},
    ],
)
def test_what_was_inherited_is_not_for_us(env: dict[str, str]) -> None:
    assert take_service(env) == ServiceLink()
    assert env == {}


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:9"}, "NOTIFY_SOCKET=vsock:2:9: expected a path"),
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC=soon: expected a number"),
        ({"WATCHDOG_USEC": "-1"}, "WATCHDOG_USEC=-1"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "1"}, "LISTEN_PID=me"),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "1e3"}, "LISTEN_FDS=1e3"),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "100000"}, "at most 256"),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, "1 names for LISTEN_FDS=2"),
    ],
)
def test_what_makes_no_sense(env: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        take_service(env)


def test_the_journal_is_known_by_its_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("wb") as stream:
        status = os.fstat(stream.fileno())
        env = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(stream.fileno(), env)
        assert not is_journal(stream.fileno(), {})
        with (tmp_path / "other").open("wb") as other:
            assert not is_journal(other.fileno(), env)
    assert not is_journal(1 << 20, env)


def test_credentials_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", f"{secrets}/")
    file = tmp_path / "fmedge.toml"
    file.write_text('[server]\napi_key_file = "${CREDENTIALS_DIRECTORY}/keys"\nrecord = "log"\n')
    server = load_config(str(file)).server
    assert server.api_key_file == str(secrets / "keys")
    assert server.record == str(tmp_path / "log")
    assert is_credential(server.api_key_file)
    assert not is_credential(server.record)
    assert not is_credential(str(secrets / "deeper" / "keys"))


@pytest.mark.parametrize("folder", ["", "relative"])
def test_credentials_without_a_service_manager(folder: str) -> None:
    with pytest.raises(ConfigError, match=r"here: .*LoadCredential="):
        credential("${CREDENTIALS_DIRECTORY}/keys", "here", {"CREDENTIALS_DIRECTORY": folder})
    assert not is_credential("/keys", {"CREDENTIALS_DIRECTORY": folder})
