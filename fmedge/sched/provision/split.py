"""Which layers of one replica lie on which device: the cheapest ranges that fit.

The rule: knows costs and bytes only, nothing of models; what it returns fits, and is the best there
is unless a field says otherwise. The last "layer" of a problem is the output head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Part(NamedTuple):
    """Layers first..last (inclusive) on a device; the first num_host_experts of its layers that
    have experts keep them on the host."""

    device: int
    first: int
    last: int
    num_host_experts: int = 0


@dataclass(frozen=True)
class Split:
    """ranges: in the order of layers. cost_s: without the problem's weight. bound_s: no split costs
    less (proven); it is cost_s where the split is optimal, and -inf for one of several replicas."""

    ranges: tuple[Part, ...]
    cost_s: float
    bound_s: float

    @property
    def is_optimal(self) -> bool:
        return self.bound_s >= self.cost_s - 1e-9 * abs(self.cost_s)


@dataclass(frozen=True, eq=False)
class Problem:
    """One replica of L layers (the head is the last) over D devices.

    cost_s float64[V, L, D]: of layer l on device d in variant v; V is 1, or 2 where variant 1 keeps
    the layer's experts on the host. nbytes int64[V, L, D]: on the device; host_nbytes int64[V, L,
    D]: on the host besides (0 in variant 0). A layer without experts is equal in both variants.
    fixed_s[D], fixed_bytes[D]: of a device that holds any layer. last_bytes[D]: further bytes on
    the device of the last layer. base_bytes[D]: bytes that the replica needs there in any case.
    hop_s[D + 1, D + 1]: from device to device; index D is the host as the source of the input and
    the sink of the output. host: the index of the device that can only come first and that takes
    the experts, or -1. is_allowed bool[D]: whether it may hold layers (a host that may not still
    takes experts). weight: of cost_s in a weighted sum. All costs are finite and >= 0 and all bytes
    >= 0 (ValueError).
    """

    cost_s: Floats
    nbytes: Ints
    host_nbytes: Ints
    fixed_s: Floats
    fixed_bytes: Ints
    last_bytes: Ints
    hop_s: Floats
    host: int
    is_allowed: npt.NDArray[np.bool_]
    weight: float = 1.0
    base_bytes: Ints | None = None

    def __post_init__(self) -> None:
        if self.cost_s.ndim != 3 or self.cost_s.shape[0] not in (1, 2) or 0 in self.cost_s.shape:
            raise ValueError(f"cost_s has the shape {self.cost_s.shape}, not (1 or 2, L, D)")
        num_devices = self.num_devices
        shapes = {
            "nbytes": self.cost_s.shape,
            "host_nbytes": self.cost_s.shape,
            "fixed_s": (num_devices,),
            "fixed_bytes": (num_devices,),
            "last_bytes": (num_devices,),
            "hop_s": (num_devices + 1, num_devices + 1),
            "is_allowed": (num_devices,),
        }
        if self.base_bytes is not None:
            shapes["base_bytes"] = (num_devices,)
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
            if name != "is_allowed" and not (array >= 0).all():
                raise ValueError(f"{name} has values below 0")
        for name in ("cost_s", "fixed_s", "hop_s"):
            if not np.isfinite(getattr(self, name)).all() or not (getattr(self, name) >= 0).all():
                raise ValueError(f"{name} has values that are not finite or below 0")
        if not -1 <= self.host < num_devices:
            raise ValueError(f"host is device {self.host} of {num_devices}")
        if not 0 <= self.weight < np.inf:
            raise ValueError(f"the weight is {self.weight}")

    @property
    def num_layers(self) -> int:
        return int(self.cost_s.shape[1])

    @property
    def num_devices(self) -> int:
        return int(self.cost_s.shape[2])

    @property
    def has_experts(self) -> npt.NDArray[np.bool_]:
        """bool[L]: layers whose variants differ."""
        if self.cost_s.shape[0] == 1:
            return np.zeros(self.num_layers, np.bool_)
        differs = (self.cost_s[0] != self.cost_s[1]) | (self.nbytes[0] != self.nbytes[1])
        found: npt.NDArray[np.bool_] = (differs | (self.host_nbytes[0] != self.host_nbytes[1])).any(
            axis=1
        )
        return found


def usage(problem: Problem, ranges: tuple[Part, ...]) -> Ints:
    """int64[D]: bytes that a split takes of each device."""
    used = np.zeros(problem.num_devices, np.int64)
    if problem.base_bytes is not None:
        used += problem.base_bytes
    for part, middle in zip(ranges, _middles(problem, ranges), strict=True):
        d, first, end = part.device, part.first, part.last + 1
        used[d] += problem.fixed_bytes[d]
        used[d] += (
            problem.nbytes[-1, first:middle, d].sum() + problem.nbytes[0, middle:end, d].sum()
        )
        if end == problem.num_layers:
            used[d] += problem.last_bytes[d]
        if problem.host >= 0 and d != problem.host:
            used[problem.host] += problem.host_nbytes[-1, first:middle, d].sum()
            used[problem.host] += problem.host_nbytes[0, middle:end, d].sum()
    return used


def cost_s(problem: Problem, ranges: tuple[Part, ...]) -> float:
    """What a split costs, without the problem's weight."""
    total, before = 0.0, problem.num_devices
    for part, middle in zip(ranges, _middles(problem, ranges), strict=True):
        d, first, end = part.device, part.first, part.last + 1
        total += problem.hop_s[before, d] + problem.fixed_s[d]
        total += problem.cost_s[-1, first:middle, d].sum() + problem.cost_s[0, middle:end, d].sum()
        before = d
    return float(total + problem.hop_s[before, problem.num_devices])


def _middles(problem: Problem, ranges: tuple[Part, ...]) -> list[int]:
    """For each range the layer from which on experts lie where their layer does."""
    experts = np.flatnonzero(problem.has_experts)
    found = []
    for part in ranges:
        inside = experts[(experts >= part.first) & (experts <= part.last)]
        num = part.num_host_experts
        found.append(part.first if num == 0 else int(inside[num - 1]) + 1)
    return found


def best_split(
    problem: Problem,
    capacity: Ints,
    *,
    must_use: int | None = None,
    max_nodes: int | None = None,
) -> Split | None:
    """The cheapest split that fits into capacity int64[D], or None where none fits. must_use: a
    device that has to hold a layer. max_nodes: see joint.best_joint; only where experts on the host
    or very many devices make the answer a search does it matter."""
    from fmedge.sched.provision.joint import best_joint

    alone = replace(problem, weight=1.0)
    found = best_joint([alone], capacity, must_use=must_use, max_nodes=max_nodes)
    if found is None:
        return None
    (split,) = found.splits
    return split


@dataclass(frozen=True)
class Explained:
    """The best splits that use a device and that do not (None: none fits)."""

    device: int
    with_it: Split | None
    without_it: Split | None


def explain(problem: Problem, capacity: Ints, split: Split | None, device: int) -> Explained:
    """What it costs to use a device, or not to: `split`, the best one, is one of the two."""
    uses = split is not None and any(part.device == device for part in split.ranges)
    with_it = split if uses else best_split(problem, capacity, must_use=device)
    without_it = split
    if uses or split is None:
        is_allowed = problem.is_allowed.copy()
        is_allowed[device] = False
        without_it = best_split(replace(problem, is_allowed=is_allowed), capacity)
    return Explained(device, with_it, without_it)
