"""Where llama.cpp's RPC server gets its connections and its memory limit from; fm_handover.h says
how.

The rule: this library does its work only in a process that it was preloaded into (`environment`),
the child of a device server; nobody else loads it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

from fmedge.errors import NativeError

LIBRARY = Path(__file__).resolve().parent.parent / "_handover.abi3.so"
MAX_DEVICES = 16
MAX_PROCESSES = 64
TABLE_BYTES = MAX_PROCESSES * MAX_DEVICES * 8
ROW_BYTES = MAX_DEVICES * 8


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the library preloaded, for the child. NativeError where it is missing."""
    if not LIBRARY.exists():
        raise NativeError(
            "fmedge's device server is not compiled. Reinstall fmedge, or in a checkout run: "
            "python setup.py build_ext --inplace"
        )
    others = environ.get("LD_PRELOAD")
    return {**environ, "LD_PRELOAD": f"{LIBRARY}:{others}" if others else str(LIBRARY)}


def start(control: int, table: int, row: int, parent_pid: int, limits: Mapping[str, int]) -> None:
    """In the child, once llama.cpp's libraries are loaded. control: the socket to the supervisor;
    table: the usage table's file descriptor; row: ours in it; limits: bytes by device name.
    NativeError where it cannot be."""
    library = ctypes.CDLL(str(LIBRARY), use_errno=True)
    names = (ctypes.c_char_p * len(limits))(*(name.encode() for name in limits))
    nbytes = (ctypes.c_uint64 * len(limits))(*limits.values())
    function = library.fm_handover_start
    if function(control, table, row, parent_pid, names, nbytes, len(limits)) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NativeError(f"the device server's process cannot be set up: {reason}")
