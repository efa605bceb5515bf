"""Which known card a name means: "NVIDIA GeForce RTX 3080 Ti", "3080Ti 12GB", "A100-SXM4-80GB".

The rule: a card is meant where every word of its name is said and no word that would make it
another card ("Ti", "Laptop", ...) is said that it lacks; of several, the one with most words, then
the one whose memory is said, then the one listed first. Makers' and brands' names may be left out.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache, lru_cache
from math import log
from typing import Literal

from msgspec import Struct, convert

from fmedge.sched.provision.cards import CARDS

# fmt: off
_BRANDS = frozenset((
    "nvidia", "geforce", "gtx", "rtx", "tesla", "quadro", "amd", "radeon", "rx", "instinct",
    "intel", "arc", "data", "center", "gpu", "apple", "sxm", "ada", "blackwell", "laptop", "pro",
))
"""Words that a name may lack though the card's has them; those in _VARIANTS must be said."""

_VARIANTS = frozenset((
    "ti", "super", "d", "laptop", "max", "q", "pcie", "nvl", "ada", "sff", "quadro", "xt", "xtx",
    "gre", "pro", "ai", "ultra",
))
# fmt: on
"""Words that make another card of what the rest names."""

_PROCESSORS = frozenset(("xeon", "epyc", "threadripper", "ryzen", "processor", "cpu"))
_SYNONYMS = {"mobile": "laptop", "sxm2": "sxm", "sxm3": "sxm", "sxm4": "sxm", "sxm5": "sxm"}
_MEMORY = re.compile(r"\b(\d+)\s*gi?b\b")
_ASIDE = re.compile(r"\([^)]*\)")
_WORD = re.compile(r"[a-z]*\d+[a-z]*|[a-z]+")
_GLUED = re.compile(r"(rtx|gtx|rx)?(\d{3,4})(ti|super|xtx|xt)?(super)?")


_MAKERS: dict[str, Literal["amd", "intel", "apple"]] = {
    **dict.fromkeys(("gcn", "rdna1", "rdna2", "rdna3", "rdna4"), "amd"),
    **dict.fromkeys(("cdna1", "cdna2", "cdna3", "cdna4"), "amd"),
    **dict.fromkeys(("xe-hpg", "xe-hpc", "xe2"), "intel"),
    "apple": "apple",
}


class Card(Struct, frozen=True, array_like=True):
    """A card by its maker's data sheet. memory_gib 0: it shares the host's memory. tflop_s as
    `fp16_tflop_s` counts dense 16-bit products. num_sms: multiprocessors, of whatever name, at
    boost_ghz. power_w 0: not known. has_inline_ecc: ECC takes a part of bandwidth."""

    name: str
    memory_gib: float
    bandwidth_gb_s: float
    fp16_tflop_s: float
    link_gb_s: float
    generation: str
    l2_mib: float
    num_sms: int
    boost_ghz: float
    power_w: int
    has_inline_ecc: bool = False

    @property
    def maker(self) -> Literal["nvidia", "amd", "intel", "apple"]:
        return _MAKERS.get(self.generation, "nvidia")


def _read(kind: str) -> tuple[frozenset[str], int]:
    """The words of a name, and the GB it says (0: none)."""
    text = _ASIDE.sub(" ", kind.lower())
    said = _MEMORY.search(text)
    words: list[str] = []
    for word in _WORD.findall(_MEMORY.sub(" ", text)):
        glued = _GLUED.fullmatch(word)
        words += [part for part in glued.groups() if part] if glued else [word]
    return frozenset(_SYNONYMS.get(word, word) for word in words), int(said[1]) if said else 0


@cache
def _cards() -> tuple[tuple[Card, frozenset[str]], ...]:
    return tuple((card, _read(card.name)[0]) for card in convert(CARDS, tuple[Card, ...]))


@lru_cache(maxsize=1024)
def find(kind: str) -> Card | None:
    """The card that a name means, as ggml, a driver or a person writes it; None for none."""
    words, memory_gb = _read(kind)
    best: tuple[int, bool, Card] | None = None
    for card, needed in _cards():
        if not (needed - _BRANDS | needed & _VARIANTS) <= words:
            continue
        if (words & _VARIANTS) - needed or (words & _PROCESSORS and card.memory_gib):
            continue
        rank = (len(words & needed), memory_gb == round(card.memory_gib))
        if best is None or rank > best[:2]:
            best = (*rank, card)
    return best[2] if best else None


@lru_cache(maxsize=1024)
def closest(bandwidth_gb_s: float, tflop_s: float) -> Card:
    """The card whose figures are most like these, as ratios: what a GPU without a known name is
    taken for where its figures do not tell enough."""
    return min(
        (card for card, _ in _cards()),
        key=lambda card: (
            abs(log(card.bandwidth_gb_s / bandwidth_gb_s)) + abs(log(card.fp16_tflop_s / tflop_s))
        ),
    )


def nearest(kind: str, count: int = 3) -> tuple[str, ...]:
    """Names of cards that look like an unknown one, the likeliest first, for hints."""
    names = {card.name.lower(): card.name for card, _ in _cards()}
    return tuple(names[name] for name in get_close_matches(kind.lower(), names, count, 0.5))
