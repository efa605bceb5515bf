"""Where conversations that left their KV cache are kept: on disk where the configuration says so,
else in the host's shared memory, where they live as long as this server."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from fmedge.config import ServerConfig, state_dir
from fmedge.replica.protocol import KvStoreSettings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it, for nobody else
_PREFIX = "fmedge-kv-"
MIB = 1 << 20


class KvPlaces:
    """One server's. Use `with`: what lies in shared memory ends with it."""

    def __init__(self, server: ServerConfig, shared: Path = SHARED_MEMORY) -> None:
        self._memory_bytes = server.kv_store_mib * MIB
        self._disk_bytes = server.kv_disk_mib * MIB
        state = state_dir(server.state_dir)
        self._folder = state / "kv" if state is not None and self._disk_bytes else None
        self._shared = shared
        self._own: Path | None = None

    @property
    def settings(self) -> KvStoreSettings | None:
        """For a replica; None: none are kept."""
        if not self._memory_bytes:
            return None
        if self._folder is not None:
            return KvStoreSettings(
                memory_bytes=self._memory_bytes,
                folder=str(self._folder),
                disk_bytes=self._disk_bytes,
            )
        return KvStoreSettings(
            memory_bytes=self._memory_bytes,
            folder="" if self._own is None else str(self._own),
            disk_bytes=0 if self._own is None else self._memory_bytes,
        )

    @property
    def outlives_replicas(self) -> bool:
        """Whether a replica that is unloaded has somewhere to leave its conversations."""
        settings = self.settings
        return settings is not None and bool(settings.folder)

    def __enter__(self) -> KvPlaces:
        if self._memory_bytes and self._folder is None and self._shared.is_dir():
            _remove_orphans(self._shared)
            own = self._shared / f"{_PREFIX}{os.getuid()}-{os.getpid()}"
            with contextlib.suppress(OSError):  # none, then
                shutil.rmtree(own, ignore_errors=True)
                own.mkdir(mode=0o700)
                self._own = own
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)


def _remove_orphans(shared: Path) -> None:
    """Of servers of this user that were killed."""
    for folder in shared.glob(f"{_PREFIX}{os.getuid()}-*"):
        pid = folder.name.rpartition("-")[2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
