"""What the engine loop needs of an engine: `_native`'s shapes, which fakes and benchmarks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fmedge.types import EngineInfo, SamplingParams, TokenLogprobs, Vocab


class StepBatchLike(Protocol):
    """`_native.engine.StepBatch`."""

    def clear(self) -> None: ...
    def add(self, seq: int, pos: int, tokens: bytes | memoryview, want_logits: bool, /) -> int: ...
    def add_token(self, seq: int, pos: int, token: int, /) -> int: ...


class SamplerLike(Protocol):
    """`_native.sampler.Sampler`."""

    def last_logprobs(self) -> TokenLogprobs | None: ...
    def set_banned(self, tokens: Sequence[int], /) -> None: ...


class NewSampler(Protocol):
    def __call__(
        self,
        params: SamplingParams,
        num_vocab: int,
        history: bytes,
        num_emitted: int,
        banned_tokens: Sequence[int],
        /,
    ) -> SamplerLike: ...


class EngineLike(Protocol):
    """What the loop needs of `_native.engine.Engine`; fakes and benchmarks bring their own.

    An engine may have `new_sampler` with `NewSampler`'s signature; without it, the loop makes
    `_native.sampler.Sampler`s. One may have `num_seqs`, where there are more sequence ids than
    slots: they keep the prefixes of finished sequences.
    """

    @property
    def info(self) -> EngineInfo: ...
    @property
    def vocab(self) -> Vocab: ...
    @property
    def batch(self) -> StepBatchLike: ...
    def step(self) -> None: ...
    def sample(
        self,
        rows: Sequence[int],
        samplers: Sequence[SamplerLike],
        masks: Sequence[bytes | memoryview | None] | None = None,
        /,
    ) -> Sequence[int]: ...
    def seq_copy(self, src: int, dst: int, num_tokens: int, /) -> None: ...
    def seq_remove(self, seq: int, from_pos: int = 0, to_pos: int = -1, /) -> bool: ...
    def embed(self, tokens: bytes, seq: int, /) -> bytes: ...


def sampler_factory(engine: EngineLike) -> NewSampler:
    """The engine's own samplers, or else the native ones."""
    own: NewSampler | None = getattr(engine, "new_sampler", None)
    if own is not None:
        return own
    from fmedge._native.sampler import Sampler

    return Sampler
