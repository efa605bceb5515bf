"""The planner's priors against measured speeds of cards: each card from what the others teach.

Reads $FMEDGE_BENCH_DATA/hardware/llama_cpp_llama3_8b.csv (one row a card: tokens/s of Llama 3 8B
with 1,024 prompt tokens and 1,024 generated ones; XiongjieDai, GPU-Benchmarks-on-LLM-Inference).
The law's constants are fitted anew without each card in turn; the error is that card's.
`python -m bench.plan.speed` prints every card, and the constants that all together give.
"""

from __future__ import annotations

import asyncio
import csv
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from scipy.optimize import least_squares

from bench.context import Bench, Outcome, Skipped
from fmedge.sched.provision import catalogue, cost
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.rates import LAW, Law
from fmedge.types import EngineSettings
from tests.sched.provision.llama3 import llama3

ROW = "plan-speed"
MOST_ERROR = {"decode": 0.10, "prefill": 0.15}
_FILE = Path("hardware/llama_cpp_llama3_8b.csv")
_QUANTS = {"q4km": "Q4_K_M", "f16": "F16"}
_NUM_TOKENS = 1024
_OUTLIERS = {("A100 SXM 80GB", "f16"), ("L40S 48GB", "f16")}
"""Prefill of F16 as if something else had bound it: far below the same card's Q4_K_M."""

Phase = Literal["decode", "prefill"]
_FITTED: dict[Phase, tuple[str, ...]] = {
    "decode": ("read_efficiency", "ecc_efficiency", "sm_bytes", "layer_s"),
    "prefill": ("compute_efficiency", "quant_flops", "flop_j", "coarse_flop_j"),
}
_HOST = Device(name="CPU", type="cpu", memory_bytes=1 << 38, bandwidth_gb_s=60, tflop_s=1)


class Measured(msgspec.Struct, frozen=True):
    """Seconds a token on one card."""

    card: str
    quant: str
    device: Device
    token_s: float


def read(path: Path, phase: Phase) -> list[Measured]:
    name = {"decode": "decode_{}_tok_s", "prefill": "prefill1024_{}_tok_s"}[phase]
    found = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            card = catalogue.find(row["device"])
            device = Device(
                name="gpu0",
                type="gpu",
                kind=row["device"],
                memory_bytes=int(float(row["memory_gib"]) * 2**30),
                bandwidth_gb_s=float(row["bandwidth_gb_s"]),
                tflop_s=float(row["fp16_tflop_s"]),
                link_gb_s=card.link_gb_s if card else 12.0,
                source="catalogue",
            )
            for quant in _QUANTS:
                speed = row[name.format(quant)]
                if speed:
                    found.append(Measured(row["device"], quant, device, 1 / float(speed)))
    return found


def predicted_s(measured: Measured, phase: Phase, law: Law) -> float:
    """Seconds a token, as the planner would say. The runs were without flash attention."""
    shape = llama3("8B", _QUANTS[measured.quant])
    engine = EngineSettings(model_path="", ctx_size=8192, slots=1, flash_attn="off")
    speed = cost.predict(
        shape,
        engine,
        [Range(device="gpu0", first_layer=0, last_layer=shape.num_layers)],
        {"gpu0": measured.device, "CPU": _HOST},
        cost.OperatingPoint(prompt_tokens=_NUM_TOKENS, depth=_NUM_TOKENS // 2),
        law=law,
    )
    return speed.tpot_s if phase == "decode" else speed.ttft_s / _NUM_TOKENS


def fitted(rows: Sequence[Measured], phase: Phase) -> Law:
    """The law whose constants of this phase fit these rows best, outliers weighing little."""
    names = _FITTED[phase]
    start = [getattr(LAW, name) for name in names]

    def law_of(logs: Any) -> Law:
        values = {n: s * math.exp(x) for n, s, x in zip(names, start, logs, strict=True)}
        return msgspec.structs.replace(LAW, **values)

    def residuals(logs: Any) -> list[float]:
        law = law_of(logs)
        return [math.log(predicted_s(row, phase, law) / row.token_s) for row in rows]

    zeros = [0.0] * len(names)
    found = least_squares(residuals, zeros, loss="soft_l1", f_scale=0.05, bounds=(-2, 2))
    return law_of(found.x)


def left_out(rows: Sequence[Measured], phase: Phase) -> list[float]:
    """predicted / measured time - 1 of each row, its card unknown to the fit."""
    laws: dict[str, Law] = {}
    for card in dict.fromkeys(row.card for row in rows):
        laws[card] = fitted([row for row in rows if row.card != card], phase)
    return [predicted_s(row, phase, laws[row.card]) / row.token_s - 1 for row in rows]


async def run(bench: Bench) -> list[Outcome | Skipped]:
    folder = os.environ.get("FMEDGE_BENCH_DATA", "")
    path = Path(folder) / _FILE
    if not folder or not path.is_file():
        return [Skipped(ROW, f"FMEDGE_BENCH_DATA does not name a folder with {_FILE}")]
    found: list[Outcome | Skipped] = []
    for phase in ("decode", "prefill"):
        rows = await asyncio.to_thread(read, path, phase)
        kept = [r for r in rows if phase == "decode" or (r.card, r.quant) not in _OUTLIERS]
        errors = await asyncio.to_thread(left_out, kept, phase)
        sizes = [abs(error) for error in errors]
        for row, error in zip(kept, errors, strict=True):
            bench.say(f"  {phase} {row.card}, {_QUANTS[row.quant]}: {error:+.1%}")
        detail = {
            "worst": max(sizes),
            "errors": {f"{r.card} {r.quant}": e for r, e in zip(kept, errors, strict=True)},
            "left_aside": [f"{r.card} {r.quant}" for r in rows if r not in kept],
        }
        mean, most = sum(sizes) / len(sizes), MOST_ERROR[phase]
        found.append(
            Outcome(ROW, f"{phase} MAPE, card left out", mean, "", most, False, (), detail)
        )
    return found


async def main() -> int:
    bench = Bench(folder=Path(), cores=(), llama_server=None, llama_bench=None)
    outcomes = await run(bench)
    for outcome in outcomes:
        print(outcome)
    if any(isinstance(outcome, Skipped) for outcome in outcomes):
        return 1
    path = Path(os.environ.get("FMEDGE_BENCH_DATA", "")) / _FILE
    for phase in ("decode", "prefill"):
        rows = [r for r in read(path, phase) if (r.card, r.quant) not in _OUTLIERS]
        print(phase, {name: getattr(fitted(rows, phase), name) for name in _FITTED[phase]})
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
