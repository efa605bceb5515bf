"""The parts that a workload is put together from, and their order.

The rule: a part is a stream of tasks, one call each where nothing waits for another. It may be
endless, as nobody reads more of it than is played; tasks are taken or left whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, takewhile
from math import gcd

from msgspec import Struct
from msgspec.structs import replace

from fmedge.errors import ConfigError
from fmedge.sim.workload import Call
from fmedge.types import WorkflowSettings

MAX_CALLS = 5_000_000
"""Of a workload: some gigabytes."""

Task = list[Call]
"""Calls of which some wait for others; `after` are places in this list. The first comes first."""


class Part(Struct, frozen=True, kw_only=True):
    """tasks: by the time of their first calls. block_tokens 0: no blocks. num_expected:
    tasks, where they are drawn; inf without an end."""

    tasks: Iterator[Task]
    block_tokens: int = 0
    workflows: dict[str, WorkflowSettings] = {}
    num_expected: float = 0.0


def merged(parts: Sequence[Part]) -> Part:
    """All of them as one; blocks of different parts are different."""
    if len(parts) == 1:
        return parts[0]
    block_tokens = gcd(*(part.block_tokens for part in parts))
    numbered = (
        _renumbered(part, number, len(parts), block_tokens) for number, part in enumerate(parts)
    )
    return Part(
        tasks=heapq.merge(*numbered, key=_begin_s),
        block_tokens=block_tokens,
        workflows={name: found for part in parts for name, found in part.workflows.items()},
        num_expected=sum(part.num_expected for part in parts),
    )


def select(tasks: Iterator[Task], skip: int, requests: int | None, source: str) -> list[Task]:
    """The tasks that make up `requests` calls (None: all) after those of the first `skip`.
    ConfigError where there are not so many."""
    num_skipped = num_taken = 0
    taken: list[Task] = []
    most = MAX_CALLS if requests is None else requests
    while num_skipped < skip or num_taken < most:
        task = next(tasks, None)
        if task is None:
            break
        if num_skipped < skip:
            num_skipped += len(task)
            continue
        taken.append(task)
        num_taken += len(task)
    if requests is not None and num_taken < requests:
        after = f" after the first {skip}" if skip else ""
        raise ConfigError(f"{source}: has {num_taken} requests{after}, not {requests}")
    if requests is None and num_taken >= MAX_CALLS:
        raise too_many(source)
    if not taken:
        after = f" after the first {skip}" if skip else ""
        raise ConfigError(f"{source}: has no request{after}")
    return taken


def too_many(source: str) -> ConfigError:
    return ConfigError(f"{source}: more than {MAX_CALLS} requests: say how many you want")


def flattened(tasks: Sequence[Task]) -> tuple[Call, ...]:
    """All calls in a workload's order: those that arrive by themselves by at_s, each before those
    that wait for it."""
    if all(len(task) == 1 for task in tasks):
        return tuple(task[0] for task in tasks)
    keys: list[tuple[float, int, int]] = []
    for number, task in enumerate(tasks):
        ready_s: list[float] = []
        for place, call in enumerate(task):
            # What waits comes after the last arrival by itself that it waits for.
            key_s = max(ready_s[n] for n in call.after) if call.after else call.at_s
            ready_s.append(key_s)
            keys.append((key_s, number, place))
    keys.sort()
    places = {(number, place): n for n, (_, number, place) in enumerate(keys)}
    calls = []
    for _, number, place in keys:
        call = tasks[number][place]
        if call.after:
            call = replace(call, after=tuple(places[number, n] for n in call.after))
        calls.append(call)
    return tuple(calls)


def shifted(tasks: Iterable[Task], at: Callable[[float], float]) -> Iterator[Task]:
    """What arrives by itself arrives at another time; what waits waits as long as before."""
    for task in tasks:
        yield [call if call.after else replace(call, at_s=at(call.at_s)) for call in task]


def until(tasks: Iterator[Task], end_s: float) -> Iterator[Task]:
    return takewhile(lambda task: task[0].at_s < end_s, tasks)


def _begin_s(task: Task) -> float:
    return task[0].at_s


def _renumbered(part: Part, number: int, num_parts: int, block_tokens: int) -> Iterator[Task]:
    if not part.block_tokens:
        return part.tasks
    pieces = range(part.block_tokens // block_tokens)

    def blocks(ids: tuple[int, ...]) -> tuple[int, ...]:
        smaller = chain.from_iterable(
            (block * len(pieces) + piece for piece in pieces) for block in ids
        )
        return tuple(block * num_parts + number for block in smaller)

    return (
        [replace(call, blocks=blocks(call.blocks)) if call.blocks else call for call in task]
        for task in part.tasks
    )
