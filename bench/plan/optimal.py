"""Splits by the optimiser against trying all of them, against HiGHS, and how long large ones take.

Nothing but arrays: devices of random speed and memory, layers of unequal size.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from bench.context import Bench, Outcome, Skipped
from fmedge.sched.provision import kernels
from fmedge.sched.provision.joint import best_joint
from fmedge.sched.provision.split import Problem
from tests.sched.provision import naive_split

NUM_SMALL = 500
MEDIUM = ((3, 2, 16, 1.3), (4, 2, 16, 1.2), (4, 2, 24, 1.4), (4, 2, 32, 1.5), (5, 2, 24, 1.6))
"""Devices, models, layers, memory as a multiple of the weights."""
HIGHS_GAP, HIGHS_LIMIT_S = 0.002, 60.0
LARGE = ((8, 3, 80, 1.3, 1.0), (8, 3, 80, 2.5, 1.0), (64, 3, 80, 2.5, 10.0))
"""As MEDIUM, and the most seconds."""


async def run(bench: Bench) -> list[Outcome | Skipped]:
    kernels.warm()
    return await asyncio.to_thread(_rows, bench)


def _rows(bench: Bench) -> list[Outcome | Skipped]:
    return [_small(bench), *_medium(bench), *_large(bench)]


def _small(bench: Bench) -> Outcome:
    num_equal = num_fitting = 0
    took_s = 0.0
    for seed in range(NUM_SMALL):
        random = np.random.default_rng(seed)
        num_devices, host = int(random.integers(2, 5)), int(random.integers(-1, 1))
        problems = [
            naive_split.random_problem(
                random, int(random.integers(2, 7)), num_devices, variants=1, host=host
            )
            for _ in range(2)
        ]
        capacity = naive_split.random_capacity(random, problems)
        best = naive_split.best_cost(problems, capacity)
        start_s = perf_counter()
        found = best_joint(problems, capacity)
        took_s += perf_counter() - start_s
        num_fitting += best < np.inf
        if found is None:
            num_equal += best == np.inf
        else:
            num_equal += abs(found.cost_s - best) <= 1e-9 * best and found.is_optimal
    bench.say(f"  {num_equal} of {NUM_SMALL} equal ({num_fitting} fit); {took_s:.2f} s in all")
    detail = {"fit": num_fitting, "took_s": took_s}
    return Outcome(
        "plan-optimal", "equal to all splits", num_equal, "", NUM_SMALL, True, (), detail
    )


def _medium(bench: Bench) -> list[Outcome]:
    worse, faster = [], []
    for number, (num_devices, num_models, num_layers, memory) in enumerate(MEDIUM):
        problems, capacity = machine(number, num_devices, num_models, num_layers, memory)
        problems = [replace(problem, host=-1) for problem in problems]
        start_s = perf_counter()
        found = best_joint(problems, capacity)
        ours_s = perf_counter() - start_s
        start_s = perf_counter()
        cost, bound = naive_split.milp_cost(
            problems, capacity, gap=HIGHS_GAP, limit_s=HIGHS_LIMIT_S
        )
        highs_s = perf_counter() - start_s
        ours = np.inf if found is None else found.cost_s
        bench.say(
            f"  {num_devices} devices, {num_models} models, {num_layers} layers: {ours:.6g} in "
            f"{ours_s:.3f} s, HiGHS {cost:.6g} (bound {bound:.6g}) in {highs_s:.1f} s"
        )
        worse.append(100 * (ours / cost - 1) if cost < np.inf else 0.0)
        faster.append(highs_s / ours_s)
    return [
        Outcome("plan-optimal", "cost over HiGHS", max(worse), "%", 1.0, False, tuple(worse)),
        Outcome("plan-optimal", "faster than HiGHS", min(faster), "x", 20.0, True, tuple(faster)),
    ]


def _large(bench: Bench) -> list[Outcome]:
    found_rows = []
    for num_devices, num_models, num_layers, memory, most_s in LARGE:
        took, gaps = [], []
        for seed in range(bench.rounds):
            problems, capacity = machine(seed, num_devices, num_models, num_layers, memory)
            start_s = perf_counter()
            found = best_joint(problems, capacity)
            took.append(perf_counter() - start_s)
            gaps.append(np.inf if found is None else 100 * (1 - found.bound_s / found.cost_s))
        name = f"{num_devices} devices x {num_models} x {num_layers}, memory x {memory}"
        bench.say(f"  {name}: {max(took):.2f} s at most, gap {max(gaps):.2f} % at most")
        detail = {"gap_percent": gaps}
        found_rows.append(
            Outcome("plan-optimal", name, max(took), "s", most_s, False, tuple(took), detail)
        )
    return found_rows


def machine(
    seed: int, num_devices: int, num_models: int, num_layers: int, memory: float
) -> tuple[list[Problem], Any]:
    """Models of 50 to 600 MB a layer on a host (device 0) and cards of 200 to 2000 GB/s whose
    memory is so many times what the models need."""
    random = np.random.default_rng(seed)
    bandwidth = random.uniform(200e9, 2000e9, num_devices)
    bandwidth[0] = 60e9
    sizes = random.choice([8.0, 12.0, 16.0, 24.0, 48.0, 80.0], num_devices)
    zeros = np.zeros((1, num_layers, num_devices), np.int64)
    problems = []
    for _ in range(num_models):
        layer_bytes = np.full(num_layers, random.uniform(50e6, 600e6))
        layer_bytes *= np.where(
            random.random(num_layers) < 0.3, random.uniform(0.8, 1.3, num_layers), 1.0
        )
        layer_bytes[-1] *= 2
        nbytes = np.repeat(layer_bytes.astype(np.int64)[:, None], num_devices, axis=1)
        problems.append(
            Problem(
                cost_s=(nbytes / bandwidth / 0.8 + 2e-5)[None],
                nbytes=nbytes[None],
                host_nbytes=zeros,
                fixed_s=np.full(num_devices, 1e-4),
                fixed_bytes=np.full(num_devices, 300_000_000),
                last_bytes=np.full(num_devices, 100_000_000),
                hop_s=np.full((num_devices + 1, num_devices + 1), 5e-5),
                host=0,
                is_allowed=np.ones(num_devices, np.bool_),
                weight=float(random.uniform(0.5, 2.0)),
            )
        )
    total = sum(int(problem.nbytes[0, :, 0].sum()) for problem in problems)
    return problems, (sizes / sizes.sum() * total * memory).astype(np.int64)
