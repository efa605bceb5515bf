"""Tokens to text: what a client reads never depends on how tokens were grouped into messages.

The text of a stream is the UTF-8 decoding of its tokens' bytes, cut before the first stop string
to be completed. A character whose bytes are incomplete, and text that may yet turn out to be a
stop string, wait; nothing that was given out is ever taken back.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Sequence

from fmedge.types import Vocab


class PieceTable(dict[int, bytes]):
    """Token id to the bytes a reader sees; filled as tokens occur, shared by all streams.

    Control tokens are hidden (b"") unless `show_control` or their name is in `shown`: tool-call
    and reasoning markers are control tokens in some vocabularies and plain text in others.
    """

    def __init__(
        self, vocab: Vocab, *, shown: Iterable[str] = (), show_control: bool = False
    ) -> None:
        super().__init__()
        self._vocab = vocab
        self._shown = frozenset(name.encode() for name in shown)
        self._show_control = show_control

    def __missing__(self, token: int) -> bytes:
        if not 0 <= token < self._vocab.num_tokens:
            return b""
        piece = self._vocab.piece(token)
        hidden = (
            not self._show_control and self._vocab.is_control(token) and piece not in self._shown
        )
        visible = b"" if hidden else piece
        self[token] = visible
        return visible


class TextStream:
    """Text of one generation.

    pieces: a PieceTable, or a Vocab to make one of. stops: strings that end the text; each is
    compared with the text as a reader sees it. The stop that is complete first wins; of those
    complete with the same character, the longest.
    """

    __slots__ = ("_begins_stop", "_decode", "_held", "_pieces", "_stops", "stopped")

    def __init__(
        self,
        pieces: PieceTable | Vocab,
        stops: Sequence[str] = (),
        *,
        show_control: bool = False,
    ) -> None:
        if not isinstance(pieces, PieceTable):
            pieces = PieceTable(pieces, show_control=show_control)
        self._pieces = pieces
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._begins_stop = any_first_character(self._stops)
        self._held = ""
        self.stopped: str | None = None
        """The stop string that ended the text, or None."""

    def push(self, tokens: Sequence[int]) -> str:
        """Take in the next tokens; returns the text that is certain by now (may be "")."""
        pieces = self._pieces
        if len(tokens) == 1:
            text = self._decode(pieces[tokens[0]])
        else:
            text = self._decode(b"".join([pieces[token] for token in tokens]))
        if not self._stops:
            return text
        return self._cut(text)

    def flush(self) -> str:
        """The generation is over: the rest, with U+FFFD for a character that never was whole."""
        text = self._decode(b"", True)
        if not self._stops:
            return text
        text = self._cut(text) if text else ""
        rest, self._held = self._held, ""
        return text + rest

    def _cut(self, text: str) -> str:
        if self.stopped is not None:
            return ""
        if not self._held and self._begins_stop(text) is None:
            return text  # the usual case, and five times as fast
        text = self._held + text
        found: tuple[int, int, str] | None = None
        hold_from = len(text)
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0:
                candidate = (start + len(stop), start, stop)
                if found is None or candidate < found:
                    found = candidate
            elif found is None:
                hold_from = min(hold_from, partial_start(text, stop))
        if found is not None:
            _, start, self.stopped = found
            self._held = ""
            return text[:start]
        self._held = text[hold_from:]
        return text[:hold_from]


def any_first_character(marks: Iterable[str]) -> Callable[[str], re.Match[str] | None]:
    """A search for any character that begins one of `marks`: None rules all of them out."""
    firsts = "".join(sorted({re.escape(mark[0]) for mark in marks}))
    return re.compile(f"[{firsts}]" if firsts else "(?!)").search


def partial_start(text: str, stop: str) -> int:
    """Where the longest tail of `text` begins that is a beginning of `stop`; len(text) if none."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return start
        start = text.find(stop[0], start + 1)
    return len(text)
