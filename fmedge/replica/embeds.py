"""Embeddings between steps: one at a time, on whichever sequence id is idle.

An id that a sequence gives up goes to a waiting embedding first, and where an embedding lacks KV no
further sequence starts: neither kind of work can starve the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from fmedge.errors import KvCacheFullError
from fmedge.replica.placement import Placement
from fmedge.replica.ports import EngineLike
from fmedge.replica.protocol import Embed, Embedded, Failed, WorkerMessage


class Embeds:
    """The bounded queue of texts to embed."""

    def __init__(
        self,
        engine: EngineLike,
        placement: Placement,
        emit: Callable[[WorkerMessage], None],
        max_waiting: int,
    ) -> None:
        self._engine = engine
        self._placement = placement
        self._emit = emit
        self._max_waiting = max_waiting
        self._queue: deque[Embed] = deque()
        self.is_blocked = False  # the first needs KV that running sequences hold

    def __len__(self) -> int:
        return len(self._queue)

    def queue(self, embed: Embed) -> None:
        num_tokens, ctx_size = len(embed.tokens) // 4, self._engine.info.ctx_size
        if not 0 < num_tokens <= ctx_size:
            text = f"{num_tokens} tokens to embed; between 1 and {ctx_size} can be."
            self._emit(Failed(embed.request_id, "invalid", text))
        elif len(self._queue) >= self._max_waiting:
            text = f"{self._max_waiting} texts wait to be embedded already; try again later."
            self._emit(Failed(embed.request_id, "overloaded", text))
        else:
            self._queue.append(embed)

    def remove(self, request_id: int) -> None:
        self._queue = deque(e for e in self._queue if e.request_id != request_id)
        self.is_blocked = False

    def run_one(self, *, is_alone: bool) -> bool:
        """Embed the first text if an id is idle; True if something was done about it.

        is_alone: no sequence runs whose end would free KV.
        """
        if not self._queue:
            return False
        seq_id = self._placement.borrow_id()
        if seq_id is None:
            return False
        embed = self._queue[0]
        try:
            vector = self._engine.embed(embed.tokens, seq_id)
        except KvCacheFullError:
            if self._placement.evict_one():
                return True
            if not is_alone:
                self.is_blocked = True
                return False
            self._answer(Failed(embed.request_id, "invalid", "The KV cache cannot hold this text."))
            return True
        self._answer(Embedded(embed.request_id, vector, len(embed.tokens) // 4))
        return True

    def _answer(self, message: WorkerMessage) -> None:
        self._queue.popleft()
        self.is_blocked = False
        self._emit(message)
