"""The fused sampler against llama.cpp's chain, both called from C in turn.

    python -m bench.sampler [--rounds N] [--json FILE]

The rule: each round times both on the same rows, one right after the other, and a ratio is the
median of the rounds' ratios, so what else the machine does touches both sides.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fmedge._native.binding import ffi, lib
from fmedge._native.sampler import Sampler
from fmedge.types import SamplingParams
from tests.native.llama_chain import LlamaChain

if TYPE_CHECKING:
    from bench.context import Bench, Outcome, Skipped

VOCABULARIES = (32_000, 151_936)
NUM_ROWS = 8
LEAST_RATIO = 5.0

LLAMA_DEFAULTS = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
CASES: dict[str, tuple[SamplingParams, SamplingParams]] = {
    "defaults of each": (SamplingParams(), LLAMA_DEFAULTS),
    "llama.cpp's defaults": (LLAMA_DEFAULTS, LLAMA_DEFAULTS),
    "temperature 0.8 alone": (SamplingParams(temperature=0.8),) * 2,
    "top_p 0.9": (SamplingParams(top_p=0.9),) * 2,
    "min_p 0.05": (SamplingParams(min_p=0.05),) * 2,
    # llama-server's chain keeps its truncation at temperature 0.
    "greedy": (
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=0.0, top_k=40, top_p=0.95, min_p=0.05),
    ),
    "repeat penalty 1.1": (
        SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.1),
    )
    * 2,
}


@dataclass(frozen=True)
class Result:
    case: str
    num_vocab: int
    ours_us: float
    llama_us: float
    ratio: float
    ratios: tuple[float, ...]


def model_like_rows(num_vocab: int) -> Any:
    """Rows with the shape of a model's logits: a bulk, and a few tokens far above it."""
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 2.2, (NUM_ROWS, num_vocab))
    for row in rows:
        row[rng.integers(num_vocab, size=200)] += rng.exponential(2.5, 200)
        row[rng.integers(num_vocab, size=5)] = 10 + rng.exponential(3, 5)
    return np.ascontiguousarray(rows, np.float32)


def compile_loops(folder: Path) -> ctypes.CDLL:
    include = Path(sysconfig.get_paths()["purelib"]) / "include"
    target = folder / "sampler_loop.so"
    source = Path(__file__).with_name("sampler_loop.c")
    subprocess.run(
        ["cc", "-O3", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(target)],
        check=True,
        timeout=60,
    )
    # llama.cpp's symbols are already in the process: fmedge._native loaded them globally.
    loops = ctypes.CDLL(str(target))
    for name in ("loop_ours", "loop_llama"):
        function = getattr(loops, name)
        function.restype = ctypes.c_double
        function.argtypes = [
            *(ctypes.c_void_p,) * 3,
            *(ctypes.c_int32,) * 3,
            ctypes.POINTER(ctypes.c_int64),
        ]
    return loops


def measure(
    loops: ctypes.CDLL, case: str, rows: Any, rounds: int, seconds_a_round: float = 0.04
) -> Result:
    ours_params, llama_params = CASES[case]
    num_vocab = rows.shape[1]
    sampler = Sampler(ours_params, num_vocab)
    chain = LlamaChain(llama_params, num_vocab)
    draw = int(ffi.cast("intptr_t", ffi.addressof(lib, "fm_sampler_draw")))
    handle = int(ffi.cast("intptr_t", sampler.handle))
    checksum = ctypes.c_int64()

    def timed(function: Any, first: int, second: int, num_draws: int) -> float:
        took_s = function(
            first, second, rows.ctypes.data, NUM_ROWS, num_vocab, num_draws, ctypes.byref(checksum)
        )
        if took_s < 0:
            raise RuntimeError(f"a draw failed: {case}, {num_vocab} tokens")
        return float(took_s) / num_draws * 1e6

    def ours(num_draws: int) -> float:
        return timed(loops.loop_ours, draw, handle, num_draws)

    def llama(num_draws: int) -> float:
        return timed(loops.loop_llama, chain.address, chain.room_address, num_draws)

    num_ours = max(8, int(seconds_a_round * 1e6 / ours(32)))
    num_llama = max(8, int(seconds_a_round * 1e6 / llama(8)))
    pairs = [(ours(num_ours), llama(num_llama)) for _ in range(rounds)]
    chain.close()
    ratios = tuple(theirs / mine for mine, theirs in pairs)
    return Result(
        case,
        num_vocab,
        statistics.median(mine for mine, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(ratios),
        ratios,
    )


def measure_all(rounds: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        loops = compile_loops(Path(folder))
        return [
            measure(loops, case, rows, rounds)
            for rows in map(model_like_rows, VOCABULARIES)
            for case in CASES
        ]


def table(results: list[Result]) -> str:
    lines = [f"{'':24} {'vocabulary':>10} {'fmedge':>10} {'llama.cpp':>11} {'ratio':>7}"]
    lines += [
        f"{r.case:24} {r.num_vocab:>10,} {r.ours_us:>7.1f} us {r.llama_us:>8.1f} us "
        f"{r.ratio:>6.1f}x"
        for r in results
    ]
    return "\n".join(lines)


async def run(bench: Bench) -> list[Outcome | Skipped]:
    """The row of `python -m bench`: the defaults of each, and the same settings."""
    from bench.context import Outcome  # only there: context starts the servers' machinery

    results = measure_all(2 * bench.rounds + 1)
    bench.say(table(results))
    return [
        Outcome(
            "sampler",
            f"{r.case}, {r.num_vocab:,} tokens",
            r.ratio,
            "x",
            LEAST_RATIO,
            True,
            r.ratios,
            {"fmedge_us": r.ours_us, "llama_us": r.llama_us},
        )
        for r in results
        if r.case in ("defaults of each", "llama.cpp's defaults")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sampler", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    results = measure_all(options.rounds)
    print(table(results))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    missed = [r for r in results if r.case == "defaults of each" and r.ratio < LEAST_RATIO]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
