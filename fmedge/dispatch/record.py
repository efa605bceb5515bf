"""Who is told of every request once it is over, to keep a log of them."""

from __future__ import annotations

from typing import Protocol

from fmedge.dispatch.generation import Generation
from fmedge.types import Promise


class Recorder(Protocol):
    """Neither blocks nor raises. outcome: how a generation finished, or the code of its error."""

    def ended(self, generation: Generation, outcome: str) -> None:
        """Just now; one that was refused never had a replica."""
        ...

    def refused(self, model: str, promise: Promise | None, outcome: str) -> None:
        """A request of which nothing more was read. From any thread."""
        ...
