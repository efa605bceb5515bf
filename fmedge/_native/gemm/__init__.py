"""Our CPU matrix products in place of llama.cpp's, where ours are faster; fm_gemm.h says how.

The rule: load() before libggml-cpu is in the process, install() right after. On a processor that
has none of our kernels llama.cpp computes everything itself.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from fmedge.errors import NativeError

LIBRARY = Path(__file__).resolve().parent.parent / "_gemm.abi3.so"


def _library() -> ctypes.CDLL:
    """The same handle at each call: the dynamic linker loads a path once."""
    return ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL)


def load() -> None:
    """Puts our kernels where the dynamic linker looks before it looks in libggml-cpu."""
    try:
        _library()
    except OSError as error:
        raise NativeError(
            f"fmedge's matrix kernels are missing or do not fit this system ({error}). "
            "Reinstall fmedge, or in a checkout run: python setup.py build_ext --inplace"
        ) from error


def install(ggml_cpu: ctypes.CDLL) -> bool:
    """Hands what we do not do to llama.cpp's own; True if ours are used at all."""
    original = getattr(ggml_cpu, "llamafile_sgemm", None)
    if original is None:
        return False
    address = ctypes.cast(original, ctypes.c_void_p)
    return bool(_library().fm_gemm_install(address))


def enable(is_enabled: bool) -> None:
    """False: llama.cpp's own kernels for everything in this process. Not while a step runs."""
    _library().fm_gemm_enable(int(is_enabled))


def use(name: str) -> bool:
    """For measurements: this kernel from now on; False if this processor does not have it."""
    return bool(_library().fm_gemm_use(name.encode()))


def kernel() -> str:
    """The kernel in use; "" if it is llama.cpp's own."""
    function = _library().fm_gemm_kernel
    function.restype = ctypes.c_char_p
    return str(function().decode())


def cpu_has(feature: str) -> bool | None:
    """Whether this processor has a feature of ggml's name; None where that is not known."""
    answer = int(_library().fm_cpu_has(feature.encode()))
    return None if answer < 0 else bool(answer)


def reserve_exactly(is_enabled: bool) -> None:
    """True: llama.cpp sizes compute buffers by reserving them, see fm_reserve.h."""
    _library().fm_reserve_enable(int(is_enabled))
