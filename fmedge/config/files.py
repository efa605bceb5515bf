"""Reads a TOML file whole, or says in one line why it cannot be read."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from fmedge.errors import ConfigError

MAX_FILE_BYTES = 4 << 20


def read_toml(path: Path, what: str = "config file") -> dict[str, Any]:
    """Its top table. ConfigError with the path in it; what: the file's name in that message."""
    try:
        # Opened without waiting: a pipe that nobody writes to would keep us here for ever.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            os.set_blocking(file.fileno(), True)
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the {what}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: too large for a {what} (more than {MAX_FILE_BYTES >> 20} MiB)")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers and nestings beyond all sense
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
