"""A build of llama.cpp on a processor that it was not compiled for."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmedge._native import cpu, gemm
from fmedge._native.binding import _package
from fmedge.errors import NativeError

ROOT = Path(__file__).resolve().parents[2]

# What the kernel says of features that it has known for long: the two must agree.
_WORDS = {
    "SSE3": "pni", "SSSE3": "ssse3", "AVX": "avx", "AVX2": "avx2", "FMA": "fma", "F16C": "f16c",
    "BMI2": "bmi2", "AVX512": "avx512dq",
}  # fmt: skip

# Python runs it at each start of a process: workers and errands are on that processor too.
OLD = """\
from fmedge._native import cpu
there = cpu.features()
cpu.features = lambda: {**dict.fromkeys(there, True), "SSSE3": False, "AVX2": False}
cpu.compiled_in = lambda library: ("SSSE3", "AVX2", "NEON")
"""


def test_the_processor_and_the_kernel_agree() -> None:
    _, flags = cpu.identify()
    there = cpu.features()
    if not flags or not there:
        pytest.skip("nothing is told of this processor")
    words = {name: word for name, word in _WORDS.items() if name in there}
    assert {name: there[name] for name in words} == {n: w in flags for n, w in words.items()}


def test_what_is_no_feature_is_not_known() -> None:
    assert gemm.cpu_has("AVX3") is None


def test_arm_is_told_by_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "cpu_has", lambda name: None)
    assert cpu.features(tmp_path) == {}
    (tmp_path / "proc").mkdir()
    block = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\n\n"
    (tmp_path / "proc/cpuinfo").write_text(block * 300)
    assert cpu.identify(tmp_path) == ("0x41", ("fp", "asimd", "asimddp"))
    there = cpu.features(tmp_path)
    assert (there["NEON"], there["DOTPROD"], there["SVE"]) == (True, True, False)


def test_the_installed_build_can_run_here() -> None:
    used = cpu.compiled_in(ctypes.CDLL(str(_package() / "lib/libggml-cpu.so")))
    assert {"SSE3", "NEON"} & set(used)
    cpu.check(used)


def test_what_is_lacking_is_named_with_the_command_that_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "features", lambda: {"AVX": True, "AVX2": False})
    cpu.check(["AVX"])
    cpu.check(["NEON"])  # of another kind of processor: nothing is known of it
    with pytest.raises(NativeError, match=r"to use AVX2, which .* CMAKE_ARGS=.* pip install"):
        cpu.check(["AVX", "AVX2"])
    monkeypatch.setattr(cpu, "is_binary", lambda: True)  # which nobody compiles anew
    with pytest.raises(NativeError, match=r"to use AVX2, which .* install fmedge with pip"):
        cpu.check(["AVX", "AVX2"])


@pytest.mark.parametrize("command", ["run embedded hi", "serve --port 0", "devices", "list"])
def test_commands_end_with_a_line_and_not_with_a_signal(command: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(OLD)
    env = {**os.environ, "FMEDGE_PORT": "0", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "fmedge", *command.split()], capture_output=True, text=True,
        cwd=tmp_path, timeout=100, stdin=subprocess.DEVNULL, env=env,
    )  # fmt: skip
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 1, done.stderr
    assert error.startswith("fmedge: error: ")
    assert "llama.cpp was compiled to use SSSE3, AVX2, which this processor" in error
