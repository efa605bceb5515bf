"""Replicas that load, serve and end when a test says so: for what comes and goes at run time."""

from __future__ import annotations

import asyncio
from array import array

from fmedge.errors import ReplicaLostError
from fmedge.replica.interface import ReplicaListener, ReplicaStatus
from fmedge.replica.protocol import SequenceTokens, Step, Submit
from fmedge.types import EngineSettings
from tests.replica.worker_engine import WorkerEngine, next_token

DEADLINE_S = 5.0


class ResidentReplica:
    """One model's fake worker. `fail` or `load` ends its loading; `step` gives every request a
    token; close() ends it at once, or when `may_end` is set."""

    def __init__(self, name: str, model: str, *, slots: int = 2, loads_at_once: bool = False):
        self.name = name
        self.model = model
        self.info = WorkerEngine(EngineSettings(model_path="", slots=slots), {}).info
        self.state = "stopped"
        self.error = ""
        self.running: dict[int, tuple[array[int], int]] = {}
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.was_saved = False
        self._loads_at_once = loads_at_once
        self.listener: ReplicaListener | None = None

    def start(self, listener: ReplicaListener) -> None:
        self.listener, self.state = listener, "loading"
        if self._loads_at_once:
            asyncio.get_running_loop().call_soon(self.load)

    def status(self) -> ReplicaStatus:
        info = self.info if self.state == "ready" else None
        return ReplicaStatus(
            name=self.name, model=self.model, state=self.state, error=self.error, info=info
        )

    def load(self) -> None:
        if self.state == "loading":
            self.state = "ready"
            self.listener.on_ready(self, self.info)

    def fail(self, reason: str) -> None:
        self.state, self.error = "failed", reason
        self.listener.on_gone(self, reason)

    def submit(self, request: Submit) -> None:
        if self.state != "ready":
            raise ReplicaLostError("not ready")
        end = request.num_prompt_tokens + request.max_tokens
        tokens = array("i", request.tokens)
        self.running[request.request_id] = (tokens, end)

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        for request_id in request_ids:
            self.running.pop(request_id, None)

    def clear_cache(self, cache_key: str | None) -> None:
        return

    def step(self) -> None:
        parts = []
        for request_id, (tokens, end) in list(self.running.items()):
            tokens.append(next_token(tokens))
            finish = "length" if len(tokens) == end else None
            parts.append(SequenceTokens(request_id, (tokens[-1],), finish))
            if finish:
                del self.running[request_id]
        self.listener.on_step(self, Step(sequences=tuple(parts)))

    async def close(self, deadline_s: float = 5.0, *, save_kv: bool = False) -> None:
        if self.state in ("closed", "failed"):
            self.state = "closed"
            return
        was_ready, self.state = self.state == "ready", "closing"
        self.was_saved = save_kv
        await asyncio.wait_for(self.may_end.wait(), DEADLINE_S)
        self.running.clear()
        self.state = "closed"
        if self.listener is not None:
            if was_ready:
                self.listener.on_lost(self, "it was closed", crashed=False)
            self.listener.on_gone(self, "it was closed")


async def until(is_so, what: str = "") -> None:
    """Let the loop run until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110 - what is awaited has no event of its own
            await asyncio.sleep(0)
    assert is_so(), what
