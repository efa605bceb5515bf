"""The cheapest way through all layers of one replica: ranges over an ordered subset of devices.

The rule: exact for the prices and bounds given. Devices that are alike in everything form one node
that may be entered as often as it has members. The walk is a dynamic programme over (what has been
used, node, boundary between layers); which nodes' use is counted grows only as far as the answer
needs it (decremental state space relaxation: Righini and Salani, "New dynamic programming
algorithms for the resource constrained elementary shortest path problem", Networks 51, 2008).

Plain functions over numbers and arrays; kernels.py compiles them unchanged. Boundaries are numbered
0..L: a range i, j holds layers i..j-1, of which i..m-1 are of variant 1 and the others of variant
0. Prefix sums have the shape [V, D, L + 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fmedge.sched.provision.beam import simple_walk

INF = np.inf
OPTIMAL, RELAXED, FOUND = 0, 1, 2


def fill_ranges(
    cost_sum: Any,
    byte_sum: Any,
    host_sum: Any,
    fixed_s: Any,
    fixed_bytes: Any,
    last_bytes: Any,
    devices: Any,
    host: int,
    weight: float,
    most: Any,
    least: Any,
    price: Any,
    table: Any,
    middles: Any,
    ends: Any,
) -> None:
    """table[k, i, j]: what node k charges for the range i, j, infinite where it is too large;
    middles[k, i, j]: its cheapest m; ends[k, i]: the last j that fits.

    devices int64[K]: a member of each node. most, least int64[2, D]: the bytes that a range may
    have on its device [0] and put on the host [1], and those that it is charged for at least: what
    is below them is free. price float64[2, D]: of a byte there and there.
    """
    num_variants, _, num_bounds = cost_sum.shape
    num_layers = num_bounds - 1
    for k in range(devices.shape[0]):
        d = devices[k]
        num_middles = 2 if num_variants == 2 and d != host and host >= 0 else 1
        for i in range(num_layers):
            ends[k, i] = i
            if d == host and i > 0:
                continue
            low = i
            for j in range(i + 1, num_layers + 1):
                fixed = fixed_bytes[d] + (last_bytes[d] if j == num_layers else 0)
                best, best_m = INF, i
                high = j if num_middles == 2 else i
                for m in range(low, high + 1):
                    own = fixed + byte_sum[0, d, j] - byte_sum[0, d, m]
                    off = host_sum[0, d, j] - host_sum[0, d, m]
                    value = cost_sum[0, d, j] - cost_sum[0, d, m]
                    if m > i:
                        own += byte_sum[1, d, m] - byte_sum[1, d, i]
                        off += host_sum[1, d, m] - host_sum[1, d, i]
                        value += cost_sum[1, d, m] - cost_sum[1, d, i]
                    if own > most[0, d] or off > most[1, d]:
                        continue
                    value = weight * (value + fixed_s[d])
                    value += price[0, d] * max(0, own - least[0, d])
                    value += price[1, d] * max(0, off - least[1, d])
                    if value < best:
                        best, best_m = value, m
                table[k, i, j] = best
                middles[k, i, j] = best_m
                if best < INF:
                    ends[k, i] = j


def cheapest_step(row: Any, rest: Any, i: int, end: int) -> float:
    """Least of row[j] + rest[j] for i < j <= end; four sums at once, since one waits for itself."""
    a, b, c, d = INF, INF, INF, INF
    j = i + 1
    while j + 3 <= end:
        a = min(a, row[j] + rest[j])
        b = min(b, row[j + 1] + rest[j + 1])
        c = min(c, row[j + 2] + rest[j + 2])
        d = min(d, row[j + 3] + rest[j + 3])
        j += 4
    while j <= end:
        a = min(a, row[j] + rest[j])
        j += 1
    return min(min(a, b), min(c, d))


def is_full(used: int, k: int, radix: Any, counts: Any) -> bool:
    """Node k is counted and all of its members are used."""
    return bool(radix[k] > 0 and used // radix[k] % (counts[k] + 1) == counts[k])


def fill_rests(
    table: Any,
    ends: Any,
    hop: Any,
    devices: Any,
    counts: Any,
    radix: Any,
    must: int,
    weight: float,
    rest: Any,
    entered: Any,
) -> float:
    """The least cost of a whole walk. rest[u, k, j]: of what follows boundary j once node k holds
    the range before it and u tells what has been used; entered[u, k, i]: of entering k at i.

    radix int64[K]: u's digit of each counted node, 0 where use is not counted. must: a node that
    has to be used (a counted one), or -1.
    """
    num_uses, num_nodes, num_bounds = rest.shape
    num_layers, outside = num_bounds - 1, hop.shape[0] - 1
    for u in range(num_uses):
        is_done = must < 0 or u // radix[must] % (counts[must] + 1) > 0
        for k in range(num_nodes):
            rest[u, k, num_layers] = weight * hop[devices[k], outside] if is_done else INF
    for i in range(num_layers - 1, -1, -1):
        for u in range(num_uses):
            for k in range(num_nodes):
                entered[u, k, i] = INF
                if ends[k, i] > i and not is_full(u, k, radix, counts):
                    after = rest[u + radix[k], k]
                    entered[u, k, i] = cheapest_step(table[k, i], after, i, ends[k, i])
        if i == 0:
            break
        for u in range(num_uses):
            for k in range(num_nodes):
                best = INF
                for n in range(num_nodes):
                    if n != k or counts[k] > 1:
                        best = min(best, weight * hop[devices[k], devices[n]] + entered[u, n, i])
                rest[u, k, i] = best
    best = INF
    for n in range(num_nodes):
        best = min(best, weight * hop[outside, devices[n]] + entered[0, n, 0])
    return best


def trace(
    table: Any,
    middles: Any,
    ends: Any,
    hop: Any,
    devices: Any,
    counts: Any,
    radix: Any,
    weight: float,
    rest: Any,
    entered: Any,
    path: Any,
) -> int:
    """Writes the walk that fill_rests found, path[n] = node, i, j, m (the other columns are the
    caller's); the number of its ranges."""
    num_nodes, num_layers, outside = rest.shape[1], rest.shape[2] - 1, hop.shape[0] - 1
    u, k, i, length = 0, -1, 0, 0
    while i < num_layers:
        best, best_n = INF, -1
        from_device = outside if k < 0 else devices[k]
        for n in range(num_nodes):
            if n != k or counts[n] > 1:
                value = weight * hop[from_device, devices[n]] + entered[u, n, i]
                if value < best:
                    best, best_n = value, n
        k = best_n
        u += radix[k]
        best, best_j = INF, num_layers
        for j in range(i + 1, ends[k, i] + 1):
            value = table[k, i, j] + rest[u, k, j]
            if value < best:
                best, best_j = value, j
        path[length, 0] = k
        path[length, 1] = i
        path[length, 2] = best_j
        path[length, 3] = middles[k, i, best_j]
        length += 1
        i = best_j
    return length


def fill_bytes(
    byte_sum: Any,
    host_sum: Any,
    fixed_bytes: Any,
    last_bytes: Any,
    devices: Any,
    path: Any,
    length: int,
) -> None:
    """path[n, 4], path[n, 5]: bytes of each range on its device and on the host."""
    last_variant, num_layers = byte_sum.shape[0] - 1, byte_sum.shape[2] - 1
    for n in range(length):
        d, i, j, m = devices[path[n, 0]], path[n, 1], path[n, 2], path[n, 3]
        own = fixed_bytes[d] + (last_bytes[d] if j == num_layers else 0)
        own += byte_sum[last_variant, d, m] - byte_sum[last_variant, d, i]
        off = host_sum[last_variant, d, m] - host_sum[last_variant, d, i]
        path[n, 4] = own + byte_sum[0, d, j] - byte_sum[0, d, m]
        path[n, 5] = off + host_sum[0, d, j] - host_sum[0, d, m]


def least_bytes(byte_sum: Any, devices: Any) -> Any:
    """int64[L + 1]: what the layers behind each boundary need at least, wherever they lie."""
    num_variants, _, num_bounds = byte_sum.shape
    needs = np.zeros(num_bounds, np.int64)
    for i in range(num_bounds - 2, -1, -1):
        least = byte_sum[0, devices[0], i + 1] - byte_sum[0, devices[0], i]
        for k in range(devices.shape[0]):
            for v in range(num_variants):
                least = min(least, byte_sum[v, devices[k], i + 1] - byte_sum[v, devices[k], i])
        needs[i] = needs[i + 1] + least
    return needs


def most_overused(path: Any, length: int, counts: Any) -> int:
    """The node that a walk enters most often beyond the number of its members, or -1."""
    worst, worst_excess = -1, 0
    for a in range(length):
        k = path[a, 0]
        num = 0
        for b in range(length):
            if path[b, 0] == k:
                num += 1
        if num - counts[k] > worst_excess:
            worst, worst_excess = k, num - counts[k]
    return worst


def cheapest_walk(
    cost_sum: Any,
    byte_sum: Any,
    host_sum: Any,
    fixed_s: Any,
    fixed_bytes: Any,
    last_bytes: Any,
    hop: Any,
    devices: Any,
    counts: Any,
    host: int,
    must: int,
    weight: float,
    most: Any,
    least: Any,
    price: Any,
    max_work: float,
    wants_simple: bool,
    path: Any,
) -> tuple[float, int, int, float]:
    """The least priced cost, the number of ranges in `path` (int64[L, 6]), what is known of the
    walk, and the work done, in inner steps.

    Known: OPTIMAL (also where the cost is infinite: no walk fits); RELAXED: the cost is a lower
    bound, and the walk uses a device twice; FOUND: the cost is the walk's, which may not be the
    best. Counting uses stops where it would need more than max_work; then the answer is RELAXED, or
    FOUND if wants_simple. counts int64[K]: members of each node. must: a node of one member that
    has to be used, or -1. Prices, bounds and the other arrays: see fill_ranges.
    """
    num_nodes, num_bounds = devices.shape[0], cost_sum.shape[2]
    table = np.full((num_nodes, num_bounds, num_bounds), INF)
    middles = np.zeros((num_nodes, num_bounds, num_bounds), np.int32)
    ends = np.zeros((num_nodes, num_bounds), np.int64)
    fill_ranges(
        cost_sum, byte_sum, host_sum, fixed_s, fixed_bytes, last_bytes, devices, host, weight,
        most, least, price, table, middles, ends,
    )  # fmt: skip
    radix = np.zeros(num_nodes, np.int64)
    num_uses = 1
    if must >= 0:
        radix[must] = 1
        num_uses = 2
    step_work = 1.0 * num_nodes * num_bounds * num_nodes
    for k in range(num_nodes):
        for i in range(num_bounds):
            step_work += max(0, ends[k, i] - i)
    work = step_work
    if cost_sum.shape[0] == 2:
        work *= num_bounds / 3
    while True:
        work += step_work * num_uses
        rest = np.full((num_uses, num_nodes, num_bounds), INF)
        entered = np.full((num_uses, num_nodes, num_bounds), INF)
        value = fill_rests(
            table, ends, hop, devices, counts, radix, must, weight, rest, entered
        )  # fmt: skip
        if value == INF:
            return value, 0, OPTIMAL, work
        length = trace(
            table, middles, ends, hop, devices, counts, radix, weight, rest, entered, path
        )  # fmt: skip
        k = most_overused(path, length, counts)
        known = OPTIMAL
        if k >= 0 and work + step_work * num_uses * (counts[k] + 1) > max_work:
            known = RELAXED
            if wants_simple:
                known = FOUND
                needs = least_bytes(byte_sum, devices)
                value, length = simple_walk(
                    table, middles, ends, hop, devices, counts, radix, weight, rest, most, needs,
                    path,
                )  # fmt: skip
                work += 20 * step_work
        if k < 0 or known != OPTIMAL:
            fill_bytes(byte_sum, host_sum, fixed_bytes, last_bytes, devices, path, length)
            return value, length, known, work
        radix[k] = num_uses
        num_uses *= counts[k] + 1
