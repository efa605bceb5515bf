"""How fast bytes move, learned where they are moved.

The rule: one slow copy is believed in part, since others compute beside it; and what is refused for
being slow cannot be measured, so each refusal brings the belief back towards what it was at first.
"""

from __future__ import annotations

BLEND = 0.3
LARGEST_RISE = 2.0
DOUBT = 0.1


class Rate:
    """Seconds a byte."""

    def __init__(self, bytes_per_s: float) -> None:
        """bytes_per_s: believed until something was measured."""
        self._first = self._s_per_byte = 1 / bytes_per_s

    def seconds(self, num_bytes: int) -> float:
        """What so many bytes are expected to take."""
        return num_bytes * self._s_per_byte

    def learn(self, num_bytes: int, spent_s: float) -> None:
        """So many bytes took so long."""
        seen = min(spent_s / num_bytes, LARGEST_RISE * self._s_per_byte)
        self._s_per_byte += BLEND * (seen - self._s_per_byte)

    def doubt(self) -> None:
        """Something was refused because of it."""
        self._s_per_byte += DOUBT * (self._first - self._s_per_byte)
