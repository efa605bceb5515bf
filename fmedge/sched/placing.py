"""Which sequence id a new sequence takes, and how much KV it finds there: the decisions alone.

The rule: replica and simulator decide by these, each over its own KV. Nothing here touches an
engine; what is decided is carried out by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from fmedge.sched.prefix import PrefixCache, PrefixMatch

KV_MARGIN_TOKENS = 32
"""Cells that each running sequence should find free for its next tokens when one more starts;
without it, a sequence would start only to be preempted a few steps later."""

MIN_HELD_BACK_TOKENS = 32
"""A sequence waits for another's prefill only for this many tokens or more."""

MAX_LOST_DIVISOR = 4
"""A retained id is taken over in place if that loses at most a 4th of what it saves."""


class Choice(Struct, frozen=True):
    """The id that a sequence takes, and how many of its tokens it finds there.

    how: "empty": the id is emptied first, and holds 0. "reuse": what the id retained is cut to its
    first num_tokens. "copy": the id is emptied, and takes over as many of `source`. is_lossy: a
    reuse loses much of what the id holds.
    """

    seq_id: int
    num_tokens: int = 0
    how: Literal["empty", "reuse", "copy"] = "empty"
    source: int = -1
    is_lossy: bool = False


def idle_id(cache: PrefixCache, owners: Sequence[object | None]) -> int | None:
    """The lowest free id (low ids leave the fewest gaps), else the retained one that was of no use
    for longest. owners: of each id, None where it is not live."""
    for seq_id, owner in enumerate(owners):
        if owner is None and seq_id not in cache:
            return seq_id
    return cache.lru()


def is_worth_waiting(match: PrefixMatch, least: int) -> bool:
    """Whether so much more of a prefix is being prefilled by another that it pays to wait for it.

    least: the shortest prefix worth copying (`steps.min_copy_tokens`).
    """
    num_more = match.num_promised - match.num_tokens
    return match.leader is not None and num_more >= max(MIN_HELD_BACK_TOKENS, 2 * least)


def has_room(
    cache: PrefixCache, match: PrefixMatch, num_tokens: int, num_running: int, free: int | None
) -> bool:
    """Whether a sequence of num_tokens may start beside num_running others. free: cells that no
    live sequence holds, None where they cannot run out."""
    if free is None or num_running == 0:
        return True
    is_shared = match.source is not None and cache.is_live(match.source)
    needed = num_tokens - (match.num_tokens if is_shared else 0)
    return needed + KV_MARGIN_TOKENS * (num_running + 1) <= free


def choose_id(cache: PrefixCache, match: PrefixMatch, idle: int, least: int) -> Choice:
    """Where a sequence goes whose best prefix is `match`. idle: see `idle_id`. least: as above.

    A retained source that another id is taken for counts as used.
    """
    source = match.source
    if source is None:
        return Choice(idle)
    if not cache.is_live(source):
        num_lost = cache.num_held(source) - match.num_tokens
        is_small = num_lost * MAX_LOST_DIVISOR <= match.num_tokens
        if idle == source or is_small:
            return Choice(source, match.num_tokens, "reuse", is_lossy=not is_small)
        cache.touch(source)
    if match.num_tokens < least:
        return Choice(idle)
    return Choice(idle, match.num_tokens, "copy", source)
