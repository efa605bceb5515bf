"""Measured speeds of devices, kept in the state folder's devices.json.

The rule: an entry counts only for the very device, driver, build and threads that it was measured
with. Losing the file costs a measurement; so nothing here raises.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from fmedge.replica.speed import Speed
from fmedge.server.state import StateStore

NAME = "devices.json"
VERSION = 2
MAX_ENTRIES = 128
STALE_S = 3600.0

log = logging.getLogger(__name__)


class Entry(Struct, kw_only=True):
    """What was measured of one device. context_bytes: what opening it took of its memory.
    measured_s: when, by the wall clock. is_busy: other programs took much of the machine then."""

    what: str
    speed: Speed
    context_bytes: int = 0
    measured_s: float = 0.0
    is_busy: bool = False


class _File(Struct):
    version: int
    devices: dict[str, Entry]


def fingerprint(facts: Sequence[str | int]) -> str:
    """Of all that a measurement depends on."""
    return hashlib.sha256(msgspec.json.encode(list(facts))).hexdigest()[:32]


class DeviceCache:
    """folder None: nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._entries: dict[str, Entry] = {}
        self._state = StateStore(folder, is_writer=False)
        data = self._state.load(NAME)
        if data is not None:
            try:
                file = msgspec.json.decode(data, type=_File)
            except msgspec.MsgspecError as error:
                log.warning("%s: not what was written there: %s", folder, error)
            else:
                if file.version == VERSION:
                    self._entries = {k: e for k, e in file.devices.items() if _is_sane(e.speed)}

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def put(self, key: str, entry: Entry) -> None:
        """Kept from the next save on."""
        self._entries[key] = entry
        while len(self._entries) > MAX_ENTRIES:
            del self._entries[min(self._entries, key=lambda k: self._entries[k].measured_s)]

    def save(self) -> bool:
        """Replaces the file, so that a crash leaves the old or the new; the last writer wins.
        False where it cannot be."""
        folder = self._folder
        if folder is None or not self._state.is_safe():
            return False
        data = msgspec.json.format(msgspec.json.encode(_File(VERSION, self._entries)))
        beside = ""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd, beside = tempfile.mkstemp(prefix=f".{NAME}.", dir=folder)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, folder / NAME)
            _remove_stale(folder)
        except OSError as error:
            if beside:
                with contextlib.suppress(OSError):
                    os.unlink(beside)
            log.warning("%s: cannot keep what devices measured: %s", folder, error.strerror)
            return False
        return True


def _remove_stale(folder: Path) -> None:
    """What killed processes were writing."""
    for path in folder.glob(f".{NAME}.*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink()


def _is_sane(speed: Speed) -> bool:
    """What plans divide by."""
    figures = [x for s in speed.types for x in (s.bandwidth_gb_s, s.tflop_s)]
    optional = (speed.link_gb_s, speed.attention_gmac_s, speed.kv_gb_s, speed.op_s)
    return (
        bool(figures) and all(0 < x < 1e6 for x in figures) and all(0 <= x < 1e6 for x in optional)
    )
