"""Asks what devices there are and how fast they are, in a child process; every wait is bounded.

The rule: no device is opened in this process. A driver's context costs memory on the device for as
long as its process lives, and a driver that fails may end the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from types import TracebackType

import msgspec

from fmedge.errors import DeviceError
from fmedge.replica.probe_child import Answer, ListDevices, MeasureDevice, Question
from fmedge.replica.process import signal_name, worker_environment
from fmedge.replica.speed import Speed

LIST_TIMEOUT_S = 30.0
"""Drivers of many GPUs take seconds to start."""

MEASURE_TIMEOUT_S = 20.0
"""Beyond the budget: first kernels are compiled or loaded."""

_MAX_ANSWER_BYTES = 4 << 20
_MAX_LINES = 5
_END_TIMEOUT_S = 5.0


class Prober:
    """One child, started at the first question; use as `async with`. Questions one at a time.

    endpoint: the device server whose devices are meant instead of this machine's; the caller has
    looked at it (`rpc.look_at`). Every method raises DeviceError, and a later question then starts
    a new child.
    """

    def __init__(self, endpoint: str = "", *, command: tuple[str, ...] | None = None) -> None:
        """command: the child's, for tests; it gets the descriptor's number and the endpoint."""
        self._endpoint = endpoint
        self._command = command or (sys.executable, "-P", "-m", "fmedge.replica.probe_child")
        self._process: asyncio.subprocess.Process | None = None
        self._answers: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._errors: asyncio.Task[list[str]] | None = None

    @property
    def what(self) -> str:
        return f"the device server {self._endpoint}" if self._endpoint else "this machine's devices"

    async def devices(self, timeout_s: float = LIST_TIMEOUT_S) -> Answer:
        """The devices, in ggml's order, with llama.cpp's build."""
        return await self._ask(ListDevices(), timeout_s)

    async def measure(
        self, device: str, *, threads: int, budget_s: float, timeout_s: float = MEASURE_TIMEOUT_S
    ) -> Speed:
        """threads: of the host, where that is the device. timeout_s: beyond the budget."""
        question = MeasureDevice(device=device, threads=threads, budget_s=budget_s)
        answer = await self._ask(question, budget_s + timeout_s)
        if answer.speed is None:
            raise DeviceError(f"{device} of {self.what} told no speed")
        return answer.speed

    async def close(self) -> None:
        """Ends the child. Idempotent."""
        process, self._process = self._process, None
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if self._errors is not None:
            await self._errors
            self._errors = None

    async def __aenter__(self) -> Prober:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, question: Question, timeout_s: float) -> Answer:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange(question)
        except TimeoutError:
            await self.close()
            raise DeviceError(f"{self.what}: no answer within {timeout_s:.0f} s") from None
        except BaseException:
            await self.close()  # an interrupted exchange leaves an answer that nobody asked for
            raise
        if answer.error:
            raise DeviceError(f"{self.what}: {answer.error}")
        return answer

    async def _exchange(self, question: Question) -> Answer:
        if self._process is None:
            await self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._answers is not None
        line = b""
        with contextlib.suppress(ConnectionError, asyncio.LimitOverrunError, ValueError):
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            await self._process.stdin.drain()
            line = await self._answers.readline()
        if not line.endswith(b"\n"):
            raise DeviceError(
                f"{self.what}: the process that asked them {await self._last_words()}"
            )
        try:
            return msgspec.json.decode(line, type=Answer)
        except msgspec.MsgspecError as error:
            raise DeviceError(f"{self.what}: an answer without sense ({error})") from error

    async def _start(self) -> None:
        read_fd, write_fd = os.pipe()
        reading = os.fdopen(read_fd, "rb", 0)
        try:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, str(write_fd), *([self._endpoint] if self._endpoint else []),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE, pass_fds=(write_fd,),
                    env=worker_environment(), start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(write_fd)
            assert self._process.stderr is not None
            self._errors = asyncio.create_task(_last_lines(self._process.stderr))
            self._answers = asyncio.StreamReader(limit=_MAX_ANSWER_BYTES)
            protocol = asyncio.StreamReaderProtocol(self._answers)
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.connect_read_pipe(lambda: protocol, reading)
        except OSError as error:
            reading.close()
            raise DeviceError(f"{self.what}: cannot start a process: {error.strerror}") from error
        except BaseException:
            reading.close()
            raise

    async def _last_words(self) -> str:
        """How the child ended, with the last that it printed."""
        assert self._process is not None
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                status = await self._process.wait()
                lines = await self._errors if self._errors is not None else []
        except TimeoutError:
            return "no longer answers"
        end = f"died of {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        return f"{end}: {' | '.join(lines)}" if lines else end


async def _last_lines(stream: asyncio.StreamReader) -> list[str]:
    """Of all that comes until its end."""
    lines: list[str] = []
    tail = b""
    while data := await stream.read(1 << 16):
        *whole, tail = (tail + data).split(b"\n")
        lines += [line.decode("utf-8", "replace").strip()[:300] for line in whole if line.strip()]
        lines, tail = lines[-_MAX_LINES:], tail[-4096:]
    if tail.strip():
        lines.append(tail.decode("utf-8", "replace").strip()[:300])
    return lines[-_MAX_LINES:]
