"""Requests that are drawn: streams of single calls, with prefixes in common, and of conversations.

The rule: every attribute has a generator of its own, so that a stream begins alike however long it
is, and other lengths leave its arrivals as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from math import inf
from zlib import crc32

import numpy as np

from fmedge.config.demand import MAX_TOKENS, Quantiles
from fmedge.config.tasks import TaskConfig
from fmedge.config.workloads import Prefixes, StreamConfig
from fmedge.sched.provision.demand import Spread
from fmedge.sim.arrivals import times
from fmedge.sim.parts import Part, Task
from fmedge.sim.workload import Call

BLOCK_TOKENS = 64
_AT_ONCE = 512


class Draws:
    """What is drawn of one part of a workload; seed: the workload's and the part's number."""

    def __init__(self, *seed: int) -> None:
        self._seed = seed

    def rng(self, attribute: str) -> np.random.Generator:
        return np.random.default_rng((*self._seed, crc32(attribute.encode())))

    def uniform(self, attribute: str) -> Iterator[float]:
        """Between 0 and 1, neither."""
        rng = self.rng(attribute)
        while True:
            yield from np.clip(rng.random(_AT_ONCE), 1e-12, 1 - 1e-12).tolist()

    def spread(self, attribute: str, quantiles: Quantiles | None) -> Iterator[float]:
        """Log-normal; zeros where there are no quantiles."""
        if quantiles is None:
            while True:
                yield 0.0
        spread = Spread(quantiles.p50, quantiles.p95)
        for u in self.uniform(attribute):
            yield spread.quantile(u)

    def numbers(self, attribute: str, quantiles: Quantiles) -> Iterator[int]:
        """Whole, 1 at least."""
        for found in self.spread(attribute, quantiles):
            yield min(MAX_TOKENS, max(1, round(found)))


def stream_part(stream: StreamConfig, *seed: int) -> Part:
    tasks = _conversations(stream, Draws(*seed))
    has_blocks = stream.prefix is not None or stream.turns is not None
    return Part(
        tasks=islice(tasks, stream.requests),
        block_tokens=BLOCK_TOKENS if has_blocks else 0,
        num_expected=num_expected(stream),
    )


def num_expected(config: StreamConfig | TaskConfig) -> float:
    most = inf if config.requests is None else config.requests
    return min(most, config.arrivals.num_expected)


def num_blocks(num_tokens: int) -> int:
    return -(-num_tokens // BLOCK_TOKENS)


def _conversations(stream: StreamConfig, draws: Draws) -> Iterator[Task]:
    """A call by itself is a conversation of one turn."""
    prompts = draws.numbers("prompt", stream.prompt_tokens)
    outputs = draws.numbers("output", stream.output_tokens)
    thinks = draws.spread("think", stream.think_s)
    turns = draws.numbers("turns", stream.turns or Quantiles(1, 1))
    prefixes = _prefixes(stream.prefix, draws)
    own = count(0 if stream.prefix is None else
                stream.prefix.number * num_blocks(stream.prefix.tokens))  # fmt: skip
    sender = stream.sender
    for at_s in times(stream.arrivals, draws.rng("arrivals")):
        blocks = next(prefixes)
        num_prompt = len(blocks) * BLOCK_TOKENS
        num_turns = next(turns)
        task: Task = []
        for turn in range(num_turns):
            num_prompt = min(MAX_TOKENS, num_prompt + next(prompts))
            num_output = next(outputs)
            if num_turns > 1:
                missing = num_blocks(num_prompt) - len(blocks)
                blocks = (*blocks, *islice(own, missing))
            task.append(
                Call(
                    at_s=next(thinks) if turn else at_s,
                    num_prompt=num_prompt,
                    num_output=min(num_output, stream.max_tokens or num_output),
                    max_tokens=stream.max_tokens,
                    blocks=blocks,
                    model=sender.model,
                    promise=sender.promise,
                    api_key=sender.api_key,
                    priority=sender.priority,
                    after=(turn - 1,) if turn else (),
                )
            )
            # What was answered is part of the next prompt.
            num_prompt = min(MAX_TOKENS, num_prompt + task[-1].num_output)
        yield task


def _prefixes(prefixes: Prefixes | None, draws: Draws) -> Iterator[tuple[int, ...]]:
    """The blocks that each conversation begins with."""
    if prefixes is None:
        while True:
            yield ()
    weights = np.arange(1, prefixes.number + 1, dtype=np.float64) ** -prefixes.zipf
    upper = np.cumsum(weights / weights.sum())
    each = num_blocks(prefixes.tokens)
    chosen = draws.uniform("prefix")
    for is_one in draws.uniform("has prefix"):
        k = min(int(np.searchsorted(upper, next(chosen))), prefixes.number - 1)
        yield tuple(range(k * each, (k + 1) * each)) if is_one < prefixes.share else ()
