"""Compiles the kernels; everything else is declared in pyproject.toml."""

import os
from glob import glob

from setuptools import Extension, setup

# FMEDGE_NATIVE_CFLAGS is for sanitised and profiled builds; see tests/native/sanitize.sh.
extra = os.environ.get("FMEDGE_NATIVE_CFLAGS", "").split()

# No Python inside: a library that must be in the process before llama.cpp's, see fm_gemm.h.
gemm = Extension(
    "fmedge._native._gemm",
    sources=sorted(glob("fmedge/_native/gemm/*.c")),
    depends=sorted(glob("fmedge/_native/gemm/*.h")),
    extra_compile_args=["-O3", "-g1", "-fvisibility=hidden", "-Wall", "-Wextra", *extra],
    extra_link_args=extra,
    py_limited_api=True,
)

# Preloaded into the processes that run llama.cpp's RPC server, see fm_handover.h.
handover = Extension(
    "fmedge._native._handover",
    sources=sorted(glob("fmedge/_native/handover/*.c")),
    depends=sorted(glob("fmedge/_native/handover/*.h")),
    extra_compile_args=["-O2", "-g1", "-fvisibility=hidden", "-Wall", "-Wextra"],
    py_limited_api=True,
)

# One wheel for every Python from requires-python on: all three keep to the stable ABI.
setup(
    cffi_modules=["fmedge/_native/build.py:ffibuilder"],
    ext_modules=[gemm, handover],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
