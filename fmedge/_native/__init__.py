"""The native room: llama.cpp and our C kernels behind cffi. Nothing outside it sees cffi.

The rule: llama.cpp's libraries are loaded here, once, by path, before the extension that needs
them; and only the very build that the extension was compiled against.
"""

from __future__ import annotations

from fmedge._native.binding import ffi, lib

__all__ = ["ffi", "lib"]
