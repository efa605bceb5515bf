"""Several replicas on the same devices: the least weighted sum of their costs that fits.

The rule: every bound is proven. A price on each device's memory makes the replicas independent of
each other (Lagrangian relaxation: Geoffrion, "Lagrangean relaxation for integer programming",
1974); each is then solved exactly by walk.py, and the sum, less the price of the memory that is
there, is a lower bound for any prices. Subgradients raise it. Where a gap is left the bytes that
one replica takes of one device are split in two: at most t, or at least t + 1, which are then lost
to all others.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, permutations
from typing import Any

import numpy as np

from fmedge.sched.provision.pricing import OFF, OWN, Classes, Replica, Walk, alike, by_key
from fmedge.sched.provision.split import Floats, Ints, Problem, Split

TOLERANCE = 1e-9
"""Of a cost, as a share: what two sums of the same numbers may differ by."""

ROOT_STEPS = 150
NODE_STEPS = 12
PATIENCE = 4
"""Steps without a better bound after which steps become half as long."""


@dataclass(frozen=True)
class Joint:
    """splits: of each problem, in order. cost_s: the weighted sum. bound_s: a proven lower bound of
    it. num_nodes: of the search tree, that were looked at."""

    splits: tuple[Split, ...]
    cost_s: float
    bound_s: float
    is_optimal: bool
    num_nodes: int


@dataclass
class _Node:
    """most, least int64[R, 2, D]: bounds on what each replica takes. price float64[D]: of all of a
    device's memory."""

    bound: float
    most: Ints
    least: Ints
    price: Floats
    keys: Ints = field(init=False)

    def __post_init__(self) -> None:
        num_devices = len(self.price)
        self.keys = np.concatenate([self.most, self.least]).reshape(-1, num_devices)


