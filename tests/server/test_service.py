"""What the service manager is told, and when the watchdog is fed; the manager is a socket here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fmedge.config.service import ServiceLink
from fmedge.dispatch import DispatcherStatus, ModelStatus, ReplicaLoad
from fmedge.replica.interface import ReplicaStatus
from fmedge.server import service as service_module
from fmedge.server.service import Service, leave_waiting, loading_text, serving_text, silent

DEADLINE_S = 20.0


def load(**fields: Any) -> ReplicaLoad:
    status = ReplicaStatus(**{"name": "m/0", "model": "m", "state": "ready", **fields})
    return ReplicaLoad(
        status=status, num_assigned=0, num_running=0, num_waiting=0, kv_tokens_used=0, kv_tokens=0
    )


def status(*models: ModelStatus, num_open: int = 0) -> DispatcherStatus:
    return DispatcherStatus(is_draining=False, num_open=num_open, models=models)


def model(*replicas: ReplicaLoad, is_ready: bool = True, **fields: Any) -> ModelStatus:
    return ModelStatus(name="m", is_ready=is_ready, num_waiting=0, replicas=replicas, **fields)


class Manager:
    """The manager's end of the notify socket."""

    def __init__(self, folder: str) -> None:
        self.address = str(Path(folder) / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """All lines that have come and were not read yet."""
        lines: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines += self._socket.recv(4096).decode().split("\n")
        return lines

    async def until(self, wanted: str) -> list[str]:
        """The lines up to one that begins like this."""
        lines: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            while not any(line.startswith(wanted) for line in lines):
                more = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
                lines += more.decode().split("\n")
        return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Manager(folder)) as made:
        yield made


