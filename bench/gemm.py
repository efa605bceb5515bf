"""Our matrix kernels against llama.cpp's own: one product as ggml computes it, on one thread.

    python -m bench.gemm [--rounds N] [--kernel NAME] [--json FILE]

The rule: the same ggml graph is computed with our kernels and without, one right after the other,
and a ratio is the median of the rounds' ratios, so what else the machine does touches both sides.
Weights are larger than the last-level cache, as a model's are. llama.cpp's own is whatever the
build of llama-cpp-python has: usually all that this processor can do, also beside our AVX2.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fmedge._native import binding, gemm

if TYPE_CHECKING:
    from bench.context import Bench, Outcome, Skipped

KERNELS = ("avx512vnni", "avx2")
WEIGHTS = 64 * 2**20  # 68 MiB in memory
INNER_SIZES = (512, 4096)
COLUMNS = (1, 2, 4, 8, 16, 64, 512)
F32, Q8_0 = 0, 8  # ggml's types


class InitParams(ctypes.Structure):
    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


@dataclass(frozen=True)
class Result:
    kernel: str
    k: int
    num_columns: int
    ours_ms: float
    llama_ms: float
    ratio: float
    ratios: tuple[float, ...]


def _ggml() -> Any:
    """ggml's functions in this process, where fmedge._native has loaded them."""
    assert binding.lib is not None
    library = ctypes.CDLL(None)
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("ggml_init", pointer, [InitParams]),
        ("ggml_free", None, [pointer]),
        ("ggml_new_tensor_2d", pointer, [pointer, ctypes.c_int, size, size]),
        ("ggml_get_data", pointer, [pointer]),
        ("ggml_mul_mat", pointer, [pointer, pointer, pointer]),
        ("ggml_new_graph", pointer, [pointer]),
        ("ggml_build_forward_expand", None, [pointer, pointer]),
        ("ggml_backend_cpu_init", pointer, []),
        ("ggml_backend_cpu_set_n_threads", None, [pointer, ctypes.c_int]),
        ("ggml_backend_graph_compute", ctypes.c_int, [pointer, pointer]),
        ("ggml_backend_free", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@contextmanager
def product(k: int, num_columns: int) -> Iterator[Any]:
    """A function that computes one product of random weights and returns its seconds."""
    ggml = _ggml()
    m = WEIGHTS // k
    room = WEIGHTS // 32 * 34 + 4 * num_columns * (m + k) + 2**20
    context = ggml.ggml_init(InitParams(room, None, False))
    backend = ggml.ggml_backend_cpu_init()
    if not context or not backend:
        raise MemoryError(f"{room / 2**20:.0f} MiB for the product of k={k}, n={num_columns}")
    try:
        ggml.ggml_backend_cpu_set_n_threads(backend, 1)
        weights = ggml.ggml_new_tensor_2d(context, Q8_0, k, m)
        columns = ggml.ggml_new_tensor_2d(context, F32, k, num_columns)
        rng = np.random.default_rng(k)
        block = np.dtype([("scale", "<f2"), ("q", "i1", 32)])
        made = np.empty(WEIGHTS // 32, block)
        made["scale"] = 0.01
        made["q"] = rng.integers(-127, 128, made["q"].shape, dtype=np.int8)
        ctypes.memmove(ggml.ggml_get_data(weights), made.ctypes.data, made.nbytes)
        values = rng.standard_normal(k * num_columns, np.float32)
        ctypes.memmove(ggml.ggml_get_data(columns), values.ctypes.data, values.nbytes)
        del made
        gc.collect()
        graph = ggml.ggml_new_graph(context)
        ggml.ggml_build_forward_expand(graph, ggml.ggml_mul_mat(context, weights, columns))

        def compute() -> float:
            start = time.perf_counter()
            if ggml.ggml_backend_graph_compute(backend, graph) != 0:
                raise RuntimeError(f"the product failed: k={k}, n={num_columns}")
            return time.perf_counter() - start

        yield compute
    finally:
        ggml.ggml_backend_free(backend)
        ggml.ggml_free(context)


def measure(kernels: tuple[str, ...], k: int, num_columns: int, rounds: int) -> list[Result]:
    results = []
    with product(k, num_columns) as compute:
        for kernel in kernels:
            pairs = []
            for number in range(rounds + 1):
                gemm.use(kernel)
                took = {}
                for ours_now in (number % 2 == 0, number % 2 == 1):  # each is first in turn
                    gemm.enable(ours_now)
                    took[ours_now] = compute()
                if number:  # the first touches the memory
                    pairs.append((took[True], took[False]))
            ratios = tuple(theirs / ours for ours, theirs in pairs)
            results.append(
                Result(
                    kernel,
                    k,
                    num_columns,
                    statistics.median(ours for ours, _ in pairs) * 1e3,
                    statistics.median(theirs for _, theirs in pairs) * 1e3,
                    statistics.median(ratios),
                    ratios,
                )
            )
    return results


def measure_all(kernels: tuple[str, ...], rounds: int) -> list[Result]:
    chosen = gemm.kernel()
    try:
        found = [
            result
            for k in INNER_SIZES
            for num_columns in COLUMNS
            for result in measure(
                kernels, k, num_columns, rounds if num_columns < 64 else max(3, rounds // 4)
            )
        ]
    finally:
        gemm.use(chosen)
        gemm.enable(bool(chosen))
    return sorted(found, key=lambda r: (KERNELS.index(r.kernel), r.k, r.num_columns))


def table(results: list[Result]) -> str:
    lines = [f"{'':12} {'k':>6} {'columns':>8} {'fmedge':>12} {'llama.cpp':>12} {'ratio':>7}"]
    lines += [
        f"{r.kernel:12} {r.k:>6} {r.num_columns:>8} {r.ours_ms:>9.2f} ms {r.llama_ms:>9.2f} ms "
        f"{r.ratio:>6.2f}x"
        for r in results
    ]
    return "\n".join(lines)


async def run(bench: Bench) -> list[Outcome | Skipped]:
    """The row of `python -m bench`: the kernel that this processor uses. No target to miss."""
    from bench.context import Outcome, Skipped  # only there: context starts the servers' machinery

    if not gemm.kernel():
        return [Skipped("gemm", "llama.cpp's own kernels are used on this processor")]
    results = measure_all((gemm.kernel(),), 2 * bench.rounds + 1)
    bench.say(table(results))
    return [
        Outcome(
            "gemm",
            f"{r.kernel}, k {r.k}, {r.num_columns} columns",
            r.ratio,
            "x",
            0.0,
            True,
            r.ratios,
            {"fmedge_ms": r.ours_ms, "llama_ms": r.llama_ms},
        )
        for r in results
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gemm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison")
    parser.add_argument("--kernel", choices=KERNELS, help="this one alone")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    kernels = tuple(name for name in KERNELS if gemm.use(name))
    if options.kernel is not None and options.kernel not in kernels:
        parser.error(f"this processor has no {options.kernel}")
    if not kernels:
        print("this processor has none of our kernels: llama.cpp computes everything itself")
        return 0
    results = measure_all((options.kernel,) if options.kernel else kernels, options.rounds)
    print(table(results))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
