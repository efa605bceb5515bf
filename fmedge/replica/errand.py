"""Questions to a child process that may die of them; every wait is bounded.

The rule: what could end this process is done in the child. It is started at the first question,
killed when an answer is late, and started anew at the next question after it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from fmedge import children
from fmedge.errors import FmedgeError
from fmedge.replica.process import signal_name

_MAX_ANSWER_BYTES = 4 << 20
_MAX_LINES = 5
_END_TIMEOUT_S = 5.0


class ErrandError(FmedgeError):
    """The child died of a question, or did not answer in time."""


class NotStartedError(ErrandError):
    """There could be no child. reason: the system's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"could not be started: {reason}")
        self.reason = reason


class LateError(ErrandError):
    """No answer in time."""


class Errand:
    """One child that runs `MODULE FD ARGUMENTS` and there calls `answer_questions`.

    MODULE is one of children.MODULES. Questions and answers are lines. One question at a time;
    further ones wait for their turn.
    """

    def __init__(
        self,
        module: str,
        *,
        arguments: tuple[str, ...] = (),
        command: tuple[str, ...] | None = None,
    ) -> None:
        """command: the child's, for tests; it gets the descriptor's number and the arguments."""
        self._command = command or tuple(children.module_command(module))
        self._arguments = arguments
        self._turn = asyncio.Lock()
        self._is_closed = False
        self._process: asyncio.subprocess.Process | None = None
        self._answers: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._errors: asyncio.Task[list[str]] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def ask(self, question: bytes, timeout_s: float) -> bytes:
        """The child's answer, without its line end. ErrandError if there is none; timeout_s counts
        from when the question's turn has come."""
        async with self._turn:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._exchange(question)
            except TimeoutError:
                await self._end()
                raise LateError(f"gave no answer within {timeout_s:.0f} s") from None
            except BaseException:
                await self._end()  # an interrupted exchange leaves an answer that nobody asked for
                raise

    async def close(self) -> None:
        """Ends the child, after a question that is being answered; whoever asks from now on gets
        an ErrandError, and no child. Idempotent."""
        self._is_closed = True
        async with self._turn:
            await self._end()

    async def __aenter__(self) -> Errand:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _end(self) -> None:
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

    async def _exchange(self, question: bytes) -> bytes:
        if self._is_closed:
            raise ErrandError("is over")
        if self._process is None:
            await self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._answers is not None
        line = b""
        with contextlib.suppress(ConnectionError, asyncio.LimitOverrunError, ValueError):
            self._process.stdin.write(question + b"\n")
            await self._process.stdin.drain()
            line = await self._answers.readline()
        if not line.endswith(b"\n"):
            raise ErrandError(await self._last_words())
        return line[:-1]

    async def _start(self) -> None:
        read_fd, write_fd = os.pipe()
        reading = os.fdopen(read_fd, "rb", 0)
        try:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, str(write_fd), *self._arguments,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE, pass_fds=(write_fd,), start_new_session=True,
                    # ggml would start a debugger to say where it aborts
                    env={**children.environment(), "GGML_NO_BACKTRACE": "1"},
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
            raise NotStartedError(error.strerror or str(error)) from error
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


def answer_questions(fd: int, answer: Callable[[bytes], bytes]) -> None:
    """The child's life: each line of stdin is answered on fd. It ends with its stdin, even in the
    midst of an answer, and is the first that the kernel ends where memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    questions: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(questions,), daemon=True).start()
    with open(fd, "wb", buffering=0) as out:
        while True:
            out.write(answer(questions.get()) + b"\n")


def _read(questions: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        questions.put(line.removesuffix(b"\n"))
    os._exit(0)


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
