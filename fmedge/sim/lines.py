"""The lines of a file that somebody else wrote: bounded in length, text, with their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fmedge.errors import ConfigError

MAX_LINE_BYTES = 16 << 20


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its number from 1, as it is read. ConfigError with the
    path for what cannot be read."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise ConfigError(
                        f"{path}: line {number}: longer than {MAX_LINE_BYTES >> 20} MiB"
                    )
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.isspace():
                    yield number, line
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the workload: {error.strerror}") from error


def bad_json(path: Path, number: int, error: Exception) -> ConfigError:
    """Of a line that msgspec refused: with its field, if that is to blame."""
    reason, _, place = str(error).partition(" - at ")
    column = place.strip("`").removeprefix("$").removeprefix(".")
    where = f"line {number}, {column}" if column else f"line {number}"
    return ConfigError(f"{path}: {where}: {reason.replace('`', '')}")
