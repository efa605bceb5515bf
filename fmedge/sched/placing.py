"""Which sequence id a new sequence takes, and how much KV it finds there: the decisions alone.

The rule: replica and simulator decide by these, each over its own KV. Nothing here touches an
engine; what is decided is carried out by the caller.
"""

from __future__ import annotations

KV_MARGIN_TOKENS = 32
"""Cells that each running sequence should find free for its next tokens when one more starts;
without it, a sequence would start only to be preempted a few steps later."""

MIN_HELD_BACK_TOKENS = 32
"""A sequence waits for another's prefill only for this many tokens or more."""

MAX_LOST_DIVISOR = 4
"""A retained id is taken over in place if that loses at most a 4th of what it saves."""
