"""How plain functions become compiled ones, and where those are kept.

The rule: compiled code is kept in a folder named after the sources that went into it, so that it
can never be older than they are. Nothing else is asked of the folder: it may have been filled
somewhere else (the single binary brings it along), and need not be writable then.
"""

from __future__ import annotations

import platform
import tempfile
import threading
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba import njit

from fmedge import children
from fmedge.config.places import kernel_folders

_config = threading.Lock()
"""numba's settings are the process's, and rooms may compile in threads of their own."""

_COMMON_CPUS = {"x86_64": "x86-64-v2", "AMD64": "x86-64-v2"}
"""What the binary's kernels are compiled for: numpy needs as much. They hold no loops that wider
instructions would make faster."""


def digest(files: Iterable[Path]) -> str:
    """Of everything that is compiled, and of what compiles it."""
    found = sha256(numba.__version__.encode())
    for file in (*files, Path(__file__)):
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


class Kept:
    """What numba asks of a cache's place, for functions whose folder says it all."""

    def __init__(self, function: Any, file: str) -> None:
        config: Any = numba.config
        self._folder = str(config.CACHE_DIR)
        self._line = str(function.__code__.co_firstlineno)
        self._py_file = file

    @classmethod
    def from_function(cls, function: Any, file: str) -> Kept:
        return cls(function, file)

    def ensure_cache_path(self) -> None:
        Path(self._folder).mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return self._folder

    def get_source_stamp(self) -> str:
        return ""  # the folder's name is

    def get_disambiguator(self) -> str:
        return self._line


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folder(package: Path, name: str) -> Path | None:
    """Where compiled kernels are kept: the first of kernel_folders that is writable; None if none
    is. In the binary the package's own, which was filled when that was built."""
    if children.is_binary():
        return package / "__pycache__" / name
    return next((c / name for c in kernel_folders(package) if _is_writable(c / name)), None)


def compiled(signature: Any, body: Callable[..., Any], folder: Path | None) -> Callable[..., Any]:
    """`body` for one signature, kept in `folder` if there is one and it can be."""
    # numba takes these from its settings alone: the folder when a function is decorated; and no
    # vectorising, since there is nothing to vectorise and looking for it took half the time
    settings = {
        "CACHE_DIR": str(folder or ""),
        "CACHE_LOCATOR_CLASSES": f"{__name__}.{Kept.__name__}",
        "LOOP_VECTORIZE": 0,
        "SLP_VECTORIZE": 0,
    }
    if children.is_binary():  # the code was compiled where the binary was built
        cpu = _COMMON_CPUS.get(platform.machine(), "generic")
        settings |= {"CPU_NAME": cpu, "CPU_FEATURES": ""}
    with _config:
        before = {name: getattr(numba.config, name) for name in settings}
        _set(settings)
        try:
            return _compiled(signature, body, is_kept=folder is not None)
        except OSError:  # a full disk, say: this process compiles for itself alone
            return _compiled(signature, body, is_kept=False)
        finally:
            _set(before)


def _compiled(signature: Any, body: Callable[..., Any], *, is_kept: bool) -> Callable[..., Any]:
    made: Callable[..., Any] = njit(signature, error_model="numpy", cache=is_kept)(body)
    return made


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        setattr(numba.config, name, value)
