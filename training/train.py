"""`python -m training.train`: trains the embedded model, from nothing or from where it stopped.

Each step's examples follow from the seed and the step's number alone, so a run that was interrupted
and resumed sees what an uninterrupted one sees.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bench.machine import commit
from training import tokenizer as vocabulary
from training.conversation import Example
from training.mix import Mix, families
from training.model import Model, Shape

STEP_TOKENS = 2048
PASS_TOKENS = 4096
"""Tokens of one forward and backward pass at most."""
WARM_UP_STEPS = 150
MUON_LR = 0.02
ADAM_LR = 0.003
CONTEXT_WEIGHT = 0.3
"""Of tokens that others wrote, where the assistant's count 1: reading helps to learn writing."""
TOKENIZER_EXAMPLES = 40_000
TEST_EXAMPLES = 12
"""Of each family, at each check."""


def main() -> int:
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    mix = Mix()
    tokenizer = _tokenizer(options.folder / "tokenizer.json", mix)
    run = Run(options, mix, vocabulary.Renderer(tokenizer))
    run.resume()
    return run.train()


class Run:
    """One training run: its folder holds the tokenizer, the last checkpoint and the loss curve."""

    def __init__(
        self, options: argparse.Namespace, mix: Mix, renderer: vocabulary.Renderer
    ) -> None:
        self.options = options
        self.mix = mix
        self.renderer = renderer
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = Model(Shape(vocab_size=vocabulary.VOCAB_SIZE)).to(self.device)
        matrices = [p for p in self.model.blocks.parameters() if p.ndim == 2]
        others = [p for p in self.model.parameters() if all(p is not m for m in matrices)]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.01),
            torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.step = 0
        self.num_tokens = 0
        self.trained_s = 0.0
        self.should_stop = False
        self.commits = [(0, commit())]
        """(step, commit) from which on the code was that."""

    def resume(self) -> None:
        path = self.options.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.num_tokens = state["step"], state["num_tokens"]
        self.trained_s = state["trained_s"]
        (_, now), self.commits = self.commits[0], state["commits"]
        if self.commits[-1][1] != now:
            self.commits.append((self.step, now))
            print(f"note: until here at commit {self.commits[-2][1]}, now {now}", flush=True)
        print(f"resumed after step {self.step:,}", flush=True)

    def save(self, name: str = "checkpoint.pt") -> None:
        """Whole, or not at all."""
        path = self.options.folder / name
        partial = path.with_suffix(".partial")
        state = {
            "shape": asdict(self.model.shape),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "num_tokens": self.num_tokens,
            "trained_s": self.trained_s,
            "commits": self.commits,
        }
        torch.save(state, partial)
        os.replace(partial, path)

    def train(self) -> int:
        """Returns 0 when all steps are done, 130 when interrupted: the checkpoint is whole."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        options = self.options
        losses: list[float] = []
        while self.step < options.steps and not self.should_stop:
            if self.step == self._first_decaying():
                self.save("level.pt")
            started_s = time.monotonic()
            losses.append(self._train_step())
            self.trained_s += time.monotonic() - started_s
            if self.step % 50 == 0 or self.step == options.steps:
                self._report(losses)
                losses = []
            if self.step % options.save_every == 0:
                self.save()
            if self.step % options.check_every == 0:
                self._check()
        self.save()
        if self.should_stop:
            print(f"interrupted after step {self.step:,}; the same command goes on", flush=True)
            return 130
        self._check()
        return 0

    def _train_step(self) -> float:
        """One step; returns the mean loss of a learned token in nats."""
        self.model.train()
        scale = self._schedule()
        for optimizer, rate in zip(self.optimizers, (MUON_LR, ADAM_LR), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        examples, total = [], 0
        while total < self.options.step_tokens:
            seed = f"{self.options.seed} {self.step} {len(examples)}"
            encoded = self.renderer.encode(self.mix.training(seed, self.step))
            if len(encoded[0]) <= self.model.shape.context_length:
                examples.append(encoded)
                total += len(encoded[0])
        num_learned = float(sum(learned.sum() for _, learned in examples))
        loss_sum = 0.0
        for group in passes(examples):
            ids, learned, lengths = in_a_row(group)
            losses = self.model.losses(ids.to(self.device), lengths)
            learned = learned.to(self.device)
            weighted = torch.where(learned, losses, CONTEXT_WEIGHT * losses)
            (weighted.sum() / num_learned).backward()
            loss_sum += losses[learned].sum().item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.num_tokens += total
        return loss_sum / num_learned

    def _first_decaying(self) -> int:
        """The step from which on the rate falls. What is there before it can be trained longer:
        level.pt in place of checkpoint.pt, with more steps."""
        return self.options.steps - max(1, int(self.options.steps * self.options.decay))

    def _schedule(self) -> float:
        """Part of the full learning rate: up quickly, level, and down to zero in the end."""
        steps = self.options.steps
        left = (steps - self.step) / (steps - self._first_decaying())
        return min((self.step + 1) / WARM_UP_STEPS, left, 1.0)

    def _report(self, losses: list[float]) -> None:
        loss = sum(losses) / len(losses)
        speed = self.num_tokens / max(self.trained_s, 1e-9)
        left_s = self.trained_s / self.step * (self.options.steps - self.step)
        print(
            f"step {self.step:6,} / {self.options.steps:,}  loss {loss:.4f}  "
            f"{self.num_tokens / 1e6:.1f}M tokens at {speed:,.0f}/s  {left_s / 60:.0f} min left",
            flush=True,
        )
        row = (self.step, self.num_tokens, round(self.trained_s), round(loss, 5))
        self._append("loss.csv", ("step", "tokens", "seconds", "loss"), [row])

    def _check(self) -> None:
        """How many last answers of kept-back examples come out right, by family."""
        right = check(self.model, self.mix, self.renderer, TEST_EXAMPLES, self.device)
        mean = sum(right.values()) / len(right)
        worst = sorted(right.items(), key=lambda item: item[1])[:8]
        print(
            f"check after step {self.step:,}: {mean:.1%} exact; least: "
            + ", ".join(f"{name} {share:.0%}" for name, share in worst),
            flush=True,
        )
        rows = [(self.step, name, round(share, 4)) for name, share in right.items()]
        self._append("exact.csv", ("step", "family", "exact"), rows)

    def _append(self, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        path = self.options.folder / name
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(header)
            writer.writerows(rows)

    def _on_signal(self, *_: object) -> None:
        self.should_stop = True


Encoded = tuple[np.ndarray, np.ndarray]
"""A conversation's token ids, and whether each is to be learned."""


