"""The worker process: one replica's engine, in a process that may die without taking others along.

The main thread alone touches the engine: it loads it, then takes messages from the inbox and runs
steps. The I/O thread fills the inbox, beats, and ends the process when the front is gone. The
front decides about this process's life: SIGINT and SIGTERM, which a terminal or a service manager
sends to a whole group, are ignored here so that draining streams can finish.

Run as `python -m fmedge.replica.worker FD PARENT_PID`, FD being the worker's end of a socketpair.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

from fmedge.errors import (
    DeviceError,
    ModelFileError,
    OutOfMemoryError,
    StepAbortedError,
)
from fmedge.replica.frames import FrameError
from fmedge.replica.protocol import (
    Cancel,
    ClearCache,
    Embed,
    FrontMessage,
    Heartbeat,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Log,
    Measure,
    Measured,
    Shutdown,
    Step,
    Submit,
    WorkerMessage,
)
from fmedge.replica.worker_channel import WorkerChannel

if TYPE_CHECKING:
    from fmedge.replica.loop import EngineLoop
    from fmedge.types import EngineSettings

HEARTBEAT_S = 1.0
LOAD_PROGRESS_STEP = 0.01
FLUSH_INTERVAL_S = 0.004
TICK_S = 0.1
MAX_LOG_BACKLOG_BYTES = 1 << 20
FLUSH_TIMEOUT_S = 5.0

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_LOAD_FAILED = 3
EXIT_PROTOCOL = 4

PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the front's thread that started it ends."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it died before the call above
        os._exit(EXIT_OK)


class ChannelLogHandler(logging.Handler):
    """Hands log records to the front; drops them while the front is far behind."""

    def __init__(self, channel: WorkerChannel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        if self._channel.num_unsent_bytes > MAX_LOG_BACKLOG_BYTES:
            return
        try:
            self._channel.send(Log(record.levelno, f"{record.name}: {self.format(record)}"))
        except (ValueError, TypeError, TimeoutError):
            self.handleError(record)


class StepOutbox:
    """Sends what the loop emits; steps that follow each other closely go out together.

    Waking the front costs it, and the cores that compute, more than a token is worth. Nobody sees
    tokens FLUSH_INTERVAL_S apart, so within that time only a stream's first token and its end go
    out at once. Slower steps are never held; if a step takes unexpectedly long, the I/O thread
    sends what is held within TICK_S.
    """

    def __init__(self, channel: WorkerChannel) -> None:
        self._channel = channel
        self._lock = threading.Lock()  # of two threads; keeps the order
        self._held: list[WorkerMessage] = []
        self._last_flush_s = 0.0

    def send(self, message: WorkerMessage) -> None:
        """Send a message, or hold a step until a later one or `flush`."""
        now_s = time.monotonic()
        with self._lock:
            self._held.append(message)
            is_close = now_s - self._last_flush_s < FLUSH_INTERVAL_S
            if is_close and isinstance(message, Step) and not _is_urgent(message):
                return
            self._last_flush_s = now_s
            self._send_held()

    def flush(self) -> None:
        """Send what is held, in order."""
        if self._held:
            with self._lock:
                self._send_held()

    def _send_held(self) -> None:
        held, self._held = self._held, []
        if held:
            self._channel.send(*held)


def _is_urgent(step: Step) -> bool:
    """Whether a stream begins or ends with this step."""
    return any(s.finish is not None or s.num_cached_tokens >= 0 for s in step.sequences)


class Worker:
    """State shared by the two threads: the inbox, the stop flag and the step clock."""

    def __init__(self, channel: WorkerChannel) -> None:
        self._channel = channel
        self._outbox = StepOutbox(channel)
        self._inbox: deque[FrontMessage] = deque()
        self._has_work = threading.Event()
        self._is_stopping = False
        self._save_s = 0.0
        self._abort_lock = threading.Lock()
        self._abort_step: Callable[[], None] | None = None  # while there is an engine
        self._num_steps = 0
        self._step_started_s = 0.0
        self._next_beat_s = 0.0

    def run(self) -> int:
        """Serve until Shutdown; the exit status. Runs on the main thread."""
        io_thread = threading.Thread(target=self._serve_channel, name="fmedge-io", daemon=True)
        io_thread.start()
        load = self._next_message()
        if load is None:
            return EXIT_OK
        if not isinstance(load, Load):
            log.error("the first message was %s, not Load", type(load).__name__)
            return EXIT_PROTOCOL
        try:
            engine = engine_factory(load.engine)(load.settings, self._progress_reporter())
        except Exception as error:
            if not self._is_stopping:
                self._channel.send(load_failure(error))
            return EXIT_OK if self._is_stopping else EXIT_LOAD_FAILED
        self._abort_step = engine.abort
        try:
            self._run_engine(engine, load)
        finally:
            with self._abort_lock:
                self._abort_step = None
            engine.close()
        return EXIT_OK

    def _run_engine(self, engine: Any, load: Load) -> None:
        from fmedge.replica.kv_store import open_store
        from fmedge.replica.loop import EngineLoop

        outbox = self._outbox
        store = open_store(engine, load.kv_store, load.settings)
        loop = EngineLoop(engine, outbox.send, store=store)
        self._channel.send(Loaded(engine.info))
        try:
            self._run_steps(loop, engine)
            outbox.flush()
            if self._save_s > 0:
                loop.persist(self._save_s)
        finally:
            outbox.flush()
            loop.close()

    def _run_steps(self, loop: EngineLoop, engine: Any) -> None:
        inbox, has_work = self._inbox, self._has_work
        while not self._is_stopping:
            has_work.clear()
            while inbox:
                self._handle(loop, engine, inbox.popleft())
            try:
                worked = self._run_step(loop)
            except StepAbortedError:
                if not self._is_stopping:
                    raise
                return
            if not worked and not loop.rest():
                has_work.wait()

    def _run_step(self, loop: EngineLoop) -> bool:
        """Run one step of a loop, watched; False if there was nothing to do."""
        if not loop.is_decode_only:
            self._outbox.flush()  # the step may be a long one
        self._step_started_s = time.monotonic()
        try:
            worked = loop.run_step()
        finally:
            self._step_started_s = 0.0
        self._num_steps += worked
        return worked

    def _measure(self, loop: EngineLoop, engine: Any, request: Measure) -> Measured:
        from fmedge.replica.measure import measure

        if not loop.is_idle:
            return Measured(ended="busy", message="The replica has work.")
        loop.empty_cache()
        return measure(
            request,
            engine,
            self._outbox.send,
            run_step=self._run_step,
            is_interrupted=lambda: self._is_stopping or bool(self._inbox),
        )

    def _handle(self, loop: EngineLoop, engine: Any, message: FrontMessage) -> None:
        match message:
            case Submit():
                loop.submit(message)
            case Cancel():
                loop.cancel(message.request_ids)
            case Embed():
                loop.embed(message)
            case ClearCache():
                loop.clear_cache(message.cache_key)
            case Measure():
                self._outbox.send(self._measure(loop, engine, message))
            case Load():
                log.error("a second Load message was ignored")
            case Shutdown():
                pass  # the I/O thread has acted on it

    def _next_message(self) -> FrontMessage | None:
        while not self._is_stopping:
            if self._inbox:
                return self._inbox.popleft()
            self._has_work.wait()
            self._has_work.clear()
        return None

    def _progress_reporter(self) -> Callable[[float], bool]:
        reported = 0.0

        def report(fraction: float) -> bool:
            nonlocal reported
            if fraction - reported >= LOAD_PROGRESS_STEP:
                reported = fraction
                self._channel.send(LoadProgress(fraction))
            return not self._is_stopping

        return report

    # --- the I/O thread ---

    def _serve_channel(self) -> None:
        # However this thread ends, the process does: nobody would hear it any more.
        status = EXIT_INTERNAL
        try:
            self._channel.serve(self._on_messages, self._tick, TICK_S)
            status = EXIT_OK  # the front is gone
        except FrameError as error:
            sys.stderr.write(f"fmedge worker: the front sent {error}\n")
            status = EXIT_PROTOCOL
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _on_messages(self, messages: list[FrontMessage]) -> None:
        self._inbox.extend(messages)
        for message in messages:
            if not isinstance(message, Shutdown):
                continue
            self._save_s = message.save_s
            self._is_stopping = True
            with self._abort_lock:
                if self._abort_step is not None:
                    self._abort_step()
        self._has_work.set()

    def _tick(self) -> None:
        if self._channel.num_unsent_bytes > MAX_LOG_BACKLOG_BYTES:
            return  # this thread is the one that makes room, so it must not wait for room
        self._outbox.flush()
        now_s = time.monotonic()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + HEARTBEAT_S
            self._beat()

    def _beat(self) -> None:
        started_s = self._step_started_s
        running_s = time.monotonic() - started_s if started_s else 0.0
        self._channel.send(Heartbeat(self._num_steps, running_s, rss_bytes()))


def engine_factory(
    name: str,
) -> Callable[[EngineSettings, Callable[[float], bool]], Any]:
    """The factory that `Load.engine` names: "llama", or "module:attribute"."""
    if name == "llama":
        from fmedge._native.engine import Engine
        from fmedge._native.logs import LogForwarder

        LogForwarder()  # to `logging`, for as long as the process lives

        def load(settings: EngineSettings, report: Callable[[float], bool]) -> Any:
            if not settings.rpc:
                return Engine.load(settings, report)
            from fmedge.replica.rpc import checked, guard_connections

            checked(settings.rpc)
            engine = Engine.load(settings, report)
            guard_connections()
            return engine

        return load
    module_name, _, attribute = name.partition(":")
    factory = getattr(importlib.import_module(module_name), attribute)
    return cast("Callable[[EngineSettings, Callable[[float], bool]], Any]", factory)


def load_failure(error: Exception) -> LoadFailed:
    """What the front shall know of an engine that could not be loaded."""
    kind: Literal["file", "memory", "device", "other"]
    match error:
        case ModelFileError():
            kind = "file"
        case OutOfMemoryError() | MemoryError():
            kind = "memory"
        case DeviceError():
            kind = "device"
        case _:
            kind = "other"
            log.debug("load failed", exc_info=error)
    message = str(error) or type(error).__name__
    return LoadFailed(kind, message)


def rss_bytes() -> int:
    """This process's resident memory."""
    with open("/proc/self/statm", "rb") as statm:
        num_pages = int(statm.read().split()[1])
    return num_pages * os.sysconf("SC_PAGE_SIZE")


def main(arguments: list[str]) -> int:
    """Serve the socketpair end whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if len(arguments) != 2 or not all(argument.isdigit() for argument in arguments):
        sys.stderr.write("fmedge.replica.worker is started by fmedge itself, not by hand.\n")
        return 2
    fd, parent_pid = map(int, arguments)
    die_with_parent(parent_pid)
    channel = WorkerChannel(socket.socket(fileno=fd))
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[ChannelLogHandler(channel)]
    )
    try:
        status = Worker(channel).run()
    except Exception:
        log.exception("the worker failed")
        status = EXIT_INTERNAL
    channel.flush(FLUSH_TIMEOUT_S)
    return status


if __name__ == "__main__":
    exit_status = main(sys.argv[1:])
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # No interpreter shutdown: the I/O thread may hold anything, and the kernel frees faster.
    os._exit(exit_status)
