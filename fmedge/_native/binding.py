"""Loads llama.cpp's libraries and then our extension, and turns its return codes into exceptions.

The `llama_cpp` package is found but never imported: importing it takes long, and would be a second
libllama in the process if it came after ours.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from fmedge._native import backends, cpu, gemm
from fmedge._native.pin import LLAMA_CPP_PYTHON_VERSION
from fmedge.errors import (
    KvCacheFullError,
    ModelFileError,
    ModelLoadError,
    NativeError,
    OutOfMemoryError,
    StepAbortedError,
)

# In the order in which they need each other; backends that a build lacks are skipped.
_LIBRARIES = ("ggml-base", "ggml-cpu", "ggml-rpc", "ggml", "llama")


def check_version(found: str) -> None:
    """NativeError unless `found` is the build that the kernels were compiled against."""
    if found != LLAMA_CPP_PYTHON_VERSION:
        raise NativeError(
            f"fmedge was compiled against llama-cpp-python {LLAMA_CPP_PYTHON_VERSION}, but "
            f"{found} is installed. "
            f"Run: pip install llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}"
        )


def _package() -> Path:
    """The folder of the very llama_cpp that the kernels were compiled against; NativeError."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    name = f"llama_cpp_python-{LLAMA_CPP_PYTHON_VERSION}.dist-info"
    if folder is not None and (folder.parent / name).is_dir():
        return folder
    from importlib.metadata import PackageNotFoundError, version  # slow, and rarely needed

    try:
        found = version("llama-cpp-python")
    except PackageNotFoundError:
        found = ""
    if not found or folder is None:
        raise NativeError(
            "llama-cpp-python is not installed. "
            f"Run: pip install llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}"
        )
    check_version(found)
    return folder


def _load() -> tuple[Any, Any]:
    folder = _package() / "lib"
    gemm.load()
    loaded: dict[str, ctypes.CDLL] = {}
    for name in _LIBRARIES:
        path = folder / f"lib{name}.so"
        if not path.exists() and name not in ("ggml-base", "ggml", "llama"):
            continue
        try:
            loaded[name] = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise NativeError(f"cannot load llama.cpp from {path}: {error}") from error
    try:
        extension = importlib.import_module("fmedge._native._fm")
    except ImportError as error:
        raise NativeError(
            f"fmedge's native extension is missing or does not fit this system ({error}). "
            "Reinstall fmedge, or in a checkout run: python setup.py build_ext --inplace"
        ) from error
    extension.lib.fm_log_install()
    ggml_cpu = loaded.get("ggml-cpu")
    if ggml_cpu is None or backends.are_loadable(ggml_cpu):
        ggml_cpu = backends.load(loaded["ggml"], loaded["ggml-base"], folder)
    cpu.check(cpu.compiled_in(ggml_cpu))
    gemm.install(ggml_cpu)
    return extension.ffi, extension.lib


ffi, lib = _load()

_EXCEPTIONS: dict[int, type[Exception]] = {
    lib.FM_ERR_ARGUMENT: NativeError,
    lib.FM_ERR_MEMORY: OutOfMemoryError,
    lib.FM_ERR_KV_FULL: KvCacheFullError,
    lib.FM_ERR_ABORTED: StepAbortedError,
    lib.FM_ERR_FILE: ModelFileError,
    lib.FM_ERR_CANCELLED: ModelLoadError,
    lib.FM_ERR_LOAD: ModelLoadError,
    lib.FM_ERR_CONTEXT: ModelLoadError,
}


def error_text() -> str:
    """The text of this thread's last failure."""
    return str(ffi.string(lib.fm_error_text()).decode("utf-8", "replace"))


def check(code: int) -> int:
    """Returns code if it is no failure, else raises what it stands for."""
    if code >= 0:
        return code
    raise _EXCEPTIONS.get(code, NativeError)(error_text())
