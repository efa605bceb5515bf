"""KV of sequences as files, one sequence a file.

The rule: a file is whole or it is not there, and it is used only if every byte is as it was
written, for this model and these settings. So files appear by rename and carry checksums; nothing
is synced to the disk, as what a power failure tears is found out when it is read.

    8 bytes magic, uint32 version, header length, header checksum, body checksum
    header: msgpack of KvHeader
    body: int32 tokens[num_tokens], state

A folder holds one model's files. They contain prompts (as tokens): nobody else may read them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import re
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec import Struct

MAGIC = b"fmedgeKV"
VERSION = 1
SUFFIX = ".kv"
_PARTIAL = ".partial"
_PREFIX = struct.Struct("<8sIIII")
_MAX_HEADER_BYTES = 4096
_CHUNK_BYTES = 4 << 20
_STALE_PARTIAL_S = 3600.0
_MIN_FREE_BYTES = 1 << 30
_MIN_FREE_SHARE = 0.05
_SAMPLE_BYTES = 4096
_NUM_SAMPLES = 128
_SPLIT = re.compile(r"(.*-)(\d{5})(-of-(\d{5})\.gguf)")


class KvFileError(Exception):
    """A file is not what it should be; it has been removed."""


class KvHeader(Struct, frozen=True):
    """What a file is of. settings: digest of what its format depends on. owner: digest of the
    cache key, whose sequences alone may use it."""

    model: str
    settings: str
    owner: str
    num_tokens: int
    state_bytes: int


class KvFile(Struct, frozen=True):
    """A file that was found or written. tokens: packed int32, whose KV it holds. replaced: paths
    of files that went for its sake."""

    path: str
    owner: str
    tokens: bytes
    state_bytes: int
    replaced: tuple[str, ...] = ()


class KvFiles:
    """One model's files in a folder below `root`, which is bounded as a whole. Everything here
    blocks; methods may be called from any one thread at a time."""

    def __init__(
        self, root: str, model_path: str, *, settings: str, disk_bytes: int, max_tokens: int
    ) -> None:
        """settings: digest of what a state's format depends on. max_tokens: longer files are of
        no use."""
        self._root = Path(root)
        self._model_path = model_path
        self._settings = settings
        self._disk_bytes = disk_bytes
        self._max_tokens = max_tokens
        self._model = ""
        self._num_partial = 0

    @property
    def folder(self) -> Path:
        return self._root / self._model

    def open(self) -> tuple[list[KvFile], int]:
        """The files of this model and these settings, oldest use first, and how many were broken
        or strangers and are gone now. Call it first. OSError."""
        self._model = weights_digest(self._model_path)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: list[KvFile] = []
        num_removed = 0
        for path, _ in self._by_age(self.folder):
            try:
                with _open_regular(path) as file:
                    header, tokens = self._read_header(file, path)
            except KvFileError:
                num_removed += 1
                continue
            except OSError:
                continue  # another replica's, gone meanwhile
            if header.settings == self._settings and header.num_tokens <= self._max_tokens:
                found.append(KvFile(path, header.owner, tokens, header.state_bytes))
        self._remove_stale_partials()
        return found, num_removed

    def write(self, owner: str, tokens: bytes, state: memoryview) -> KvFile:
        """Keep a state. OSError: it is not kept, and nothing of it is left."""
        header = KvHeader(self._model, self._settings, owner, len(tokens) // 4, len(state))
        packed = msgspec.msgpack.encode(header)
        size = _PREFIX.size + len(packed) + len(tokens) + len(state)
        replaced = self._make_space(size)
        name = hashlib.blake2b(
            f"{self._settings} {owner} ".encode() + tokens, digest_size=20
        ).hexdigest()
        path = str(self.folder / (name + SUFFIX))
        self._num_partial += 1
        partial = f"{path}.{os.getpid()}-{self._num_partial}{_PARTIAL}"
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb", buffering=0) as file:
                file.seek(_PREFIX.size)
                _write(file.fileno(), packed)
                body_sum = 0
                for chunk in _chunks(tokens, state):
                    body_sum = crc32(chunk, body_sum)
                    _write(file.fileno(), chunk)
                file.seek(0)
                prefix = _PREFIX.pack(MAGIC, VERSION, len(packed), crc32(packed), body_sum)
                _write(file.fileno(), prefix)
            os.replace(partial, path)
        except OSError:
            self.remove(partial)
            raise
        return KvFile(path, owner, tokens, len(state), replaced)

    def read(self, wanted: KvFile) -> memoryview:
        """The state in a file. KvFileError, and the file is gone; OSError."""
        path = wanted.path
        with _open_regular(path) as file:
            header, tokens = self._read_header(file, path)
            body_sum = crc32(tokens)
            state = memoryview(mmap.mmap(-1, max(1, header.state_bytes)))[: header.state_bytes]
            for start in range(0, header.state_bytes, _CHUNK_BYTES):
                chunk = state[start : start + _CHUNK_BYTES]
                if file.readinto(chunk) != len(chunk):
                    raise self._broken(path, "it is cut short")
                body_sum = crc32(chunk, body_sum)
            file.seek(0)
            is_whole = _PREFIX.unpack(file.read(_PREFIX.size))[4] == body_sum
        if not is_whole:
            raise self._broken(path, "its checksum is wrong")
        if (header.settings, header.owner, tokens) != (
            self._settings,
            wanted.owner,
            wanted.tokens,
        ):
            raise KvFileError(f"{path}: it is of something else now")
        with contextlib.suppress(OSError):
            os.utime(path)  # the least recently used go first
        return state

    def clear(self, owner: str | None) -> None:
        """Remove this model's files, of one owner or all, whatever settings they are of."""
        for path, _ in self._by_age(self.folder):
            if owner is not None:
                try:
                    with _open_regular(path) as file:
                        header, _ = self._read_header(file, path)
                except (OSError, KvFileError):
                    continue
                if header.owner != owner:
                    continue
            self.remove(path)

    def remove(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)

    def _read_header(self, file: _Reader, path: str) -> tuple[KvHeader, bytes]:
        """Checked but for the body's checksum; leaves `file` at the state."""
        prefix = file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            raise self._broken(path, "it is cut short")
        magic, version, header_bytes, header_sum, _ = _PREFIX.unpack(prefix)
        if magic != MAGIC or version != VERSION or header_bytes > _MAX_HEADER_BYTES:
            raise self._broken(path, "it is of another kind or version")
        packed = file.read(header_bytes)
        if crc32(packed) != header_sum:
            raise self._broken(path, "its header's checksum is wrong")
        try:
            header = msgspec.msgpack.decode(packed, type=KvHeader)
        except msgspec.DecodeError as error:
            raise self._broken(path, "its header cannot be read") from error
        if header.model != self._model:
            raise self._broken(path, "it is another model's")
        token_bytes = 4 * header.num_tokens
        size = _PREFIX.size + header_bytes + token_bytes + header.state_bytes
        if min(header.num_tokens, header.state_bytes) <= 0 or file.size != size:
            raise self._broken(path, "its length is wrong")
        return header, file.read(token_bytes)

    def _broken(self, path: str, why: str) -> KvFileError:
        self.remove(path)
        return KvFileError(f"{path}: {why}; it was removed")

    def _make_space(self, num_bytes: int) -> tuple[str, ...]:
        """Remove the least recently used files of any model below the root; which these were."""
        if num_bytes > self._disk_bytes:
            raise OSError(errno.EFBIG, "it alone is more than the disk may hold")
        files = [
            item for folder in self._root.iterdir() if folder.is_dir()
            for item in self._by_age(folder)
        ]  # fmt: skip
        files.sort(key=lambda item: item[1].st_mtime_ns)
        total = sum(status.st_size for _, status in files) + num_bytes
        replaced = []
        for path, status in files:
            if total <= self._disk_bytes:
                break
            self.remove(path)
            replaced.append(path)
            total -= status.st_size
        disk = os.statvfs(self.folder)
        reserve = min(_MIN_FREE_BYTES, int(_MIN_FREE_SHARE * disk.f_blocks * disk.f_frsize))
        if disk.f_bavail * disk.f_frsize < num_bytes + reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return tuple(replaced)

    def _by_age(self, folder: Path) -> list[tuple[str, os.stat_result]]:
        """The oldest first."""
        files = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    with contextlib.suppress(OSError):
                        files.append((entry.path, entry.stat(follow_symlinks=False)))
        return sorted(files, key=lambda item: item[1].st_mtime_ns)

    def _remove_stale_partials(self) -> None:
        """What a killed process was writing."""
        for path in self.folder.glob(f"*{_PARTIAL}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_PARTIAL_S:
                    path.unlink()


class _Reader:
    """A regular file, read to the byte count asked for wherever the file has it."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._file = open(descriptor, "rb", buffering=0)  # noqa: SIM115 - closed in __exit__
        self.size = size

    def read(self, num_bytes: int) -> bytes:
        data = bytearray(num_bytes)
        return bytes(data[: self.readinto(memoryview(data))])

    def readinto(self, target: memoryview) -> int:
        num_read = 0
        while num_read < len(target):
            num_more = self._file.readinto(target[num_read:])
            if not num_more:
                break
            num_read += num_more
        return num_read

    def seek(self, offset: int) -> None:
        self._file.seek(offset)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()


def _open_regular(path: str) -> _Reader:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return _Reader(descriptor, status.st_size)


def _chunks(*parts: bytes | memoryview) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _CHUNK_BYTES):
            yield view[start : start + _CHUNK_BYTES]


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def weights_digest(path: str) -> str:
    """32 hexadecimal digits of a model's files (all of a split one): sizes, modification times,
    first bytes, and samples from all over. OSError if one cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(path):
        with open(part, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
            digest.update(file.read(1 << 20))
            for index in range(1, _NUM_SAMPLES):
                file.seek(status.st_size * index // _NUM_SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _parts(path: str) -> list[str]:
    split = _SPLIT.fullmatch(path)
    if split is None:
        return [path]
    head, _, tail, count = split.groups()
    return [f"{head}{index:05}{tail}" for index in range(1, int(count) + 1)]
