"""The files of runs that a command line names."""

from __future__ import annotations

from pathlib import Path

from fmedge.errors import ConfigError


def run_files(text: str) -> list[Path]:
    """A file, several with commas between, or all .json files of a folder, by name. ConfigError
    where there are none."""
    found: list[Path] = []
    for part in text.split(","):
        path = Path(part.strip())
        if path.is_dir():
            inside = sorted(path.glob("*.json"))
            if not inside:
                raise ConfigError(f"{path}: no .json file in this folder")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ConfigError(f"{path}: no such file or folder")
    return found
