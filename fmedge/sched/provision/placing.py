"""From choices to places: what the optimiser is asked, and its answer checked.

The rule: the optimiser reckons with bytes layer by layer, `replica_memory` with the whole; only
what the latter says fits is a placement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from fmedge.sched.provision import split as splits
from fmedge.sched.provision.cost import OperatingPoint
from fmedge.sched.provision.joint import best_joint
from fmedge.sched.provision.plan import MemoryUse, Range
from fmedge.sched.provision.problems import memory_of, problem_of, signature
from fmedge.sched.provision.request import Choice, PlanRequest, engine_of
from fmedge.sched.provision.shape import ModelShape
from fmedge.sched.provision.split import Problem

ROUNDS = 4
"""Of solving again with less, where the whole is more than the sum of the layers."""

SEARCH_GAP = 0.005
"""How far from the best a split may be while choices are compared; the plan's own is exact, as far
as SEARCH_NODES go."""

SEARCH_NODES = 40


class PlacedReplica(Struct, frozen=True, kw_only=True):
    """One replica with its place. memory: of each device that it uses."""

    model: str
    choice: Choice
    ranges: tuple[Range, ...]
    memory: tuple[MemoryUse, ...]


class Placement(Struct, frozen=True, kw_only=True):
    """All replicas' places. cost_s: the weighted sum of the requests at their operating points, of
    which bound_s is proven to be the least there is."""

    replicas: tuple[PlacedReplica, ...]
    cost_s: float
    bound_s: float


@dataclass
class Ground:
    """The devices of one request and everything reckoned about models on them so far."""

    request: PlanRequest
    points: Mapping[str, OperatingPoint]
    shares: Mapping[str, float]
    problems: dict[tuple[str, Choice], Problem] = field(default_factory=dict)
    num_solved: int = 0

    def __post_init__(self) -> None:
        self.devices = self.request.devices
        self.by_name = {device.name: device for device in self.devices}
        self.index = {device.name: i for i, device in enumerate(self.devices)}
        self.models = {model.name: model for model in self.request.models}
        self.capacity = np.array([device.capacity_bytes for device in self.devices], np.int64)

    def shape_of(self, model: str, choice: Choice) -> ModelShape:
        return self.models[model].shapes[choice.shape]

    def problem(self, model: str, choice: Choice) -> Problem:
        """Of one replica; the same for all replicas of a choice."""
        key = (model, structs.replace(choice, num_replicas=1))
        if key not in self.problems:
            self.problems[key] = problem_of(
                self.models[model], choice, self.devices, self.allowed(model),
                self.points[model], self.request.sizing,
            )  # fmt: skip
        weight = self.shares[model] / choice.num_replicas
        return replace(self.problems[key], weight=weight)

    def allowed(self, model: str) -> NDArray[np.bool_]:
        excluded = self.request.excluded | self.models[model].excluded
        return np.array([d.name not in excluded for d in self.devices], np.bool_)

    def place(
        self,
        choices: Mapping[str, Choice],
        *,
        capacity: NDArray[np.int64] | None = None,
        is_final: bool = False,
    ) -> Placement | None:
        """The best places for all replicas of these choices, None where they do not all fit.

        First all models' first replicas together, then each model's others one by one, each on
        what memory is left and on devices that none of its own replicas computes on: those would
        share its speed, and more slots share that better.
        """
        left = (self.capacity if capacity is None else capacity).copy()
        replicas: list[PlacedReplica] = []
        for name, choice in choices.items():
            pinned = self.models[name].ranges
            if pinned:
                replicas.append(self._placed(name, choice, pinned))
        for placed in replicas:
            left -= self.bytes_of(placed.memory)
        if (left < 0).any():
            return None
        free = {n: choice for n, choice in choices.items() if not self.models[n].ranges}
        firsts = self._fitted(
            [(name, self.problem(name, choice), choice) for name, choice in free.items()],
            left,
            is_final=is_final,
        )
        if firsts is None:
            return None
        replicas += firsts.replicas
        for number in range(1, max((c.num_replicas for c in choices.values()), default=1)):
            for name, choice in choices.items():
                if choice.num_replicas <= number:
                    continue
                further = self._further(name, choice, replicas, left)
                if further is None:
                    return None
                replicas.append(further)
        return Placement(
            replicas=self._in_order(replicas), cost_s=firsts.cost_s, bound_s=firsts.bound_s
        )

    def _further(
        self,
        name: str,
        choice: Choice,
        replicas: Sequence[PlacedReplica],
        left: NDArray[np.int64],
    ) -> PlacedReplica | None:
        """One more replica beside those; `left` is what the pinned ones leave."""
        pinned = self.models[name].ranges
        if pinned:
            return None
        budget = left.copy()
        taken = set()
        for other in replicas:
            if not self.models[other.model].ranges:
                budget -= self.bytes_of(other.memory)
            if other.model == name:
                taken |= {part.device for part in other.ranges}
                taken |= {d.name for d in self.devices if d.is_host and _has_experts_off(other)}
        problem = self.problem(name, choice)
        is_free = np.array([device.name not in taken for device in self.devices], np.bool_)
        if problem.host >= 0 and not is_free[problem.host]:
            problem = replace(
                problem,
                cost_s=problem.cost_s[:1],
                nbytes=problem.nbytes[:1],
                host_nbytes=problem.host_nbytes[:1],
            )
        problem = replace(problem, is_allowed=problem.is_allowed & is_free)
        if not problem.is_allowed.any() or (budget < 0).any():
            return None
        found = self._fitted([(name, problem, choice)], budget, is_final=False)
        return None if found is None else found.replicas[0]

    def _fitted(
        self,
        wanted: Sequence[tuple[str, Problem, Choice]],
        left: NDArray[np.int64],
        *,
        is_final: bool,
    ) -> Placement | None:
        """Solved, and again with less where the whole is more than its layers."""
        if not wanted:
            return Placement(replicas=(), cost_s=0.0, bound_s=0.0)
        budget = left.copy()
        for _ in range(ROUNDS):
            self.num_solved += 1
            joint = best_joint(
                [problem for _, problem, _ in wanted],
                budget,
                gap=0.0 if is_final else SEARCH_GAP,
                max_nodes=None if is_final else SEARCH_NODES,
            )
            if joint is None:
                return None
            replicas = tuple(
                self._placed(name, choice, self.ranges(split))
                for (name, _, choice), split in zip(wanted, joint.splits, strict=True)
            )
            used = sum((self.bytes_of(p.memory) for p in replicas), np.zeros_like(left))
            over = np.maximum(used - left, 0)
            if not over.any():
                return Placement(replicas=replicas, cost_s=joint.cost_s, bound_s=joint.bound_s)
            budget = np.maximum(budget - over, 0)
        return None

    def _in_order(self, replicas: Sequence[PlacedReplica]) -> tuple[PlacedReplica, ...]:
        """The same with devices that are alike in everything used in the order of their listing."""
        alike: dict[tuple[object, ...], list[str]] = {}
        for d, device in enumerate(self.devices):
            allowed = tuple(bool(self.allowed(name)[d]) for name in self.models)
            is_pinned = any(
                part.device == device.name for m in self.models.values() for part in m.ranges
            )
            same = (
                signature(device),
                device.memory_bytes,
                device.reserve_bytes,
                allowed,
                device.backend_bytes,
                device.endpoint,
                device.name if is_pinned else "",
            )
            alike.setdefault(same, []).append(device.name)
        used = [part.device for replica in replicas for part in replica.ranges]
        names: dict[str, str] = {}
        for members in alike.values():
            first = sorted(members, key=lambda n: used.index(n) if n in used else len(used))
            names |= dict(zip(first, members, strict=True))
        return tuple(
            structs.replace(
                replica,
                ranges=tuple(structs.replace(r, device=names[r.device]) for r in replica.ranges),
                memory=tuple(
                    structs.replace(m, device=names.get(m.device, m.device)) for m in replica.memory
                ),
            )
            for replica in replicas
        )

    def ranges(self, split: splits.Split) -> tuple[Range, ...]:
        return tuple(
            Range(
                device=self.devices[part.device].name,
                first_layer=part.first,
                last_layer=part.last,
                num_host_experts=part.num_host_experts,
            )
            for part in split.ranges
        )

    def _placed(self, name: str, choice: Choice, ranges: tuple[Range, ...]) -> PlacedReplica:
        model = self.models[name]
        memory = memory_of(
            model.shapes[choice.shape], engine_of(model, choice), ranges, self.by_name,
            self.request.sizing,
        )  # fmt: skip
        return PlacedReplica(model=name, choice=choice, ranges=ranges, memory=memory)

    def bytes_of(self, memory: Sequence[MemoryUse]) -> NDArray[np.int64]:
        used = np.zeros(len(self.devices), np.int64)
        for use in memory:
            if use.device in self.index:  # a host that nobody described is not counted
                used[self.index[use.device]] += use.total
        return used


def _has_experts_off(replica: PlacedReplica) -> bool:
    return any(part.num_host_experts for part in replica.ranges)
