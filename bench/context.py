"""What every row is given, and what it gives back."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import servers
from bench.servers import Server
from tests import synthetic


@dataclass(frozen=True)
class Outcome:
    """One number beside what it must reach. `samples`: the same number in each round."""

    row: str
    metric: str
    value: float
    unit: str
    target: float
    is_at_least: bool
    samples: tuple[float, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        return self.value >= self.target if self.is_at_least else self.value <= self.target


@dataclass(frozen=True)
class Skipped:
    """A row that could not be measured here, and why."""

    row: str
    reason: str


@dataclass(frozen=True)
class Bench:
    """Where and how to measure. cores: those that every server under test is held to."""

    folder: Path
    cores: tuple[int, ...]
    llama_server: Path | None
    llama_bench: Path | None
    rounds: int = 5
    is_full: bool = False
    threads: int = 2

    @property
    def model(self) -> Path:
        """The model of the comparisons: Q8_0, about 40M parameters, 32k tokens."""
        return synthetic.cached("bench40m")

    @property
    def small_model(self) -> Path:
        return synthetic.cached("demo")

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def fmedge(
        self, model: Path | None = None, *, ctx_size: int = 2048, slots: int = 8, threads: int = 0
    ) -> Iterator[Server]:
        port = servers.free_port()
        command = servers.fmedge_command(
            model or self.model,
            port,
            ctx_size=ctx_size,
            slots=slots,
            threads=threads or self.threads,
        )
        log = self.folder / "fmedge.log"
        with servers.running("fmedge", command, port, log, cores=self.cores) as server:
            yield server

    @contextlib.contextmanager
    def both(self, *, ctx_size: int = 2048, slots: int = 8) -> Iterator[tuple[Server, Server]]:
        """fmedge and llama-server on the same model and cores."""
        assert self.llama_server is not None
        port = servers.free_port()
        command = servers.llama_server_command(
            self.llama_server,
            self.model,
            port,
            ctx_size=ctx_size,
            slots=slots,
            threads=self.threads,
        )
        log = self.folder / "llama-server.log"
        with (
            servers.running("llama-server", command, port, log, cores=self.cores) as peer,
            self.fmedge(ctx_size=ctx_size, slots=slots) as ours,
        ):
            yield ours, peer


async def interleave(
    bench: Bench,
    ours: Server,
    peer: Server,
    measure: Callable[[Server, int], Awaitable[dict[str, float]]],
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Round by round both servers in turn, with the same seed; round 0 warms up and is dropped."""
    rounds = []
    for number in range(bench.rounds + 1):
        first = await measure(ours, number)
        second = await measure(peer, number)
        label = f"round {number}" if number else "warm-up"
        bench.say(f"  {label}: fmedge {_show(first)} | {peer.name} {_show(second)}")
        if number:
            rounds.append((first, second))
    return rounds


def ratio(
    row: str,
    metric: str,
    rounds: list[tuple[dict[str, float], dict[str, float]]],
    key: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Outcome:
    """The median over rounds of ours / theirs."""
    target = at_least if at_least is not None else at_most
    assert target is not None
    samples = tuple(ours[key] / theirs[key] for ours, theirs in rounds)
    return Outcome(
        row, metric, statistics.median(samples), "x", target, at_least is not None, samples,
        {"fmedge": [ours[key] for ours, _ in rounds], "peer": [peer[key] for _, peer in rounds]},
    )  # fmt: skip


def allowed_cores() -> tuple[int, ...]:
    """The first two cores that this process may use (one, where it has but one)."""
    return tuple(sorted(os.sched_getaffinity(0))[:2])


def _show(values: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in values.items())
