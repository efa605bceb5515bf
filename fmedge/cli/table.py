"""Aligned columns for people, and sizes and times in units that they read."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    for line in aligned(header, rows):
        print(line)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def duration(milliseconds: float | None) -> str:
    """Such as "0.42 ms", "85.2 ms", "2.31 s" or "3 min 20 s"; "-" for None."""
    if milliseconds is None:
        return "-"
    if milliseconds < 999.5:
        digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
        return f"{milliseconds:.{digits}f} ms"
    seconds = milliseconds / 1e3
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def percent(share: float | None) -> str:
    """Such as "97.5 %"; "-" for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def size(num_bytes: float) -> str:
    """Such as "4.4 GB"; decimal units, as disks and the hub use them."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
