"""Splits by trying all of them, and by a mixed-integer programme: slow, plain, exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from fmedge.sched.provision import split
from fmedge.sched.provision.split import Part, Problem


def random_problem(
    random: np.random.Generator, num_layers: int, num_devices: int, *, variants: int, host: int
) -> Problem:
    """Layers of unequal size on devices of unequal speed; with 2 variants most have experts."""
    size = random.integers(5, 40, num_layers)[:, None]
    shape = (num_layers, num_devices)
    cost_s = [size / random.uniform(1, 10, num_devices) * random.uniform(0.9, 1.1, shape)]
    nbytes = [np.repeat(size, num_devices, axis=1)]
    host_nbytes = [np.zeros(shape, np.int64)]
    if variants == 2:
        has_experts = (random.random(num_layers) < 0.8)[:, None]
        experts = nbytes[0] * 7 // 10 * has_experts
        cost_s.append(cost_s[0] + has_experts * size * random.uniform(0, 0.3, num_devices))
        nbytes.append(nbytes[0] - experts)
        host_nbytes.append(experts)
    return Problem(
        cost_s=np.array(cost_s),
        nbytes=np.array(nbytes),
        host_nbytes=np.array(host_nbytes),
        fixed_s=random.uniform(0, 2, num_devices),
        fixed_bytes=random.integers(0, 6, num_devices),
        last_bytes=random.integers(0, 6, num_devices),
        hop_s=random.uniform(0, 3, (num_devices + 1, num_devices + 1)),
        host=host,
        is_allowed=random.random(num_devices) < 0.9,
        weight=float(random.uniform(0.5, 2)),
        base_bytes=random.integers(0, 3, num_devices),
    )


def random_capacity(random: np.random.Generator, problems: Sequence[Problem]) -> Any:
    """Between too little and more than enough, unevenly."""
    total = sum(int(problem.nbytes[0, :, 0].sum()) for problem in problems)
    shares = random.dirichlet(np.ones(problems[0].num_devices))
    return (shares * total * random.uniform(0.9, 2.5)).astype(np.int64)


def all_splits(problem: Problem) -> list[tuple[Part, ...]]:
    found: list[tuple[Part, ...]] = []
    experts = problem.has_experts

    def extend(first: int, parts: tuple[Part, ...]) -> None:
        if first == problem.num_layers:
            found.append(parts)
            return
        used = {part.device for part in parts}
        for d in range(problem.num_devices):
            if d in used or not problem.is_allowed[d] or (d == problem.host and first > 0):
                continue
            for last in range(first, problem.num_layers):
                can_move = problem.host >= 0 and d != problem.host
                most = int(experts[first : last + 1].sum()) if can_move else 0
                for num in range(most + 1):
                    extend(last + 1, (*parts, Part(d, first, last, num)))

    extend(0, ())
    return found


def best_cost(problems: Sequence[Problem], capacity: Any) -> float:
    """The least weighted sum of one or two problems; infinite where nothing fits."""
    used, costs = np.zeros((1, len(capacity)), np.int64), np.zeros(1)
    for problem in problems:
        splits = all_splits(problem)
        if not splits:
            return np.inf
        own = np.array([split.usage(problem, ranges) for ranges in splits])
        cost = np.array([problem.weight * split.cost_s(problem, ranges) for ranges in splits])
        fits = (own <= capacity).all(axis=1)
        own, cost = own[fits], cost[fits]
        kept_used, kept_costs = [], []
        for before, so_far in zip(used, costs, strict=True):
            fits = (before + own <= capacity).all(axis=1)
            kept_used.append(before + own[fits])
            kept_costs.append(so_far + cost[fits])
        used, costs = np.concatenate(kept_used), np.concatenate(kept_costs)
        if not len(costs):
            return np.inf
    return float(costs.min())


def milp_cost(
    problems: Sequence[Problem], capacity: Any, *, gap: float, limit_s: float
) -> tuple[float, float]:
    """Cost and lower bound by HiGHS: flows over (layer, device), each device entered once at most.
    Problems of one variant without a host."""
    costs: list[float] = []
    rows: list[tuple[int, int, float]] = []
    lows: list[float] = []
    highs: list[float] = []
    memory: list[list[tuple[int, float]]] = [[] for _ in capacity]

    def variable(cost: float) -> int:
        costs.append(cost)
        return len(costs) - 1

    def constrain(terms: list[tuple[int, float]], low: float, high: float) -> None:
        rows.extend((len(lows), column, value) for column, value in terms)
        lows.append(low)
        highs.append(high)

    scale = float(max(capacity))
    for p in problems:
        num_devices, num_layers = p.num_devices, p.num_layers
        devices = [d for d in range(num_devices) if p.is_allowed[d]]
        begins = {d: variable(p.weight * (p.hop_s[num_devices, d] + p.fixed_s[d])) for d in devices}
        arrives = {(0, d): [begins[d]] for d in devices}
        enters = {d: [begins[d]] for d in devices}
        for layer in range(num_layers):
            for d in devices:
                if layer == num_layers - 1:
                    leave = [variable(p.weight * (p.hop_s[d, num_devices]))]
                    memory[d].append((leave[0], p.last_bytes[d] / scale))
                else:
                    leave = []
                    for e in devices:
                        hop = 0.0 if d == e else p.weight * (p.hop_s[d, e] + p.fixed_s[e])
                        arc = variable(hop)
                        leave.append(arc)
                        arrives.setdefault((layer + 1, e), []).append(arc)
                        if d != e:
                            enters[e].append(arc)
                coming = arrives[layer, d]
                constrain([(v, 1.0) for v in coming] + [(v, -1.0) for v in leave], 0, 0)
                for v in coming:
                    costs[v] += p.weight * p.cost_s[0, layer, d]
                    memory[d].append((v, p.nbytes[0, layer, d] / scale))
        constrain([(v, 1.0) for v in begins.values()], 1, 1)
        for d in devices:
            constrain([(v, 1.0) for v in enters[d]], 0, 1)
            memory[d].extend((v, p.fixed_bytes[d] / scale) for v in enters[d])
    for d, terms in enumerate(memory):
        base = sum(int(p.base_bytes[d]) for p in problems if p.base_bytes is not None)
        constrain(terms, -np.inf, (capacity[d] - base) / scale)
    where, columns, values = zip(*rows, strict=True)
    matrix = coo_array((values, (where, columns)), shape=(len(lows), len(costs)))
    found = milp(
        costs,
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix.tocsc(), lows, highs),
        options={"mip_rel_gap": gap, "time_limit": limit_s},
    )
    cost = float(found.fun) if found.x is not None else np.inf
    bound = found.mip_dual_bound
    return cost, -np.inf if bound is None else float(bound)
