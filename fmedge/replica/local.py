"""A replica in a worker process on this machine: started, watched and restarted, never trusted.

One task supervises it: spawn, load, serve until the process ends, back off, again. A worker that
had once loaded is restarted until it fails to load `max_failed_loads` times in a row; one whose
first load reports a failure is given up at once, with llama.cpp's own words. One whose device
server is gone waits for it, however long that takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from msgspec import Struct

from fmedge.errors import (
    DeviceError,
    FmedgeError,
    ModelFileError,
    ModelLoadError,
    OutOfMemoryError,
    ReplicaLostError,
    UnavailableError,
)
from fmedge.replica.interface import FailureKind, ReplicaListener, ReplicaState, ReplicaStatus
from fmedge.replica.process import WatchSettings, WorkerProcess
from fmedge.replica.protocol import (
    Cancel,
    ClearCache,
    Embed,
    Embedded,
    Failed,
    KvStoreSettings,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Measure,
    Measured,
    Shutdown,
    Step,
    Submit,
    WorkerMessage,
)
from fmedge.replica.rpc import look_at_all
from fmedge.types import EngineInfo, EngineSettings

KILL_TIMEOUT_S = 10.0
SAVE_SHARE = 0.75
"""Of the time to end, what a worker may take to keep KV; the rest is for freeing its memory."""

DEVICE_CHECK_S = 1.0

log = logging.getLogger(__name__)


class RestartSettings(Struct, frozen=True, kw_only=True):
    """Back-off between restarts, in seconds: initial_s doubles up to max_s; each wait is drawn
    from its upper half. It starts over after the worker served for stable_s."""

    initial_s: float = 0.1
    max_s: float = 30.0
    stable_s: float = 60.0
    max_failed_loads: int = 5


def backoff_s(num_failures: int, settings: RestartSettings, rng: random.Random) -> float:
    """How long to wait before the restart after `num_failures` (>= 1) ends in a row."""
    longest_s = min(settings.max_s, settings.initial_s * 2.0 ** min(num_failures - 1, 32))
    return longest_s * rng.uniform(0.5, 1.0)


class LocalReplica:
    """See `interface.Replica`. Use it on one event loop; `engine` is `protocol.Load.engine`."""

    def __init__(
        self,
        name: str,
        model: str,
        settings: EngineSettings,
        *,
        engine: str = "llama",
        watch: WatchSettings | None = None,
        restart: RestartSettings | None = None,
        kv_store: KvStoreSettings | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self._load = Load(settings, engine, kv_store)
        self._watch = watch or WatchSettings()
        self._restart = restart or RestartSettings()
        self._rng = random.Random(name)  # noqa: S311 - jitter
        self._listener: ReplicaListener | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._worker: WorkerProcess | None = None
        self._closing = asyncio.Event()
        self._state: ReplicaState = "stopped"
        self._is_announced = False
        self._load_fraction = 0.0
        self._load_failure: LoadFailed | None = None
        self._info: EngineInfo | None = None
        self._ready_since_s = 0.0
        self._num_restarts = 0
        self._error = ""
        self._failure: FailureKind = ""
        self._measurement: _Measurement | None = None

    def status(self) -> ReplicaStatus:
        worker = self._worker
        return ReplicaStatus(
            name=self.name,
            model=self.model,
            state=self._state,
            load_fraction=self._load_fraction,
            num_restarts=self._num_restarts,
            pid=None if worker is None else worker.pid,
            rss_bytes=0 if worker is None else worker.rss_bytes,
            silent_s=0.0 if worker is None else worker.silent_s,
            error=self._error,
            failure=self._failure if self._error else "",
            info=self._info,
        )

    def start(self, listener: ReplicaListener) -> None:
        if self._supervisor is not None:
            raise RuntimeError("a replica is started once")
        self._listener = listener
        self._supervisor = asyncio.get_running_loop().create_task(
            self._supervise_safely(listener), name=f"supervise {self.name}"
        )

    def submit(self, request: Submit | Embed) -> None:
        if self._state != "ready" or self._worker is None:
            raise ReplicaLostError(f"Replica {self.name} is {self._state}.")
        self._worker.send(request)

    def cancel(self, request_ids: tuple[int, ...]) -> None:
        self._tell(Cancel(request_ids))

    def clear_cache(self, cache_key: str | None) -> None:
        self._tell(ClearCache(cache_key))

    async def measure(
        self,
        points: tuple[tuple[int, int, int], ...],
        max_s: float,
        on_step: Callable[[Step], None] | None = None,
    ) -> Measured:
        if self._measurement is not None:
            raise _busy(f"Replica {self.name} is being measured already.")
        if self._state != "ready" or self._worker is None:
            raise ReplicaLostError(f"Replica {self.name} is {self._state}.")
        measurement = _Measurement(on_step)
        self._worker.send(Measure(points, max_s))
        self._measurement = measurement
        try:
            measured = await measurement.done  # a worker that hangs is killed, which ends it too
        except asyncio.CancelledError:
            self._tell(Cancel(()))  # any message ends it; until Measured its steps still come
            raise
        if measured.ended == "busy":
            raise _busy(f"Replica {self.name} has work; measure it when it is idle.")
        return measured

    async def close(self, deadline_s: float = 5.0, *, save_kv: bool = False) -> None:
        supervisor = self._supervisor
        if supervisor is None:
            self._state = "closed"
            return
        if not self._closing.is_set():
            self._closing.set()
            if self._state != "failed":
                self._state = "closing"
            if self._worker is not None:
                with contextlib.suppress(ReplicaLostError):
                    self._worker.send(Shutdown(SAVE_SHARE * deadline_s if save_kv else 0.0))
        done, _ = await asyncio.wait((supervisor,), timeout=deadline_s)
        if not done and self._worker is not None:
            self._worker.kill(f"it did not end within {deadline_s:.1f} s of being asked to")
            done, _ = await asyncio.wait((supervisor,), timeout=KILL_TIMEOUT_S)
        if not done:
            log.error("replica %s: its process cannot be killed now", self.name)
        self._state = "closed"

    def load_error(self) -> FmedgeError | None:
        """Why it was given up, as the exception that fits (ModelFileError, OutOfMemoryError,
        DeviceError or ModelLoadError); None while it was not."""
        if self._state != "failed":
            return None
        match self._failure:
            case "file":
                return ModelFileError(self._error)
            case "memory":
                return OutOfMemoryError(self._error)
            case "device":
                return DeviceError(self._error)
        return ModelLoadError(self._error)

    def _end_measurement(self, measured: Measured | None) -> None:
        """Measured, or None when the worker is gone."""
        measurement, self._measurement = self._measurement, None
        if measurement is None or measurement.done.done():
            return
        if measured is None:
            lost = ReplicaLostError(f"Replica {self.name} was lost while it was measured.")
            measurement.done.set_exception(lost)
        else:
            measurement.done.set_result(measured)

    def _tell(self, message: Cancel | ClearCache) -> None:
        if self._state == "ready" and self._worker is not None:
            with contextlib.suppress(ReplicaLostError):
                self._worker.send(message)

    # --- supervision ---

    async def _supervise_safely(self, listener: ReplicaListener) -> None:
        try:
            await self._supervise(listener)
        except Exception as error:
            log.exception("the supervisor of replica %s failed", self.name)
            self._state, self._error = "failed", f"internal error: {error}"
            if self._worker is not None:
                self._worker.kill(self._error)
            listener.on_gone(self, self._error)

    async def _supervise(self, listener: ReplicaListener) -> None:
        num_failures = num_failed_loads = 0
        while not self._closing.is_set():
            was_ready, reason = await self._run_worker(listener)
            if self._closing.is_set():
                break
            served_s = asyncio.get_running_loop().time() - self._ready_since_s
            is_stable = was_ready and served_s >= self._restart.stable_s
            num_failures = 1 if is_stable else num_failures + 1
            # A device that is gone may come back; only a crash or a bad file stays as it is.
            is_patient = was_ready or self._failure == "device"
            num_failed_loads = 0 if is_patient else num_failed_loads + 1
            is_first_load = self._info is None
            gives_up = num_failed_loads >= self._restart.max_failed_loads or (
                is_first_load and self._load_failure is not None
            )
            if gives_up:
                self._state, self._error = "failed", reason
                log.error("replica %s is given up: %s", self.name, reason)
                listener.on_gone(self, reason)
                return
            self._num_restarts += 1
            delay_s = backoff_s(num_failures, self._restart, self._rng)
            log.warning("replica %s %s; it restarts in %.2f s", self.name, reason, delay_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), delay_s)
        self._state = "closed"
        listener.on_gone(self, "it was closed")

    async def _run_worker(self, listener: ReplicaListener) -> tuple[bool, str]:
        """One process's life: whether it ever was ready, and why it ended."""
        self._state = "loading" if self._info is None else "restarting"
        self._load_fraction, self._load_failure = 0.0, None

        def on_messages(messages: list[WorkerMessage]) -> None:
            for message in messages:
                self._on_message(worker, listener, message)

        worker = WorkerProcess(self.name, self._watch, on_messages)
        try:
            await worker.start()
            self._worker = worker
            if not self._closing.is_set():
                worker.send(self._load)
            else:
                worker.send(Shutdown())
        except OSError as error:
            return False, f"could not be started: {error}"
        except ReplicaLostError:
            pass  # it died at once; `ended` knows of what
        reason = await worker.disconnected()
        self._end_measurement(None)
        was_ready, self._is_announced = self._is_announced, False
        if not self._closing.is_set():
            self._state = "restarting"
        missing = "" if self._closing.is_set() else await self._missing_device()
        self._failure = "device" if missing else "hung" if worker.was_killed else "other"
        self._error = missing or reason
        if was_ready:
            # At once, not when the process is reaped: its requests can go elsewhere now.
            crashed = not missing and not self._closing.is_set()
            listener.on_lost(self, missing or reason, crashed=crashed)
        end = await worker.ended()
        self._worker = None
        failure = self._load_failure
        if failure is not None and not missing:
            self._failure = failure.kind
        self._error = missing or (end.reason if failure is None else failure.message)
        return was_ready, self._error

    async def _missing_device(self) -> str:
        """Why one of its device servers cannot be used, "" while they all can. A worker ends with
        its server; but one whose server answers may have been brought down by a request."""
        try:
            await look_at_all(self._load.settings.rpc, DEVICE_CHECK_S)
        except DeviceError as error:
            return str(error)
        return ""

    def _on_message(
        self, worker: WorkerProcess, listener: ReplicaListener, message: WorkerMessage
    ) -> None:
        # Most frequent first: one Step for each engine step.
        if isinstance(message, Step):
            if self._measurement is None or not self._measurement.takes(message):
                listener.on_step(self, message)
        elif isinstance(message, Embedded):
            listener.on_embedded(self, message)
        elif isinstance(message, Failed):
            listener.on_failed(self, message)
        elif isinstance(message, Measured):
            self._end_measurement(message)
        elif isinstance(message, LoadProgress):
            self._load_fraction = message.fraction
        elif isinstance(message, LoadFailed):
            self._load_failure = message
        elif isinstance(message, Loaded):
            worker.mark_loaded()
            self._info = message.info
            self._load_fraction, self._error = 1.0, ""
            self._ready_since_s = asyncio.get_running_loop().time()
            if not self._closing.is_set():
                self._state, self._is_announced = "ready", True
                listener.on_ready(self, message.info)


class _Measurement:
    """A Measure that its worker has not answered yet."""

    def __init__(self, on_step: Callable[[Step], None] | None) -> None:
        self.done: asyncio.Future[Measured] = asyncio.get_running_loop().create_future()
        self._on_step = on_step

    def takes(self, step: Step) -> bool:
        """Whether this is one of its steps, and not one of a request's."""
        ids = [part.request_id for part in step.sequences] + [pair[0] for pair in step.prefilled]
        if not ids or ids[0] >= 0:
            return False
        if self._on_step is not None and not self.done.done():
            self._on_step(step)
        return True


def _busy(message: str) -> UnavailableError:
    return UnavailableError(message, retry_after_s=5.0, code="busy")
