"""KV in blocks: what live sequences hold, what they will need, what a preempted one finds again.

The rule: a sequence holds whole blocks for the tokens it has computed. fmedge's own engine has
cells, which are blocks of one token.

Plain functions over numbers and arrays (laid out in arrays.py); kernels.py compiles them unchanged.
"""

from __future__ import annotations

from typing import Any

from fmedge.sched.arrays import (
    CACHED,
    COMPUTED,
    DECODE_LIST,
    LOST_FROM,
    NUM_KEPT,
    PHASE,
    PREFILLING,
    SLOT_LIST,
    TOKENS,
)


def blocks(num_tokens: int, block_tokens: int) -> int:
    """KV blocks that hold so many tokens."""
    return (num_tokens + block_tokens - 1) // block_tokens


def growth_blocks(ints: Any, num_decoding: int, steps: int, more: int, block_tokens: int) -> int:
    """Blocks that the decoding sequences need for `more` further tokens each."""
    if block_tokens == 1:
        return num_decoding * more
    need = 0
    for j in range(num_decoding):
        computed = ints[COMPUTED, ints[DECODE_LIST, j]] + steps
        need += blocks(computed + more, block_tokens) - blocks(computed, block_tokens)
    return need


def num_used_blocks(
    ints: Any, num_decoding: int, num_slotted: int, steps: int, block_tokens: int
) -> int:
    """Blocks that live sequences hold."""
    used = 0
    for j in range(num_decoding):
        used += blocks(ints[COMPUTED, ints[DECODE_LIST, j]] + steps, block_tokens)
    for j in range(num_slotted):
        e = ints[SLOT_LIST, j]
        if ints[PHASE, e] == PREFILLING:
            used += blocks(ints[COMPUTED, e], block_tokens)
    return used


def blocks_kept(ints: Any, e: int, allocated: int, block_tokens: int) -> int:
    """Blocks of its own that a preempted entry would still find; a token at least is computed anew.

    Freed blocks queue up behind the free ones, an entry's last one first, and are taken from the
    front. NUM_KEPT: full blocks it had; LOST_FROM: blocks allocated in all when it loses the first.
    """
    kept = ints[NUM_KEPT, e] - max(0, allocated - ints[LOST_FROM, e])
    return int(max(0, min(kept, (ints[TOKENS, e] - 1) // block_tokens)))


def more_blocks(num_tokens: int, more: int, block_tokens: int) -> int:
    """Blocks to add where num_tokens become so many more."""
    return blocks(num_tokens + more, block_tokens) - blocks(num_tokens, block_tokens)


def prefill_blocks(ints: Any, num_slotted: int, budget: int, block_tokens: int) -> int:
    """Blocks that the prefilling need for the next step's chunks, in another engine."""
    need = 0
    for j in range(num_slotted):
        e = ints[SLOT_LIST, j]
        if ints[PHASE, e] == PREFILLING and budget > 0:
            chunk = min(ints[TOKENS, e] - ints[COMPUTED, e], budget)
            budget -= chunk
            need += more_blocks(ints[COMPUTED, e], chunk, block_tokens)
    return need


def fitting_steps(
    ints: Any,
    num_decoding: int,
    steps: int,
    first: int,
    chunk: int,
    free: int,
    most: int,
    block_tokens: int,
) -> int:
    """Steps, 1 to `most`, whose tokens fit into the free blocks: one of each decoding sequence and
    `chunk` of the entry `first` a step."""
    if block_tokens == 1:
        return max(1, min(most, free // (num_decoding + chunk)))
    least = 1
    while least < most:
        middle = (least + most + 1) // 2
        need = growth_blocks(ints, num_decoding, steps, middle, block_tokens)
        if chunk > 0:
            need += more_blocks(ints[COMPUTED, first], middle * chunk, block_tokens)
        if need <= free:
            least = middle
        else:
            most = middle - 1
    return least


def find_again(ints: Any, e: int, num_total: int, block_tokens: int) -> None:
    """A preempted entry begins anew with what is left of its blocks: others then keep theirs for
    fewer allocations."""
    found = ints[CACHED, e] // block_tokens
    for i in range(num_total):
        if ints[NUM_KEPT, i] > 0 and ints[LOST_FROM, i] > ints[LOST_FROM, e]:
            ints[LOST_FROM, i] -= found
    ints[NUM_KEPT, e] = 0
