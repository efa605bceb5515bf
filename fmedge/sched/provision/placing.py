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
from fmedge.sched.provision.apply import MAX_DEVICES
from fmedge.sched.provision.cost import OperatingPoint
from fmedge.sched.provision.joint import Joint, best_joint
from fmedge.sched.provision.plan import MemoryUse, Range
from fmedge.sched.provision.problems import memory_of, problem_of, signature
from fmedge.sched.provision.request import Choice, PlanRequest, engine_of
from fmedge.sched.provision.shape import ModelShape
from fmedge.sched.provision.split import Problem

ROUNDS = 4
"""Of solving again with less, where the whole is more than the sum of the layers."""

SEARCH_GAP = 0.02
"""How far from the best a split may be while choices are compared; the plan's own is the best."""

SEARCH_NODES, PATIENT_NODES = 8, 200
"""Of the optimiser's search tree: for a comparison, and before it is said that nothing fits."""


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
        in_turn: bool = False,
        slower: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Placement | None:
        """The best places for all replicas of these choices, None where they do not all fit.

        First all models' first replicas together, then each model's others one by one, each on
        what memory is left and on devices that none of its own replicas computes on: those would
        share its speed, and more slots share that better.

        in_turn: instead, model by model, the one with the largest share first, so that it has all
        its replicas before others have any. capacity: int64[D] instead of the devices' own.
        slower: by model and device, how many times longer it computes there than alone.
        """
        left = (self.capacity if capacity is None else capacity).copy()
        replicas: list[PlacedReplica] = []
        for name, choice in choices.items():
            pinned = self.models[name].ranges
            if pinned:
                replicas.append(self.placed(name, choice, pinned))
        for placed in replicas:
            left -= self.bytes_of(placed.memory)
        if (left < 0).any() or len(self.devices) == 0:
            return None
        free = [n for n in choices if not self.models[n].ranges]
        groups = [free]
        if in_turn:
            groups = [[n] for n in sorted(free, key=lambda n: -self.shares[n])]
        cost_s = bound_s = 0.0
        for group in groups:
            firsts = self._fitted(
                [
                    (n, self._slowed(n, self.problem(n, choices[n]), slower), choices[n])
                    for n in group
                ],
                self._left_by(replicas, left),
                is_final=is_final,
            )
            if firsts is None:
                return None
            replicas += firsts.replicas
            cost_s, bound_s = cost_s + firsts.cost_s, bound_s + firsts.bound_s
            for number in range(1, max((choices[n].num_replicas for n in group), default=1)):
                for name in group:
                    if choices[name].num_replicas <= number:
                        continue
                    further = self._further(name, choices[name], replicas, left)
                    if further is None:
                        return None
                    replicas.append(further)
        return Placement(replicas=self._in_order(replicas), cost_s=cost_s, bound_s=bound_s)

    def _left_by(
        self, replicas: Sequence[PlacedReplica], left: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """int64[D]: of `left`, which is without pinned ones already, what these leave."""
        budget = left.copy()
        for replica in replicas:
            if not self.models[replica.model].ranges:
                budget -= self.bytes_of(replica.memory)
        return np.maximum(budget, 0)

    def _slowed(
        self, name: str, problem: Problem, slower: Mapping[str, Mapping[str, float]] | None
    ) -> Problem:
        if not slower or name not in slower:
            return problem
        factors = np.array([slower[name].get(device.name, 1.0) for device in self.devices])
        return replace(problem, cost_s=problem.cost_s * factors)

    def _further(
        self,
        name: str,
        choice: Choice,
        replicas: Sequence[PlacedReplica],
        left: NDArray[np.int64],
    ) -> PlacedReplica | None:
        """One more replica beside those; `left` is what the pinned ones leave. One that was asked
        for shares its siblings' devices where there are no others."""
        model = self.models[name]
        budget = self._left_by(replicas, left)
        num_placed = sum(other.model == name for other in replicas)
        if num_placed < model.min_replicas:
            apart = self._apart(name, choice, replicas, budget)
            return apart or self._beside(name, choice, budget)
        return None if model.ranges else self._apart(name, choice, replicas, budget)

    def _beside(self, name: str, choice: Choice, budget: NDArray[np.int64]) -> PlacedReplica | None:
        """Wherever there is memory, as if its siblings were not there."""
        ranges = self.models[name].ranges
        if ranges:
            placed = self.placed(name, choice, ranges)
            return placed if (self.bytes_of(placed.memory) <= budget).all() else None
        wanted = [(name, self.problem(name, choice), choice)]
        found = self._fitted(wanted, budget, is_final=False)
        return None if found is None else found.replicas[0]

    def _apart(
        self,
        name: str,
        choice: Choice,
        replicas: Sequence[PlacedReplica],
        budget: NDArray[np.int64],
    ) -> PlacedReplica | None:
        """On devices that none of its siblings computes on."""
        if self.models[name].ranges:
            return None
        taken = set()
        for other in replicas:
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
        if not problem.is_allowed.any():
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
            joint = self._joint([problem for _, problem, _ in wanted], budget, is_final)
            if joint is None:
                return None
            wide = [self._is_too_wide(split) for split in joint.splits]
            if any(wide):
                wanted = [
                    (name, self._narrowed(problem, budget) if is_wide else problem, choice)
                    for (name, problem, choice), is_wide in zip(wanted, wide, strict=True)
                ]
                continue
            replicas = tuple(
                self.placed(name, choice, self.ranges(split))
                for (name, _, choice), split in zip(wanted, joint.splits, strict=True)
            )
            used = sum((self.bytes_of(p.memory) for p in replicas), np.zeros_like(left))
            over = np.maximum(used - left, 0)
            if not over.any():
                return Placement(replicas=replicas, cost_s=joint.cost_s, bound_s=joint.bound_s)
            budget = np.maximum(budget - over, 0)
        return None

    def _is_too_wide(self, split: splits.Split) -> bool:
        others = [part for part in split.ranges if not self.devices[part.device].is_host]
        return len(others) > MAX_DEVICES

    def _narrowed(self, problem: Problem, budget: NDArray[np.int64]) -> Problem:
        """On no more devices than llama.cpp splits a model over: those with most memory, since it
        is for want of that that a model lies on so many."""
        usable = [
            d
            for d in range(len(self.devices))
            if problem.is_allowed[d] and not self.devices[d].is_host
        ]
        kept = sorted(usable, key=lambda d: (-int(budget[d]), d))[:MAX_DEVICES]
        is_kept = np.array(
            [device.is_host or d in kept for d, device in enumerate(self.devices)], np.bool_
        )
        return replace(problem, is_allowed=problem.is_allowed & is_kept)

    def _joint(
        self, problems: Sequence[Problem], budget: NDArray[np.int64], is_final: bool
    ) -> Joint | None:
        self.num_solved += 1
        if is_final:
            return best_joint(problems, budget)
        if len(problems) > 1:
            found = best_joint(problems, budget, gap=SEARCH_GAP, max_nodes=SEARCH_NODES)
            if found is not None:
                return found
        return best_joint(problems, budget, gap=SEARCH_GAP, max_nodes=PATIENT_NODES)

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

    def placed(self, name: str, choice: Choice, ranges: tuple[Range, ...]) -> PlacedReplica:
        """One replica with what it takes."""
        model = self.models[name]
        memory = memory_of(
            model.shapes[choice.shape], engine_of(model, choice), ranges, self.by_name,
            self.request.sizing,
        )  # fmt: skip
        return PlacedReplica(model=name, choice=choice, ranges=ranges, memory=memory)

    def holds(self, replicas: Sequence[PlacedReplica]) -> bool:
        """Whether they all fit together."""
        used = sum((self.bytes_of(r.memory) for r in replicas), np.zeros_like(self.capacity))
        return bool((used <= self.capacity).all())

    def bytes_of(self, memory: Sequence[MemoryUse]) -> NDArray[np.int64]:
        used = np.zeros(len(self.devices), np.int64)
        for use in memory:
            if use.device in self.index:  # a host that nobody described is not counted
                used[self.index[use.device]] += use.total
        return used


def _has_experts_off(replica: PlacedReplica) -> bool:
    return any(part.num_host_experts for part in replica.ranges)
