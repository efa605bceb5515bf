"""What the build of llama.cpp says of itself, asked in a process that may die of it."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path

from msgspec import Struct

from fmedge.errors import DeviceError
from fmedge.types import DeviceInfo

_FACT = re.compile(r"(\w+) = (\S+)")


class Build(Struct, frozen=True, kw_only=True):
    """backends: those whose libraries are there, whether they work or not. problem: why nothing
    else is known; is_late: because it took too long. words: by backend, what it was compiled with.
    kernel: ours for matrix products."""

    backends: frozenset[str] = frozenset()
    problem: str = ""
    is_late: bool = False
    version: str = ""
    words: dict[str, dict[str, str]] = {}
    kernel: str = ""
    devices: tuple[DeviceInfo, ...] = ()


def ask_build(timeout_s: float) -> Build:
    """The libraries are found without loading any; a child loads them."""
    from fmedge.replica.errand import LateError
    from fmedge.replica.probe import Prober

    async def ask() -> Build:
        async with Prober() as prober:
            answer = await prober.devices(timeout_s)
        return Build(
            backends=backends_of(library_folder()),
            version=answer.build,
            words=parse_words(answer.system),
            kernel=answer.kernel,
            devices=answer.devices,
        )

    try:
        return asyncio.run(ask())
    except DeviceError as error:
        problem = str(error).removeprefix("this machine's devices: ")
        is_late = isinstance(error.__cause__, LateError)
        return Build(backends=backends_of(library_folder()), problem=problem, is_late=is_late)


def library_folder() -> Path | None:
    """Where llama.cpp's libraries lie; None where llama-cpp-python is not installed."""
    spec = importlib.util.find_spec("llama_cpp")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "lib"


def backends_of(folder: Path | None) -> frozenset[str]:
    """Such as {"cuda", "cpu", "rpc"}; processors' variants count as "cpu"."""
    if folder is None:
        return frozenset()
    names = (file.name.removeprefix("libggml-") for file in folder.glob("libggml-*.so"))
    return frozenset(re.split(r"[-.]", name)[0] for name in names) - {"base"}


def parse_words(system: str) -> dict[str, dict[str, str]]:
    """From llama.cpp's own line, such as "CPU : AVX2 = 1 | REPACK = 1 | CUDA : ARCHS = 890 |"."""
    words: dict[str, dict[str, str]] = {}
    backend = ""
    for part in system.split("|"):
        head, colon, rest = part.rpartition(" : ")
        if colon:
            backend = head.strip()
        if fact := _FACT.fullmatch(rest.strip()):
            words.setdefault(backend, {})[fact[1]] = fact[2]
    return words
