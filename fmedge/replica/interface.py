"""What dispatch sees of a replica, wherever it runs: calls go down, events come up.

A replica never decides where a request runs and keeps no request's content; a lost replica says
so once, and whoever holds the requests takes them elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from fmedge.replica.protocol import Embed, Embedded, Failed, Measured, Step, Submit
from fmedge.types import EngineInfo

FailureKind = Literal["", "file", "memory", "device", "hung", "other"]
ReplicaState = Literal["stopped", "loading", "ready", "restarting", "failed", "closing", "closed"]


class ReplicaStatus(Struct, frozen=True, kw_only=True):
    """One replica, for `ps`, /health and /metrics. Times in seconds, memory in bytes.

    load_fraction: of the load in progress, 1.0 when ready. error: why it is not ready, or "".
    failure: what kind of failure `error` was, "" for none; "device" where one of its devices is
    gone, "hung" where it was killed as it made no progress. silent_s: since its process, which
    ought to say something every second, was last heard of.
    """

    name: str
    model: str
    state: ReplicaState
    load_fraction: float = 0.0
    num_restarts: int = 0
    pid: int | None = None
    rss_bytes: int = 0
    silent_s: float = 0.0
    error: str = ""
    failure: FailureKind = ""
    info: EngineInfo | None = None


class ReplicaListener(Protocol):
    """Events of a replica, all on the event loop's thread. After on_lost nothing of the old
    process arrives any more; on_ready follows if it comes back, on_gone if it never will."""

    def on_ready(self, replica: Replica, info: EngineInfo) -> None: ...

    def on_step(self, replica: Replica, step: Step) -> None: ...

    def on_embedded(self, replica: Replica, embedded: Embedded) -> None: ...

    def on_failed(self, replica: Replica, failed: Failed) -> None: ...

    def on_lost(self, replica: Replica, reason: str, *, crashed: bool) -> None:
        """The process is gone. `crashed`: nobody asked it to end, and it was no device's fault."""
        ...

    def on_gone(self, replica: Replica, reason: str) -> None:
        """It could not be (re)started and is given up, or it was closed."""
        ...


class Replica(Protocol):
    """One engine that holds one model."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    def status(self) -> ReplicaStatus: ...

    def start(self, listener: ReplicaListener) -> None:
        """Begin to load; returns at once. Call it once, on the event loop's thread."""
        ...

    def submit(self, request: Submit | Embed) -> None:
        """Raises ReplicaLostError when it is not ready."""
        ...

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        """Never raises; a replica that is not ready has nothing to cancel."""
        ...

    def clear_cache(self, cache_key: str | None) -> None:
        """Forget retained prefixes, of one cache key or all."""
        ...

    async def measure(
        self,
        points: tuple[tuple[int, int, int], ...],
        max_s: float,
        on_step: Callable[[Step], None] | None = None,
    ) -> Measured:
        """Time designed steps (see `protocol.Measure`) while there is nothing else to do; requests
        end it. Retained prefixes are lost. `on_step` gets each designed step as it is done.

        Raises ReplicaLostError, and UnavailableError (code "busy") when one is measured already or
        the replica has work.
        """
        ...

    async def close(self, deadline_s: float = 5.0, *, save_kv: bool = False) -> None:
        """End it: politely until the deadline, then by SIGKILL. Idempotent. save_kv: keep its
        sequences' KV on disk first, as far as the deadline allows and if it has a store."""
        ...
