"""The native room: llama.cpp and our C kernels behind cffi. Nothing outside it sees cffi.

The rule: `binding` loads llama.cpp's libraries, once, by path, before the extension that needs
them; and only the very build that the extension was compiled against. What needs none of them
(`cpu`, `threads`) can be imported where they cannot be loaded.
"""
