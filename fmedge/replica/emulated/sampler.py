"""What an emulated replica says: words of the vocabulary, to the length that the seed gives.

The rule: a token follows from the seed and its index alone, so a stream that is resumed elsewhere
goes on as it would have here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import log

import numpy as np

from fmedge.replica.sequence import NOTHING_TO_DRAW
from fmedge.sched.emulation import mix, output_length
from fmedge.sched.provision.demand import Spread
from fmedge.types import SamplingParams, TokenLogprobs, Vocab

NUM_WORDS = 1024
_NUM_TRIES = 8
_NUM_PROBED = 32
_STRIDE = 7919
"""Prime, so that an answer goes through all words before it repeats itself."""


class Words:
    """The tokens that answers are made of: plain words where the vocabulary has such; what ends a
    generation, the usual one first; and, under a grammar, what brings JSON to its end."""

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab
        self.quotes = _tokens_of(vocab, '"')
        self.closers = _tokens_of(vocab, "}]),") + self.quotes
        eog = sorted(vocab.eog_tokens)
        usual = [t for t in (vocab.eos, vocab.eot) if t is not None and t in vocab.eog_tokens]
        self.eog = tuple(dict.fromkeys(usual + eog))
        words = (t for t in _plain(vocab) if _is_word(vocab.piece(t)))
        self.tokens = tuple(islice(words, NUM_WORDS)) or tuple(_plain(vocab))


def _plain(vocab: Vocab) -> Iterator[int]:
    for token in range(vocab.num_tokens):
        if token not in vocab.eog_tokens and not vocab.is_control(token):
            yield token


def _tokens_of(vocab: Vocab, characters: str) -> tuple[int, ...]:
    """Of those that are a token by themselves."""
    each = (vocab.tokenize(c, add_special=False, parse_special=False) for c in characters)
    return tuple(int.from_bytes(packed, "little") for packed in each if len(packed) == 4)


def _is_word(piece: bytes) -> bool:
    return piece.isascii() and piece.strip().isalpha()


class EmulatedSampler:
    """One sequence's place in its answer."""

    __slots__ = ("_banned", "_index", "_last", "_num_tokens", "_start", "_top_logprobs", "_words")

    def __init__(
        self,
        words: Words,
        spread: Spread,
        params: SamplingParams,
        num_emitted: int,
        banned_tokens: Sequence[int],
    ) -> None:
        self._words = words
        self._index = num_emitted
        self._num_tokens = output_length(params.seed, spread)
        self._start = mix(params.seed + 1)
        self._banned = frozenset(banned_tokens)
        self._top_logprobs = params.top_logprobs
        self._last = NOTHING_TO_DRAW

    def draw(self, mask: bytes | memoryview | None = None) -> int:
        """The next token. mask: see `Engine.sample`."""
        index = self._index
        self._index += 1
        if mask is not None:
            self._last = self._draw_allowed(index, mask)
            return self._last
        if index >= self._num_tokens:
            for token in self._words.eog:
                if token not in self._banned:
                    self._last = token
                    return token
        tokens = self._words.tokens
        start = self._start + index * _STRIDE
        for place in range(start, start + len(tokens)):
            token = tokens[place % len(tokens)]
            if token not in self._banned:
                self._last = token
                return token
        return NOTHING_TO_DRAW

    def _draw_allowed(self, index: int, mask: bytes | memoryview) -> int:
        """One that the grammar allows: the end only when it is due or nothing else may follow, what
        leads to it when it is overdue, blanks where there is little else."""
        is_allowed = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")
        is_allowed[list(self._banned)] = 0
        ends = [token for token in self._words.eog if is_allowed[token]]
        is_allowed[list(self._words.eog)] = 0
        others = np.flatnonzero(is_allowed)
        if ends and (index >= self._num_tokens or not len(others)):
            return ends[0]
        if not len(others):
            return NOTHING_TO_DRAW
        words = self._words
        # Where any word goes there is a string, and only its quote ends it.
        is_string = bool(is_allowed[list(words.tokens[:_NUM_PROBED])].all())
        if index >= self._num_tokens:
            for token in words.quotes if is_string else words.closers:
                if is_allowed[token]:
                    return token
        draws = [mix(self._start + index * _NUM_TRIES + i) for i in range(_NUM_TRIES)]
        if is_string:
            word = words.tokens[draws[0] % len(words.tokens)]
            if is_allowed[word]:
                return word
        for draw in draws:
            token = int(others[draw % len(others)])
            if words.vocab.piece(token).strip():
                break
        return token

    def last_logprobs(self) -> TokenLogprobs | None:
        """Of the last token: it had half of all probability, the next one half of the rest."""
        if self._top_logprobs < 0:
            return None
        others = (token for token in self._words.tokens if token != self._last)
        best = [self._last, *(t for _, t in zip(range(self._top_logprobs), others, strict=False))]
        top = tuple((t, -log(2) * i) for i, t in enumerate(best[: self._top_logprobs], 1))
        return TokenLogprobs(-log(2), top)

    def set_banned(self, tokens: Sequence[int], /) -> None:
        self._banned = frozenset(tokens)
