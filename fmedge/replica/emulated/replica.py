"""A replica on the event loop that answers when the hardware that it stands for would have.

The rule: the engine loop runs in virtual time, and what a step emits is held back until the real
clock has come to its virtual end. A step begun never changes: what arrives meanwhile, even while
its end is announced late, is seen by the first step that begins after it. Being late never adds up,
as the next step begins where the last one ended in virtual time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from fmedge.errors import ReplicaLostError, UnavailableError
from fmedge.replica.emulated.engine import EmulatedEngine, VirtualClock, engine_info
from fmedge.replica.interface import ReplicaListener, ReplicaState, ReplicaStatus
from fmedge.replica.loop import EngineLoop
from fmedge.replica.measure import measure
from fmedge.replica.protocol import (
    Cancel,
    ClearCache,
    Embed,
    Embedded,
    Failed,
    Measure,
    Measured,
    Step,
    Submit,
    WorkerMessage,
)
from fmedge.sched.emulation import ReplicaSpec
from fmedge.types import EngineInfo, Vocab

COMPILER_POLL_S = 0.005
TIMER_S = 0.0005
"""Half of what event loops' timers count in: what is due within it is due."""

AIM_S = 0.0004
"""Timers are late by up to what they count in; aimed so early, by half of it on average."""

log = logging.getLogger(__name__)


class Lateness(Struct, frozen=True):
    """How far the real clock was past the end of steps when they were announced, in seconds."""

    num_steps: int = 0
    mean_s: float = 0.0
    max_s: float = 0.0


