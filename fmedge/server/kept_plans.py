"""Plans kept for the next start, a file each, by what they were made of.

The rule: a plan is found under the key of just what it was made of, so that any server may add one
and none spoils another's. Losing one costs making it again; so nothing here raises.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from msgspec import Struct

from fmedge.sched.provision.plan import Plan
from fmedge.server.state import StateStore

FOLDER = "plans"
MAX_PLANS = 32


class _Kept(Struct, frozen=True):
    key: str
    plan: Plan


class KeptPlans:
    """Its methods wait for the disk, and may be called from any thread."""

    def __init__(self, folder: Path | None) -> None:
        """folder: the server's state folder; None: nothing is kept."""
        self._folder = None if folder is None else folder / FOLDER

    def load(self, key: str) -> Plan | None:
        """The plan that was saved under this key; key: hexadecimal digits."""
        data = StateStore(self._folder, is_writer=False).load(_file_name(key))
        try:
            kept = msgspec.json.decode(data or b"", type=_Kept)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            return None
        return kept.plan if kept.key == key else None

    def save(self, key: str, plan: Plan) -> bool:
        """Keep it in place of an older one of its key; of many keys, the last ones."""
        if self._folder is None:
            return False
        state = StateStore(self._folder)
        try:
            is_saved = state.save(_file_name(key), msgspec.json.encode(_Kept(key, plan)))
            if is_saved:
                _forget_old(self._folder)
            return is_saved
        finally:
            state.close()


def _forget_old(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another server may be forgetting as well
        files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for file in files[:-MAX_PLANS]:
            file.unlink()


def _file_name(key: str) -> str:
    return f"{key[:32]}.json"
