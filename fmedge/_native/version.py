"""Which llama.cpp is loaded and what it was compiled with, in its own words."""

from __future__ import annotations

import ctypes

from fmedge._native import binding


def llama_build() -> str:
    """ggml's version and the commit, such as "0.9.4 (0c1e57098)"."""
    assert binding.lib is not None  # its import has loaded the libraries for everyone
    loaded = ctypes.CDLL(None)
    words = []
    for name in ("ggml_version", "ggml_commit"):
        function = getattr(loaded, name)
        function.restype = ctypes.c_char_p
        words.append((function() or b"?").decode("utf-8", "replace"))
    return f"ggml {words[0]}, commit {words[1]}"


def system_info() -> str:
    """What each backend was compiled with, such as "CPU : AVX2 = 1 | OPENMP = 1 | CUDA : ARCHS =
    890 | ". Starts every backend, as list_devices() does."""
    assert binding.lib is not None
    function = ctypes.CDLL(None).llama_print_system_info
    function.restype = ctypes.c_char_p
    return (function() or b"").decode("utf-8", "replace").strip()
