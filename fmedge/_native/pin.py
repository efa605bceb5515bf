"""The one build of llama.cpp that the kernels are compiled against, and how to get it."""

from __future__ import annotations

LLAMA_CPP_PYTHON_VERSION = "0.3.36"


def rebuild_command(*options: str) -> str:
    """The line that compiles llama-cpp-python for this machine. options: CMake's, that are to be on
    beside the one of device servers."""
    cmake = " ".join(f"-D{option}=ON" for option in (*options, "GGML_RPC"))
    return (
        f'CMAKE_ARGS="{cmake}" pip install --force-reinstall --no-deps --no-cache-dir '
        f"--no-binary llama-cpp-python llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}"
    )
