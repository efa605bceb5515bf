"""Splits that fit: found one by one, by combining walks, by moving one after the other.

The rule: whatever is kept fits into the memory that is there; nothing here proves anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np

from fmedge.sched.provision.columns import Column
from fmedge.sched.provision.pricing import (
    LARGE_WORK,
    OFF,
    OWN,
    SMALL_WORK,
    Classes,
    Replica,
    Walk,
    by_key,
)
from fmedge.sched.provision.split import Floats, Ints

MAX_ORDERS = 6
BEAM = 200
CHOICES = 40
"""Walks of one replica that are tried with each of BEAM beginnings."""


class Room:
    """The replicas, and the memory that they share. alike: see pricing.alike. must: a device that
    the first replica has to use, or -1. work: steps that all walks took so far."""

    def __init__(
        self, replicas: Sequence[Replica], capacity: Ints, alike: Ints, host: int, must: int
    ) -> None:
        self.replicas, self.capacity, self.alike = replicas, capacity, alike
        self.host, self.must = host, must
        self.max_work = LARGE_WORK if len(replicas) == 1 else SMALL_WORK
        self.work = 0.0
        self.is_allowed = np.array([replica.problem.is_allowed for replica in replicas])

    def must_of(self, r: int) -> int:
        return self.must if r == 0 else -1

    def classes(self, keys: Ints) -> Classes:
        """Of devices that are alike, in int64[N, D] too."""
        return by_key(np.concatenate([self.alike[None], keys]))

    def prices(self, price: Floats) -> Floats:
        """float64[2, D] of a byte on each device, and of one that it puts on the host."""
        off = price[self.host] if self.host >= 0 else 0.0
        return np.stack([price, np.full_like(price, off)])

    def used(self, taken: Ints) -> Ints:
        """int64[..., 2, D] -> int64[..., D]: bytes by where they lie."""
        used: Ints = taken[..., OWN, :].copy()
        if self.host >= 0:
            used[..., self.host] += taken[..., OFF, :].sum(axis=-1)
        return used

    def members(self, classes: Classes, walks: Sequence[Walk]) -> list[list[int]]:
        """Which device each range lies on: within a class, the largest first where most is left."""
        devices = [classes.devices[walk.path[:, 0]].tolist() for walk in walks]
        if len(classes.devices) == len(self.capacity):
            return devices
        left = self.capacity.tolist()
        items = [
            (-own, r, n, k)
            for r, walk in enumerate(walks)
            for n, (k, own) in enumerate(zip(*walk.path[:, [0, 4]].T.tolist(), strict=True))
            if classes.counts[k] > 1
        ]
        taken: set[tuple[int, int]] = set()
        for negative, r, n, k in sorted(items):
            members = classes.members[k].tolist()
            free = [d for d in members if (r, d) not in taken]
            d = max(free or members, key=lambda d: left[d])
            taken.add((r, d))
            left[d] += negative
            devices[r][n] = d
        return devices

    def column(self, r: int, walk: Walk, devices: list[int]) -> Column:
        taken = np.zeros((2, len(self.capacity)), np.int64)
        for d, own, off in zip(devices, *walk.path[:, 4:].T.tolist(), strict=True):
            taken[OWN, d] += own
            taken[OFF, d] += off
        cost = self.replicas[r].cost(walk.path, devices)
        return Column(r, cost, taken, walk.path, devices, walk.is_simple)


class Incumbent:
    """The best that is known to fit: columns of all replicas, and what they cost."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.cost = np.inf
        self.columns: list[Column] = []

    def offer(self, columns: list[Column]) -> bool:
        """Whether they are better, and fit."""
        cost = sum(column.cost for column in columns)
        if cost >= self.cost or not all(column.is_simple for column in columns):
            return False
        used = sum(self._room.used(column.taken) for column in columns)
        if (used > self._room.capacity).any():
            return False
        self.cost, self.columns = cost, columns
        return True

    def one_by_one(self, price: Floats) -> None:
        """Replica after replica at these prices into what is left, in several orders; then each
        anew into what the others leave, as long as that helps."""
        for order in self._orders():
            left = self._room.capacity
            found: dict[int, Column] = {}
            for r in order:
                column = self._into(r, left, price)
                if column is None:
                    break
                found[r] = column
                left = left - self._room.used(column.taken)
            else:
                self._improve(found)

    def combine(self, columns: Sequence[Column], price: Floats) -> None:
        """The best of all combinations of these walks that a beam search finds."""
        room = self._room
        costs, useds = np.zeros(1), np.zeros((1, len(room.capacity)), np.int64)
        picks = np.zeros((1, 0), np.int64)
        choices = []
        for r in range(len(room.replicas)):
            mine = [column for column in columns if column.replica == r and column.is_simple]
            mine.sort(key=lambda c: c.cost + float(room.used(c.taken) @ price))
            choices.append(mine[:CHOICES])
            if not mine:
                return
        for mine in choices:
            used = np.array([room.used(column.taken) for column in mine])
            total = useds[:, None] + used
            fits = (total <= room.capacity).all(axis=2)
            cost = costs[:, None] + np.array([column.cost for column in mine])
            rank = np.where(fits, cost + total @ price, np.inf).ravel()
            best = np.argsort(rank, kind="stable")[:BEAM]
            best = best[rank[best] < np.inf]
            rows, which = np.divmod(best, len(mine))
            costs, useds = cost[rows, which], total[rows, which]
            picks = np.concatenate([picks[rows], which[:, None]], axis=1)
        if len(costs):
            pick = picks[int(np.argmin(costs))]
            chosen = [mine[n] for mine, n in zip(choices, pick, strict=True)]
            self._improve(dict(enumerate(chosen)))

    def _improve(self, found: dict[int, Column]) -> None:
        free = np.zeros(len(self._room.capacity))
        while self.offer([found[r] for r in range(len(found))]) and len(found) > 1:
            for r in range(len(found)):
                others = sum(self._room.used(c.taken) for s, c in found.items() if s != r)
                column = self._into(r, self._room.capacity - others, free)
                if column is not None and column.cost < found[r].cost:
                    found[r] = column

    def _orders(self) -> list[Any]:
        n = len(self._room.replicas)
        if n <= 3:
            return list(permutations(range(n)))
        return [np.roll(range(n), k).tolist() for k in range(min(n, MAX_ORDERS))]

    def _into(self, r: int, left: Ints, price: Floats) -> Column | None:
        """One replica's cheapest walk at these prices within `left`."""
        room = self._room
        most = np.stack([np.where(room.is_allowed[r], left, -1), np.zeros_like(left)])
        if room.host >= 0:
            most[OFF] = left[room.host]
        classes = room.classes(most)
        nothing = np.zeros_like(most)
        walk = room.replicas[r].walk(
            classes,
            most,
            nothing,
            room.prices(price),
            must=room.must_of(r),
            max_work=room.max_work,
            wants_simple=True,
        )
        if walk is None:
            return None
        room.work += walk.work
        column = room.column(r, walk, room.members(classes, [walk])[0])
        return column if bool((room.used(column.taken) <= left).all()) else None
