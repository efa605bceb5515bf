"""Where compiled kernels are kept, and that they are compiled once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fmedge.sched import kernels


def test_kernels_are_kept_where_numba_cache_dir_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "n"))
    folder = kernels.cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "n"


def test_a_package_that_is_read_only_keeps_them_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    in_package = kernels.cache_folder()
    assert in_package is not None
    assert in_package.parent.name == "__pycache__"
    closed = tmp_path / "package"
    closed.write_text("where a folder should be")
    monkeypatch.setattr(kernels, "__file__", str(closed / "kernels.py"))
    monkeypatch.setattr(kernels, "_digest", lambda: in_package.name.removeprefix("kernels-"))
    in_users = kernels.cache_folder()
    assert in_users == tmp_path / "cache" / "fmedge" / in_package.name
    monkeypatch.setenv("XDG_CACHE_HOME", str(closed))
    assert kernels.cache_folder() is None


def test_other_sources_go_into_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = kernels._digest()
    other = tmp_path / "replay.py"
    other.write_text("x = 1\n")
    monkeypatch.setattr(kernels.replay, "__file__", str(other))
    assert kernels._digest() != before


def test_compiled_kernels_are_loaded_by_the_next_process() -> None:
    assert kernels.warm() > 0
    code = "from fmedge.sched import kernels as k; print(sum(k.run.stats.cache_hits.values()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_nothing_else_of_sched_imports_numba() -> None:
    code = (
        "import sys, fmedge.sched.fleet, fmedge.sched.estimate, fmedge.sched.steps;"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