class EmulatedReplica:
    """See `interface.Replica`. Use it on one event loop; nothing of it blocks."""

    def __init__(
        self,
        spec: ReplicaSpec,
        vocab: Vocab,
        *,
        info: EngineInfo | None = None,
        load_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """info: what it says of its engine, by default `engine_info`. load_s: from start to ready.
        clock: real seconds, as the event loop's timers count them."""
        self.name = spec.name
        self.model = spec.model
        self._spec = spec
        self._vocab = vocab
        self._info = replace(info or engine_info(spec, vocab), load_s=load_s)
        self._load_s = load_s
        self._clock = clock
        self._state: ReplicaState = "stopped"
        self._error = ""
        self._listener: ReplicaListener | None = None
        self._started_s = 0.0
        self._timer: asyncio.TimerHandle | None = None  # of the load, then of the next step's end
        self._virtual = VirtualClock()
        engine = EmulatedEngine(spec, vocab, self._virtual, info=self._info)
        self._loop = EngineLoop(engine, self._hold, clock=self._virtual)
        self._inbox: deque[tuple[float, Submit | Embed | Cancel | ClearCache]] = deque()
        self._outbox: deque[tuple[float, WorkerMessage]] = deque()  # by virtual time
        self._measuring: asyncio.Task[Measured] | None = None
        self._interrupt = threading.Event()  # of what measures, or has
        self._num_steps = 0
        self._late_s = 0.0
        self._max_late_s = 0.0

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(
            name=self.name,
            model=self.model,
            state=self._state,
            load_fraction=self._load_fraction(),
            error=self._error,
            failure="other" if self._error else "",
            info=None if self._state in ("stopped", "loading") else self._info,
        )

    def _load_fraction(self) -> float:
        if self._state == "stopped":
            return 0.0
        if self._state != "loading" or self._load_s <= 0:
            return 1.0
        return min(1.0, (self._clock() - self._started_s) / self._load_s)

    def lateness(self) -> Lateness:
        """Of all steps so far: whether this process kept up with the emulated time."""
        mean_s = self._late_s / self._num_steps if self._num_steps else 0.0
        return Lateness(self._num_steps, mean_s, self._max_late_s)

    def start(self, listener: ReplicaListener) -> None:
        if self._state != "stopped":
            raise RuntimeError("a replica is started once")
        self._listener = listener
        self._state = "loading"
        self._started_s = self._clock()
        self._timer = asyncio.get_running_loop().call_later(self._load_s, self._on_loaded)

    def submit(self, request: Submit | Embed) -> None:
        if self._state != "ready":
            raise ReplicaLostError(f"Replica {self.name} is {self._state}.")
        self._tell(request)

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
        """As `interface.Replica` says, max_s being virtual: it takes as long as it takes to
        compute. What `Noise.slowdown` slows is found as fast as everybody was told."""
        if self._measuring is not None and not self._measuring.done():
            raise _busy(f"Replica {self.name} is being measured already.")
        if self._state != "ready":
            raise ReplicaLostError(f"Replica {self.name} is {self._state}.")
        if self._inbox or self._outbox or not self._loop.is_idle:
            raise _busy(f"Replica {self.name} has work; measure it when it is idle.")
        self._loop.empty_cache()
        interrupt = self._interrupt = threading.Event()
        steps: list[Step] = []
        work = asyncio.to_thread(self._measure, Measure(points, max_s), interrupt, steps)
        self._measuring = asyncio.create_task(work, name=f"measure {self.name}")
        try:
            measured = await asyncio.shield(self._measuring)
        except asyncio.CancelledError:
            interrupt.set()
            await asyncio.wait((self._measuring,))  # at most a step's computing
            raise
        if self._state != "ready":
            raise ReplicaLostError(f"Replica {self.name} was lost while it was measured.")
        if on_step is not None:
            for step in steps:
                on_step(step)
        return measured

    async def close(self, deadline_s: float = 5.0, *, save_kv: bool = False) -> None:
        """End it at once; there is no KV to be saved."""
        if self._state == "closed":
            return
        was_ready, has_failed = self._state == "ready", self._state == "failed"
        self._tell_lateness()
        self._state = "closed"
        self._stop()
        if self._measuring is not None:
            await asyncio.wait((self._measuring,), timeout=deadline_s)
        await asyncio.to_thread(self._loop.close)
        if self._listener is None or has_failed:
            return
        if was_ready:
            self._listener.on_lost(self, "was closed", crashed=False)
        self._listener.on_gone(self, "it was closed")

    # what arrives, and when

    def _on_loaded(self) -> None:
        assert self._listener is not None
        self._timer = None
        self._state = "ready"
        self._listener.on_ready(self, self._info)

    def _tell(self, message: Submit | Embed | Cancel | ClearCache) -> None:
        if self._state != "ready":
            return
        self._interrupt.set()
        now_s = self._clock()
        self._inbox.append((now_s, message))
        if self._timer is None:
            self._wake_at(now_s)

    def _wake_at(self, due_s: float) -> None:
        delay_s = max(0.0, due_s - self._clock() - AIM_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        """Announce what is due; if that is all, run a step, or rest until something arrives."""
        self._timer = None
        now_s = self._clock() + TIMER_S
        try:
            self._announce(now_s)
            if self._state != "ready" or self._timer is not None:
                return
            is_resting = not self._outbox and self._virtual.now_s <= now_s and not self._run_step()
        except Exception as error:
            self._fail(error)
            return
        if is_resting:
            return
        # Even what is due by now waits its turn: others use this event loop, too.
        self._wake_at(self._outbox[0][0] if self._outbox else self._virtual.now_s)

    def _announce(self, now_s: float) -> None:
        listener, outbox = self._listener, self._outbox
        assert listener is not None
        while outbox and outbox[0][0] <= now_s and self._state == "ready":
            due_s, message = outbox.popleft()
            if isinstance(message, Step):
                late_s = max(0.0, now_s - TIMER_S - due_s)
                self._num_steps += 1
                self._late_s += late_s
                self._max_late_s = max(self._max_late_s, late_s)
                listener.on_step(self, message)
            elif isinstance(message, Embedded):
                listener.on_embedded(self, message)
            elif isinstance(message, Failed):
                listener.on_failed(self, message)

    # the engine, in virtual time

    def _hold(self, message: WorkerMessage) -> None:
        """What the loop emits: it is known from its virtual time on."""
        self._outbox.append((self._virtual.now_s, message))

    def _run_step(self) -> bool:
        """Run what begins now in virtual time; False if there is nothing to do."""
        loop, inbox, virtual = self._loop, self._inbox, self._virtual
        if loop.is_idle:
            if not inbox:
                return False
            # As a worker finds what came in one frame: all of it begins together.
            virtual.now_s = max(virtual.now_s, inbox[-1][0])
        while inbox and inbox[0][0] <= virtual.now_s:
            self._handle(inbox.popleft()[1])
        if loop.awaits_compiler:  # a thread of its own, in real time
            virtual.now_s = max(virtual.now_s, self._clock()) + COMPILER_POLL_S
            return True
        return loop.run_step() or bool(inbox) or bool(self._outbox)

    def _handle(self, message: Submit | Embed | Cancel | ClearCache) -> None:
        match message:
            case Submit():
                self._loop.submit(message)
            case Cancel():
                self._loop.cancel(message.request_ids)
            case Embed():
                self._loop.embed(message)
            case ClearCache():
                self._loop.clear_cache(message.cache_key)

    def _measure(self, request: Measure, interrupt: threading.Event, steps: list[Step]) -> Measured:
        """On a thread; an engine of its own, so that the noise of traffic's steps stays as it is
        in a simulation, where nothing is measured."""
        noise = replace(self._spec.noise, slowdown={})
        clock = VirtualClock()
        spec = replace(self._spec, noise=noise)
        engine = EmulatedEngine(spec, self._vocab, clock, info=self._info)

        def keep(message: WorkerMessage) -> None:
            if isinstance(message, Step):
                steps.append(message)

        return measure(
            request,
            engine,
            keep,
            run_step=EngineLoop.run_step,
            is_interrupted=interrupt.is_set,
            clock=clock,
        )

    # its end

    def _tell_lateness(self) -> None:
        late = self.lateness()
        if late.num_steps:
            log.info(
                "replica %s: %d emulated steps, announced %.1f ms late on average, %.1f ms at most",
                self.name,
                late.num_steps,
                1e3 * late.mean_s,
                1e3 * late.max_s,
            )

    def _stop(self) -> None:
        self._interrupt.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._inbox.clear()
        self._outbox.clear()

    def _fail(self, error: Exception) -> None:
        """The emulation itself is wrong: as if a worker had crashed for good."""
        log.exception("replica %s failed", self.name)
        self._state, self._error = "failed", f"internal error: {error}"
        self._stop()
        assert self._listener is not None
        self._listener.on_lost(self, self._error, crashed=True)
        self._listener.on_gone(self, self._error)


def _busy(message: str) -> UnavailableError:
    return UnavailableError(message, retry_after_s=5.0, code="busy")
