"""`python -m training.card`: evaluates a model and writes what was measured into its card."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

from bench.machine import describe
from training import evaluate
from training.mix import families

mpl.use("agg")
from matplotlib import pyplot as plt

CARD = Path(__file__).resolve().parent.parent / "docs" / "embedded-model.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"


def measured(folder: Path, model: Path, num: int) -> str:
    """Markdown: what was trained, where, and how well it does."""
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    num_parameters = sum(tensor.numel() for tensor in state["model"].values())
    machine = describe(())
    results = evaluate.run(model, num, [])
    facts = {
        "parameters": f"{num_parameters:,}",
        "file": f"{model.stat().st_size:,} bytes, Q8_0",
        "shape": ", ".join(f"{name} {value:g}" for name, value in state["shape"].items()),
        "trained": f"{state['step']:,} steps, {state['num_tokens'] / 1e6:.1f}M tokens, "
        f"{state['trained_s'] / 60:.0f} minutes on {machine['cores_allowed']} cores of "
        f"{machine['cpu']} (float32, shared with other work)",
        "training code": "commit "
        + ", ".join(
            f"{commit} from step {step:,}" if step else commit for step, commit in state["commits"]
        ),
        "families": f"{len(families())}, {num} kept-back examples of each below",
    }
    rows = ["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in facts.items())]
    return "\n".join([*rows, "", evaluate.table(results)])


def draw(folder: Path, path: Path) -> None:
    """The loss curve, and below it how many kept-back answers were exact at each check."""
    losses = _read(folder / "loss.csv")
    checks = _read(folder / "exact.csv")
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True)
    above.plot([int(row["step"]) for row in losses], [float(row["loss"]) for row in losses])
    above.set_ylabel("loss of a learned token / nats")
    above.set_yscale("log")
    steps = sorted({int(row["step"]) for row in checks})
    means = []
    for step in steps:
        shares = [float(row["exact"]) for row in checks if int(row["step"]) == step]
        means.append(100 * sum(shares) / len(shares))
    below.plot(steps, means, marker="o")
    below.set_ylabel("exact answers, mean of families / %")
    below.set_xlabel("step")
    below.set_ylim(0, 100)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.card", description=__doc__)
    parser.add_argument("folder", type=Path, help="the training run's")
    parser.add_argument("model", type=Path, metavar="FILE.gguf")
    parser.add_argument("--num", type=int, default=60, help="examples of each family [60]")
    options = parser.parse_args()
    draw(options.folder, CARD.parent / "embedded-model" / "loss.png")
    text = CARD.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    filled = f"{BEGIN}\n{measured(options.folder, options.model, options.num)}\n{END}"
    CARD.write_text(pattern.sub(lambda _: filled, text))
    print(f"{CARD}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
