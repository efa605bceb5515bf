"""The prompts of a workload, as token ids.

The rule: equal blocks are equal tokens, and no others are equal but by chance, whoever makes them
and wherever: a prompt is a function of its call and its place alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmedge.sched.prefix import TOKEN_BYTES
from fmedge.sim.ports import Prompts
from fmedge.sim.workload import Call, Workload

_OWN = 1 << 63
"""Of the tokens that no other prompt has; blocks' ids are smaller."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


def prompt_tokens(call: Call, index: int, block_tokens: int, low: int, high: int) -> bytes:
    """int32[num_prompt], packed: low <= token < high. index: the call's place in its workload,
    or any number below 2**63 that tells it from others."""
    if not 0 <= low < high <= 1 << 31:
        raise ValueError(f"token ids are 0 <= {low} < {high} <= 2**31")
    num_prompt = call.num_prompt
    num_covered = min(len(call.blocks) * block_tokens, num_prompt)
    # Each token is the (its place in the block)-th output of a generator that its block seeds.
    own = _mixed(np.array([_OWN + index], dtype=np.uint64))
    seeds = np.repeat(own, num_prompt)
    places = np.arange(num_prompt, dtype=np.uint64)
    if num_covered:
        ids = _mixed(np.array(call.blocks, dtype=np.uint64))
        seeds[:num_covered] = np.repeat(ids, block_tokens)[:num_covered]
        places[:num_covered] %= np.uint64(block_tokens)
    tokens = _mixed(seeds + places * _ODD) % np.uint64(high - low) + np.uint64(low)
    return tokens.astype("<i4").tobytes()


def prompts_of(workload: Workload, *, can_return: bool) -> Prompts:
    """The prompts of a simulation. Where no call shares with another they are one token over and
    over, each call's own, which only a call itself could find again.

    can_return: whether a call may come back to the KV that it left; if not, and nothing is shared,
    nobody could tell prompts apart, and there are none.
    """
    if any(call.blocks for call in workload.calls):
        block_tokens = workload.block_tokens or 1
        return lambda call, index: prompt_tokens(call, index, block_tokens, 0, 1 << 24)
    if can_return:
        return lambda call, index: index.to_bytes(TOKEN_BYTES, "little") * call.num_prompt
    return lambda call, index: b""


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    generators", OOPSLA 2014). uint64[n]."""
    x = (x ^ (x >> _SHIFTS[0])) * _MIX[0]
    x = (x ^ (x >> _SHIFTS[1])) * _MIX[1]
    return x ^ (x >> _SHIFTS[2])
