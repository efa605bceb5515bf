"""Speeds on disk: whole or not there, and in no folder that is not ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fmedge.replica.speed import Speed
from fmedge.sched.provision.device import TypeSpeed
from fmedge.server.device_cache import NAME, STALE_S, DeviceCache, Entry

Q8_0 = TypeSpeed(quant="q8_0", bandwidth_gb_s=20.0, tflop_s=0.5)
ENTRY = Entry(what="some device", speed=Speed(types=(Q8_0,)))


def saved(folder: Path) -> bool:
    cache = DeviceCache(folder)
    cache.put("k", ENTRY)
    return cache.save()


def test_what_killed_processes_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    left, written = tmp_path / f".{NAME}.left", tmp_path / f".{NAME}.written"
    for path in (left, written):
        path.write_bytes(b"half")
    past_s = left.stat().st_mtime - STALE_S - 1
    os.utime(left, (past_s, past_s))
    assert saved(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([written.name, NAME])
    found = DeviceCache(tmp_path).get("k")
    assert found is not None
    assert found.what == ENTRY.what


def test_a_folder_where_everybody_writes_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    assert not saved(tmp_path)
    assert os.listdir(tmp_path) == []
    assert f"chmod o-w {tmp_path}" in caplog.text
