"""The fleet's arrays, and room in them.

The rule: arrays grow by doubling and keep what they hold, so whoever uses them asks for them anew
after anything that may grow them. Single cells are read and written through memoryviews: a third of
the time that numpy takes for it.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmedge.sched import arrays
from fmedge.sched.arrays import NUM_SCENARIOS, Arrays
from fmedge.sched.lengths import NUM_BINS
from fmedge.sched.steptime import PACKED_SIZE


@cache
def strata_table() -> NDArray[np.uint8]:
    """Which stratum of its distribution a request draws from in each scenario: permutations,
    unlike for different requests, of which each 4 scenarios have one of each quarter of the
    distribution and each 8 one of each eighth, so that 4 and 8 scenarios are stratified too."""
    random = Random(20260)  # noqa: S311 - the same tables in every process
    out = np.zeros((arrays.NUM_STRATA, NUM_SCENARIOS), np.uint8)
    for row in out:
        inside = []
        for _ in range(4):
            halves = zip(random.sample((0, 1), 2), random.sample((2, 3), 2), strict=True)
            inside.append([k for pair in halves for k in random.sample(pair, 2)])
        for block in range(4):
            for k, quarter in enumerate(random.sample(range(4), 4)):
                row[4 * block + k] = 4 * quarter + inside[quarter][block]
    return out


class Storage:
    """arrays: see `Arrays`. cells, param_cells, packed_cells: its state, params and packed, flat.
    free_replicas, free_rows: what is not in use. indices, cached, rows: int64 scratch."""

    def __init__(self) -> None:
        self.free_replicas: list[int] = []
        self.free_rows: list[int] = []
        self._strata = strata_table()
        self.indices: NDArray[np.int64] = np.zeros(0, np.int64)
        self.cached: NDArray[np.int64] = np.zeros(0, np.int64)
        self._allocate(num_replicas=8, num_members=64, num_rows=256, old=None)

    def take_replica(self) -> int:
        """The index of a replica that is in use from now on."""
        if not self.free_replicas:
            self._grow(replicas=2)
        return self.free_replicas.pop()

    def take_row(self, num_members: int) -> int:
        """The row of a request that is in use from now on, of a replica that has num_members."""
        if num_members == self.arrays.members.shape[1]:
            self._grow(members=2)
        if not self.free_rows:
            self._grow(rows=2)
        return self.free_rows.pop()

    def scratch(self, num_replicas: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """indices and cached, of that length."""
        if num_replicas > len(self.indices):
            self.indices = np.zeros(num_replicas, np.int64)
            self.cached = np.zeros(num_replicas, np.int64)
        return self.indices[:num_replicas], self.cached[:num_replicas]

    def _grow(self, *, replicas: int = 1, members: int = 1, rows: int = 1) -> None:
        a = self.arrays
        num_replicas, num_members = a.members.shape
        self._allocate(num_replicas * replicas, num_members * members, len(a.state) * rows, a)

    def _allocate(
        self, num_replicas: int, num_members: int, num_rows: int, old: Arrays | None
    ) -> None:
        entries = num_members + 1 + arrays.MAX_ARRIVALS
        new = Arrays(
            params=np.zeros((num_replicas, arrays.NUM_PARAMS)),
            packed=np.zeros((num_replicas, PACKED_SIZE)),
            arrival_draws=np.ones((num_replicas, arrays.NUM_ARRIVAL_DRAWS), np.int32),
            members=np.zeros((num_replicas, num_members), np.int32),
            state=np.zeros((num_rows, arrays.NUM_FIELDS)),
            draws=np.ones((num_rows, NUM_SCENARIOS + 1), np.int32),
            cdfs=np.ones((num_rows, NUM_BINS), np.float32),
            rests=np.zeros((num_rows, NUM_SCENARIOS), np.float32),
            strata=self._strata,
            ints=np.zeros((arrays.NUM_INTS, entries), np.int64),
            floats=np.zeros((arrays.NUM_FLOATS, entries)),
            samples=np.zeros((arrays.NUM_SAMPLES, entries, NUM_SCENARIOS)),
        )
        if old is not None:
            for name in ("params", "packed", "arrival_draws", "members"):
                source = getattr(old, name)
                getattr(new, name)[: len(source), : source.shape[1]] = source
            for name in ("state", "draws", "cdfs", "rests"):
                source = getattr(old, name)
                getattr(new, name)[: len(source)] = source
        had_replicas = 0 if old is None else len(old.params)
        had_rows = 1 if old is None else len(old.state)  # row 0 is the candidate's
        self.free_replicas[:0] = range(num_replicas - 1, had_replicas - 1, -1)
        self.free_rows[:0] = range(num_rows - 1, had_rows - 1, -1)
        self.arrays = new
        self.cells: Any = memoryview(new.state.reshape(-1))
        self.param_cells: Any = memoryview(new.params.reshape(-1))
        self.packed_cells: Any = memoryview(new.packed.reshape(-1))
        self.rows = np.zeros(entries, np.int64)
