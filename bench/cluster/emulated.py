"""What an emulated server says of itself in its log."""

from __future__ import annotations

import re
from pathlib import Path

_LATENESS = re.compile(r"announced ([\d.]+) ms late on average, ([\d.]+) ms at most")


def lateness_ms(log: Path) -> tuple[float, float]:
    """How late steps were announced by the log of a server that has ended: the replica's with the
    largest mean, and the latest of all. Milliseconds; nan where the log does not say."""
    said = [(float(m[1]), float(m[2])) for m in _LATENESS.finditer(log.read_text())]
    if not said:
        return float("nan"), float("nan")
    return max(mean for mean, _ in said), max(latest for _, latest in said)
