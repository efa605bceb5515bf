"""Where fmedge keeps its own files: what is learned under $XDG_STATE_HOME, else ~/.local/state;
compiled kernels beside their sources, else under $XDG_CACHE_HOME, else ~/.cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def history_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where `fmedge run` keeps what was typed: $XDG_STATE_HOME/fmedge/history. Without any place
    for it, a path that cannot be written."""
    return (state_dir("", environ) or Path(os.devnull)) / "history"


def state_dir(configured: str = "", environ: Mapping[str, str] | None = None) -> Path | None:
    """What is learned lies here: `configured` ([server] state_dir), else $XDG_STATE_HOME/fmedge.
    None where nothing names a place: no XDG_STATE_HOME and no home folder."""
    env = os.environ if environ is None else environ
    base = env.get("XDG_STATE_HOME", "")
    try:
        if configured:
            return Path(configured).expanduser().absolute()
        if os.path.isabs(base):  # the specification: a relative one is to be ignored
            return Path(base) / "fmedge"
        return Path.home() / ".local" / "state" / "fmedge"
    except RuntimeError:
        return None


def kernel_folders(package: Path, environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Compiled kernels of `package` lie in the first of these that can be written to:
    $NUMBA_CACHE_DIR if set, else its __pycache__ and the user's cache folder."""
    env = os.environ if environ is None else environ
    if env.get("NUMBA_CACHE_DIR"):
        return (Path(env["NUMBA_CACHE_DIR"]),)
    base = env.get("XDG_CACHE_HOME", "")
    try:
        user = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        return (package / "__pycache__",)
    return package / "__pycache__", user / "fmedge"
