"""The log of `fmedge serve --record`: one line for each request, without its texts.

The rule: no request waits for the log. What it cannot take is counted and left out; when it cannot
be written any more, one warning says so and serving goes on.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fmedge import __version__
from fmedge.errors import ConfigError
from fmedge.sim.infinity import with_nulls
from fmedge.sim.recorded import (
    BLOCK_TOKENS,
    FORMAT,
    HASH_CHARS,
    Header,
    Logged,
    Terms,
    Workflow,
    is_recorded,
)
from fmedge.types import BEST_EFFORT, Promise, WorkflowSettings

if TYPE_CHECKING:
    from fmedge.dispatch.generation import Generation

MAX_WAITING_BYTES = 64 << 20
"""Of prompts that the log has not taken yet."""
LINE_BYTES = 1024
"""That a waiting line counts for beside its prompt."""
CLOSE_TIMEOUT_S = 5.0

_BLOCK_BYTES = 4 * BLOCK_TOKENS
_BREATH_BYTES = 64 * _BLOCK_BYTES
_HASH_BYTES = HASH_CHARS * 6 // 8
_KEY_CHARS = 12

log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    line: Logged
    prompt: bytes = b""
    cache_key: str = ""
    api_key: str = ""

    @property
    def num_bytes(self) -> int:
        return LINE_BYTES + len(self.prompt)


class Recording:
    """dispatch.record.Recorder. A thread of its own hashes prompts and writes; hashes are keyed by
    what this run alone knows, so that nobody can look for a known prompt in the log."""

    def __init__(
        self, path: Path, workflows: Mapping[str, WorkflowSettings], *, waiting_bytes: int
        = MAX_WAITING_BYTES
    ) -> None:  # fmt: skip
        """Appends to a log that is there. ConfigError for a file that is none, cannot be written,
        or is another server's."""
        self._path = path
        self._fd = _opened(path)
        self._secret = secrets.token_bytes(32)
        # Of one clock: the wall clock may be set while the server runs.
        self._unix_s = time.time() - time.monotonic()
        self._max_waiting_bytes = waiting_bytes
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._num_left_out = 0
        self._is_over = False
        header = Header(
            fmedge_log=FORMAT,
            version=__version__,
            started_unix_s=time.time(),
            workflows={name: _workflow(found) for name, found in workflows.items()},
        )
        try:
            _write(self._fd, msgspec.json.encode(header) + b"\n")
        except OSError as error:
            os.close(self._fd)
            raise ConfigError(f"{path}: cannot write the log: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, name="fmedge-record", daemon=True)
        self._thread.start()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ended(self, generation: Generation, outcome: str) -> None:
        if self._is_over:
            return
        request, call = generation.request, generation.request.workflow
        first_s, arrived_s = generation.first_token_s, generation.arrived_s
        line = Logged(
            at_unix_s=round(self._unix_s + arrived_s, 6),
            outcome=outcome,
            model=request.model,
            num_prompt=len(request.prompt) // 4,
            num_output=generation.num_tokens,
            num_cached=generation.num_cached_tokens,
            max_tokens=generation.max_tokens,
            ttft_s=round(first_s - arrived_s, 6) if first_s else None,
            e2e_s=round(time.monotonic() - arrived_s, 6),
            replica=generation.replica,
            kind="" if request.grammar is None else "grammar",
            sla=_terms(request.promise),
            priority=request.priority,
            workflow="" if call is None else call.workflow,
            instance="" if call is None else call.instance,
            stage="" if call is None else call.stage,
            is_last=call is not None and call.is_last,
        )
        self._put(_Waiting(line, request.prompt, request.cache_key, request.api_key_id))

    def refused(self, model: str, promise: Promise | None, outcome: str) -> None:
        at_unix_s = round(self._unix_s + time.monotonic(), 6)
        terms = _terms(promise or BEST_EFFORT)
        line = Logged(at_unix_s=at_unix_s, outcome=outcome, model=model, num_prompt=0, sla=terms)
        self._put(_Waiting(line))

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Writes what waits, for so long at most. Idempotent."""
        if self._is_over and not self._thread.is_alive():
            return
        self._is_over = True
        self._waiting.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning("%s: the disk is too slow: the log's end is missing", self._path)
        if self._num_left_out:
            log.warning("%s: %d requests are missing in it", self._path, self._num_left_out)

    def _put(self, waiting: _Waiting) -> None:
        with self._lock:
            if self._is_over:
                return
            if self._waiting_bytes + waiting.num_bytes > self._max_waiting_bytes:
                self._num_left_out += 1
                is_first = self._num_left_out == 1
            else:
                self._waiting_bytes += waiting.num_bytes
                self._waiting.put(waiting)
                return
        if is_first:
            log.warning("%s: the disk is too slow: some requests are left out", self._path)

    # --- the thread ---

    def _run(self) -> None:
        encoder = msgspec.json.Encoder()
        try:
            while (waiting := self._waiting.get()) is not None:
                with self._lock:
                    self._waiting_bytes -= waiting.num_bytes
                # One write for each line, which lets go of the interpreter after each.
                _write(self._fd, encoder.encode(self._finished(waiting)) + b"\n")
        except OSError as error:
            with self._lock:
                self._is_over = True
            log.warning("%s: %s: no request is recorded any more", self._path, error.strerror)
        finally:
            os.close(self._fd)

    def _finished(self, waiting: _Waiting) -> Logged:
        api_key = ""
        if waiting.api_key:
            api_key = self._digest(b"key", waiting.api_key, 9).hexdigest()[:_KEY_CHARS]
        return msgspec.structs.replace(
            waiting.line, api_key=api_key, blocks=self._blocks(waiting.prompt, waiting.cache_key)
        )

    def _blocks(self, prompt: bytes, cache_key: str) -> str:
        """HASH_CHARS for each whole block, of all of the prompt up to its end."""
        so_far = self._digest(b"block", cache_key, _HASH_BYTES)
        hashes = []
        for end in range(_BLOCK_BYTES, len(prompt) + 1, _BLOCK_BYTES):
            if end % _BREATH_BYTES == 0:
                time.sleep(0)  # the event loop need not wait for a whole long prompt
            so_far.update(prompt[end - _BLOCK_BYTES : end])
            hashes.append(so_far.copy().digest())
        return base64.urlsafe_b64encode(b"".join(hashes)).decode()

    def _digest(self, what: bytes, text: str, size: int) -> hashlib.blake2b:
        begun = hashlib.blake2b(digest_size=size, key=self._secret, person=what)
        begun.update(len(text).to_bytes(4, "little") + text.encode("utf-8", "surrogateescape"))
        return begun


def _opened(path: Path) -> int:
    """To append to; locked."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write the log: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _check(fd, path)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"{path}: another server records into it: name another file") from None
    except OSError as error:
        os.close(fd)
        raise ConfigError(f"{path}: cannot write the log: {error.strerror}") from error
    except ConfigError:
        os.close(fd)
        raise
    return fd


def _check(fd: int, path: Path) -> None:
    """A log that a crash cut off in mid-line ends with its last whole line."""
    status = os.fstat(fd)
    size = status.st_size
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: is no plain file: name another")
    if size == 0:
        return
    first = os.pread(fd, 1 << 20, 0).partition(b"\n")[0]
    if not is_recorded(first):
        raise ConfigError(f"{path}: is there, and is no log of fmedge: name another file")
    end = size
    while end:
        begin = max(0, end - (1 << 20))
        newline = os.pread(fd, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end < size:
        os.ftruncate(fd, end)


def _write(fd: int, line: bytes) -> None:
    """All of it or, where there is no room, nothing."""
    before = os.fstat(fd).st_size
    try:
        done = 0
        while done < len(line):
            done += os.write(fd, line[done:])
    except OSError:
        os.ftruncate(fd, before)
        raise


def _terms(promise: Promise) -> Terms | None:
    return None if promise == BEST_EFFORT else Terms(**with_nulls(promise))


def _workflow(settings: WorkflowSettings) -> Workflow:
    values = with_nulls(settings)
    del values["name"]
    return Workflow(**values)
