"""A walk that uses each device once where finding the best one would take too long.

The rule: what it finds fits, and is near the best; nothing is proven. Labels (what has been used,
at which cost) are kept for each boundary, the most promising ones by cost so far and the least cost
of the rest, which walk.fill_rests knows.

Plain functions over numbers and arrays; kernels.py compiles them unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np

INF = np.inf
WIDTH = 32
"""Labels of one boundary."""


def place(j: int, estimate: float, mark: int, counts: Any, estimates: Any, marks: Any) -> int:
    """The slot of boundary j that a label gets, or -1: a better one of the same mark (last node and
    what has been used) is there, or better ones are everywhere."""
    slot, worst = -1, -INF
    for s in range(counts[j]):
        if marks[j, s] == mark:
            return s if estimate < estimates[j, s] else -1
        if estimates[j, s] > worst:
            slot, worst = s, estimates[j, s]
    if counts[j] < WIDTH:
        counts[j] += 1
        return int(counts[j] - 1)
    return slot if estimate < worst else -1


def simple_walk(
    table: Any,
    middles: Any,
    ends: Any,
    hop: Any,
    devices: Any,
    members: Any,
    radix: Any,
    weight: float,
    rest: Any,
    most: Any,
    needs: Any,
    path: Any,
) -> tuple[float, int]:
    """Its priced cost (infinite: none found) and the number of its ranges in `path`.

    members int64[K]: of each node. radix, rest: as walk.fill_rests left them. needs int64[L + 1]:
    the least bytes of the layers behind each boundary.
    """
    num_nodes, num_bounds = table.shape[0], table.shape[1]
    num_layers, outside = num_bounds - 1, hop.shape[0] - 1
    counts = np.zeros(num_bounds, np.int64)
    estimates = np.full((num_bounds, WIDTH), INF)
    costs = np.full((num_bounds, WIDTH), INF)
    marks = np.zeros((num_bounds, WIDTH), np.int64)
    useds = np.zeros((num_bounds, WIDTH), np.int64)  # as rest counts it
    lasts = np.zeros((num_bounds, WIDTH), np.int64)
    froms = np.zeros((num_bounds, WIDTH, 2), np.int64)
    uses = np.zeros((num_bounds, WIDTH, num_nodes), np.int64)
    lefts = np.zeros((num_bounds, WIDTH), np.int64)
    salts = np.empty(num_nodes, np.int64)
    salt = 88172645463325252
    for k in range(num_nodes):  # xorshift: equal sums of salts are equal uses
        salt ^= (salt << 13) & 0x7FFFFFFFFFFFFFFF
        salt ^= salt >> 7
        salt ^= (salt << 17) & 0x7FFFFFFFFFFFFFFF
        salts[k] = salt >> 12
        lefts[0, 0] += members[k] * max(0, most[0, devices[k]])
    counts[0], costs[0, 0], lasts[0, 0] = 1, 0.0, -1
    for i in range(num_layers):
        for s in range(counts[i]):
            last = lasts[i, s]
            device = outside if last < 0 else devices[last]
            used_marks = np.int64(0)
            for k in range(num_nodes):
                used_marks += uses[i, s, k] * salts[k]
            for n in range(num_nodes):
                if uses[i, s, n] >= members[n]:
                    continue
                start = costs[i, s] + weight * hop[device, devices[n]]
                used = useds[i, s] + radix[n]
                left = lefts[i, s] - max(0, most[0, devices[n]])
                mark = (used_marks + salts[n]) * num_nodes + n
                for j in range(i + 1, ends[n, i] + 1):
                    cost = start + table[n, i, j]
                    estimate = cost + rest[used, n, j]
                    if estimate == INF or needs[j] > left:
                        continue
                    slot = place(j, estimate, mark, counts, estimates, marks)
                    if slot < 0:
                        continue
                    estimates[j, slot], costs[j, slot], marks[j, slot] = estimate, cost, mark
                    useds[j, slot], lasts[j, slot], lefts[j, slot] = used, n, left
                    froms[j, slot, 0], froms[j, slot, 1] = i, s
                    for k in range(num_nodes):
                        uses[j, slot, k] = uses[i, s, k]
                    uses[j, slot, n] += 1
    best, slot = INF, -1
    for s in range(counts[num_layers]):
        if estimates[num_layers, s] < best:
            best, slot = estimates[num_layers, s], s
    if slot < 0:
        return best, 0
    length, j, s = 0, num_layers, slot
    while j > 0:
        i, k = froms[j, s, 0], lasts[j, s]
        path[length, 0], path[length, 1], path[length, 2] = k, i, j
        path[length, 3] = middles[k, i, j]
        length += 1
        s, j = froms[j, s, 1], i
    for n in range(length // 2):
        for column in range(4):
            other = path[length - 1 - n, column]
            path[length - 1 - n, column] = path[n, column]
            path[n, column] = other
    return best, length
