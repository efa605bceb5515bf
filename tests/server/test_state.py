"""The state store: whole files or none, one writer, and no fault that stops a server."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from fmedge.server import state
from fmedge.server.state import LOCK_NAME, StateStore


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_what_is_saved_is_loaded_by_the_next_server(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    first = StateStore(folder)
    first.open()
    assert first.load("lengths") is None
    assert first.save("lengths", b"one")
    assert first.save("lengths", b"two")
    assert first.load("lengths") == b"two"
    first.close()
    second = StateStore(folder)
    assert second.load("lengths") == b"two"
    assert second.save("lengths", b"three")
    second.close()
    assert sorted(p.name for p in folder.iterdir()) == ["lengths", LOCK_NAME]
    assert (folder.stat().st_mode & 0o777, (folder / "lengths").stat().st_mode & 0o777) == (
        0o700, 0o600,
    )  # fmt: skip


def test_two_servers_on_one_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, second = StateStore(tmp_path), StateStore(tmp_path)
    first.open()
    second.open()
    assert first.save("a", b"first")
    assert not second.save("a", b"second")
    assert not second.save("a", b"second")
    assert second.load("a") == b"first"
    assert (first.is_kept, second.is_kept) == (True, False)
    assert len(warnings(caplog)) == 1
    assert "another server" in warnings(caplog)[0]
    first.close()
    assert second.save("a", b"second")  # the first has ended
    assert first.load("a") == b"second"
    assert not first.save("a", b"late")
    assert "kept there from now on" in caplog.text
    second.close()
    second.close()


def test_a_server_for_one_command_only_reads(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    reader = StateStore(folder, is_writer=False)
    reader.open()
    assert not reader.save("a", b"x")
    assert not folder.exists()
    with_state = StateStore(folder)
    assert with_state.save("a", b"x")
    assert reader.load("a") == b"x"
    with_state.close()


def test_no_place_for_state(caplog: pytest.LogCaptureFixture) -> None:
    store = StateStore(None)
    store.open()
    assert store.load("a") is None
    assert not store.save("a", b"x")
    assert [m for m in warnings(caplog) if "--state-dir" in m] == warnings(caplog) != []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_or_failing_disk_keeps_the_old_and_is_logged_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    caplog.set_level(logging.INFO)
    store = StateStore(tmp_path)
    assert store.save("a", b"old")

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(state.os, "fsync", failing)
        assert not store.save("a", b"new")
        assert not store.save("b", b"new")
        assert not store.is_kept
    assert store.load("a") == b"old"
    assert store.load("b") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", LOCK_NAME]
    assert len(warnings(caplog)) == 1
    assert os.strerror(number) in warnings(caplog)[0]
    assert store.save("a", b"new")
    assert store.is_kept
    assert "kept again" in caplog.text
    store.close()


def test_what_a_crash_left_beside_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".a.new").write_bytes(b"half")
    store = StateStore(tmp_path)
    assert store.load("a") is None
    assert store.save("a", b"whole")
    assert store.load("a") == b"whole"
    assert not (tmp_path / ".a.new").exists()
    store.close()


def test_a_folder_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        caplog.clear()
        store = StateStore(folder)
        store.open()
        assert not store.save("a", b"x")
        assert store.load("a") is None
        assert 1 <= len(warnings(caplog)) <= 2
        assert str(folder) in warnings(caplog)[0]


def test_a_folder_of_another_user_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore(tmp_path)
    assert store.save("a", b"x")
    store.close()
    monkeypatch.setattr(state.os, "geteuid", lambda: os.getuid() + 1)
    os.chown(tmp_path, os.getuid() or 12345, -1)
    other = StateStore(tmp_path)
    other.open()
    assert other.load("a") is None
    assert not other.save("a", b"y")
    assert len(warnings(caplog)) == 1
    assert "belongs to another user" in warnings(caplog)[0]


def test_a_folder_where_everybody_writes_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(b"planted")
    tmp_path.chmod(0o777)
    store = StateStore(tmp_path)
    store.open()
    assert store.load("a") is None
    assert not store.save("a", b"y")
    assert len(warnings(caplog)) == 1
    assert f"chmod o-w {tmp_path}" in warnings(caplog)[0]


def test_things_that_are_no_files_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_bytes(b"x" * 11)
    monkeypatch.setattr(state, "MAX_FILE_BYTES", 10)
    store = StateStore(tmp_path)
    for name in ("pipe", "folder", "long", "pipe"):
        assert store.load(name) is None
    assert len(warnings(caplog)) == 3
    assert not store.save("b", b"x" * 11)
    store.close()


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "A", "a" * 65, LOCK_NAME, "a\n"])
def test_names_stay_within_the_folder(tmp_path: Path, name: str) -> None:
    store = StateStore(tmp_path)
    for use in (lambda: store.load(name), lambda: store.save(name, b"")):
        with pytest.raises(ValueError, match="no name for a state file"):
            use()


def test_saving_from_several_threads(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(store.save("a", bytes([i]) * 1000)))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [True] * 8
    loaded = store.load("a")
    assert loaded is not None
    assert loaded == loaded[:1] * 1000
    store.close()
