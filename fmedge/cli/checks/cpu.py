"""The processor, against what llama.cpp was compiled for and the kernels that fmedge has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fmedge._native.pin import rebuild_command
from fmedge.cli.checks.finding import Finding, error, ok, warning
from fmedge.cli.checks.native import Build

# What costs much where it is there and not used.
_WORTH = ("AVX", "AVX2", "FMA", "F16C", "AVX_VNNI", "AVX512", "AVX512_VNNI", "AVX512_BF16",
          "AMX_INT8", "NEON", "DOTPROD", "MATMUL_INT8", "SVE", "SME")  # fmt: skip


def check_cpu(
    name: str, there: Mapping[str, bool], build: Build, *, is_bundled: bool
) -> Iterator[Finding]:
    """there: whether the processor has each feature, by ggml's name. is_bundled: llama.cpp is part
    of one file with fmedge, and nobody compiles it here."""
    features = [feature for feature in _WORTH if there.get(feature)]
    yield ok("cpu", f"{name}: {', '.join(features) or 'what it can do is not known here'}")
    if build.is_late:
        yield warning(
            "llama.cpp", build.problem,
            "run fmedge devices, which waits longer; if that hangs too, a GPU's driver does",
        )  # fmt: skip
        return
    if build.problem:
        yield error("llama.cpp", build.problem, _advice(build.problem))
        return
    used = [feature for feature, value in build.words.get("CPU", {}).items() if value != "0"]
    kernel = f"fmedge's {build.kernel}" if build.kernel else "llama.cpp's own"
    text = f"{build.version}, uses {', '.join(used) or 'nothing'}; Q8_0 products: {kernel}"
    unused = [feature for feature in features if feature not in used]
    if unused and not is_bundled:
        yield warning(
            "llama.cpp",
            f"compiled without {', '.join(unused)}, which this processor has ({text})",
            f"compile it here, it will be faster: {rebuild_command()}",
        )
    else:
        yield ok("llama.cpp", text)


def _advice(problem: str) -> str:
    """Most of what is wrong with it ends with the command that helps."""
    if "pip install" in problem or "Reinstall" in problem:
        return "run what it says"
    if "died of" in problem:
        return (
            "a GPU's driver or a build for another machine: look at dmesg, then compile llama.cpp "
            f"here: {rebuild_command()}"
        )
    return f"install it anew: {rebuild_command()}"
