"""One sequence's sampler: parameters and state in C, drawn from by Engine.sample.

The rule: a token is a function of the parameters, the history, its index in the output, the mask
and the logits. Nothing else, so a sequence resumed on another worker or CPU goes on as it would
have.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Literal

from fmedge._native.binding import check, error_text, ffi, lib
from fmedge.errors import RequestError
from fmedge.types import SamplingParams, TokenLogprobs

Kernels = Literal["best", "baseline", "avx2", "avx512"]

_KERNELS: dict[Kernels, int] = {
    "best": lib.FM_KERNELS_BEST,
    "baseline": lib.FM_KERNELS_BASELINE,
    "avx2": lib.FM_KERNELS_AVX2,
    "avx512": lib.FM_KERNELS_AVX512,
}
_MAX_INT32 = 2**31 - 1


class Sampler:
    """Draws a sequence's tokens one after the other and keeps its penalty window.

    What happens to the logits, in this order: repeat, presence and frequency penalty, logit_bias,
    banned tokens and mask; then top_k, top_p and min_p, each on what the one before left and at
    temperature 1; then temperature and the draw. That is llama.cpp's default order, except that
    its bias comes before its penalties. Temperature 0 takes the best token, the lowest id among
    equals. NaN counts as -inf and is never drawn.

    Logprobs are the model's own: of the logits as the model gave them, before any of the above.

    history: prompt and emitted tokens, packed int32. num_emitted: index of the next output token;
    with the seed (its low 64 bits) it alone decides the random number. kernels: a vector width
    for tests and benchmarks; all widths draw the same tokens.

    RequestError where a parameter is out of range, naming it. Not to be shared between threads.
    """

    def __init__(
        self,
        params: SamplingParams,
        num_vocab: int,
        history: bytes = b"",
        num_emitted: int = 0,
        banned_tokens: Sequence[int] = (),
        *,
        kernels: Kernels = "best",
    ) -> None:
        raw = ffi.new("fm_sampler_params *")
        raw.temperature = params.temperature
        raw.top_k = min(max(params.top_k, -1), _MAX_INT32)
        raw.top_p = params.top_p
        raw.min_p = params.min_p
        raw.repeat_penalty = params.repeat_penalty
        raw.presence_penalty = params.presence_penalty
        raw.frequency_penalty = params.frequency_penalty
        raw.penalty_last_n = min(max(params.penalty_last_n, -2), _MAX_INT32)
        raw.seed = params.seed & (2**64 - 1)
        raw.top_logprobs = min(max(params.top_logprobs, -2), _MAX_INT32)
        raw.kernels = _KERNELS[kernels]
        for token, _ in params.logit_bias:
            if not 0 <= token < num_vocab:
                raise RequestError(
                    f"logit_bias names token {token}; the vocabulary has {num_vocab} tokens",
                    param="logit_bias",
                )
        num_bias = len(params.logit_bias)
        bias_tokens = ffi.new("int32_t[]", [token for token, _ in params.logit_bias])
        bias_values = ffi.new("float[]", [value for _, value in params.logit_bias])
        out = ffi.new("fm_sampler **")
        code = lib.fm_sampler_new(
            raw,
            num_vocab,
            bias_tokens,
            bias_values,
            num_bias,
            ffi.from_buffer("int32_t[]", history),
            len(history) // 4,
            num_emitted,
            out,
        )
        if code == lib.FM_ERR_ARGUMENT:
            raise RequestError(error_text())
        check(code)
        self._handle = ffi.gc(out[0], lib.fm_sampler_free)
        self._num_vocab = num_vocab
        self._has_logprobs = params.top_logprobs >= 0
        self._token = ffi.new("int32_t *")
        if banned_tokens:
            self.set_banned(banned_tokens)

    @property
    def handle(self) -> Any:
        """`fm_sampler *`, for the engine; valid as long as this object lives."""
        return self._handle

    def sample(self, logits: Any, mask: bytes | memoryview | None = None) -> int:
        """Draws and accepts one token. logits: float32[num_vocab], a buffer or a `float *`.

        mask: little-endian uint32 words, bit t set where token t is allowed; all words that hold
        a token. NativeError where no token is left to draw.
        """
        if not isinstance(logits, ffi.CData):
            logits = ffi.from_buffer("float[]", logits)
            if len(logits) != self._num_vocab:
                raise RequestError(f"{len(logits)} logits for a vocabulary of {self._num_vocab}")
        words = ffi.NULL
        if mask is not None:
            if len(mask) * 8 < self._num_vocab or len(mask) % 4 != 0:
                raise RequestError(
                    f"a mask of {len(mask)} bytes for a vocabulary of {self._num_vocab}"
                )
            words = ffi.from_buffer("uint32_t[]", mask)
        check(lib.fm_sampler_draw(self._handle, logits, words, self._token))
        return int(self._token[0])

    def accept(self, token: int) -> None:
        """Counts a token as emitted that was not drawn, such as one that a grammar forces."""
        check(lib.fm_sampler_accept(self._handle, token))

    def set_banned(self, tokens: Sequence[int]) -> None:
        """Replaces the tokens that may not be drawn: EOG until min_tokens, or with ignore_eos."""
        packed = array("i", tokens)
        check(
            lib.fm_sampler_set_banned(
                self._handle, ffi.from_buffer("int32_t[]", packed), len(packed)
            )
        )

    def last_logprobs(self) -> TokenLogprobs | None:
        """Of the last draw; None where top_logprobs is -1 or nothing was drawn yet.

        Fewer than top_logprobs alternatives come back where fewer tokens have finite logits.
        """
        if not self._has_logprobs:
            return None
        logprob = ffi.new("float *")
        tokens = ffi.new("int32_t[]", lib.FM_SAMPLER_MAX_TOP)
        values = ffi.new("float[]", lib.FM_SAMPLER_MAX_TOP)
        num = lib.fm_sampler_logprobs(self._handle, logprob, tokens, values)
        if num < 0:
            return None
        top = tuple(zip(ffi.unpack(tokens, num), ffi.unpack(values, num), strict=True))
        return TokenLogprobs(logprob=float(logprob[0]), top=top)
