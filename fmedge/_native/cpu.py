"""What this processor can do, against what libggml-cpu was compiled to use.

The rule: the two are compared when the library has been loaded, which runs none of its code, and
before anything in it is called: an instruction that the processor lacks would end the process
without a word.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path

from fmedge._native import gemm
from fmedge._native.pin import rebuild_command
from fmedge.children import is_binary
from fmedge.errors import NativeError

# ggml's names. Those of ARM stand with the kernel's word for them; x86 is asked itself, as kernels
# learn words for what is new in it only later.
_X86 = (
    "SSE3", "SSSE3", "AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX_VNNI", "AVX512", "AVX512_VBMI",
    "AVX512_VNNI", "AVX512_BF16", "AMX_INT8",
)  # fmt: skip
_ARM = {
    "NEON": "asimd", "FP16_VA": "asimdhp", "DOTPROD": "asimddp", "MATMUL_INT8": "i8mm",
    "SVE": "sve", "SME": "sme",
}  # fmt: skip
FEATURES = (*_X86, *_ARM)

_READ_BYTES = 1 << 14
"""One processor is as good as any; a large machine has hundreds, which are slow to list."""


def identify(root: Path = Path("/")) -> tuple[str, tuple[str, ...]]:
    """Name and flags of the first processor, as the kernel calls them; ("unknown", none) where it
    does not tell. root: where `proc` lies."""
    fields: dict[str, str] = {}
    data = b""
    try:
        with open(root / "proc/cpuinfo", "rb", buffering=0) as file:
            while len(data) < _READ_BYTES and (more := file.read(_READ_BYTES)):
                data += more
    except OSError:
        return "unknown", ()
    for line in data.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    # ARM kernels have other names for both
    parts = ("CPU implementer", "CPU part", "CPU variant")
    name = fields.get("model name") or " ".join(fields[p] for p in parts if p in fields)
    return name or "unknown", tuple((fields.get("flags") or fields.get("Features") or "").split())


def features(root: Path = Path("/")) -> dict[str, bool]:
    """Whether each feature is there, by ggml's name; without those of which that is not known."""
    known = {name: gemm.cpu_has(name) for name in _X86}
    found = {name: has for name, has in known.items() if has is not None}
    if not found:
        _, flags = identify(root)
        found = {name: word in flags for name, word in _ARM.items() if flags}
    return found


def compiled_in(ggml_cpu: ctypes.CDLL) -> tuple[str, ...]:
    """What the library uses without asking the processor, by ggml's names."""
    used = []
    for name in FEATURES:
        function = getattr(ggml_cpu, f"ggml_cpu_has_{name.lower()}", None)
        if function is not None and function():
            used.append(name)
    return tuple(used)


def check(compiled: Iterable[str]) -> None:
    """NativeError where this processor lacks what the library was compiled to use."""
    there = features()
    lacking = [name for name in compiled if not there.get(name, True)]
    if lacking:
        raise NativeError(
            f"llama.cpp was compiled to use {', '.join(lacking)}, which this processor "
            f"({identify()[0]}) does not have. {_what_to_do()}"
        )


def _what_to_do() -> str:
    if is_binary():
        return "This single file is not for it: install fmedge with pip, which compiles it here"
    return f"Compile it here: {rebuild_command()}"
