"""What a server has learned, kept over restarts: one file for each kind, whole or not at all.

Losing it costs quality for a while and never a request, so nothing here raises: what goes wrong is
logged once, and the server serves on. One server at a time writes to a folder; another that shares
it reads what is there, and takes over when the first has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import stat
import threading
from pathlib import Path

MAX_FILE_BYTES = 64 << 20
LOCK_NAME = "server.lock"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

log = logging.getLogger(__name__)


class StateStore:
    """Its methods may be called from any thread; `save` waits for the disk."""

    def __init__(self, folder: Path | None, *, is_writer: bool = True) -> None:
        """folder None: there is no place for state. is_writer False: reads what others learned and
        never writes, as for a server that lives for one command. Nothing is opened yet."""
        self.folder = folder
        self.is_writer = is_writer
        self._lock_fd = -1
        self._mutex = threading.Lock()
        self._warned: set[str] = set()

    def open(self) -> None:
        """Make the folder and try to become its writer, so that what is wrong is logged at start
        and not when the first thing is saved."""
        if not self.is_writer:
            return
        if self.folder is None:
            self._warn("folder", "there is no home folder for what is learned: set --state-dir")
        else:
            with self._mutex:
                self._owns(self.folder)

    @property
    def is_kept(self) -> bool:
        """Whether what is saved is kept, by what was seen last."""
        return self._lock_fd >= 0 and "save" not in self._warned

    def load(self, name: str) -> bytes | None:
        """What was saved under `name`; None if there is nothing, or nothing to be trusted."""
        _check_name(name)
        if self.folder is None or not self._is_safe(self.folder):
            return None
        path = self.folder / name
        try:
            # Without waiting: a pipe of that name would keep the server from starting.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"load {name}", f"{path}: cannot read what was learned: {error.strerror}")
            return None
        try:
            with open(fd, "rb") as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
                    self._warn(f"load {name}", f"{path}: not a file of ours: it is ignored")
                    return None
                return file.read(MAX_FILE_BYTES)
        except OSError as error:
            self._warn(f"load {name}", f"{path}: cannot read what was learned: {error.strerror}")
            return None

    def save(self, name: str, data: bytes) -> bool:
        """Replace what was saved under `name`, so that a crash leaves the old or the new. False
        where it could not be, or another server is the folder's writer."""
        _check_name(name)
        if self.folder is None or not self.is_writer:
            return False
        if len(data) > MAX_FILE_BYTES:
            self._warn(f"save {name}", f"{name}: {len(data)} bytes are too many to keep")
            return False
        with self._mutex:
            if not self._owns(self.folder):
                return False
            try:
                _write(self.folder, name, data)
            except OSError as error:
                self._warn(
                    "save", f"{self.folder}: cannot keep what is learned: {error.strerror}; "
                    "serving goes on without",
                )  # fmt: skip
                return False
            if "save" in self._warned:
                self._warned.discard("save")
                log.info("%s: what is learned is kept again", self.folder)
            return True

    def close(self) -> None:
        """Let another server write. Idempotent."""
        with self._mutex:
            self.is_writer = False
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    def is_safe(self) -> bool:
        """Whether nobody else could have put there, or would find, what is this server's."""
        return self.folder is not None and self._is_safe(self.folder)

    def _owns(self, folder: Path) -> bool:
        """Whether this server is the folder's writer; becomes it where nobody is."""
        if self._lock_fd >= 0:
            return True
        fd = -1
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._is_safe(folder):
                return False
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(folder / LOCK_NAME, flags, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            self._warn(
                "lock",
                f"{folder}: another server keeps there what it learns; this one reads it and "
                "keeps nothing until that one ends (or give it its own --state-dir)",
            )
            return False
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            self._warn(
                "lock",
                f"{folder}: cannot keep what is learned: {error.strerror}; give a writable "
                "--state-dir",
            )
            return False
        self._lock_fd = fd
        if "lock" in self._warned:
            self._warned.discard("lock")
            log.info("%s: what is learned is kept there from now on", folder)
        return True

    def _is_safe(self, folder: Path) -> bool:
        """Whether nobody else could have put there what this server would believe."""
        try:
            status = folder.stat()
        except FileNotFoundError:
            return True
        except OSError as error:
            self._warn("folder", f"{folder}: cannot be used for state: {error.strerror}")
            return False
        if not stat.S_ISDIR(status.st_mode):
            self._warn("folder", f"{folder}: not a folder: give another --state-dir")
        elif status.st_uid not in (os.geteuid(), 0):
            self._warn(
                "folder", f"{folder}: belongs to another user: what was learned there is not used; "
                "give another --state-dir",
            )  # fmt: skip
        elif status.st_mode & stat.S_IWOTH:
            self._warn(
                "folder", f"{folder}: every user may write there: it is not used; "
                f"run: chmod o-w {folder}",
            )  # fmt: skip
        else:
            return True
        return False

    def _warn(self, what: str, message: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            log.warning("%s", message)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == LOCK_NAME:
        raise ValueError(f"{name!r} is no name for a state file")


def _write(folder: Path, name: str, data: bytes) -> None:
    """Only a folder's writer gets here, one call at a time: the name beside cannot be in use, and
    one that a crash left is overwritten."""
    beside = folder / f".{name}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(beside, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    # The name itself is on the disk only when the folder is.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
