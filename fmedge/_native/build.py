"""Compiles our C against the llama.cpp that llama-cpp-python installed: one cffi module, `_fm`.

The rule: this file names no kernel. A kernel is a `fm_*.c` (or `.cpp`) with its header and a
`.cdef` beside it; whatever lies in the folder is built.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent


def llama_package() -> Path:
    """Folder of the installed llama_cpp package, found without importing it."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise RuntimeError("llama-cpp-python is not installed: it brings llama.cpp's headers")
    return Path(spec.origin).parent


def sources() -> list[str]:
    """The kernels, relative to the project's root as setuptools wants them."""
    found = sorted([*HERE.glob("fm_*.c"), *HERE.glob("fm_*.cpp")])
    return [os.path.relpath(path, HERE.parent.parent) for path in found]


def declarations() -> str:
    return "\n".join(path.read_text() for path in sorted(HERE.glob("*.cdef")))


def make_ffibuilder() -> FFI:
    package = llama_package()
    headers = [path.with_suffix(".h").name for path in sorted(HERE.glob("*.cdef"))]
    builder = FFI()
    builder.cdef(declarations())
    # FMEDGE_NATIVE_CFLAGS is for sanitised and profiled builds; see tests/native/sanitize.sh.
    extra = os.environ.get("FMEDGE_NATIVE_CFLAGS", "").split()
    builder.set_source(
        "fmedge._native._fm",
        "\n".join(f'#include "{name}"' for name in headers),
        sources=sources(),
        include_dirs=[str(HERE), str(package.parent / "include")],
        library_dirs=[str(package / "lib")],
        libraries=["llama", "ggml", "ggml-base"],
        depends=[os.path.relpath(p, HERE.parent.parent) for p in sorted(HERE.glob("fm_*.h"))],
        extra_compile_args=["-O3", "-g1", "-fvisibility=hidden", "-Wall", "-Wextra", *extra],
        extra_link_args=extra,
    )
    return builder


ffibuilder = make_ffibuilder()
