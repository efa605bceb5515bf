"""Many simulated engines at once: run them all, and say what is new of all of them.

The rule: one call for all engines; what a row says is what a single engine would say.

Plain functions over arrays (laid out in layout.py, with an axis more: replicas); kernels.py
compiles them unchanged.
"""

from __future__ import annotations

from typing import Any

from fmedge.sim import layout as at
from fmedge.sim.stepping import run


def run_all(ints: Any, floats: Any, logs: Any, until_s: float, codes: Any) -> int:
    """`run` each; codes: int64[replicas], what each came back with, HAS_LOGGED added where
    something was. Gives back how many are not 0."""
    num = 0
    for r in range(ints.shape[0]):
        codes[r] = 0
        totals = ints[r, at.TOTALS]
        if totals[at.NUM_PRESENT] == 0:
            continue
        if totals[at.IN_FLIGHT] != 0 and floats[r, at.END] > until_s:
            continue
        codes[r] = run(ints[r], floats[r], logs[r], until_s, False)
        if totals[at.NUM_LOGGED] > 0:
            codes[r] += at.HAS_LOGGED
        if codes[r] != 0:
            num += 1
    return num


def gather(ints: Any, floats: Any, rows: Any, heads: Any) -> tuple[int, int]:
    """What is new since it was asked last of replicas that stepped.

    heads: float64[replicas, HEAD_SIZE]: (REPLICA, STEPPED_AT, PREFILL_TOLD, DECODE_TOLD, NUM_ROWS,
    NUM_FURTHER of them whose prefill advanced, NUM_SAMPLED, and from SAMPLED on so many steps of
    SAMPLE_SIZE figures) each. rows: int64[3, any]: (OF_REQUEST, NUM_NEW
    tokens, NOW_PREFILLED or -1 where that did not change) of its requests, one head's after
    another's. Gives back how many heads and rows.
    """
    num_heads, num_rows = 0, 0
    for r in range(ints.shape[0]):
        totals = ints[r, at.TOTALS]
        if totals[at.NUM_STEPS] == totals[at.SEEN_STEPS]:
            continue
        start, num_further = num_rows, 0
        for i in range(totals[at.NUM_PRESENT]):
            column = ints[r, at.ORDER, i]
            emitted = ints[r, at.EMITTED, column]
            prefilled = ints[r, at.PREFILLED, column]
            has_more = emitted != ints[r, at.TOLD_EMITTED, column]
            is_further = prefilled != ints[r, at.TOLD_PREFILLED, column]
            if ints[r, at.IS_CANCELLED, column] != 0 or not (has_more or is_further):
                continue
            rows[at.OF_REQUEST, num_rows] = ints[r, at.REQUEST, column]
            rows[at.NUM_NEW, num_rows] = emitted - ints[r, at.TOLD_EMITTED, column]
            rows[at.NOW_PREFILLED, num_rows] = prefilled if is_further else -1
            num_rows += 1
            num_further += 1 if is_further else 0
            ints[r, at.TOLD_EMITTED, column] = emitted
            ints[r, at.TOLD_PREFILLED, column] = prefilled
        heads[num_heads, at.REPLICA] = r
        heads[num_heads, at.STEPPED_AT] = floats[r, at.CLOCK]
        heads[num_heads, at.PREFILL_TOLD] = floats[r, at.TOLD_PREFILL_RATE]
        heads[num_heads, at.DECODE_TOLD] = floats[r, at.TOLD_DECODE_RATE]
        heads[num_heads, at.NUM_ROWS] = num_rows - start
        heads[num_heads, at.NUM_FURTHER] = num_further
        gather_samples(totals, floats[r], heads[num_heads])
        num_heads += 1
    return num_heads, num_rows


def gather_samples(totals: Any, floats: Any, head: Any) -> None:
    """The steps since it was asked last, in their order; of more than MOST_SAMPLED the last."""
    num = 0
    counted = totals[at.NUM_STEPS]
    for n in range(max(totals[at.SEEN_STEPS], counted - at.MOST_SAMPLED), counted):
        start = at.SAMPLES + n % at.MOST_SAMPLED * at.SAMPLE_SIZE
        for i in range(at.SAMPLE_SIZE):
            head[at.SAMPLED + num * at.SAMPLE_SIZE + i] = floats[start + i]
        num += 1
    totals[at.SEEN_STEPS] = counted
    head[at.NUM_SAMPLED] = num
