"""Keeping what is learned: read at start, saved while serving and at the end. What cannot be read
is forgotten with a warning; it is learned anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from fmedge.server.state import StateStore

SAVE_EVERY_S = 60.0

T = TypeVar("T")
log = logging.getLogger(__name__)


def relearn(store: StateStore, name: str, from_bytes: Callable[[bytes], T]) -> T | None:
    """What was saved under `name`, read by `from_bytes` (ValueError: not ours, or of another
    version); None where nothing usable is there."""
    data = store.load(name)
    if data is None:
        return None
    try:
        return from_bytes(data)
    except ValueError as error:
        log.warning(
            "%s: what was learned cannot be used and is learned anew: %s",
            name if store.folder is None else store.folder / name, error,
        )  # fmt: skip
        return None


async def keep(
    store: StateStore,
    snapshot: Callable[[], Mapping[str, bytes]],
    stop: asyncio.Event,
    *,
    every_s: float = SAVE_EVERY_S,
) -> None:
    """Until `stop`, save what changed every every_s seconds, and a last time after it.

    snapshot: bytes by name, taken on the event loop; the disk is waited for in a thread.
    """
    saved: dict[str, bytes] = {}
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)
        is_last = stop.is_set()
        for name, data in snapshot().items():
            if saved.get(name) != data and await asyncio.to_thread(store.save, name, data):
                saved[name] = data
        if is_last:
            return
