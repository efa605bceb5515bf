"""Several replicas on the same devices: the least weighted sum of their costs that fits.

The rule: every bound is proven. A price on each device's memory makes the replicas independent of
each other (Lagrangian relaxation: Geoffrion, "Lagrangean relaxation for integer programming",
1974); each is then solved exactly by walk.py, and the sum, less the price of the memory that is
there, is a lower bound for any prices. The best prices are those of the best mix of the walks found
so far (columns.py). Where a gap is left the bytes that one replica takes of one device are split in
two: at most t, or at least t + 1, which are then lost to all others.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from fmedge.sched.provision.columns import Column, Master
from fmedge.sched.provision.filling import Incumbent, Room
from fmedge.sched.provision.pricing import OFF, OWN, Classes, Replica, alike, bodies_for
from fmedge.sched.provision.split import Floats, Ints, Problem, Split

TOLERANCE = 1e-9
"""Of a cost, as a share: what two sums of the same numbers may differ by."""

MAX_ROUNDS = 100
"""Of new prices in one node of the search."""
DEVICE_WORK, MOST_WORK, NODE_WORK = 2.5e7, 1e9, 1e6
"""Steps (1 to 3 ns each) that a search may take by default for each device and at most, and what a
node takes beside walks."""


@dataclass(frozen=True)
class Joint:
    """splits: of each problem, in order. cost_s: the weighted sum. bound_s: a proven lower bound of
    it. num_nodes: of the search tree, that were looked at."""

    splits: tuple[Split, ...]
    cost_s: float
    bound_s: float
    is_optimal: bool
    num_nodes: int


def best_joint(
    problems: Sequence[Problem],
    capacity: Ints,
    *,
    gap: float = 0.0,
    max_nodes: int | None = None,
    must_use: int | None = None,
    bodies: Any = None,
) -> Joint | None:
    """The best splits of all problems into capacity int64[D], shared by them; None where none was
    found (where nothing fits, unless `max_nodes` ended the search before).

    gap: stop when the cost is proven to be so near to the best, as a share. max_nodes: of the
    search tree; by default as many as take about a second. must_use: a device that the first
    problem has to use. bodies: what has `cheapest_walk` and `solve`; None: see pricing.bodies_for.
    ValueError for problems of other devices.
    """
    capacity = np.ascontiguousarray(capacity, np.int64)
    if not problems:
        return Joint((), 0.0, 0.0, True, 0)
    hosts = {problem.host for problem in problems}
    if {problem.num_devices for problem in problems} != {len(capacity)} or len(hosts) > 1:
        raise ValueError("problems and capacity are of different devices")
    bodies = bodies_for(len(capacity)) if bodies is None else bodies
    return _Search(problems, capacity, gap, must_use, bodies).run(max_nodes)


@dataclass
class _Node:
    """most, least int64[R, 2, D]: bounds on what each replica takes. price float64[D]: a byte's."""

    bound: float
    most: Ints
    least: Ints
    price: Floats


@dataclass(frozen=True)
class _Priced:
    """All replicas at some prices: a lower bound of the node, and a walk of each."""

    bound: float
    columns: list[Column]


