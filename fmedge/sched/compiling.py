"""How plain functions become compiled ones, and where those are kept.

The rule: compiled code is kept in a folder named after the sources that went into it, so that it
can never be older than they are.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba import njit

_config = threading.Lock()
"""numba's settings are the process's, and rooms may compile in threads of their own."""


def digest(files: Iterable[Path]) -> str:
    """Of everything that is compiled, and of what compiles it."""
    found = sha256(numba.__version__.encode())
    for file in (*files, Path(__file__)):
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folder(package: Path, name: str) -> Path | None:
    """Where compiled kernels are kept: $NUMBA_CACHE_DIR if set, else the first that is writable of
    the package's __pycache__ and the user's cache folder; None if none is."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    choices = [package / "__pycache__", user / "fmedge"]
    if os.environ.get("NUMBA_CACHE_DIR"):
        choices = [Path(os.environ["NUMBA_CACHE_DIR"])]
    return next((c / name for c in choices if _is_writable(c / name)), None)


def compiled(signature: Any, body: Callable[..., Any], folder: Path | None) -> Callable[..., Any]:
    """`body` for one signature, kept in `folder` if there is one."""
    options: dict[str, Any] = {"error_model": "numpy", "cache": folder is not None}
    # numba takes these from its settings alone: the folder when a function is decorated; and no
    # vectorising, since there is nothing to vectorise and looking for it took half the time
    config: Any = numba.config
    names = ("CACHE_DIR", "LOOP_VECTORIZE", "SLP_VECTORIZE")
    with _config:
        before = [getattr(config, name) for name in names]
        config.CACHE_DIR = str(folder or "")
        config.LOOP_VECTORIZE = config.SLP_VECTORIZE = 0
        try:
            made: Callable[..., Any] = njit(signature, **options)(body)
        finally:
            for name, value in zip(names, before, strict=True):
                setattr(config, name, value)
    return made
