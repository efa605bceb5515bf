"""A small linear programme: min cost x, columns x = rhs, x >= 0, from a basis that is feasible.

The rule: primal simplex with an explicit inverse, for tens of rows and hundreds of columns; what it
returns are prices, and nobody has to trust them: any prices give a valid bound.

A plain function over arrays; kernels.py compiles it unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def solve(
    cost: Any,
    columns: Any,
    rhs: Any,
    basis: Any,
    inverse: Any,
    solution: Any,
    duals: Any,
    max_pivots: int,
) -> int:
    """Number of pivots. columns float64[M, N]; basis int64[M] and inverse float64[M, M] of its
    columns go in and out; solution float64[M]: of the basic columns; duals float64[M]."""
    num_rows, num_columns = columns.shape
    scale = 1e-12
    for n in range(num_columns):
        scale = max(scale, abs(cost[n]))
    pivots, stalled, before = 0, 0, np.inf
    while True:
        value = 0.0
        for m in range(num_rows):
            total = 0.0
            for k in range(num_rows):
                total += inverse[m, k] * rhs[k]
            solution[m] = max(0.0, total)
            value += cost[basis[m]] * solution[m]
        for k in range(num_rows):
            total = 0.0
            for m in range(num_rows):
                total += cost[basis[m]] * inverse[m, k]
            duals[k] = total
        if pivots >= max_pivots:
            return pivots
        stalled = stalled + 1 if value >= before - 1e-13 * scale else 0
        before = value
        enters, least = -1, -1e-11 * scale
        for n in range(num_columns):
            reduced = cost[n]
            for m in range(num_rows):
                if columns[m, n] != 0.0:
                    reduced -= duals[m] * columns[m, n]
            if reduced < least:
                enters = n
                if stalled > 20:  # the first one that helps: cannot cycle (Bland's rule)
                    break
                least = reduced
        if enters < 0:
            return pivots
        direction = np.zeros(num_rows)
        leaves, shortest = -1, np.inf
        for m in range(num_rows):
            total = 0.0
            for k in range(num_rows):
                total += inverse[m, k] * columns[k, enters]
            direction[m] = total
            if total > 1e-10:
                ratio = solution[m] / total
                if ratio < shortest or (ratio == shortest and basis[m] < basis[leaves]):
                    leaves, shortest = m, ratio
        if leaves < 0:
            return pivots
        for k in range(num_rows):
            inverse[leaves, k] /= direction[leaves]
        for m in range(num_rows):
            if m != leaves and direction[m] != 0.0:
                for k in range(num_rows):
                    inverse[m, k] -= direction[m] * inverse[leaves, k]
        basis[leaves] = enters
        pivots += 1
