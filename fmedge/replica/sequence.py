"""One request while the engine loop has it: its tokens, how many are computed, when it ends."""

from __future__ import annotations

from array import array

from fmedge.replica.constrain import Matcher
from fmedge.replica.ports import SamplerLike
from fmedge.replica.protocol import SequenceTokens, Submit
from fmedge.types import EngineInfo, FinishReason, StepTimings

NOTHING_TO_DRAW = -1
"""What the engine samples where a grammar, and bans beside it, leave no token: nothing follows."""

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
        self.stops: frozenset[int] = frozenset()  # these end it and are not emitted
        self.unban_at = -1  # length at which only `banned_after` stay banned
        self.banned_after: tuple[int, ...] = ()
        self.wants_logprobs = submit.sampling.top_logprobs >= 0
        self.is_plain = False  # nothing to do for a token but to append it; never the first
        self.leader: Sequence | None = None
        self.hold_until = 0
        self.submit_s = now_s
        self.first_start_s: float | None = None
        self.first_token_s: float | None = None
        self.cached_at_start = -1
        self.num_prefill_tokens = 0
        self.num_decode_tokens = 0

    @property
    def handle(self) -> int:
        return self.seq_id

    @property
    def num_pending(self) -> int:
        return len(self.tokens) - self.num_computed

    def accept(self, token: int) -> FinishReason | None:
        """Take a sampled token; why the sequence ends with it, None if it goes on.

        Where that is "stop" and the token is not the last of `tokens`, it ended the sequence
        without being part of it.
        """
        if token in self.stops or token == NOTHING_TO_DRAW:
            return "stop"
        self.tokens.append(token)
        self.last = token
        self.num_decode_tokens += 1
        num_tokens = len(self.tokens)
        if not self.is_plain:
            if num_tokens == self.unban_at:
                self.sampler.set_banned(self.banned_after)
                self.unban_at = -1
            if self.matcher is not None:
                self.matcher.consume_token(token)
                self.mask = None
                if self.matcher.is_stopped() and not self.matcher.is_error():
                    return "stop"
        return "length" if num_tokens >= self.end_len else None

    def message(
        self, num_new: int, finish: FinishReason | None = None, now_s: float = 0.0
    ) -> SequenceTokens:
        """What the front is told: the last `num_new` (0 or 1) tokens, and the end if it is one."""
        num_cached_tokens = -1
        if self.is_new and self.cached_at_start >= 0:
            self.is_new = False
            num_cached_tokens = self.cached_at_start
            self.is_plain = not (self.wants_logprobs or self.matcher or self.unban_at >= 0)
        logprobs = None
        if num_new and self.wants_logprobs:
            last = self.sampler.last_logprobs()
            logprobs = None if last is None else (last,)
        return SequenceTokens(
            self.request_id,
            (self.last,) if num_new else (),
            finish=finish,
            logprobs=logprobs,
            num_cached_tokens=num_cached_tokens,
            timings=None if finish is None else self.timings(now_s),
        )

    def timings(self, now_s: float) -> StepTimings:
        """This sequence's own times on this replica; a part that never began is 0."""
        started_s = now_s if self.first_start_s is None else self.first_start_s
        first_s = now_s if self.first_token_s is None else self.first_token_s
        return StepTimings(
            queue_s=started_s - self.submit_s,
            prefill_s=first_s - started_s,
            decode_s=now_s - first_s,
            num_cached_tokens=max(0, self.cached_at_start),
            num_prefill_tokens=self.num_prefill_tokens,
            num_decode_tokens=self.num_decode_tokens,
        )
