"""What an emulated server says of itself in its log."""

from __future__ import annotations

import re
from pathlib import Path

_LATENESS = re.compile(r"announced ([\d.]+) ms late on average, ([\d.]+) ms at most")


def lateness_ms(log: Path, start: int = 0) -> tuple[float, float]:
    """How late steps were announced by the log (from that byte on) of a server that has ended: the
    replica's with the largest mean, and the latest of all. Milliseconds; nan where it does not
    say."""
    text = log.read_bytes()[start:].decode(errors="replace")
    said = [(float(m[1]), float(m[2])) for m in _LATENESS.finditer(text)]
    if not said:
        return float("nan"), float("nan")
    return max(mean for mean, _ in said), max(latest for _, latest in said)
