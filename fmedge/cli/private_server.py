"""A server for one command: on a Unix socket in a private folder, gone when the command is.

The two are joined by a socketpair. The server says b"ready" on it, and stops when it closes, so
that nothing is left over whatever ends this process.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import IO

from fmedge import children
from fmedge.errors import FmedgeError

STOP_TIMEOUT_S = 10.0


class PrivateServer:
    """A context manager; `url` is where it answers once entered."""

    def __init__(self, serve_args: Sequence[str], start_timeout_s: float = 3600.0) -> None:
        self._args = list(serve_args)
        self._start_timeout_s = start_timeout_s
        self._folder: Path | None = None
        self._log: IO[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix:{self._inside('http.sock')}"

    def __enter__(self) -> PrivateServer:
        self._folder = Path(tempfile.mkdtemp(prefix="fmedge-run-"))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _inside(self, name: str) -> Path:
        if self._folder is None:
            raise RuntimeError("the private server is not entered")
        return self._folder / name

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._lifeline = ours
        command = children.fmedge_command("serve", *self._args)
        command += ["--unix-socket", str(self._inside("http.sock"))]
        command += ["--lifeline-fd", str(theirs.fileno())]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the server)
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is for the command alone
            )
        deadline_s = monotonic() + self._start_timeout_s
        readable, _, _ = select.select([ours], [], [], max(0.0, deadline_s - monotonic()))
        if not readable:
            raise FmedgeError(f"the model did not load within {self._start_timeout_s:g} s")
        if ours.recv(16) != b"ready":
            raise FmedgeError(self._last_words())

    def _last_words(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("fmedge: error: ")]
        if errors:
            return errors[-1].removeprefix("fmedge: error: ")
        return f"the model's server ended: {lines[-1] if lines else 'it left no message'}"

    def stop(self) -> None:
        """Ends the server and removes its folder; idempotent."""
        if self._lifeline is not None:
            self._lifeline.close()
        process = self._process
        if process is not None and process.poll() is None:
            if not _ends_within(process.pid, STOP_TIMEOUT_S):
                process.kill()
            process.wait()
        if self._log is not None:
            self._log.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _ends_within(pid: int, timeout_s: float) -> bool:
    """Whether a child ends in time; its status is left to be read."""
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], timeout_s)[0])
    finally:
        os.close(pidfd)
