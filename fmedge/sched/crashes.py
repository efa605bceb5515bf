"""Who is to blame for a worker's crash.

When a worker dies, everything assigned to it may be the cause. The first time, all of it simply
runs again. A request that sees a second crash without having made progress in between is a
suspect, and a replica runs at most one suspect at a time (beside requests above suspicion), so
that the next crash has one plausible culprit: it alone is blamed, and fails once it has seen
`max_crashes`. Tokens emitted since the crash clear a suspect.
"""

from __future__ import annotations

from collections.abc import Sequence

from fmedge.sched.events import CoreSettings
from fmedge.sched.requests import ReplicaState, Request

PROGRESS_TOKENS = 8


class Crashes:
    """Counts, and says who may run where. `watched`: requests that saw a crash."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self.watched: set[int] = set()

    def count(self, victims: Sequence[Request]) -> Request | None:
        """A crash: who is to blame counts, a lone suspect, else everyone. Returns one that must
        fail."""
        suspects = [request for request in victims if self.is_suspect(request)]
        counted = suspects if len(suspects) == 1 else victims
        for request in counted:
            request.crashes += 1
            request.crashes_total += 1
            request.num_new_tokens = 0
            self.watched.add(request.arrival.request_id)
        # A request that was alone is its own only suspect.
        if len(counted) != 1:
            return None
        seen = max(counted[0].crashes, counted[0].crashes_total - self._settings.max_total_crashes)
        return counted[0] if seen >= self._settings.max_crashes else None

    def progress(self, request: Request, num_tokens: int) -> bool:
        """A watched request emitted tokens. True if that clears it of suspicion just now."""
        request.num_new_tokens += num_tokens
        if request.num_new_tokens < PROGRESS_TOKENS:
            return False
        request.crashes = 0
        if self.is_suspect(request):
            return False
        self.watched.discard(request.arrival.request_id)
        return True

    def forget(self, request_id: int) -> None:
        self.watched.discard(request_id)

    def is_suspect(self, request: Request) -> bool:
        settings = self._settings
        return (
            request.crashes >= max(1, settings.max_crashes - 1)
            or request.crashes_total >= settings.max_total_crashes
        )

    def may_run(self, request: Request, replica: ReplicaState) -> bool:
        """No two suspects on one replica."""
        if not self.watched or not self.is_suspect(request):
            return True
        if self.watched.isdisjoint(replica.requests):
            return True
        return not any(self.is_suspect(other) for other in replica.requests.values())


def blame(request: Request) -> str:
    return (
        f"The model's worker process crashed {request.crashes_total} times while running this "
        "request, so it is not tried again. Other requests are not affected."
    )
