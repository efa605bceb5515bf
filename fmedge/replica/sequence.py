"""One request while the engine loop has it: its tokens, how many are computed, when it ends."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as AnySequence
from typing import Protocol

from fmedge.replica.constrain import Matcher
from fmedge.replica.protocol import Submit
from fmedge.types import EngineInfo, SamplingParams, StepTimings, TokenLogprobs, Vocab


class StepBatchLike(Protocol):
    """`_native.engine.StepBatch`."""

    def clear(self) -> None: ...
    def add(self, seq: int, pos: int, tokens: bytes | memoryview, want_logits: bool, /) -> int: ...
    def add_token(self, seq: int, pos: int, token: int, /) -> int: ...


class SamplerLike(Protocol):
    """`_native.sampler.Sampler`."""

    def last_logprobs(self) -> TokenLogprobs | None: ...
    def set_banned(self, tokens: AnySequence[int], /) -> None: ...


class NewSampler(Protocol):
    def __call__(
        self,
        params: SamplingParams,
        num_vocab: int,
        history: bytes,
        num_emitted: int,
        banned_tokens: AnySequence[int],
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
        rows: AnySequence[int],
        samplers: AnySequence[SamplerLike],
        masks: AnySequence[bytes | memoryview | None] | None = None,
        /,
    ) -> AnySequence[int]: ...
    def seq_copy(self, src: int, dst: int, num_tokens: int, /) -> None: ...
    def seq_remove(self, seq: int, from_pos: int = 0, to_pos: int = -1, /) -> bool: ...
    def embed(self, tokens: bytes, seq: int, /) -> bytes: ...


NO_ID = -1


class Sequence:
    """State of one request on this replica.

    tokens: prompt and output; the first num_computed have KV under `seq_id`. Also the
    `Schedulable` that the step policy sees, whose handle is the sequence id.
    """

    __slots__ = (
        "arrival",
        "banned_after",
        "cache_key",
        "cache_prompt",
        "cached_at_start",
        "end_len",
        "first_start_s",
        "first_token_s",
        "hold_until",
        "is_decoding",
        "is_new",
        "is_plain",
        "last",
        "leader",
        "mask",
        "matcher",
        "num_computed",
        "num_decode_tokens",
        "num_emitted_before",
        "num_prefill_tokens",
        "num_prompt_tokens",
        "priority",
        "request_id",
        "sampler",
        "seq_id",
        "stops",
        "submit_s",
        "tokens",
        "unban_at",
        "wants_logprobs",
    )

    sampler: SamplerLike

    def __init__(self, submit: Submit, arrival: int, now_s: float, info: EngineInfo) -> None:
        self.request_id = submit.request_id
        self.tokens = array("i")
        self.tokens.frombytes(submit.tokens)
        self.num_prompt_tokens = submit.num_prompt_tokens
        self.num_emitted_before = len(self.tokens) - submit.num_prompt_tokens
        self.end_len = min(submit.num_prompt_tokens + submit.max_tokens, info.ctx_size)
        self.priority = submit.priority
        self.arrival = arrival
        self.cache_key = submit.cache_key
        self.cache_prompt = submit.cache_prompt
        self.num_computed = 0
        self.seq_id = NO_ID
        self.is_decoding = False
        self.is_new = True  # no message about it has gone out
        self.last = 0
        self.matcher: Matcher | None = None
        self.mask: bytes | None = None
        self.stops: frozenset[int] = frozenset()
        self.unban_at = -1
        self.banned_after: tuple[int, ...] = ()
        self.wants_logprobs = submit.sampling.top_logprobs >= 0
        self.is_plain = not self.wants_logprobs
        self.leader: Sequence | None = None
        self.hold_until = 0
        self.submit_s = now_s
        self.first_start_s = 0.0
        self.first_token_s = 0.0
        self.cached_at_start = -1
        self.num_prefill_tokens = 0
        self.num_decode_tokens = 0

    @property
    def handle(self) -> int:
        return self.seq_id

    @property
    def num_pending(self) -> int:
        return len(self.tokens) - self.num_computed

    def timings(self, now_s: float) -> StepTimings:
        """This sequence's own times on this replica; a part that never began is 0."""
        started_s = self.first_start_s or now_s
        first_s = self.first_token_s or now_s
        return StepTimings(
            queue_s=started_s - self.submit_s,
            prefill_s=first_s - started_s,
            decode_s=now_s - first_s,
            num_cached_tokens=max(0, self.cached_at_start),
            num_prefill_tokens=self.num_prefill_tokens,
            num_decode_tokens=self.num_decode_tokens,
        )
