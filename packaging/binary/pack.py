"""One file out of a folder: the launcher with the folder's contents, compressed, behind it.

The rule: what launcher/payload.c reads is written here and nowhere else. The same folder makes the
same file.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import zstandard
from folder import BuildError, run

LAUNCHER = Path(__file__).with_name("launcher")
FLAGS = ("-D_GNU_SOURCE", "-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror")

MAGIC = b"fmedge\x01\n"
TRAILER = struct.Struct("<6Qq32s8s")
TIME_S = 1_600_000_000
"""Of change, of every file: one that has another was changed."""

_READ_BYTES = 1 << 20


def pack(folder: Path, target: Path, level: int) -> None:
    """Makes `target` of `folder`. level: zstd's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    compile_launcher(partial)
    entries = sorted(_entries(folder))
    digest = hashlib.sha256()
    with partial.open("r+b") as out:
        offset = out.seek(0, os.SEEK_END)
        index = b"".join(kind + struct.pack("<Q", size) + names for names, kind, size in entries)
        packed = zstandard.ZstdCompressor(level=level, write_checksum=True).compress(index)
        out.write(packed)
        digest.update(index)
        data_offset = out.tell()
        raw_bytes = _write_data(out, folder, entries, level, digest)
        sizes = (offset, len(packed), len(index), data_offset, out.tell() - data_offset, raw_bytes)
        out.write(TRAILER.pack(*sizes, TIME_S, digest.hexdigest()[:32].encode(), MAGIC))
    partial.chmod(0o755)
    partial.replace(target)


def compile_launcher(target: Path) -> None:
    sources = sorted(map(str, LAUNCHER.glob("*.c")))
    try:
        run(["cc", *FLAGS, *sources, "-l:libzstd.a", "-o", str(target)])
    except FileNotFoundError:
        raise BuildError("there is no C compiler here: apt install gcc libc6-dev") from None
    except BuildError as error:
        raise BuildError(f"{error}(Needed, as Debian calls it: libzstd-dev)") from None


def _entries(folder: Path) -> Iterator[tuple[bytes, bytes, int]]:
    """Path and link's target, each with a zero behind it; kind; size. Sorted they are in the order
    in which they can be made."""
    for path in folder.rglob("*"):
        name = os.fsencode(path.relative_to(folder)) + b"\0"
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            yield name + os.fsencode(path.readlink()) + b"\0", b"l", 0
        elif stat.S_ISDIR(status.st_mode):
            yield name + b"\0", b"d", 0
        elif stat.S_ISREG(status.st_mode):
            yield name + b"\0", b"x" if status.st_mode & 0o100 else b"f", status.st_size
        else:
            raise BuildError(f"{path} is neither a file nor a folder nor a link")


def _write_data(out, folder, entries, level, digest) -> int:  # type: ignore[no-untyped-def]
    """All files' bytes, one after the other, as one frame; how many there were."""
    total = sum(size for _, _, size in entries)
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, threads=-1)
    with compressor.stream_writer(out, size=total, closefd=False) as stream:
        for names, kind, size in entries:
            if kind not in b"fx":
                continue
            path = folder / os.fsdecode(names.split(b"\0")[0])
            with path.open("rb") as file:
                while data := file.read(_READ_BYTES):
                    stream.write(data)
                    digest.update(data)
                if file.tell() != size:
                    raise BuildError(f"{path} changed while it was packed")
    return total


def unpacked_name(file: Path) -> str:
    """What the launcher calls the folder that it unpacks this file into."""
    with file.open("rb") as opened:
        opened.seek(-TRAILER.size, os.SEEK_END)
        fields = TRAILER.unpack(opened.read())
    if fields[-1] != MAGIC:
        raise BuildError(f"{file} is no binary of fmedge")
    name: bytes = fields[-2]
    return name.decode()
