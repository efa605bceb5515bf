"""What an evicted conversation's next turn costs: its KV brought back, or computed again.

Time from the request to its first token in one worker's loop, without a front: the conversation is
in host memory, or on disk with the system's cache of that file emptied, or nowhere.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from array import array
from pathlib import Path
from time import perf_counter

from bench.context import Bench, Outcome, Skipped
from fmedge._native.engine import Engine
from fmedge.errors import FmedgeError
from fmedge.replica.kv_store import KvStore, open_store
from fmedge.replica.loop import EngineLoop
from fmedge.replica.protocol import KvStoreSettings, Step, Submit, WorkerMessage
from fmedge.types import EngineSettings, SamplingParams

PROMPT_TOKENS = 2000
TURN_TOKENS = 24
CTX_SIZE = 2560
MAX_RATIO = 0.3
MEMORY_BYTES = 1 << 30
DISK_BYTES = 4 << 30
TIMEOUT_S = 30.0


async def run(bench: Bench) -> list[Outcome | Skipped]:
    settings = EngineSettings(
        model_path=str(bench.model), ctx_size=CTX_SIZE, slots=1, threads=bench.threads
    )
    samples: dict[str, list[float]] = {"memory": [], "disk": []}
    times: dict[str, list[float]] = {"memory": [], "disk": [], "prefill": []}
    try:
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            for number in range(bench.rounds + 1):
                found = _round(settings, Path(folder), number)
                bench.say("  " + ", ".join(f"{k} {1e3 * v:.1f} ms" for k, v in found.items()))
                if number == 0:
                    continue  # it warms up
                for where, first_s in found.items():
                    times[where].append(first_s)
                for where, ratios in samples.items():
                    ratios.append(found[where] / found["prefill"])
    except FmedgeError as error:
        return [Skipped("plan-restore", str(error))]
    return [
        Outcome(
            "plan-restore", f"first token, KV from {where} / computed",
            statistics.median(ratios), "x", MAX_RATIO, False, tuple(ratios),
            {"first_token_s": times[where], "prefill_s": times["prefill"],
             "prompt_tokens": PROMPT_TOKENS},
        )
        for where, ratios in samples.items()
    ]  # fmt: skip


def _round(settings: EngineSettings, folder: Path, number: int) -> dict[str, float]:
    """Seconds to the first token of the same turn: from memory, from disk, computed."""
    chance = random.Random(number)
    talk = [chance.randrange(300, 30_000) for _ in range(PROMPT_TOKENS)]
    found = {}
    with Engine.load(settings) as engine:
        with _Client(engine, settings, folder) as client:
            client.ask(talk)
            client.ask([chance.randrange(300, 30_000) for _ in range(64)])  # takes its slot
            found["memory"] = client.ask([*talk, *_turn(chance)], num_cached=PROMPT_TOKENS)
            client.loop.persist(TIMEOUT_S)
        _forget_cached(folder)
    with Engine.load(settings) as engine, _Client(engine, settings, folder) as client:
        client.ask([chance.randrange(300, 30_000) for _ in range(64)])
        found["disk"] = client.ask([*talk, *_turn(chance)], num_cached=PROMPT_TOKENS)
        client.loop.clear_cache()
        found["prefill"] = client.ask([*talk, *_turn(chance)], num_cached=0)
    return found


def _turn(chance: random.Random) -> list[int]:
    return [chance.randrange(300, 30_000) for _ in range(TURN_TOKENS)]


def _forget_cached(folder: Path) -> None:
    """Have the next read of these files come from the disk."""
    for path in folder.rglob("*.kv"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class _Client:
    """One loop with a store, asked one thing at a time."""

    def __init__(self, engine: Engine, settings: EngineSettings, folder: Path) -> None:
        kept = KvStoreSettings(memory_bytes=MEMORY_BYTES, folder=str(folder), disk_bytes=DISK_BYTES)
        store = open_store(engine, kept, settings)
        assert store is not None
        self.store: KvStore = store
        self.loop = EngineLoop(engine, self._emit, store=store)
        self._first_s: float | None = None
        self._num_cached = 0
        self._next_id = 0

    def _emit(self, message: WorkerMessage) -> None:
        for part in message.sequences if isinstance(message, Step) else ():
            if self._first_s is None and part.tokens:
                self._first_s = perf_counter()
                self._num_cached = part.num_cached_tokens

    def ask(self, tokens: list[int], num_cached: int | None = None) -> float:
        """Seconds to the first token; the rest of it and what is done at rest are done after."""
        self._next_id += 1
        self._first_s = None
        start_s = perf_counter()
        self.loop.submit(
            Submit(
                request_id=self._next_id,
                tokens=array("i", tokens).tobytes(),
                num_prompt_tokens=len(tokens),
                max_tokens=2,
                sampling=SamplingParams(temperature=0.0),
                ignore_eos=True,
            )
        )
        while self.loop.run_step() or self.loop.rest():
            pass
        assert self._first_s is not None
        assert num_cached is None or self._num_cached >= num_cached, (self._num_cached, num_cached)
        assert num_cached != 0 or self._num_cached == 0
        return self._first_s - start_s

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.loop.close()
        self.store.close()