@dataclass(frozen=True)
class _Priced:
    """All replicas at some prices. charges int64[R, 2, D]: bytes taken, by replica, own or put on
    the host by the range on a device. devices: of each replica's ranges."""

    bound: float
    walks: list[Walk]
    charges: Ints
    devices: list[list[int]]


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
    problem has to use. bodies: the plain functions of walk.py instead of compiled ones. ValueError
    for problems of other devices.
    """
    capacity = np.ascontiguousarray(capacity, np.int64)
    if not problems:
        return Joint((), 0.0, 0.0, True, 0)
    hosts = {problem.host for problem in problems}
    if {problem.num_devices for problem in problems} != {len(capacity)} or len(hosts) > 1:
        raise ValueError("problems and capacity are of different devices")
    return _Search(list(problems), capacity, gap, must_use, bodies).run(max_nodes)


class _Search:
    def __init__(
        self,
        problems: list[Problem],
        capacity: Ints,
        gap: float,
        must_use: int | None,
        bodies: Any,
    ) -> None:
        self._replicas = [Replica(problem, bodies) for problem in problems]
        self._problems = problems
        self._gap = max(gap, TOLERANCE)
        self._must = -1 if must_use is None else must_use
        self._host = problems[0].host
        self._capacity: Ints = capacity - sum(replica.base for replica in self._replicas)
        self._scale = np.maximum(self._capacity, 1).astype(np.float64)
        self._alike = alike(problems, capacity)
        if self._must >= 0:
            self._alike[self._must] = len(capacity)
        self._allowed = np.array([problem.is_allowed for problem in problems])
        self._worst = sum(_worst_cost(problem) for problem in problems)
        self._cost = np.inf
        self._best: list[tuple[Ints, list[int]]] = []

    def run(self, max_nodes: int | None) -> Joint | None:
        if (self._capacity < 0).any():
            return None
        if max_nodes is None:
            max_nodes = self._affordable_nodes()
        shape = (len(self._problems), 2, len(self._capacity))
        most = np.broadcast_to(self._capacity, shape).copy()
        most[:, OWN][~self._allowed] = -1
        if self._host >= 0:
            most[:, OFF] = self._capacity[self._host]
        root = _Node(-np.inf, most, np.zeros(shape, np.int64), np.zeros(shape[2]))
        self._one_by_one(root.price)
        order = count()
        heap: list[tuple[float, int, _Node]] = [(-np.inf, next(order), root)]
        bound, num_nodes = np.inf, 0
        while heap:
            parent_bound, _, node = heapq.heappop(heap)
            if parent_bound >= self._enough():
                bound = min(bound, parent_bound)
                break
            if num_nodes >= max_nodes and num_nodes > 0:
                bound = min(bound, parent_bound)
                break
            num_nodes += 1
            steps = ROOT_STEPS if num_nodes == 1 else NODE_STEPS
            for child in self._explore(node, steps):
                if child.bound < self._enough():
                    heapq.heappush(heap, (child.bound, next(order), child))
                elif child.bound < np.inf:
                    bound = min(bound, child.bound)
        if not self._best:
            return None
        return self._result(min(bound, self._cost), num_nodes)

    def _enough(self) -> float:
        """A bound from which on nothing better can come."""
        if self._cost == np.inf:
            return self._worst * (1 + TOLERANCE) + TOLERANCE
        return self._cost - self._gap * abs(self._cost)

    def _affordable_nodes(self) -> int:
        num_variants, num_layers, num_devices = self._problems[0].cost_s.shape
        num_kinds = len(set(self._alike.tolist()))
        inner = num_layers / 3 if num_variants == 2 else 1.0
        one_s = 60e-6 + 2e-9 * num_kinds * num_layers**2 * (1 + inner)
        return max(20, int(0.7 / (one_s * len(self._problems) * NODE_STEPS)))

    # bounds

    def _price(self, node: _Node, price: Floats) -> _Priced | None:
        """None: a replica fits nowhere in this node."""
        classes = by_key(np.concatenate([self._alike[None], node.keys]))
        per_byte = price / self._scale
        prices = np.zeros((2, len(price)))
        prices[OWN] = per_byte
        if self._host >= 0:
            prices[OFF] = per_byte[self._host]
        walks = []
        for r, replica in enumerate(self._replicas):
            walk = replica.walk(
                classes, node.most[r], node.least[r], prices, must=self._must if r == 0 else -1
            )
            if walk is None:
                return None
            walks.append(walk)
        devices = self._members(classes, walks)
        taken = np.zeros_like(node.least)
        for r, walk in enumerate(walks):
            for d, own, off in zip(
                devices[r], walk.path[:, 4].tolist(), walk.path[:, 5].tolist(), strict=True
            ):
                taken[r, OWN, d] += own
                taken[r, OFF, d] += off
        bound = sum(walk.value for walk in walks) - float(price @ (self._capacity / self._scale))
        bound += float((node.least * prices).sum())
        return _Priced(bound, walks, taken, devices)

    def _members(self, classes: Classes, walks: list[Walk]) -> list[list[int]]:
        """Which device each range lies on: within a class, the largest first where most is left."""
        devices = [[int(classes.devices[k]) for k in walk.path[:, 0]] for walk in walks]
        if len(classes.devices) == len(self._capacity):
            return devices
        left = self._capacity.copy()
        items = [
            (-own, r, n, k)
            for r, walk in enumerate(walks)
            for n, (k, own) in enumerate(zip(walk.path[:, 0], walk.path[:, 4], strict=True))
            if classes.counts[k] > 1
        ]
        taken: set[tuple[int, int]] = set()
        for negative, r, n, k in sorted(items):
            free = [d for d in classes.members[k].tolist() if (r, d) not in taken]
            d = max(free or classes.members[k].tolist(), key=lambda d: left[d])
            taken.add((r, d))
            left[d] += negative
            devices[r][n] = d
        return devices

    def _used(self, charges: Ints) -> Ints:
        used: Ints = charges[:, OWN].sum(axis=0)
        if self._host >= 0:
            used[self._host] += charges[:, OFF].sum()
        return used

    def _explore(self, node: _Node, num_steps: int) -> list[_Node]:
        """Raises the node's bound; what is left to search below it."""
        classes = by_key(np.concatenate([self._alike[None], node.keys]))
        is_scarce = self._is_scarce(node)
        price = np.where(is_scarce, classes.mean(node.price), 0.0)
        best_price = price
        best_bound, best = node.bound, None
        theta, stalled, direction = 1.0, 0, np.zeros_like(price)
        history = []
        for step in range(num_steps):
            priced = self._price(node, price)
            if priced is None:
                return []
            history.append(np.maximum(priced.charges, node.least))
            self._consider(priced)
            if best is None or priced.bound > best_bound:
                best_bound, best, best_price = max(best_bound, priced.bound), priced, price
                stalled = 0
            else:
                stalled += 1
                if stalled >= PATIENCE:
                    theta, stalled = theta / 2, 0
            if best_bound >= self._enough():
                return [_Node(best_bound, node.most, node.least, best_price)]
            if num_steps == ROOT_STEPS and step % 10 == 4:
                self._one_by_one(price)
            slope = classes.mean((self._used(history[-1]) - self._capacity) / self._scale)
            turn = float(direction @ slope)
            if turn < 0:
                slope = slope - 1.5 * turn / float(direction @ direction) * direction
            direction = np.where(is_scarce & ((price > 0) | (slope > 0)), slope, 0.0)
            norm = float(direction @ direction)
            if norm == 0:
                break
            target = min(self._cost, self._worst * 1.01)
            length = theta * max(target - priced.bound, 0.1 * self._gap * abs(target)) / norm
            price = np.maximum(0.0, price + length * direction)
        assert best is not None
        return self._branch(node, best_bound, best_price, best, np.array(history[-12:]))

    # solutions

    def _consider(self, priced: _Priced) -> None:
        """Takes what the prices led to, if it fits and is better."""
        if all(walk.is_simple for walk in priced.walks) and bool(
            (self._used(priced.charges) <= self._capacity).all()
        ):
            self._take([(w.path, d) for w, d in zip(priced.walks, priced.devices, strict=True)])

    def _take(self, found: list[tuple[Ints, list[int]]]) -> bool:
        cost = sum(
            replica.cost(path, devices)
            for replica, (path, devices) in zip(self._replicas, found, strict=True)
        )
        if cost >= self._cost:
            return False
        self._cost, self._best = cost, found
        return True

    def _one_by_one(self, price: Floats) -> None:
        """Replica after replica at these prices into what is left, in several orders; then each
        anew into what the others leave, as long as that helps."""
        num_replicas = len(self._replicas)
        orders = (
            list(permutations(range(num_replicas)))
            if num_replicas <= 3
            else [tuple(np.roll(range(num_replicas), n)) for n in range(num_replicas)][:6]
        )
        for order in orders:
            found: dict[int, tuple[Ints, list[int]]] = {}
            left = self._capacity.copy()
            for r in order:
                one = self._into(r, left, price)
                if one is None:
                    break
                found[r] = one
                left -= self._bytes(one)
            else:
                self._settle(found)

    def _settle(self, found: dict[int, tuple[Ints, list[int]]]) -> None:
        while self._take([found[r] for r in range(len(self._replicas))]):
            for r in range(len(self._replicas)):
                others = sum(self._bytes(one) for s, one in found.items() if s != r)
                one = self._into(r, self._capacity - others, np.zeros(len(self._capacity)))
                if one is not None:
                    found[r] = one

    def _bytes(self, one: tuple[Ints, list[int]]) -> Ints:
        path, devices = one
        used = np.zeros(len(self._capacity), np.int64)
        for d, own, off in zip(devices, path[:, 4].tolist(), path[:, 5].tolist(), strict=True):
            used[d] += own
            if off:
                used[self._host] += off
        return used

    def _into(self, r: int, left: Ints, price: Floats) -> tuple[Ints, list[int]] | None:
        """One replica's cheapest walk at these prices within `left`."""
        shape = (1, 2, len(left))
        most = np.empty(shape, np.int64)
        most[:, OWN] = np.where(self._allowed[r], left, -1)
        most[:, OFF] = left[self._host] if self._host >= 0 else 0
        classes = by_key(np.concatenate([self._alike[None], most[0]]))
        prices = np.zeros((2, len(left)))
        prices[OWN] = price / self._scale
        if self._host >= 0:
            prices[OFF] = prices[OWN, self._host]
        walk = self._replicas[r].walk(
            classes,
            most[0],
            np.zeros((2, len(left)), np.int64),
            prices,
            must=self._must if r == 0 else -1,
        )
        if walk is None or not walk.is_simple:
            return None
        devices = self._members(classes, [walk])[0]
        one = (walk.path, devices)
        return one if bool((self._bytes(one) <= left).all()) else None

    # branching

    def _branch(
        self, node: _Node, bound: float, price: Floats, best: _Priced, history: Ints
    ) -> list[_Node]:
        """Two nodes that between them hold every solution of this one."""
        (r, row, d), threshold = self._threshold(node, price, best, history)
        low = _Node(bound, node.most.copy(), node.least, price)
        low.most[r, row, d] = min(threshold, low.most[r, row, d])
        high = _Node(bound, node.most, node.least.copy(), price)
        high.least[r, row, d] = threshold + 1
        return [child for child in (low, high) if self._tighten(child)]

    def _threshold(
        self, node: _Node, price: Floats, best: _Priced, history: Ints
    ) -> tuple[tuple[int, int, int], int]:
        """Whose bytes (replica, own or off, device) are split, and the most of the lower part."""
        per_byte = price / self._scale
        weights = np.stack([per_byte, np.full_like(per_byte, self._host_price(per_byte))])
        spread = history.std(axis=0) * weights
        where = _largest(spread)
        values = history[(slice(None), *where)]
        if values.min() < values.max() and spread[where] > 0:
            return where, min(int(values.mean()), int(values.max()) - 1)
        charges = np.maximum(best.charges, node.least)
        over = (self._used(charges) - self._capacity) / self._scale
        d = int(np.argmax(over))
        if over[d] > 0:  # one of those that take too much has to take less, or the others do
            takes = np.where(self._lies_on(d) & (charges > node.least), charges, 0)
            where = _largest(takes)
            return where, int(charges[where]) - 1
        # it fits, and yet costs more than the bound: memory has a price though some is left
        d = int(np.argmax(-over * price))
        room = np.where(self._lies_on(d), node.most - charges, -1)
        where = _largest(room)
        return where, int(charges[where])

    def _lies_on(self, d: int) -> Any:
        """bool[R, 2, D]: what is charged to the memory of device d."""
        found = np.zeros((len(self._replicas), 2, len(self._capacity)), np.bool_)
        found[:, OWN, d] = True
        if d == self._host:
            found[:, OFF] = True
        return found

    def _is_scarce(self, node: _Node) -> Any:
        """bool[D]: devices of which the replicas could take more than there is."""
        return self._used(np.maximum(node.most, 0)) > self._capacity

    def _host_price(self, per_byte: Floats) -> float:
        return float(per_byte[self._host]) if self._host >= 0 else 0.0

    def _tighten(self, node: _Node) -> bool:
        """What some take at least is lost to the others; False where nothing can fit."""
        own = node.least[:, OWN].copy()
        if self._host >= 0:
            own[:, self._host] += node.least[:, OFF].sum(axis=1)
        left = self._capacity - own.sum(axis=0)
        if (left < 0).any():
            return False
        room = left + node.least
        room[:, OFF] = left[self._host] + node.least[:, OFF] if self._host >= 0 else 0
        node.most = np.minimum(node.most, room)
        node.__post_init__()
        return not bool((node.most < node.least).any(where=node.least > 0))

    def _result(self, bound: float, num_nodes: int) -> Joint:
        is_optimal = bound >= self._cost * (1 - self._gap) - TOLERANCE * abs(self._cost)
        alone = len(self._replicas) == 1
        splits = []
        for replica, (path, devices) in zip(self._replicas, self._best, strict=True):
            cost = replica.cost(path, devices) / replica.weight if replica.weight else 0.0
            low = bound / replica.weight if alone and replica.weight else -np.inf
            splits.append(Split(replica.parts(path, devices), cost, min(low, cost)))
        return Joint(tuple(splits), self._cost, bound, is_optimal, num_nodes)


def _largest(values: Any) -> tuple[int, int, int]:
    r, row, d = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(r), int(row), int(d)


def _worst_cost(problem: Problem) -> float:
    """No split costs more."""
    layers = problem.cost_s.max(axis=(0, 2)).sum() + problem.fixed_s.sum()
    return float(problem.weight * (layers + problem.hop_s.max(axis=1).sum()))
