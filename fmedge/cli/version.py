"""`fmedge version`: which fmedge, which llama.cpp, which libraries."""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import PackageNotFoundError, version

from fmedge import __version__
from fmedge.errors import FmedgeError

LIBRARIES = ("aiohttp", "cffi", "huggingface_hub", "jinja2", "llguidance", "msgspec", "uvloop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    facts = {
        "fmedge": __version__,
        "llama-cpp-python": _version("llama-cpp-python"),
        **_native_facts(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **{name: _version(name) for name in LIBRARIES},
    }
    if args.json:
        print(json.dumps(facts))
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name:{width}}  {value}")
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _native_facts() -> dict[str, str]:
    """What the loaded libllama says of itself and of the devices; why not, where it is broken."""
    try:
        from fmedge._native.devices import list_devices
        from fmedge._native.version import llama_build
    except (FmedgeError, ImportError, OSError) as error:
        return {"llama.cpp": f"cannot be loaded: {error}"}
    devices = ", ".join(f"{d.name} ({d.description})" for d in list_devices())
    return {"llama.cpp": llama_build(), "devices": devices}
