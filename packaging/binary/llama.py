"""Builds llama.cpp for every processor of this architecture: build/llama/llama_cpp.

The rule: it is the pinned llama-cpp-python, and nothing in it was compiled for the machine that
builds. Once built it is kept: it takes 14 compilations of llama.cpp's kernels.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from folder import ROOT, BuildError, run

from fmedge._native.pin import LLAMA_CPP_PYTHON_VERSION

TARGET = ROOT / "build" / "llama"
OPTIONS = {
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "GGML_RPC": "ON",
    "LLAVA_BUILD": "OFF",  # nothing here looks at pictures
    "CMAKE_INSTALL_BINDIR": "llama_cpp/lib",  # where backends go, and others look for them
}


def build_llama(target: Path) -> Path:
    """The package's folder, built unless it is there."""
    version = target / f"llama_cpp_python-{LLAMA_CPP_PYTHON_VERSION}.dist-info"
    if version.is_dir():
        return target / "llama_cpp"
    requirement = f"llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}"
    options = " ".join(f"-D{name}={value}" for name, value in OPTIONS.items())
    with tempfile.TemporaryDirectory() as folder:
        # pip's cache does not know with which options a wheel was built.
        run(
            [sys.executable, "-m", "pip", "wheel", "--no-cache-dir", "--no-deps", "--no-binary",
             "llama-cpp-python", requirement, "--wheel-dir", folder],
            env={**os.environ, "CMAKE_ARGS": options},
        )  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        unpack(wheel, target)
    return target / "llama_cpp"


def unpack(wheel: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(partial)
    libraries = partial / "llama_cpp" / "lib"
    for wanted in ("libggml-cpu-*.so", "libggml-rpc.so", "libllama.so"):
        if not list(libraries.glob(wanted)):
            raise BuildError(f"{wheel.name} has no llama_cpp/lib/{wanted}")
    partial.replace(target)


def main() -> int:
    try:
        sys.stdout.write("Building llama.cpp for every processor, if it is not there yet: once.\n")
        sys.stdout.flush()
        sys.stdout.write(f"{build_llama(TARGET)}\n")
    except BuildError as error:
        sys.stderr.write(f"llama: error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
