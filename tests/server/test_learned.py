"""What is learned goes to the store when it changed, and comes back unless it is broken."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from fmedge.server.learned import keep, relearn
from fmedge.server.state import StateStore

TIMEOUT_S = 10.0


class RecordingStore(StateStore):
    """Counts what is written, and tells when."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.saved: list[tuple[str, bytes]] = []
        self.loop = asyncio.get_running_loop()
        self.has_saved = asyncio.Event()

    def save(self, name: str, data: bytes) -> bool:
        self.saved.append((name, data))
        done = super().save(name, data)
        self.loop.call_soon_threadsafe(self.has_saved.set)
        return done


async def test_only_what_changed_is_saved_and_the_end_is_not_missed(tmp_path: Path) -> None:
    store, stop = RecordingStore(tmp_path), asyncio.Event()
    parts = {"a": b"1", "b": b"1"}
    rounds = 0
    three_rounds = asyncio.Event()

    def snapshot() -> dict[str, bytes]:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            three_rounds.set()
        return dict(parts)

    task = asyncio.create_task(keep(store, snapshot, stop, every_s=0.001))
    await asyncio.wait_for(three_rounds.wait(), TIMEOUT_S)
    assert store.saved == [("a", b"1"), ("b", b"1")]
    parts["b"] = b"2"
    stop.set()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert store.saved[2:] == [("b", b"2")]
    assert (store.load("a"), store.load("b")) == (b"1", b"2")
    store.close()


async def test_what_could_not_be_saved_is_tried_again(tmp_path: Path) -> None:
    other = StateStore(tmp_path)
    other.open()
    store, stop = RecordingStore(tmp_path), asyncio.Event()
    task = asyncio.create_task(keep(store, lambda: {"a": b"1"}, stop, every_s=0.001))
    await asyncio.wait_for(store.has_saved.wait(), TIMEOUT_S)
    assert store.load("a") is None
    other.close()
    stop.set()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert store.load("a") == b"1"
    store.close()


def test_what_is_broken_is_forgotten_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StateStore(tmp_path)
    assert relearn(store, "number", int) is None
    assert caplog.records == []
    store.save("number", b"12")
    assert relearn(store, "number", int) == 12
    store.save("number", b"twelve")
    assert relearn(store, "number", int) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(tmp_path / "number") in record.getMessage()
    store.close()
