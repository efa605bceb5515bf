"""Where compiled code is kept, and that it is found there again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numba
import pytest
from numba import f8

from fmedge.sched import compiling


def body(x: float) -> float:
    return x + 1.0


def hits_of(made: Any) -> int:
    return sum(made.stats.cache_hits.values())


def test_code_is_found_where_its_folder_was_moved(tmp_path: Path):
    first: Any = compiling.compiled(f8(f8), body, tmp_path / "there")
    assert (first(1.0), hits_of(first)) == (2.0, 0)
    shutil.move(tmp_path / "there", tmp_path / "here")
    again: Any = compiling.compiled(f8(f8), body, tmp_path / "here")
    assert (again(1.0), hits_of(again)) == (2.0, 1)
    assert not (tmp_path / "there").exists()


def test_code_that_cannot_be_kept_is_compiled_all_the_same(tmp_path: Path):
    (tmp_path / "file").touch()
    made: Any = compiling.compiled(f8(f8), body, tmp_path / "file" / "kernels")
    assert made(1.0) == 2.0


def test_numba_keeps_its_settings(tmp_path: Path):
    before = vars(numba.config).copy()
    compiling.compiled(f8(f8), body, tmp_path)
    after = vars(numba.config)
    names = ("CACHE_DIR", "CACHE_LOCATOR_CLASSES", "CPU_NAME", "LOOP_VECTORIZE")
    assert {name: after[name] for name in names} == {name: before[name] for name in names}


def test_the_binary_brings_its_code_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert compiling.cache_folder(tmp_path, "k") == tmp_path / "elsewhere" / "k"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert compiling.cache_folder(tmp_path, "k") == tmp_path / "__pycache__" / "k"
