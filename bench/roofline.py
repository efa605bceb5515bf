"""The roofline prior against measured speeds of GPUs: `python -m bench.roofline`.

Reads $FMEDGE_BENCH_DATA/hardware/llama_cpp_llama3_8b.csv: one row a GPU, tokens/s of Llama 3 8B
(1,024 prompt tokens, 1,024 generated, batch 1) from XiongjieDai's GPU-Benchmarks-on-LLM-Inference.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np

from fmedge.sched.roofline import DeviceSpeed, roofline

_FILE = Path("hardware/llama_cpp_llama3_8b.csv")
_EMBEDDING = 128_256 * 4096  # of the table, of which a pass reads a row a token
_PARAMS = 8.03e9 - _EMBEDDING
_WEIGHT_BYTES = {"q4km": 4.92e9 - _EMBEDDING * 4.5 / 8, "f16": 16.06e9 - _EMBEDDING * 2}
_NUM_TOKENS, _UBATCH = 1024, 512


def errors(path: Path) -> dict[str, list[float]]:
    """Predicted / measured time - 1 of each decode step and prompt in the table."""
    found: dict[str, list[float]] = {"decode": [], "prefill": []}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for quant, weight_bytes in _WEIGHT_BYTES.items():
                device = DeviceSpeed(
                    bandwidth_gb_s=float(row["bandwidth_gb_s"]),
                    tflop_s=float(row["fp16_tflop_s"]),
                )
                model = roofline(
                    [device],
                    weight_bytes=weight_bytes,
                    num_params=_PARAMS,
                    num_layers=32,
                    attention_width=4096,
                    kv_bytes_per_token=131_072,
                )
                if row[f"decode_{quant}_tok_s"]:
                    speed = float(row[f"decode_{quant}_tok_s"])
                    found["decode"].append(model.step_s(0, 1, _NUM_TOKENS / 2) * speed - 1)
                if row[f"prefill1024_{quant}_tok_s"]:
                    speed = float(row[f"prefill1024_{quant}_tok_s"])
                    prompt_s = sum(
                        model.step_s(_UBATCH, 0, 0, _UBATCH * (past + _UBATCH / 2))
                        for past in range(0, _NUM_TOKENS, _UBATCH)
                    )
                    found["prefill"].append(prompt_s * speed / _NUM_TOKENS - 1)
    return found


def main() -> int:
    folder = os.environ.get("FMEDGE_BENCH_DATA", "")
    path = Path(folder) / _FILE
    if not folder or not path.is_file():
        print(f"FMEDGE_BENCH_DATA must name a folder with {_FILE}", file=sys.stderr)
        return 1
    for part, ratios in errors(path).items():
        sizes = np.abs(ratios)
        print(
            f"{part}: {len(ratios)} speeds, error median {np.median(sizes):.1%}, "
            f"nine of ten within {np.quantile(sizes, 0.9):.1%}, bias {np.median(ratios):+.1%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
