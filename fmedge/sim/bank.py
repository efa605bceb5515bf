"""All engines of a simulation side by side.

The rule: an engine in a bank does what it does alone; what the bank adds is one compiled call for
all of them where each would need its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fmedge.sched.emulation import ReplicaSpec
from fmedge.sched.steps import StepLimits
from fmedge.sim import kernels
from fmedge.sim import layout as at
from fmedge.sim.engine import LOG_ENTRIES, MIN_COLUMNS, Engine, Sample, samples_of


class Progress(Struct):
    """What is new of one engine. index: its place. stepped_s: its last step's end. rates: seconds a
    prefill token and a decoding step, as the last planned step told them. tokens, prefilled,
    samples: as `Engine` has them."""

    index: int
    stepped_s: float
    rates: tuple[float, float]
    tokens: list[tuple[int, int]]
    prefilled: list[tuple[int, int]]
    samples: list[Sample]


class Bank:
    """One engine a specification, in its order."""

    def __init__(self, specs: Sequence[ReplicaSpec], limits: StepLimits | None = None) -> None:
        self.engines = [Engine(spec, limits) for spec in specs]
        num, slots = len(specs), max((spec.engine.slots for spec in specs), default=1)
        self._codes = np.zeros(num, np.int64)
        self._heads = np.zeros((num, at.HEAD_SIZE))
        self._floats = np.zeros((num, at.NUM_FLOATS))
        self._logs = np.zeros((num, LOG_ENTRIES + 4 * slots, 3))
        self._num_columns = max(MIN_COLUMNS, at.NUM_TOTALS, 2 * slots) // 2
        self._grow()

    def advance(self, now_s: float) -> None:
        """`Engine.advance` of all."""
        codes = self._codes
        if kernels.run_all(self._ints, self._floats, self._logs, now_s, codes):
            for index in codes.nonzero()[0].tolist():
                self.engines[index].go_on(now_s, int(codes[index]) % at.HAS_LOGGED)

    def progress(self) -> list[Progress]:
        """Of the engines that have stepped since it was asked last."""
        num_heads, num_rows = kernels.gather(self._ints, self._floats, self._rows, self._heads)
        if num_heads == 0:
            return []
        requests, num_new, prefilled = self._rows[:, :num_rows].tolist()
        out: list[Progress] = []
        end = 0
        for head in self._heads[:num_heads].tolist():
            index, start, end = int(head[at.REPLICA]), end, end + int(head[at.NUM_ROWS])
            tokens, begun = self.engines[index].take_last()
            new = zip(requests[start:end], num_new[start:end], strict=True)
            if head[at.NUM_FURTHER]:
                here = zip(requests[start:end], prefilled[start:end], strict=True)
                begun += [(request_id, num) for request_id, num in here if num >= 0]
                tokens += [(request_id, num) for request_id, num in new if num]
            else:
                tokens += new
            rates = (head[at.PREFILL_TOLD], head[at.DECODE_TOLD])
            samples = samples_of(head)
            out.append(Progress(index, head[at.STEPPED_AT], rates, tokens, begun, samples))
        return out

    def _grow(self) -> None:
        """Room for twice as many requests an engine."""
        self._num_columns *= 2
        num = len(self.engines)
        self._ints = np.zeros((num, at.NUM_FIELDS, self._num_columns), np.int64)
        self._rows = np.zeros((3, num * self._num_columns), np.int64)
        floats, logs = np.zeros_like(self._floats), np.zeros_like(self._logs)
        for index, engine in enumerate(self.engines):
            engine.move_to(self._ints[index], floats[index], logs[index], self._grow)
        self._floats, self._logs = floats, logs
