"""Plain facts that nobody disputes, asked for in many ways and each answered in one way."""

from __future__ import annotations

from collections.abc import Callable

from training.conversation import Example, Source
from training.families import (
    facts_meanings,
    facts_nature,
    facts_superlatives,
    facts_things,
    facts_words,
)

GROUPS = (
    *facts_nature.GROUPS,
    *facts_words.GROUPS,
    *facts_meanings.GROUPS,
    *facts_things.GROUPS,
    *facts_superlatives.GROUPS,
)

FAMILIES: dict[str, tuple[Callable[[Source], Example], float]] = {
    group.name: (group.make, weight) for group, weight in GROUPS
}
