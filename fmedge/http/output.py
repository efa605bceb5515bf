"""One choice's output as it arrives: text, logprobs, count and how it ended.

A token's logprobs are given out with the first character of its text, so that what a stop string
cut away, or what waits for the rest of a character, shows up in neither.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from fmedge.errors import GenerationFailedError
from fmedge.http.responses import CompletionTokensDetails, PromptTokensDetails, Timings, Usage
from fmedge.models.text import PieceTable, TextStream
from fmedge.types import TokenLogprobs, Vocab

if TYPE_CHECKING:
    from fmedge.dispatch import Generation, TokenBatch


class TokenEntry:
    """A token with its logprobs; `start` is where its bytes begin in the output."""

    __slots__ = ("logprobs", "start", "token")

    def __init__(self, token: int, logprobs: TokenLogprobs, start: int) -> None:
        self.token = token
        self.logprobs = logprobs
        self.start = start


class Output:
    """Turns the batches of one generation into text; cancels it at a stop string."""

    __slots__ = (
        "_eog", "_given", "_num_bytes", "_pieces", "_stops", "_text", "_waiting",
        "began_s", "finish", "first_s", "generation", "last_s", "logprobs", "num_tokens",
        "sum_logprobs",
    )  # fmt: skip

    def __init__(
        self,
        generation: Generation,
        pieces: PieceTable,
        stops: Sequence[str],
        *,
        eog: frozenset[int] | None = None,
    ) -> None:
        """eog: given when logprobs are wanted: the tokens that end a generation."""
        self.generation = generation
        self.finish: str | None = None
        self.num_tokens = 0
        self.sum_logprobs = 0.0
        self.logprobs: list[TokenEntry] = []
        """What the last `push` gave out."""
        self.began_s = time.monotonic()
        self.first_s = self.last_s = 0.0
        self._pieces = pieces
        self._stops = bool(stops)
        self._text = TextStream(pieces, stops)
        self._eog = eog
        self._waiting: list[TokenEntry] = []
        self._num_bytes = 0
        self._given = 0

    @property
    def wants_logprobs(self) -> bool:
        """Whether `logprobs` is filled."""
        return self._eog is not None

    def push(self, batch: TokenBatch) -> str:
        """The text that is certain by now. Sets `finish` at the end, which a stop string makes
        come early. Raises GenerationFailedError when the generation broke off."""
        tokens = batch.tokens
        self.last_s = time.monotonic()
        if not self.first_s and tokens:
            self.first_s = self.last_s
        if self._stops and len(tokens) > 1:
            text = self._one_by_one(tokens)
        else:
            text = self._text.push(tokens)
            self.num_tokens += len(tokens)
        if self._text.stopped is not None:
            self.finish = "stop"
            self.generation.stop()
        elif batch.finish is not None:
            if batch.finish not in ("stop", "length"):
                raise GenerationFailedError("The generation was broken off before its end.")
            text += self._text.flush()
            self.finish = "stop" if self._text.stopped is not None else batch.finish
        if self._eog is not None:
            self._push_logprobs(batch, text)
        return text

    def _one_by_one(self, tokens: tuple[int, ...]) -> str:
        parts = []
        for token in tokens:
            parts.append(self._text.push((token,)))
            self.num_tokens += 1
            if self._text.stopped is not None:
                break
        return "".join(parts)

    def _push_logprobs(self, batch: TokenBatch, text: str) -> None:
        assert self._eog is not None
        for token, logprobs in zip(batch.tokens, batch.logprobs or (), strict=False):
            self.sum_logprobs += logprobs.logprob
            if token not in self._eog:
                self._waiting.append(TokenEntry(token, logprobs, self._num_bytes))
            self._num_bytes += len(self._pieces[token])
        self._given += len(text.encode())
        if self.finish is not None and self._text.stopped is None:
            self.logprobs, self._waiting = self._waiting, []
            return
        ready = 0
        while ready < len(self._waiting) and self._waiting[ready].start < self._given:
            ready += 1
        self.logprobs, self._waiting = self._waiting[:ready], self._waiting[ready:]

    def timings(self, num_prompt_tokens: int) -> Timings:
        """llama-server's object: on the replica's clock, or on ours if a stop string ended it."""
        cached = max(0, self.generation.num_cached_tokens)
        times = self.generation.timings
        if times is not None:
            prompt_s, predicted_s = times.prefill_s, times.decode_s
            num_prompt = times.num_prefill_tokens
        else:
            prompt_s = max(0.0, self.first_s - self.began_s)
            predicted_s = max(0.0, self.last_s - self.first_s)
            num_prompt = max(0, num_prompt_tokens - cached)
        decision = self.generation.decision
        estimate = None if decision is None else decision.estimate
        return Timings(
            cache_n=cached,
            prompt_n=num_prompt,
            prompt_ms=round(prompt_s * 1e3, 3),
            prompt_per_token_ms=_ratio(prompt_s * 1e3, num_prompt),
            prompt_per_second=_ratio(num_prompt, prompt_s),
            predicted_n=self.num_tokens,
            predicted_ms=round(predicted_s * 1e3, 3),
            predicted_per_token_ms=_ratio(predicted_s * 1e3, self.num_tokens),
            predicted_per_second=_ratio(self.num_tokens, predicted_s),
            queue_ms=_ms(self._queue_s()),
            ttft_ms=_ms(self.generation.first_token_s - self.generation.arrived_s),
            e2e_ms=_ms(self.last_s - self.generation.arrived_s),
            est_ttft_ms=UNSET if estimate is None else _ms(estimate.ttft_s),
            est_e2e_ms=UNSET if estimate is None else _ms(estimate.e2e_s),
            replica=self.generation.replica or UNSET,
        )

    def _queue_s(self) -> float:
        """Until the prefill began; nan where nobody knows."""
        generation = self.generation
        decision, times = generation.decision, generation.timings
        if decision is not None and isfinite(decision.observed_l_q_s):
            return decision.observed_l_q_s
        if times is None:
            return nan
        return generation.assigned_s - generation.arrived_s + times.queue_s


class LastTimings:
    """The first choice's timings, for the chunk of whichever choice ends last; unset before."""

    def __init__(self, num_prompt_tokens: int) -> None:
        self.outputs: list[Output] = []
        self._num_prompt_tokens = num_prompt_tokens

    def get(self) -> Timings | UnsetType:
        """Set once every output is over."""
        if not self.outputs or any(output.finish is None for output in self.outputs):
            return UNSET
        return self.outputs[0].timings(self._num_prompt_tokens)


def _ms(seconds: float) -> float | UnsetType:
    return round(seconds * 1e3, 3) if 0 <= seconds < inf else UNSET


def _ratio(numerator: float, denominator: float) -> float:
    return round(numerator / denominator, 3) if denominator > 0 else 0.0


def usage_of(
    num_prompt_tokens: int, outputs: Sequence[Output], num_cached: int, num_reasoning: int = 0
) -> Usage:
    """Usage over all choices."""
    completion = sum(output.num_tokens for output in outputs)
    return Usage(
        prompt_tokens=num_prompt_tokens,
        completion_tokens=completion,
        total_tokens=num_prompt_tokens + completion,
        prompt_tokens_details=PromptTokensDetails(num_cached),
        completion_tokens_details=CompletionTokensDetails(num_reasoning),
    )


def visible(vocab: Vocab, token: int) -> tuple[str, list[int]]:
    """A token as logprobs name it, and its bytes; what is no UTF-8 by itself is `bytes:\\xNN`."""
    piece = vocab.piece(token)
    try:
        return piece.decode(), list(piece)
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece), list(piece)
