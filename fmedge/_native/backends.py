"""llama.cpp's backends where they are libraries that it loads itself (built with GGML_BACKEND_DL),
among them one for each generation of processors, of which it takes the best that runs here.

The rule: it chooses; which one it took is read from where its code lies. None of them is in the
global scope, as they all define the same names.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from fmedge._native import cpu
from fmedge.errors import NativeError


def are_loadable(ggml_cpu: ctypes.CDLL) -> bool:
    """Whether this is such a library, which llama.cpp uses only when it is told to load it."""
    return hasattr(ggml_cpu, "ggml_backend_init")


def load(ggml: ctypes.CDLL, ggml_base: ctypes.CDLL, folder: Path) -> ctypes.CDLL:
    """All that are in the folder and work here; the one for the processor."""
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
    ggml.ggml_backend_reg_by_name.restype = ctypes.c_void_p
    found = ggml.ggml_backend_reg_by_name(b"CPU")
    if found is None:
        raise NativeError(
            f"llama.cpp's build in {folder} has nothing for this processor ({cpu.identify()[0]}). "
            "Compile llama-cpp-python on this machine"
        )
    address_of = ggml_base.ggml_backend_reg_get_proc_address
    address_of.restype = ctypes.c_void_p
    address = address_of(ctypes.c_void_p(found), b"ggml_backend_set_n_threads")
    return ctypes.CDLL(file_at(address))


def file_at(address: int | None) -> str:
    """The file that is mapped there."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            start, end = (int(value, 16) for value in fields[0].split("-"))
            if address is not None and start <= address < end and len(fields) == 6:
                return fields[5].rstrip("\n")
    raise NativeError("llama.cpp's backend for the processor is not where it says")