@contextlib.asynccontextmanager
async def watching(service: Service, now: list[DispatcherStatus]):
    task = asyncio.create_task(service.watch(lambda: now[0]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_said_from_start_to_stop(manager: Manager) -> None:
    service = Service(ServiceLink(manager.address))
    now = [status(model(load(state="loading", load_fraction=0.25), is_ready=False))]
    async with watching(service, now):
        assert await manager.until("EXTEND_TIMEOUT_USEC=") == [
            "STATUS=loading 1 of 1 model, 0 ready, the slowest is 25 % loaded",
            "EXTEND_TIMEOUT_USEC=300000000",
        ]
        now[0] = status(model(load()), num_open=2)
        service.ready()
        assert manager.heard() == ["READY=1", "STATUS=serving 2 requests, 1 of 1 model in memory"]
        service.remark = "the last reload was\nrefused"
        with service.reloading():
            first, stamp, text = manager.heard()
            assert (first, text[:17]) == ("RELOADING=1", "STATUS=reloading;")
            assert stamp.removeprefix("MONOTONIC_USEC=").isdigit()
        ready, text = manager.heard()
        assert ready == "READY=1"
        assert text.endswith("in memory; the last reload was refused")
        service.stopping(35.0)
        assert manager.heard() == [
            "STOPPING=1",
            "EXTEND_TIMEOUT_USEC=35000000",
            "STATUS=finishing 2 requests; the last reload was refused",
        ]
        with service.reloading():
            pass
        assert manager.heard() == []  # neither would be true any more


def test_a_reload_before_ready_is_not_said(manager: Manager) -> None:
    service = Service(ServiceLink(manager.address))
    with service.reloading():
        pass
    assert manager.heard() == []
    service.failed("no such\nfile " + 1000 * "x")
    (line,) = manager.heard()
    assert line.startswith("STATUS=no such file xxx")
    assert len(line) < 320


async def test_the_start_asks_for_time_only_while_it_makes_progress(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "TICK_S", 0.001)
    loading = load(state="loading", load_fraction=0.25, rss_bytes=10 << 20)
    now = [status(model(loading, is_ready=False))]
    async with watching(Service(ServiceLink(manager.address, watchdog_s=0.004)), now):
        await manager.until("EXTEND_TIMEOUT_USEC=")
        for _ in range(5):  # a watchdog fed is a tick gone by
            assert "EXTEND" not in str(await manager.until("WATCHDOG=1"))
        grown = replace(loading.status, rss_bytes=12 << 20)
        now[0] = status(model(replace(loading, status=grown), is_ready=False))
        await manager.until("EXTEND_TIMEOUT_USEC=")
        further = replace(grown, load_fraction=0.26)
        now[0] = status(model(replace(loading, status=further), is_ready=False))
        await manager.until("EXTEND_TIMEOUT_USEC=")


async def test_a_reload_asks_for_time(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "TICK_S", 0.001)
    service, now = Service(ServiceLink(manager.address, watchdog_s=0.004)), [status(model(load()))]
    async with watching(service, now):
        await manager.until("STATUS=starting")
        service.ready()
        await manager.until("READY=1")
        for _ in range(3):
            assert "EXTEND" not in str(await manager.until("WATCHDOG=1"))
        with service.reloading():  # what it loads beside the old ones takes its time
            await manager.until("EXTEND_TIMEOUT_USEC=")


async def test_the_watchdog_is_not_fed_while_a_worker_is_silent(manager: Manager) -> None:
    service = Service(ServiceLink(manager.address, watchdog_s=0.004))
    well, frozen = status(model(load(silent_s=2.9))), status(model(load(silent_s=3.1)))
    now = [well]
    async with watching(service, now):
        service.ready()
        await manager.until("WATCHDOG=1")
        now[0] = frozen
        await manager.until("STATUS=serving 0 requests, 1 of 1 model in memory; m/0 is silent")
        now[0] = status(model(load(silent_s=4.1)))  # another text, so a later tick
        lines = await manager.until("STATUS=")
        assert "WATCHDOG=1" not in lines
        now[0] = well
        await manager.until("WATCHDOG=1")


async def test_no_watchdog_no_feeding(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "TICK_S", 0.001)
    service, now = Service(ServiceLink(manager.address)), [status()]
    async with watching(service, now):
        await manager.until("STATUS=starting")
        service.ready()
        await manager.until("READY=1")
        for number in range(1, 4):
            now[0] = status(num_open=number)
            assert "WATCHDOG=1" not in await manager.until(f"STATUS=serving {number} request")


async def test_nobody_listens() -> None:
    for link in (None, ServiceLink("/nowhere/notify", 0.01), ServiceLink("@nobody-" + "x" * 200)):
        service = Service(link)
        task = asyncio.create_task(service.watch(status))
        service.ready()
        with service.reloading():
            service.stopping(1.0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind("")  # the kernel chooses a name
        name = ours.getsockname()
        ours.settimeout(DEADLINE_S)
        Service(ServiceLink("@" + name[1:].decode())).ready()
        assert ours.recv(100) == b"READY=1"


def test_texts() -> None:
    half = load(state="loading", load_fraction=0.5)
    little = load(state="loading", load_fraction=0.07)
    assert loading_text(status()) == "starting"
    assert loading_text(status(model(can_load=True))) == "starting"
    assert loading_text(status(model(load()), model(half, little, is_ready=False))) == (
        "loading 1 of 2 models, 1 ready, the slowest is 7 % loaded"
    )
    assert serving_text(status(num_open=1)) == "serving 1 request, 0 of 0 models in memory"
    text = serving_text(
        status(
            model(load(name="a", state="restarting"), load(name="b"), is_ready=False),
            model(is_ready=False, error="it does not fit"),
        )
    )
    assert text == (
        "serving 0 requests, 0 of 2 models in memory; a is restarting; m: it does not fit"
    )
    assert silent(status(model(load(silent_s=3.0)))) == []


@pytest.mark.parametrize("which", ["loaded", "asked", "time"])
async def test_connections_wait_for_the_models_and_not_for_ever(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, done = asyncio.Event(), asyncio.Event()

    async def load_models() -> None:
        await done.wait()

    loaded = asyncio.create_task(load_models())
    monkeypatch.setattr(service_module, "HOLD_S", 0.0 if which == "time" else DEADLINE_S * 2)
    waiting = asyncio.create_task(leave_waiting(loaded, asked))
    if which != "time":
        await asyncio.sleep(0)
        assert not waiting.done()
        {"loaded": done, "asked": asked}[which].set()
    await asyncio.wait_for(waiting, DEADLINE_S)
    assert loaded.done() is (which == "loaded")
    done.set()
    await loaded  # it was not cancelled: the start goes on
