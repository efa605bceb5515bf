"""Splits what a model thinks aloud from its answer, whatever the chunks of text were.

A reasoning block is recognised at the start of the output only (after white space), or is open
from the start because the chat template already wrote its opening marker into the prompt. White
space next to the markers belongs to neither side.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct


class ReasoningMarkers(Struct, frozen=True):
    """What opens and closes a reasoning block, as text."""

    opening: str
    closing: str


_KNOWN = (
    ReasoningMarkers("<think>", "</think>"),
    ReasoningMarkers("[THINK]", "[/THINK]"),
    ReasoningMarkers("<seed:think>", "</seed:think>"),
)


def detect_reasoning(template: str | None) -> ReasoningMarkers | None:
    """The markers a chat template speaks of, or None when the model does not reason aloud."""
    for markers in _KNOWN:
        if template and markers.closing in template:
            return markers
    return None


def prompt_opens_reasoning(prompt: str, markers: ReasoningMarkers) -> bool:
    """True when the rendered prompt ends inside a reasoning block."""
    return prompt.rstrip().endswith(markers.opening)


class ReasoningDelta(NamedTuple):
    """New text on each side; either may be ""."""

    reasoning: str
    content: str


_EMPTY = ReasoningDelta("", "")


class ReasoningSplitter:
    """Incremental splitter of one output. `opened`: the prompt ends inside a block."""

    __slots__ = ("_held", "_markers", "_state")

    def __init__(self, markers: ReasoningMarkers, *, opened: bool = False) -> None:
        self._markers = markers
        self._held = ""
        self._state = "inside_start" if opened else "start"

    @property
    def is_reasoning(self) -> bool:
        """True while the text that comes belongs to the reasoning block."""
        return self._state.startswith("inside")

    def push(self, text: str) -> ReasoningDelta:
        """Take in the next text; returns what is certain by now."""
        if self._state == "content":
            return ReasoningDelta("", text) if text else _EMPTY
        text = self._held + text
        self._held = ""
        if self._state == "start":
            opening = self._markers.opening
            stripped = text.lstrip()
            if opening.startswith(stripped):
                # Also covers white space alone: an answer may still begin with the marker.
                if stripped != opening:
                    self._held = text
                    return _EMPTY
            elif not stripped.startswith(opening):
                self._state = "content"
                return ReasoningDelta("", text)
            text = stripped[len(opening) :]
            self._state = "inside_start"
        if self._state == "inside_start":
            text = text.lstrip()
            if not text:
                return _EMPTY
            self._state = "inside"
        if self._state == "inside":
            return self._inside(text)
        return self._after(text, "")

    def flush(self) -> ReasoningDelta:
        """The output is over: whatever was held back, on the side where it stands."""
        held, self._held = self._held, ""
        if self._state == "start":
            return ReasoningDelta("", held)
        return ReasoningDelta(held.rstrip(), "") if self._state == "inside" else _EMPTY

    def _inside(self, text: str) -> ReasoningDelta:
        closing = self._markers.closing
        end = text.find(closing)
        if end >= 0:
            self._state = "after"
            return self._after(text[end + len(closing) :], text[:end].rstrip())
        keep = len(text)
        for size in range(min(len(closing) - 1, len(text)), 0, -1):
            if closing.startswith(text[-size:]):
                keep = len(text) - size
                break
        certain = text[:keep].rstrip()
        self._held = text[len(certain) :]
        return ReasoningDelta(certain, "")

    def _after(self, text: str, reasoning: str) -> ReasoningDelta:
        text = text.lstrip()
        if text:
            self._state = "content"
        return ReasoningDelta(reasoning, text)