class _Search:
    def __init__(
        self,
        problems: Sequence[Problem],
        capacity: Ints,
        gap: float,
        must_use: int | None,
        bodies: Any,
    ) -> None:
        self._problems, self._bodies = problems, bodies
        self._gap = max(gap, TOLERANCE)
        self._replicas = [Replica(problem, bodies) for problem in problems]
        free: Ints = capacity - sum(replica.base for replica in self._replicas)
        same, must = alike(problems, capacity), -1 if must_use is None else must_use
        if must >= 0:
            same[must] = len(capacity)
        self._room = Room(self._replicas, free, same, problems[0].host, must)
        self._worst = sum(_worst_cost(problem) for problem in problems)
        self._best = Incumbent(self._room)
        self._pool: dict[tuple[int, bytes], Column] = {}
        self._max_nodes, self._max_work = np.inf, np.inf

    def run(self, max_nodes: int | None) -> Joint | None:
        room = self._room
        if (room.capacity < 0).any():
            return None
        if max_nodes is None:
            self._max_work = min(MOST_WORK, DEVICE_WORK * len(room.capacity))
        else:
            self._max_nodes = max(1, max_nodes)
        shape = (len(self._replicas), 2, len(room.capacity))
        most = np.broadcast_to(room.capacity, shape).copy()
        most[:, OWN][~room.is_allowed] = -1
        most[:, OFF] = room.capacity[room.host] if room.host >= 0 else 0
        root = _Node(-np.inf, most, np.zeros(shape, np.int64), np.zeros(shape[2]))
        order = count()
        heap = [(-np.inf, next(order), root)]
        bound, num_nodes = np.inf, 0
        while heap:
            parent_bound, _, node = heapq.heappop(heap)
            is_over = num_nodes >= self._max_nodes or self._is_spent()
            if parent_bound >= self._enough() or (is_over and num_nodes > 0):
                bound = min(bound, parent_bound)
                break
            num_nodes += 1
            room.work += NODE_WORK
            for child in self._explore(node, is_root=num_nodes == 1):
                if child.bound < self._enough():
                    heapq.heappush(heap, (child.bound, next(order), child))
                else:
                    bound = min(bound, child.bound)
        return self._result(bound, num_nodes) if self._best.columns else None

    def _enough(self) -> float:
        """A bound from which on nothing better can come."""
        if self._best.cost == np.inf:
            return self._worst * (1 + TOLERANCE) + TOLERANCE
        return self._best.cost * (1 - self._gap)

    def _is_spent(self) -> bool:
        return self._room.work > self._max_work

    # bounds

    def _price(self, node: _Node, classes: Classes, price: Floats) -> _Priced | None:
        """None: a replica fits nowhere in this node."""
        room = self._room
        prices = room.prices(price)
        walks = []
        for r, replica in enumerate(self._replicas):
            walk = replica.walk(
                classes,
                node.most[r],
                node.least[r],
                prices,
                must=room.must_of(r),
                max_work=room.max_work,
            )
            if walk is None:
                return None
            room.work += walk.work
            walks.append(walk)
        bound = sum(walk.value for walk in walks) - float(price @ room.capacity)
        bound += float((node.least * prices).sum())
        devices = room.members(classes, walks)
        columns = []
        for r, (walk, of) in enumerate(zip(walks, devices, strict=True)):
            key = (r, walk.path[:, 1:4].tobytes() + repr(of).encode())
            if key not in self._pool:
                self._pool[key] = room.column(r, walk, of)
            columns.append(self._pool[key])
        return _Priced(bound, columns)

    def _explore(self, node: _Node, *, is_root: bool) -> list[_Node]:
        """Raises the node's bound as far as prices can; what is left to search below it."""
        room, bodies = self._room, self._bodies
        shape = (-1, len(room.capacity))
        classes = room.classes(
            np.concatenate([node.most.reshape(shape), node.least.reshape(shape)])
        )
        penalty = 10 * self._worst + TOLERANCE
        master = Master(classes, room.capacity, room.host, node.least, penalty, bodies)
        for column in self._pool.values():
            if bool((column.taken <= np.maximum(node.most[column.replica], 0)).all()):
                master.add(column)
        known = set(map(id, master.columns))
        price, bound, best_price = classes.mean(node.price), node.bound, node.price
        is_smooth = False
        for number in range(MAX_ROUNDS):
            priced = self._price(node, classes, price)
            if priced is None:
                return []
            self._best.offer(priced.columns)
            if priced.bound > bound:
                bound, best_price = priced.bound, price
            if is_root and number == 0:
                self._best.one_by_one(price)
            if bound >= self._enough():
                return [_Node(bound, node.most, node.least, best_price)]
            new = [column for column in priced.columns if id(column) not in known]
            is_closed = number > 0 and master.value - bound <= TOLERANCE * abs(bound)
            is_stuck = number > 0 and not new and not is_smooth
            if is_closed or is_stuck or (number > 20 and self._is_spent()):
                break
            for column in new:
                known.add(id(column))
                master.add(column)
            if new or number == 0:
                master.solve()
            # halfway to the best prices so far: those of the master swing (Wentges, 1997)
            is_smooth = bool(new) and number > 0
            price = (master.price + best_price) / 2 if is_smooth else master.price
        self._best.combine(master.columns, best_price)
        if is_root:
            self._best.one_by_one(best_price)
        if bound >= self._enough():
            return [_Node(bound, node.most, node.least, best_price)]
        return self._branch(node, bound, best_price, master)

    # branching

    def _branch(self, node: _Node, bound: float, price: Floats, master: Master) -> list[_Node]:
        """Two nodes that between them hold every solution of this one."""
        (r, row, d), threshold = self._threshold(node, price, master)
        low = _Node(bound, node.most.copy(), node.least, price)
        low.most[r, row, d] = min(threshold, low.most[r, row, d])
        high = _Node(bound, node.most, node.least.copy(), price)
        high.least[r, row, d] = threshold + 1
        return [child for child in (low, high) if self._tighten(child)]

    def _threshold(
        self, node: _Node, price: Floats, master: Master
    ) -> tuple[tuple[int, int, int], int]:
        """Whose bytes (replica, own or off, device) are split, and the most of the lower part."""
        mixed, heaviest = np.zeros(node.least.shape), node.least.copy()
        squares, low, high = mixed.copy(), np.full(mixed.shape, np.inf), np.zeros(mixed.shape)
        most = np.zeros(len(self._replicas))
        for column, weight in zip(master.columns, master.weights, strict=True):
            if weight > 1e-9:
                r = column.replica
                charges = np.maximum(column.taken, node.least[r])
                mixed[r] += weight * charges
                squares[r] += weight * charges.astype(np.float64) ** 2
                low[r], high[r] = np.minimum(low[r], charges), np.maximum(high[r], charges)
                if weight > most[r]:
                    most[r], heaviest[r] = weight, charges
        spread = np.sqrt(np.maximum(0.0, squares - mixed**2)) * self._room.prices(price)
        where = _largest(np.where(low < high, spread, 0.0))
        if spread[where] > 0 and low[where] < high[where]:
            threshold = int(np.clip(mixed[where], low[where], high[where] - 1))
            return where, threshold
        over = self._room.used(heaviest).sum(axis=0) - self._room.capacity
        share = over / np.maximum(self._room.capacity, 1)
        d = int(np.argmax(share))
        if over[d] > 0:  # one of those that take too much has to take less, or the others do
            where = _largest(np.where(self._lies_on(d), heaviest - node.least, 0))
            return where, int(heaviest[where]) - 1
        # it fits, and yet costs more than the bound: what differs is not priced
        where = _largest(np.where(low < high, high - low, 0.0))
        if low[where] < high[where]:
            return where, int(low[where])
        where = _largest(node.most - heaviest)
        return where, int(heaviest[where])

    def _lies_on(self, d: int) -> Any:
        """bool[R, 2, D]: what is charged to the memory of device d."""
        found = np.zeros((len(self._replicas), 2, len(self._room.capacity)), np.bool_)
        found[:, OWN, d] = True
        if d == self._room.host:
            found[:, OFF] = True
        return found

    def _tighten(self, node: _Node) -> bool:
        """What some take at least is lost to the others; False where nothing can fit."""
        host = self._room.host
        left = self._room.capacity - self._room.used(node.least).sum(axis=0)
        if (left < 0).any():
            return False
        room = left + node.least
        room[:, OFF] = left[host] + node.least[:, OFF] if host >= 0 else 0
        node.most = np.minimum(node.most, room)
        return not bool((node.most < node.least).any(where=node.least > 0))

    def _result(self, bound: float, num_nodes: int) -> Joint:
        cost, alone = self._best.cost, len(self._replicas) == 1
        bound = min(bound, cost)
        splits = []
        for replica, column in zip(self._replicas, self._best.columns, strict=True):
            weight = replica.weight
            own = column.cost / weight if weight else 0.0
            low = bound / weight if alone and weight else -np.inf
            splits.append(Split(replica.parts(column.path, column.devices), own, min(low, own)))
        return Joint(tuple(splits), cost, bound, bound >= cost * (1 - self._gap), num_nodes)


def _largest(values: Any) -> tuple[int, int, int]:
    r, row, d = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(r), int(row), int(d)


def _worst_cost(problem: Problem) -> float:
    """No split costs more."""
    layers = problem.cost_s.max(axis=(0, 2)).sum() + problem.fixed_s.sum()
    return float(problem.weight * (layers + problem.hop_s.max(axis=1).sum()))
