"""Small drawings of block characters, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float, width: int) -> str:
    """A bar over `share` (0 to 1) of `width` characters, exact to an eighth of one; something
    where there is anything."""
    share = min(max(share, 0.0), 1.0)
    eighths = round(share * width * 8)
    if share > 0 and eighths == 0:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def bars(rows: Sequence[tuple[str, float, str]], width: int = 48) -> list[str]:
    """One line a row of (label, value, text): bars from 0 to the largest value."""
    if not rows:
        return []
    label_width = max(len(label) for label, _, _ in rows)
    largest = max(value for _, value, _ in rows)
    return [
        f"{label:>{label_width}} {bar(value / largest if largest > 0 else 0.0, width)} {text}"
        for label, value, text in rows
    ]
