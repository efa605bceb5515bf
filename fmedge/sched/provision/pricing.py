"""One replica at given prices of memory: what its cheapest walk costs, holds and charges.

The rule: the only caller of the kernels; over a single device, where there is one walk, the plain
functions are done before compiled ones are loaded. Devices that are alike in all that matters form
a class, so that many of few kinds cost no more than few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmedge.sched.provision import master, walk
from fmedge.sched.provision.split import Ints, Part, Problem
from fmedge.sched.provision.walk import FOUND, RELAXED

OWN, OFF = 0, 1
"""Rows of bounds and prices: bytes on the range's device, and those that it puts on the host."""


SMALL_WORK, LARGE_WORK = 8e6, 4e8
"""Steps (1 to 3 ns each) that one walk of many, or of one replica alone, may take to be exact."""


class Plain:
    """The kernels' functions as they are written."""

    cheapest_walk = staticmethod(walk.cheapest_walk)
    solve = staticmethod(master.solve)


def bodies_for(num_devices: int) -> Any:
    """What has `cheapest_walk` and `solve`, compiled (by the first use on a machine) where there is
    something to search."""
    if num_devices == 1:
        return Plain
    from fmedge.sched.provision import kernels  # numba: only where something is planned

    return kernels


class Classes:
    """Devices by class: of[d], members[c], devices (one of each), counts."""

    def __init__(self, of: list[int]) -> None:
        self.of = np.array(of, np.int64)
        self.members = [np.flatnonzero(self.of == c) for c in range(max(of) + 1)]
        self.devices = np.array([m[0] for m in self.members], np.int64)
        self.counts = np.array([len(m) for m in self.members], np.int64)
        self.size = self.counts[self.of]

    def mean(self, values: Any) -> Any:
        """float64[D] with each value replaced by its class's mean."""
        return (np.bincount(self.of, values) / self.counts)[self.of]


def by_key(keys: Any) -> Classes:
    """Classes of equal columns of int64[N, D]."""
    numbers: dict[bytes, int] = {}
    columns = np.ascontiguousarray(keys.T)
    return Classes([numbers.setdefault(column.tobytes(), len(numbers)) for column in columns])


def alike(problems: Sequence[Problem], capacity: Ints) -> Ints:
    """int64[D]: equal numbers for devices that could be swapped without anything changing."""
    firsts: list[int] = []
    found = np.zeros(len(capacity), np.int64)
    for d in range(len(capacity)):
        for c, a in enumerate(firsts):
            if capacity[a] == capacity[d] and all(_can_swap(p, a, d) for p in problems):
                found[d] = c
                break
        else:
            found[d] = len(firsts)
            firsts.append(d)
    return found


def _can_swap(problem: Problem, a: int, b: int) -> bool:
    if problem.host in (a, b) or problem.is_allowed[a] != problem.is_allowed[b]:
        return False
    rows = [problem.fixed_s, problem.fixed_bytes, problem.last_bytes]
    if problem.base_bytes is not None:
        rows.append(problem.base_bytes)
    if any(row[a] != row[b] for row in rows):
        return False
    hop = problem.hop_s
    others = np.ones(hop.shape[0], np.bool_)
    others[[a, b]] = False
    return (
        hop[a, b] == hop[b, a]
        and bool((hop[a, others] == hop[b, others]).all())
        and bool((hop[others, a] == hop[others, b]).all())
        and all(
            bool((array[:, :, a] == array[:, :, b]).all())
            for array in (problem.cost_s, problem.nbytes, problem.host_nbytes)
        )
    )


@dataclass(frozen=True)
class Walk:
    """path: int64[N, 6] of node, i, j, m, bytes on the device, bytes on the host. is_simple: no
    device is used twice. is_best: `value` is a lower bound of all walks. work: in steps."""

    value: float
    path: Ints
    is_simple: bool
    is_best: bool
    work: float


class Replica:
    """A problem as the kernels read it."""

    def __init__(self, problem: Problem, bodies: Any = None) -> None:
        self.problem = problem
        self.weight = float(problem.weight)
        self._bodies = bodies_for(problem.num_devices) if bodies is None else bodies
        self._sums = (
            _prefix(problem.cost_s, np.float64),
            _prefix(problem.nbytes, np.int64),
            _prefix(problem.host_nbytes, np.int64),
        )
        self._rest = (
            np.ascontiguousarray(problem.fixed_s, np.float64),
            np.ascontiguousarray(problem.fixed_bytes, np.int64),
            np.ascontiguousarray(problem.last_bytes, np.int64),
            np.ascontiguousarray(problem.hop_s, np.float64),
        )
        self._experts = np.concatenate([[0], np.cumsum(problem.has_experts)])
        self.base = np.zeros(problem.num_devices, np.int64)
        if problem.base_bytes is not None:
            self.base += problem.base_bytes

    def walk(
        self,
        classes: Classes,
        most: Ints,
        least: Ints,
        price: Any,
        *,
        must: int = -1,
        max_work: float = SMALL_WORK,
        wants_simple: bool = False,
    ) -> Walk | None:
        """The cheapest walk, None if none fits (or with wants_simple none was found). Where it
        takes more than max_work: a lower bound, or if wants_simple a walk that uses each device
        once and is near the best. most, least int64[2, D] and price float64[2, D]: equal within a
        class. must: a device that is a class of its own, or -1."""
        path = np.empty((self.problem.num_layers, 6), np.int64)
        value, length, known, work = self._bodies.cheapest_walk(
            *self._sums,
            *self._rest,
            classes.devices,
            classes.counts,
            self.problem.host,
            int(classes.of[must]) if must >= 0 else -1,
            self.weight,
            most,
            least,
            price,
            max_work,
            wants_simple,
            path,
        )
        if value == np.inf:
            return None
        return Walk(value, path[:length], known != RELAXED, known != FOUND, work)

    def cost(self, path: Ints, devices: list[int]) -> float:
        """Weighted, of a walk over these devices."""
        sums, fixed_s, hop = self._sums[0], self._rest[0], self._rest[3]
        before = outside = self.problem.num_devices
        total = 0.0
        for d, (_, i, j, m, _, _) in zip(devices, path.tolist(), strict=True):
            total += hop[before, d] + fixed_s[d]
            total += sums[-1, d, m] - sums[-1, d, i] + sums[0, d, j] - sums[0, d, m]
            before = d
        return self.weight * float(total + hop[before, outside])

    def parts(self, path: Ints, devices: list[int]) -> tuple[Part, ...]:
        return tuple(
            Part(d, i, j - 1, int(self._experts[m] - self._experts[i]))
            for d, (_, i, j, m, _, _) in zip(devices, path.tolist(), strict=True)
        )


def _prefix(values: Any, dtype: Any) -> Any:
    """[V, L, D] -> prefix sums [V, D, L + 1]."""
    num_variants, num_layers, num_devices = values.shape
    sums = np.zeros((num_variants, num_devices, num_layers + 1), dtype)
    np.cumsum(values.transpose(0, 2, 1), axis=2, out=sums[:, :, 1:])
    return sums
