"""An engine and a vocabulary without a model, whose outputs depend on the KV they really hold.

Each cell of the fake's KV holds a digest of every token up to it; the next token is a digest of all
cells of a sequence. So a wrong copy, a stale tail or a lost token changes what comes out, as it
would with a model, only with certainty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from fmedge.errors import KvCacheFullError, NativeError
from fmedge.types import DeviceMemory, EngineInfo, EngineSettings, SamplingParams, TokenLogprobs

NUM_VOCAB = 256
EOG = 2


class FakeVocab:
    """One token a byte: ids 3 to 255 are that byte, 1 is BOS, 2 is EOS."""

    num_tokens = NUM_VOCAB
    bos: int | None = 1
    eos: int | None = EOG
    eot: int | None = None
    fim_prefix: int | None = None
    fim_suffix: int | None = None
    fim_middle: int | None = None
    adds_bos = True
    eog_tokens = frozenset((EOG,))

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> bytes:
        ids = [self.bos] if add_special and self.bos is not None else []
        ids += [byte for byte in text.encode() if byte > EOG]
        return pack(ids)

    def piece(self, token: int) -> bytes:
        return bytes((token,)) if token > EOG else (b"<unk>", b"<s>", b"</s>")[token]

    def is_control(self, token: int) -> bool:
        return token <= EOG


def pack(tokens: Sequence[int]) -> bytes:
    """Token ids as the protocol carries them."""
    return b"".join(token.to_bytes(4, "little") for token in tokens)


def unpack(packed: bytes) -> list[int]:
    return list(memoryview(packed).cast("i"))


def _digest(*numbers: int) -> int:
    data = b"".join(number.to_bytes(8, "little") for number in numbers)
    return int.from_bytes(hashlib.blake2b(data, digest_size=7).digest(), "little")


class _Cell:
    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


class FakeSampler:
    """Draws by digest; insists that its history is as long as the KV that the row comes from."""

    def __init__(
        self,
        params: SamplingParams,
        num_vocab: int,
        history: bytes = b"",
        num_emitted: int = 0,
        banned_tokens: Sequence[int] = (),
    ) -> None:
        self.params = params
        self.num_vocab = num_vocab
        self.history = unpack(history)
        self.num_emitted = num_emitted
        self.banned = frozenset(banned_tokens)

    def draw(self, row: tuple[int, ...], mask: bytes | memoryview | None) -> int:
        assert len(row) == len(self.history), "the row is not at the end of this sequence"
        start = _digest(*row, self.params.seed, self.num_emitted)
        allowed = None if mask is None else int.from_bytes(mask, "little")
        for step in range(self.num_vocab):
            token = (start + step) % self.num_vocab
            if token not in self.banned and (allowed is None or allowed >> token & 1):
                self.history.append(token)
                self.num_emitted += 1
                return token
        return -1

    def last_logprobs(self) -> TokenLogprobs | None:
        top = self.params.top_logprobs
        if top < 0:
            return None
        chosen = self.history[-1]
        return TokenLogprobs(-0.5, tuple((chosen, -0.5 - i) for i in range(top)))

    def set_banned(self, tokens: Sequence[int]) -> None:
        self.banned = frozenset(tokens)


class FakeBatch:
    def __init__(self) -> None:
        self.entries: list[tuple[int, int, list[int], bool]] = []
        self.num_rows = 0

    def clear(self) -> None:
        self.entries = []
        self.num_rows = 0

    def add(self, seq: int, pos: int, tokens: bytes | memoryview, want_logits: bool) -> int:
        self.entries.append((seq, pos, unpack(bytes(tokens)), want_logits))
        if not want_logits:
            return -1
        self.num_rows += 1
        return self.num_rows - 1

    def add_token(self, seq: int, pos: int, token: int) -> int:
        return self.add(seq, pos, pack([token]), True)

    @property
    def num_tokens(self) -> int:
        return sum(len(tokens) for _, _, tokens, _ in self.entries)


class FakeEngine:
    """KV bookkeeping of llama.cpp in both modes, with a virtual clock instead of work.

    `now_s` advances by pass_s for each graph pass and token_s for each token of a step.
    """

    def __init__(
        self,
        *,
        slots: int = 4,
        ctx_size: int = 64,
        kv_unified: bool = False,
        kv_tokens: int = 0,
        batch_size: int = 64,
        ubatch_size: int = 16,
        can_cut: bool = True,
        window_tokens: int = 0,
        pass_s: float = 0.003,
        token_s: float = 0.0005,
    ) -> None:
        self.info = EngineInfo(
            ctx_size=ctx_size,
            slots=slots,
            batch_size=batch_size,
            ubatch_size=ubatch_size,
            num_vocab=NUM_VOCAB,
            num_embd=8,
            num_layers=1,
            num_params=1000,
            model_bytes=1000,
            ctx_train=ctx_size,
            threads=1,
            kv_unified=kv_unified,
            kv_tokens=kv_tokens or ctx_size * slots,
            pooling="mean",
            has_encoder=False,
            has_decoder=True,
            is_recurrent=not can_cut,
            can_shift=can_cut,
            description="fake",
            memory=(DeviceMemory("FAKE0", weights=1000, context=0, compute=0),),
            window_tokens=window_tokens,
        )
        self.vocab = FakeVocab()
        self.batch = FakeBatch()
        self.now_s = 0.0
        self.num_passes = 0
        self.num_steps = 0
        self.copies: list[tuple[int, int, int]] = []
        self.step_sizes: list[int] = []
        self.on_step: Callable[[FakeEngine], None] = lambda engine: None
        self.num_seqs = slots + (3 if kv_unified else 0)
        self._cells: list[list[_Cell]] = [[] for _ in range(self.num_seqs)]
        self._rows: list[tuple[int, ...]] = []
        self._can_cut = can_cut
        self._whole_from = [0] * self.num_seqs  # cut below it, a windowed sequence has holes
        self._has_pending_copy = False
        self._pass_s = pass_s
        self._token_s = token_s

    # what the loop calls

    def new_sampler(self, *args: Any) -> FakeSampler:
        return FakeSampler(*args)

    def clock(self) -> float:
        return self.now_s

    def step(self) -> None:
        entries = self.batch.entries
        assert entries, "an empty step"
        assert self.batch.num_tokens <= self.info.batch_size, "more than a batch holds"
        ids = [seq for seq, _, _, _ in entries]
        assert ids == sorted(set(ids)), "sequences must come once each, in ascending order"
        for seq, pos, tokens, _ in entries:
            if pos != len(self._cells[seq]):
                raise NativeError(f"sequence {seq} holds {len(self._cells[seq])}, not {pos}")
            if not self.info.kv_unified and pos + len(tokens) > self.info.ctx_size:
                raise KvCacheFullError("stream full")
        if self.info.kv_unified and self.cells_used + self.batch.num_tokens > self.info.kv_tokens:
            raise KvCacheFullError("no cells")
        self.on_step(self)
        self._has_pending_copy = False
        self._rows = []
        for seq, _, tokens, want_logits in entries:
            self.write(seq, tokens)
            if want_logits:
                self._rows.append(tuple(cell.value for cell in self._cells[seq]))
        passes = self._count_passes()
        self.num_passes += passes
        self.num_steps += 1
        self.step_sizes.append(self.batch.num_tokens)
        self.now_s += passes * self._pass_s + self.batch.num_tokens * self._token_s

    def sample(
        self,
        rows: Sequence[int],
        samplers: Sequence[FakeSampler],
        masks: Sequence[bytes | memoryview | None] | None = None,
    ) -> list[int]:
        masks = masks or [None] * len(rows)
        return [
            sampler.draw(self._rows[row], mask)
            for row, sampler, mask in zip(rows, samplers, masks, strict=True)
        ]

    def abort(self) -> None:
        return

    def seq_copy(self, src: int, dst: int, num_tokens: int) -> None:
        assert src != dst
        assert 0 < num_tokens <= len(self._cells[src])
        assert self._can_cut or num_tokens == len(self._cells[src])
        assert num_tokens >= self._whole_from[src], "a copy with holes"
        self._whole_from[dst] = self._whole_from[src]
        self._has_pending_copy = not self.info.kv_unified
        self.copies.append((src, dst, num_tokens))
        cells = self._cells[src][:num_tokens]
        self._cells[dst] = cells if self.info.kv_unified else [_Cell(c.value) for c in cells]

    def seq_remove(self, seq: int, from_pos: int = 0, to_pos: int = -1) -> bool:
        assert to_pos == -1
        if not self._can_cut and 0 < from_pos < len(self._cells[seq]):
            return False
        assert from_pos in (0, len(self._cells[seq])) or from_pos >= self._whole_from[seq]
        if from_pos == 0:
            self._whole_from[seq] = 0
        del self._cells[seq][from_pos:]
        return True

    def seq_len(self, seq: int) -> int:
        return len(self._cells[seq])

    def state_size(self, seq: int) -> int:
        if self._has_pending_copy:
            raise NativeError("a sequence copy is pending until the next step: step first")
        return 8 * len(self._cells[seq])

    def state_save(self, seq: int) -> memoryview:
        self.state_size(seq)
        return memoryview(b"".join(c.value.to_bytes(8, "little") for c in self._cells[seq]))

    def state_restore(self, seq: int, state: bytes | memoryview) -> None:
        self.state_size(seq)
        self.seq_remove(seq)
        values = memoryview(bytes(state)).cast("Q")
        if self.info.kv_unified and self.cells_used + len(values) > self.info.kv_tokens:
            raise NativeError("no cells")
        self._cells[seq] = [_Cell(value) for value in values]
        if self.info.window_tokens:
            self._whole_from[seq] = len(values)

    def embed(self, tokens: bytes, seq: int) -> bytes:
        assert not self._cells[seq], "embed needs an empty sequence"
        if self.info.kv_unified and self.cells_used + len(tokens) // 4 > self.info.kv_tokens:
            raise KvCacheFullError("no cells")
        return tokens

    def close(self) -> None:
        return

    # what tests look at, and use

    def write(self, seq: int, tokens: Sequence[int]) -> None:
        """Append tokens to a sequence's KV, as a step does."""
        cells = self._cells[seq]
        for token in tokens:
            last = cells[-1].value if cells else 0
            cells.append(_Cell(_digest(last, token + 1)))

    @property
    def cells_used(self) -> int:
        return len({id(cell) for cells in self._cells for cell in cells})

    def _count_passes(self) -> int:
        """As llama.cpp cuts a batch: with streams, consecutive ids with equal token counts."""
        left = {seq: len(tokens) for seq, _, tokens, _ in self.batch.entries}
        if self.info.kv_unified:
            return -(-sum(left.values()) // self.info.ubatch_size)
        passes = 0
        while left:
            first = min(left)
            group = [first]
            while group[-1] + 1 in left and len(group) < self.info.ubatch_size:
                group.append(group[-1] + 1)
            num = min(min(left[s] for s in group), max(1, self.info.ubatch_size // len(group)))
            for seq in group:
                left[seq] -= num
                if left[seq] == 0:
                    del left[seq]
            passes += 1
        return passes


def fake_engine(
    settings: EngineSettings, on_progress: Callable[[float], bool] | None = None
) -> FakeEngine:
    """A `Load.engine` factory: "tests.fakes:fake_engine"."""
    if on_progress is not None:
        on_progress(1.0)
    return FakeEngine(
        slots=settings.slots,
        ctx_size=settings.ctx_size or 4096,
        kv_unified=settings.kv_unified,
        kv_tokens=settings.kv_tokens,
        batch_size=settings.batch_size,
        ubatch_size=settings.ubatch_size,
    )


def tokens_alone(
    prompt: Sequence[int],
    max_tokens: int,
    *,
    ctx_size: int,
    seed: int = 0,
    stops: frozenset[int] = frozenset((EOG,)),
) -> tuple[list[int], str]:
    """What a plain request gets from a `FakeEngine` when nothing else runs: (tokens, finish)."""
    cells: list[int] = []
    for token in prompt:
        cells.append(_digest(cells[-1] if cells else 0, token + 1))
    out: list[int] = []
    while True:
        token = _digest(*cells, seed, len(out)) % NUM_VOCAB
        if token in stops:
            return out, "stop"
        out.append(token)
        if len(out) >= max_tokens or len(prompt) + len(out) >= ctx_size:
            return out, "length"
        cells.append(_digest(cells[-1], token + 1))
