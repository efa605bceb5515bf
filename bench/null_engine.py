"""An engine that costs nothing: it has a real vocabulary, decodes nothing and says a fixed text.

What a server does with it is all its own cost: http, dispatch, the channel and the engine loop.
Steps of several streams are spaced by a fixed sleep, longer than the time within which a worker
sends steps together: every token then travels alone, and a rate of tokens says what they cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fmedge._native.vocab import Vocab
from fmedge.types import DeviceMemory, EngineInfo, EngineSettings, SamplingParams, TokenLogprobs

STEP_S = 0.0048
TEXT = (
    "Whoever measures a server with an engine that costs nothing learns what the server itself "
    "costs: every word of this text travels through the channel, becomes text, then JSON, then "
    "an event of a stream.\n"
)


class NullSampler:
    """Holds its own place in the text."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def last_logprobs(self) -> TokenLogprobs | None:
        return None

    def set_banned(self, tokens: Sequence[int], /) -> None:
        """There is nothing to ban from a fixed text."""


class NullBatch:
    """Counts the rows that want logits, as a StepBatch does; keeps nothing else."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.num_rows = 0

    def clear(self) -> None:
        self.num_tokens = 0
        self.num_rows = 0

    def add(self, seq: int, pos: int, tokens: bytes | memoryview, want_logits: bool, /) -> int:
        self.num_tokens += len(tokens) // 4
        if not want_logits:
            return -1
        self.num_rows += 1
        return self.num_rows - 1

    def add_token(self, seq: int, pos: int, token: int, /) -> int:
        self.num_tokens += 1
        self.num_rows += 1
        return self.num_rows - 1


class NullEngine:
    """The engine's interface, by the sizes that the settings ask for."""

    def __init__(self, settings: EngineSettings) -> None:
        self.vocab = Vocab.open(settings.model_path)
        packed = self.vocab.tokenize(TEXT, add_special=False, parse_special=False)
        self._text = list(memoryview(packed).cast("i"))
        self.batch = NullBatch()
        self._due_s = 0.0
        ctx_size = settings.ctx_size or 8192
        self.info = EngineInfo(
            ctx_size=ctx_size, slots=settings.slots, batch_size=settings.batch_size,
            ubatch_size=settings.ubatch_size, num_vocab=self.vocab.num_tokens, num_embd=1,
            num_layers=1, num_params=0, model_bytes=0, ctx_train=ctx_size, threads=1,
            kv_unified=False, kv_tokens=ctx_size * settings.slots, pooling="", has_encoder=False,
            has_decoder=True, is_recurrent=False, can_shift=False, description="null",
            memory=(DeviceMemory("CPU", 0, 0, 0),),
        )  # fmt: skip

    def new_sampler(
        self,
        params: SamplingParams,
        num_vocab: int,
        history: bytes,
        num_emitted: int,
        banned_tokens: Sequence[int],
        /,
    ) -> NullSampler:
        return NullSampler((params.seed + num_emitted) % len(self._text))

    def step(self) -> None:
        """Nothing is decoded; beside other streams, it ends STEP_S after the last one did."""
        now_s = time.perf_counter()
        if now_s < self._due_s and self.batch.num_rows > 1:
            time.sleep(self._due_s - now_s)
            now_s = self._due_s
        self._due_s = now_s + STEP_S

    def sample(
        self,
        rows: Sequence[int],
        samplers: Sequence[NullSampler],
        masks: Sequence[bytes | memoryview | None] | None = None,
        /,
    ) -> list[int]:
        text, num_text = self._text, len(self._text)
        tokens = []
        for sampler in samplers:
            tokens.append(text[sampler.index])
            sampler.index = (sampler.index + 1) % num_text
        return tokens

    def abort(self) -> None:
        """No step is ever in flight."""

    def seq_copy(self, src: int, dst: int, num_tokens: int, /) -> None:
        """No sequence has KV."""

    def seq_remove(self, seq: int, from_pos: int = 0, to_pos: int = -1, /) -> bool:
        return True

    def embed(self, tokens: bytes, seq: int, /) -> bytes:
        return bytes(4)

    def close(self) -> None:
        """The vocabulary goes with the process."""


def load(
    settings: EngineSettings, on_progress: Callable[[float], bool] | None = None
) -> NullEngine:
    """What a worker's `Load.engine` names: "bench.null_engine:load"."""
    return NullEngine(settings)
