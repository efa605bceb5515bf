"""An engine that computes nothing and takes the time of one that would.

The rule: a step takes `step_time(P, D, K, A)` times the noise of its number, P, D, K and A being
what the loop reports of it; the clock that it advances is virtual, so nothing here ever waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from msgspec.structs import replace

from fmedge.errors import KvCacheFullError, NativeError
from fmedge.replica.emulated.sampler import EmulatedSampler, Words
from fmedge.sched.cells import KvCells
from fmedge.sched.emulation import NUM_FACTORS, ReplicaSpec, step_factors
from fmedge.sched.steptime import step_time
from fmedge.types import DeviceMemory, EngineInfo, SamplingParams, Vocab

DEFAULT_CTX_SIZE = 8192
NUM_EMBD = 64


class VirtualClock:
    """Seconds that pass when somebody says so."""

    __slots__ = ("now_s",)

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class EmulatedBatch:
    """The tokens of the next step, as the numbers that its time follows from."""

    __slots__ = ("attention", "entries", "num_decoding", "num_kv", "num_prefill", "num_rows")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.entries: list[tuple[int, int, int]] = []  # sequence, position, tokens
        self.num_prefill = 0
        self.num_decoding = 0
        self.num_kv = 0
        self.attention = 0.0
        self.num_rows = 0

    def add(self, seq: int, pos: int, tokens: bytes | memoryview, want_logits: bool, /) -> int:
        num_tokens = len(tokens) // 4
        self.entries.append((seq, pos, num_tokens))
        self.num_prefill += num_tokens
        self.attention += num_tokens * (pos + num_tokens / 2)
        if not want_logits:
            return -1
        self.num_rows += 1
        return self.num_rows - 1

    def add_token(self, seq: int, pos: int, token: int, /) -> int:
        self.entries.append((seq, pos, 1))
        self.num_decoding += 1
        self.num_kv += pos
        self.num_rows += 1
        return self.num_rows - 1


class EmulatedEngine:
    """See `replica.ports.EngineLike`. clock: what its steps advance."""

    def __init__(
        self,
        spec: ReplicaSpec,
        vocab: Vocab,
        clock: VirtualClock,
        *,
        info: EngineInfo | None = None,
    ) -> None:
        """info: what is said of the engine beside its sizes, which are the spec's."""
        self.vocab = vocab
        self.clock = clock
        self.batch = EmulatedBatch()
        self.num_seqs = spec.num_ids or spec.engine.slots
        self.num_steps = 0
        # The loop fills gaps between streams with throw-away tokens where llama.cpp computes on an
        # accelerator. No step model knows such gaps: what the loop sees is in host memory.
        row = DeviceMemory("CPU", 0, spec.copy_bytes * spec.engine.slots, 0)
        self.info = replace(info or engine_info(spec, vocab), memory=(row,))
        self._spread = spec.output_tokens
        self._words = Words(vocab)
        self._packed = spec.steps.packed()
        self._factors: list[float] = step_factors(spec.noise, spec.name).tolist()
        self._kv = KvCells(self.num_seqs, is_shared=self.info.kv_unified)

    def new_sampler(
        self,
        params: SamplingParams,
        num_vocab: int,
        history: bytes,
        num_emitted: int,
        banned_tokens: Sequence[int],
        /,
    ) -> EmulatedSampler:
        return EmulatedSampler(self._words, self._spread, params, num_emitted, banned_tokens)

    def step(self) -> None:
        """Take the batch's tokens into KV and its time from the future. KvCacheFullError: nothing
        was changed."""
        batch, lengths = self.batch, self._kv.lengths
        for seq, pos, num_tokens in batch.entries:
            if pos != lengths[seq]:
                raise NativeError(f"sequence {seq} holds {lengths[seq]} tokens, not {pos}")
            if pos + num_tokens > self.info.ctx_size:
                raise KvCacheFullError(f"sequence {seq} is full")
        num_tokens = batch.num_prefill + batch.num_decoding
        if num_tokens > self.info.batch_size:
            raise NativeError(f"{num_tokens} tokens in a batch of {self.info.batch_size}")
        self._check_cells(num_tokens)
        for seq, _, num_tokens in batch.entries:
            self._kv.extend(seq, num_tokens)
        self._pass(batch.num_prefill, batch.num_decoding, batch.num_kv, batch.attention)

    def sample(
        self,
        rows: Sequence[int],
        samplers: Sequence[Any],
        masks: Sequence[bytes | memoryview | None] | None = None,
        /,
    ) -> list[int]:
        """Of its own samplers. See `Engine.sample`."""
        if masks is None:
            return [sampler.draw() for sampler in samplers]
        return [s.draw(mask) for s, mask in zip(samplers, masks, strict=True)]

    def seq_copy(self, src: int, dst: int, num_tokens: int, /) -> None:
        if not 0 < num_tokens <= self._kv.lengths[src]:
            raise NativeError(f"sequence {src} has no {num_tokens} tokens to copy")
        self._kv.copy(src, dst, num_tokens)

    def seq_remove(self, seq: int, from_pos: int = 0, to_pos: int = -1, /) -> bool:
        if to_pos != -1:
            raise NativeError("only the end of a sequence can be removed")
        if self.info.is_recurrent and 0 < from_pos < self._kv.lengths[seq]:
            return False
        self._kv.cut(seq, from_pos)
        return True

    def seq_len(self, seq: int) -> int:
        return self._kv.lengths[seq]

    @property
    def num_cells_used(self) -> int:
        """Cells that sequences hold, shared ones once."""
        return self._kv.num_used

    def embed(self, tokens: bytes, seq: int, /) -> bytes:
        """float32[num_embd], or [num_tokens, num_embd] with pooling "none": the same for the same
        tokens. Takes a prefill's time."""
        num_tokens = len(tokens) // 4
        self._check_cells(num_tokens)
        self._pass(num_tokens, 0, 0, num_tokens * num_tokens / 2)
        num_rows = num_tokens if self.info.pooling == "none" else 1
        rng = np.random.default_rng(crc32(tokens))
        return rng.standard_normal((num_rows, self.info.num_embd), np.float32).tobytes()

    def _check_cells(self, num_tokens: int) -> None:
        if self.info.kv_unified and self._kv.num_used + num_tokens > self.info.kv_tokens:
            raise KvCacheFullError(f"no cells for {num_tokens} tokens")

    def _pass(self, num_prefill: int, num_decoding: int, num_kv: int, attention: float) -> None:
        step_s = step_time(self._packed, num_prefill, num_decoding, num_kv, attention)
        self.clock.now_s += step_s * self._factors[self.num_steps % NUM_FACTORS]
        self.num_steps += 1


def engine_info(spec: ReplicaSpec, vocab: Vocab) -> EngineInfo:
    """What a specification says of its engine. It knows neither the model's sizes nor memory:
    those are 0, but for an embedding's."""
    engine = spec.engine
    ctx_size = engine.ctx_size or DEFAULT_CTX_SIZE
    return EngineInfo(
        ctx_size=ctx_size, slots=engine.slots, batch_size=engine.batch_size,
        ubatch_size=engine.ubatch_size, num_vocab=vocab.num_tokens, num_embd=NUM_EMBD, num_layers=0,
        num_params=0, model_bytes=0, ctx_train=ctx_size, threads=max(1, engine.threads),
        kv_unified=engine.kv_unified, kv_tokens=engine.kv_tokens or ctx_size * engine.slots,
        pooling=engine.pooling or "mean", has_encoder=False, has_decoder=True,
        is_recurrent=spec.is_recurrent, can_shift=not spec.is_recurrent, description="emulated",
        memory=(),
    )  # fmt: skip
