"""Walks that were found, and the prices of memory at which the best mix of them fits.

The rule: Dantzig and Wolfe's master programme ("Decomposition principle for linear programs", 1960)
over the walks of one node of the search. Devices of one class share a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fmedge.sched.provision.pricing import OFF, OWN, Classes
from fmedge.sched.provision.split import Floats, Ints

MAX_PIVOTS = 2000


@dataclass(frozen=True)
class Column:
    """One walk of a replica: cost weighted; taken int64[2, D] bytes, own and on the host."""

    replica: int
    cost: float
    taken: Ints
    path: Ints
    devices: list[int]
    is_simple: bool


class Master:
    """The mix of walks with the least cost. price float64[D]: of a byte; value: of the mix;
    weights: of each column, in order of addition."""

    def __init__(
        self,
        classes: Classes,
        capacity: Ints,
        host: int,
        least: Ints,
        penalty: float,
        bodies: Any,
    ) -> None:
        self._classes, self._host, self._least, self._bodies = classes, host, least, bodies
        self._scale = np.maximum(np.bincount(classes.of, capacity), 1.0)
        self._num_rows = len(self._scale)
        self._num_replicas = len(least)
        full = np.bincount(classes.of, capacity) / self._scale
        self._rhs = np.concatenate([full, np.ones(self._num_replicas)])
        self._costs = [0.0] * self._num_rows + [penalty] * self._num_rows
        eye = np.eye(self._num_rows, len(self._rhs))
        self._rows = [*eye, *-eye]  # what is left, and what is missing
        self._basis: Ints | None = None
        self._inverse = np.zeros((len(self._rhs), len(self._rhs)))
        self.columns: list[Column] = []
        self.value = np.inf

    def add(self, column: Column) -> None:
        charges = np.zeros_like(self._least)
        charges[column.replica] = np.maximum(column.taken, self._least[column.replica])
        used = charges[column.replica, OWN].astype(np.float64)
        if self._host >= 0:
            used[self._host] += charges[column.replica, OFF].sum()
        row = np.zeros(len(self._rhs))
        row[: self._num_rows] = np.bincount(self._classes.of, used) / self._scale
        row[self._num_rows + column.replica] = 1.0
        self.columns.append(column)
        self._rows.append(row)
        self._costs.append(column.cost)

    def solve(self) -> None:
        matrix = np.ascontiguousarray(np.array(self._rows).T)
        if self._basis is None:
            self._begin(matrix)
        solution, duals = np.empty(len(self._rhs)), np.empty(len(self._rhs))
        costs = np.array(self._costs)
        self._bodies.solve(
            costs, matrix, self._rhs, self._basis, self._inverse, solution, duals, MAX_PIVOTS
        )
        assert self._basis is not None
        weights = np.zeros(len(costs))
        weights[self._basis] = solution
        self.value = float(weights @ costs)
        self.weights = weights[2 * self._num_rows :]
        prices = np.maximum(0.0, -duals[: self._num_rows]) / self._scale
        self.price: Floats = prices[self._classes.of]

    def _begin(self, matrix: Any) -> None:
        """A basis of one walk of each replica, and of what is left or missing then."""
        rows, first = self._num_rows, 2 * self._num_rows
        chosen = {column.replica: first + n for n, column in enumerate(self.columns)}
        walks = [chosen[r] for r in range(self._num_replicas)]
        taken = matrix[:rows, walks]
        sign = np.where(self._rhs[:rows] >= taken.sum(axis=1), 1.0, -1.0)
        self._basis = np.concatenate([np.arange(rows) + rows * (sign < 0), walks]).astype(np.int64)
        self._inverse[:rows, :rows] = np.diag(sign)
        self._inverse[:rows, rows:] = -sign[:, None] * taken
        self._inverse[rows:, rows:] = np.eye(self._num_replicas)
