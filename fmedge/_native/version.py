"""Which llama.cpp is loaded, in its own words."""

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
