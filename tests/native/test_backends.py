"""Backends of llama.cpp that are libraries to be chosen from and loaded."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmedge._native import backends, binding
from fmedge.errors import NativeError

ROOT = Path(__file__).parents[2]
VARIANTS = ROOT / "build" / "llama" / "llama_cpp"
"""Where packaging/binary/llama.py puts the build for every processor."""

ORACLE = """
from fmedge._native import binding, gemm
from fmedge._native.devices import list_devices
print(binding._package(), gemm.kernel() or "none", *(d.name for d in list_devices()))
print(*{line.split()[-1] for line in open("/proc/self/maps") if "libggml-cpu" in line})
"""


def test_code_is_found_in_the_file_that_it_is_from() -> None:
    path = str(binding._package() / "lib" / "libggml-base.so")
    library = ctypes.CDLL(path)
    address = ctypes.cast(library.ggml_init, ctypes.c_void_p).value
    assert backends.file_at(address) == path


@pytest.mark.parametrize("address", [None, 0])
def test_code_that_is_nowhere_is_an_error(address: int | None) -> None:
    with pytest.raises(NativeError, match="is not where it says"):
        backends.file_at(address)


def test_a_folder_without_any_says_so(tmp_path: Path) -> None:
    # In a process of its own: whatever is loaded stays. As libggml of an ordinary build registers
    # its own, one that registers nothing stands for it.
    source = tmp_path / "empty.c"
    source.write_text(
        "void ggml_backend_load_all_from_path(const char *p) { (void)p; }\n"
        "void *ggml_backend_reg_by_name(const char *n) { (void)n; return 0; }\n"
    )
    library = tmp_path / "libempty.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    empty = ctypes.CDLL(str(library))
    assert not backends.are_loadable(empty)
    with pytest.raises(NativeError, match="has nothing for this processor"):
        backends.load(empty, empty, tmp_path)


@pytest.mark.skipif(not VARIANTS.is_dir(), reason="llama.cpp was not built for every processor")
def test_the_best_for_this_processor_is_taken_and_gets_our_kernels() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(VARIANTS.parent), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ORACLE], env=environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    package, kernel, *devices = done.stdout.splitlines()[0].split()
    assert package == str(VARIANTS)
    assert "CPU" in devices
    libraries = done.stdout.splitlines()[1].split()
    assert all(Path(library).parent == VARIANTS / "lib" for library in libraries)
    flags = Path("/proc/cpuinfo").read_text()
    if "avx2" in flags:
        assert kernel != "none"
        assert not any("x64" in Path(library).name for library in libraries)