def passes(examples: list[Encoded]) -> list[list[Encoded]]:
    """Conversations for one forward and backward pass each."""
    groups: list[list[Encoded]] = [[]]
    total = 0
    for example in examples:
        if groups[-1] and total + len(example[0]) > PASS_TOKENS:
            groups.append([])
            total = 0
        groups[-1].append(example)
        total += len(example[0])
    return groups


def in_a_row(examples: list[Encoded]) -> tuple[Tensor, Tensor, list[int]]:
    """(token ids, whether each is learned, the conversations' lengths)."""
    ids = torch.from_numpy(np.concatenate([ids for ids, _ in examples]))
    learned = torch.from_numpy(np.concatenate([learned for _, learned in examples]))
    return ids, learned, [len(ids) for ids, _ in examples]


@torch.no_grad()
def check(
    model: Model, mix: Mix, renderer: vocabulary.Renderer, num: int, device: str = "cpu"
) -> dict[str, float]:
    """family -> part of its kept-back examples whose last answer greedy decoding gives exactly.

    Each token is the likeliest after the right ones before it: then greedy decoding writes them.
    """
    model.eval()
    right: dict[str, list[bool]] = defaultdict(list)
    for family in families():
        examples = [mix.test(family, seed) for seed in range(num)]
        for example in examples:
            ids, learned = renderer.encode(example)
            learned[: _last_turn(learned)] = False
            states = model.hidden(torch.from_numpy(ids[:-1]).to(device), [len(ids) - 1])
            best = model.logits(states).argmax(dim=-1).cpu().numpy()
            right[family].append(bool((best == ids[1:])[learned[1:]].all()))
    return {family: sum(results) / len(results) for family, results in right.items()}


def _last_turn(learned: np.ndarray) -> int:
    """Where the last stretch of learned tokens begins."""
    gaps = np.flatnonzero(~learned[: np.flatnonzero(learned)[-1]])
    return int(gaps[-1]) + 1


def _tokenizer(path: Path, mix: Mix) -> Tokenizer:
    if path.exists():
        return Tokenizer.from_file(str(path))
    print("learning the tokenizer", flush=True)
    renderer = vocabulary.Renderer()
    examples: list[Example] = [mix.training(f"tokenizer {i}") for i in range(TOKENIZER_EXAMPLES)]
    tokenizer = vocabulary.learn(renderer.text(example) for example in examples)
    tokenizer.save(str(path))
    return tokenizer


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("folder", type=Path, help="where checkpoints and curves are kept")
    parser.add_argument("--steps", type=int, default=14_000)
    parser.add_argument("--step-tokens", type=int, default=STEP_TOKENS)
    parser.add_argument("--decay", type=float, default=0.4, help="part of the steps that slow down")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--check-every", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
