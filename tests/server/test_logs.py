"""Log lines: what each format makes of a record, and which one is chosen."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import IO

import pytest

from fmedge.config import ServerConfig
from fmedge.server import logs


@pytest.fixture
def restored():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    asyncio_level = logging.getLogger("asyncio").level
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)


def written(monkeypatch: pytest.MonkeyPatch, out: IO[str], chosen: str) -> list[str]:
    """What a warning and an error of three lines come out as."""
    monkeypatch.setattr(sys, "stderr", out)
    logs.set_up(ServerConfig(log_format=chosen, log_level="debug"))  # type: ignore[arg-type]
    log = logging.getLogger("fmedge.x")
    log.debug("small")
    log.warning("careful")
    log.error("one\ntwo\nthree")
    log.critical("gone")
    out.flush()
    return Path(out.name).read_text().splitlines()


def test_the_journal_gets_priorities(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restored: None
) -> None:
    with (tmp_path / "stderr").open("w") as out:
        lines = written(monkeypatch, out, "journal")
    assert lines == [
        "<7>fmedge.x: small",
        "<4>fmedge.x: careful",
        "<3>fmedge.x: one",
        "<3>two",
        "<3>three",
        "<2>fmedge.x: gone",
    ]


@pytest.mark.parametrize("is_journal", [False, True])
def test_auto_is_the_journal_where_stderr_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restored: None, is_journal: bool
) -> None:
    with (tmp_path / "stderr").open("w") as out:
        status = os.fstat(out.fileno())
        inode = status.st_ino if is_journal else status.st_ino + 1
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{inode}")
        lines = written(monkeypatch, out, "auto")
    assert lines[1].startswith("<4>") is is_journal
    assert lines[1].endswith("fmedge.x: careful")


def test_json_is_not_touched_by_the_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restored: None
) -> None:
    with (tmp_path / "stderr").open("w") as out:
        status = os.fstat(out.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        lines = written(monkeypatch, out, "json")
    assert [json.loads(line)["level"] for line in lines] == [
        "debug", "warning", "error", "critical",
    ]  # fmt: skip
