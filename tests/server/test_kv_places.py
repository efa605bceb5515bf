"""Where conversations outlive their replicas."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from fmedge.config import ServerConfig
from fmedge.server.kv_places import KvPlaces


def test_shared_memory_is_used_and_left_clean(tmp_path: Path) -> None:
    with KvPlaces(ServerConfig(kv_store_mib=3), shared=tmp_path) as places:
        settings = places.settings
        assert settings is not None
        assert (settings.memory_bytes, settings.disk_bytes) == (3 << 20, 3 << 20)
        assert stat.S_IMODE(Path(settings.folder).stat().st_mode) == 0o700
        assert Path(settings.folder).parent == tmp_path
        assert places.outlives_replicas
        (Path(settings.folder) / "x").write_bytes(b"kv")
    assert not list(tmp_path.iterdir())


def test_disk_where_the_configuration_says_so(tmp_path: Path) -> None:
    server = ServerConfig(kv_store_mib=3, kv_disk_mib=5, state_dir=str(tmp_path / "state"))
    with KvPlaces(server, shared=tmp_path) as places:
        settings = places.settings
        assert settings is not None
        assert settings.folder == str(tmp_path / "state" / "kv")
        assert settings.disk_bytes == 5 << 20


def test_nothing_is_kept_where_nothing_may_be(tmp_path: Path) -> None:
    with KvPlaces(ServerConfig(kv_store_mib=0, kv_disk_mib=5), shared=tmp_path) as places:
        assert places.settings is None
        assert not places.outlives_replicas
    with KvPlaces(ServerConfig(), shared=tmp_path / "missing") as places:
        assert places.settings is not None
        assert not places.outlives_replicas


def test_what_killed_servers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphan = tmp_path / f"fmedge-kv-{os.getuid()}-{ended.pid}"
    living = tmp_path / f"fmedge-kv-{os.getuid()}-{os.getppid()}"
    other = tmp_path / f"fmedge-kv-{os.getuid() + 1}-{ended.pid}"
    for folder in (orphan, living, other):
        folder.mkdir()
    with KvPlaces(ServerConfig(), shared=tmp_path):
        assert not orphan.exists()
        assert living.exists()
        assert other.exists()
