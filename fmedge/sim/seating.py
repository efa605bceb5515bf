"""Who begins in a simulated engine that shares KV, and who gives way: between the compiled steps.

The rule: `replica.loop`'s own order of things (admit, preempt, make room, end), decided by kv.py
and written into the arrays that stepping.py runs on.
"""

from __future__ import annotations

from typing import Any

from fmedge.sched.steps import StepRates
from fmedge.sim import kernels
from fmedge.sim import layout as at
from fmedge.sim.kv import NO_ID, Kv, Placed
from fmedge.sim.queueing import budget_of


class Seating:
    """The KV of an engine's requests, by column of its arrays."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._placed: dict[int, Placed] = {}

    def take_over(self, ints: Any, placed: dict[int, Placed]) -> None:
        """From now on KV is placed here; placed: of the requests that are here, none shared."""
        self._placed = placed
        ints[at.TOTALS, at.IS_PLACED] = 1
        for column, one in placed.items():
            if ints[at.PHASE, column] >= at.PREFILLING:
                one.num_computed = int(ints[at.COMPUTED, column])
                self._kv.adopt(one, int(ints[at.SEQ_ID, column]))

    def add(self, column: int, placed: Placed) -> None:
        self._placed[column] = placed

    def num_cached(self, column: int) -> int:
        return max(0, self._placed[column].num_cached)

    def begin(self, ints: Any, floats: Any) -> list[int]:
        """Place the admitted, in service order, as far as the step's budget reaches. Gives back
        the columns of those that begin."""
        self._sync(ints)
        totals = ints[at.TOTALS]
        rates = StepRates(float(floats[at.PREFILL_RATE]), float(floats[at.DECODE_RATE]))
        budget = budget_of(ints, floats)
        present = ints[at.ORDER, : totals[at.NUM_PRESENT]].tolist()
        phases = ints[at.PHASE].tolist()
        num_begun = sum(phases[column] >= at.PREFILLING for column in present)
        ahead = 0
        begun: list[int] = []
        for column in present:
            placed = self._placed[column]
            if phases[column] == at.PREFILLING:
                ahead += placed.num_tokens - placed.num_computed
            if phases[column] != at.ADMITTED:
                continue
            if ahead >= budget:
                break
            outcome = self._kv.place(placed, rates, num_begun)
            if outcome == "no_room":
                break
            if outcome == "placed":
                ints[at.PHASE, column] = at.PREFILLING
                ints[at.COMPUTED, column] = placed.num_computed
                ints[at.SEQ_ID, column] = placed.seq_id
                ahead += placed.num_tokens - placed.num_computed
                num_begun += 1
                begun.append(column)
        free = self._kv.num_free()
        if free is not None:
            totals[at.KV_FREE] = free
            totals[at.KV_USED] = self._kv.num_used
        totals[at.HAS_PLACED] = 1
        return begun

    def preempt(self, ints: Any) -> None:
        """The last in service order of those that have begun gives up its KV."""
        self._sync(ints)
        self._evict(ints, self._begun(ints)[-1])

    def make_room(self, ints: Any) -> int:
        """The engine has no cells for the step. Gives back the column of the request that must end
        for it, -1 where a retained prefix or a preempted request was enough."""
        self._sync(ints)
        totals = ints[at.TOTALS]
        totals[at.DECODES_ONLY] = 0
        if self._kv.evict_one():
            totals[at.KV_USED] = self._kv.num_used
            return -1
        begun = self._begun(ints)
        if len(begun) == 1:
            return begun[0]
        self._evict(ints, begun[-1])
        return -1

    def leave(self, ints: Any, columns: list[int]) -> None:
        """Requests are out of the arrays; what they leave in KV stays as it does in the engine.
        columns: in the order in which they left, those of one step by sequence id."""
        if self._kv.has_pool:
            self._sync(ints)
        for column in columns:
            placed = self._placed.pop(column)
            if placed.seq_id != NO_ID:
                placed.num_computed = int(ints[at.COMPUTED, column])
                self._kv.finish(placed)
        ints[at.TOTALS, at.KV_USED] = self._kv.num_used

    def _begun(self, ints: Any) -> list[int]:
        present = ints[at.ORDER, : ints[at.TOTALS, at.NUM_PRESENT]].tolist()
        return [column for column in present if ints[at.PHASE, column] >= at.PREFILLING]

    def _evict(self, ints: Any, column: int) -> None:
        self._kv.evict_live(self._placed[column])
        kernels.send_back(ints, column)
        ints[at.TOTALS, at.KV_USED] = self._kv.num_used

    def _sync(self, ints: Any) -> None:
        """Have KV know what all live requests have computed."""
        tokens, computed = ints[at.TOKENS].tolist(), ints[at.COMPUTED].tolist()
        phases = ints[at.PHASE].tolist()
        for column, placed in self._placed.items():
            placed.num_tokens = tokens[column]
            placed.num_computed = computed[column]
            placed.is_decoding = phases[column] == at.DECODING
        self._kv.sync()
