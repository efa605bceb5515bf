"""Calls that have not come yet: when each arrives, and which never will.

The rule: a call that waits for others comes its tool time after the last of their ends, and never
if one of them failed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import inf

from fmedge.sim.workload import Call


class Pending:
    """By their places in the workload."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._due = [(call.at_s, index) for index, call in enumerate(calls) if not call.after]
        heapq.heapify(self._due)
        self._num_awaited = {i: len(call.after) for i, call in enumerate(calls) if call.after}
        self._awaited_by: dict[int, list[int]] = {}
        for index in self._num_awaited:
            for other in calls[index].after:
                self._awaited_by.setdefault(other, []).append(index)

    @property
    def next_s(self) -> float:
        return self._due[0][0] if self._due else inf

    def pop(self) -> int:
        """The one that arrives next."""
        return heapq.heappop(self._due)[1]

    def ended(self, index: int, now_s: float, *, is_ok: bool) -> list[int]:
        """A call came to its end. Those that will never be sent for it, and for them."""
        lost: list[int] = []
        ends = [(index, is_ok)]
        while ends:
            index, is_ok = ends.pop()
            for other in self._awaited_by.pop(index, ()):
                num_left = self._num_awaited.pop(other, 0) - 1
                if num_left < 0:
                    continue  # it was lost for another
                if not is_ok:
                    lost.append(other)
                    ends.append((other, False))
                elif num_left:
                    self._num_awaited[other] = num_left
                else:
                    heapq.heappush(self._due, (now_s + self._calls[other].at_s, other))
        return lost
