"""Grammars in the worker: a matcher per sequence, compiled where it can stall nobody.

Compiling may take a second (the first one also builds the tokenizer's trie), so it runs on a thread
of its own; llguidance releases the GIL meanwhile. A grammar that was compiled before is copied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from fmedge.errors import RequestError
from fmedge.types import Grammar, Vocab

if TYPE_CHECKING:
    import llguidance

MAX_COMPILED = 64
"""Pristine matchers kept for requests that bring the same grammar again."""


class Matcher(Protocol):
    """The part of `llguidance.LLMatcher` that the loop uses."""

    def compute_bitmask(self) -> bytes: ...
    def consume_token(self, token: int, /) -> bool: ...
    def is_stopped(self) -> bool: ...
    def is_error(self) -> bool: ...
    def get_error(self) -> str: ...


class Constrained:
    """A matcher that has consumed what was emitted, and the mask of the next token.

    mask: little-endian uint32 words, bit t set = token t allowed; None once nothing may follow.
    """

    __slots__ = ("mask", "matcher")

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.mask: bytes | None = next_mask(matcher)


def next_mask(matcher: Matcher) -> bytes | None:
    """The mask for the next token, None if the grammar is complete and admits no other.

    RequestError where the grammar cannot be followed (a limit of its complexity, mostly).
    """
    if not matcher.is_stopped():
        mask = matcher.compute_bitmask()
        if not matcher.is_stopped():
            return mask
    if matcher.is_error():
        raise RequestError(
            f"The grammar cannot be followed: {matcher.get_error().strip()}. Simplify it.",
            param="response_format",
        )
    return None


class _TokenizerParts:
    """What llguidance asks of a tokenizer, made from a vocabulary's pieces."""

    def __init__(self, vocab: Vocab, num_vocab: int) -> None:
        num_tokens = vocab.num_tokens
        self.tokens = [vocab.piece(token) for token in range(num_tokens)]
        self.tokens += [b""] * (num_vocab - num_tokens)
        self.special_token_ids = [t for t in range(num_tokens) if vocab.is_control(t)]
        self.bos_token_id = vocab.bos
        self.eos_token_id = _eos_tokens(vocab)[0]
        self._vocab = vocab

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        packed = self._vocab.tokenize(text, add_special=False, parse_special=False)
        return list(memoryview(packed).cast("i"))


def _eos_tokens(vocab: Vocab) -> list[int]:
    """End-of-generation tokens, the principal one first."""
    eog = sorted(vocab.eog_tokens)
    first = vocab.eos if vocab.eos is not None else vocab.eot
    if first is None:
        first = eog[0] if eog else 0
    return [first, *(t for t in eog if t != first)]


class GrammarCompiler:
    """Compiles grammars for one vocabulary on a thread of its own; `close` when done."""

    def __init__(self, vocab: Vocab, num_vocab: int) -> None:
        self._vocab = vocab
        self._num_vocab = num_vocab
        self._executor: ThreadPoolExecutor | None = None
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()

    def compile(self, grammar: Grammar, emitted: Sequence[int] = ()) -> Future[Constrained]:
        """A matcher that has consumed `emitted`. The future raises RequestError if the grammar is
        wrong, too complex, or does not allow what was emitted."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        return self._executor.submit(self._compile, grammar.source, list(emitted))

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _compile(self, source: str, emitted: list[int]) -> Constrained:
        import llguidance

        pristine = self._compiled.get(source)
        if pristine is None:
            if self._tokenizer is None:
                self._tokenizer = self._build_tokenizer()
            pristine = llguidance.LLMatcher(self._tokenizer, source, log_level=0)
            if pristine.is_error():
                raise RequestError(
                    f"The grammar cannot be compiled: {pristine.get_error().strip()}",
                    param="response_format",
                )
            self._compiled[source] = pristine
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(source)
        matcher = pristine.deep_copy()
        if emitted and not matcher.consume_tokens(emitted):
            raise RequestError(
                f"The grammar does not allow the output so far: {matcher.get_error().strip()}",
                param="response_format",
            )
        return Constrained(matcher)

    def _build_tokenizer(self) -> llguidance.LLTokenizer:
        import llguidance

        return llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_TokenizerParts(self._vocab, self._num_vocab)),
            n_vocab=self._num_vocab,
            eos_token=_eos_tokens(self._vocab),
        )
