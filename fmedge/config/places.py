"""Where fmedge keeps its own files: under $XDG_STATE_HOME, else ~/.local/state."""

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
