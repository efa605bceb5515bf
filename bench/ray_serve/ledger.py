"""Which replica is which: Serve's replicas of one deployment are alike, a cluster's are not.

The rule: a specification has at most one living holder. Whoever starts takes the first that is
free, in the cluster's order; what a dead replica held is free again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


class Ledger:
    """Hands out encoded specifications, and counts for how long they were held. In Ray it runs as
    an actor of its own, so that all calls come one by one.

    is_alive: whether the replica of a name still runs.
    """

    def __init__(
        self,
        specs: Sequence[tuple[str, bytes]],
        is_alive: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._specs = dict(specs)
        self._is_alive = is_alive
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}  # spec -> holder, since when
        self._past_s = 0.0

    def take(self, holder: str) -> bytes:
        """A specification for a replica that starts; LookupError where all are held."""
        self._reap()
        for name, encoded in self._specs.items():
            if name not in self._held:
                self._held[name] = (holder, self._clock())
                return encoded
        raise LookupError(f"all {len(self._specs)} replicas of the cluster are in use")

    def in_use(self) -> tuple[list[str], float]:
        """Names of those held, and the replica-seconds so far: from the start of loading to the end
        of the process, in seconds."""
        self._reap()
        now_s = self._clock()
        running_s = sum(now_s - since_s for _, since_s in self._held.values())
        return list(self._held), self._past_s + running_s

    def _reap(self) -> None:
        for name, (holder, since_s) in list(self._held.items()):
            if not self._is_alive(holder):
                self._past_s += self._clock() - since_s
                del self._held[name]
