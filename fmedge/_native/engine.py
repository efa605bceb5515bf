"""One loaded model and its KV cache: fill a batch, step, sample.

The rule: one thread owns an Engine; only abort() may come from another. Each call below is one C
call that releases the GIL.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fmedge._native.binding import check, error_text, ffi, lib
from fmedge._native.logs import LogCursor
from fmedge._native.params import make_params
from fmedge._native.rpc import device_names
from fmedge._native.vocab import Vocab
from fmedge.errors import ModelLoadError, NativeError, OutOfMemoryError
from fmedge.types import DeviceMemory, EngineInfo, EngineSettings

ProgressCallback = Callable[[float], bool]

_POOLING_NAMES = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}
_MAX_MEMORY_ROWS = 64
_OUT_OF_MEMORY_SIGNS = ("failed to allocate", "out of memory", "unable to allocate", "bad_alloc")


class _Sampler(Protocol):
    """What Engine.sample needs of a `_native.sampler.Sampler`."""

    @property
    def handle(self) -> Any: ...


class StepBatch:
    """The tokens of the next step; sequences in increasing id decode together.

    Rows are numbered from 0 in the order in which they were asked for.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def clear(self) -> None:
        lib.fm_batch_clear(self._engine)

    def add(self, seq: int, pos: int, tokens: bytes | memoryview, want_logits: bool) -> int:
        """Appends packed int32 tokens of `seq` at positions pos, pos + 1, ...

        Returns the output row of the last token, or -1 without want_logits. NativeError if the
        batch is full or there is no such sequence.
        """
        packed = ffi.from_buffer("int32_t[]", tokens)
        row = lib.fm_batch_add(self._engine, seq, pos, packed, len(packed), want_logits)
        if row < -1:
            check(row)
        return int(row)

    def add_token(self, seq: int, pos: int, token: int) -> int:
        """The decode case: one token, with logits. Returns its output row."""
        row = lib.fm_batch_add_token(self._engine, seq, pos, token)
        return row if row >= 0 else check(row)

    @property
    def num_tokens(self) -> int:
        return int(lib.fm_batch_num_tokens(self._engine))

    def close(self) -> None:
        """The engine is gone: nothing can be added any more."""
        self._engine = ffi.NULL


class Engine:
    """A model that llama.cpp loaded. See `EngineSettings` for what decides how."""

    info: EngineInfo
    vocab: Vocab
    batch: StepBatch

    def __init__(
        self, handle: Any, load_s: float, device_names: Mapping[str, str] | None = None
    ) -> None:
        """handle: an fm_engine that this object now owns. device_names: the settings' names of
        devices that ggml calls otherwise, by ggml's."""
        self._device_names = device_names or {}
        self._handle = ffi.gc(handle, lib.fm_engine_free)
        self.vocab = Vocab.of_engine(self._handle, self._handle)
        self.batch = StepBatch(self._handle)
        raw = ffi.new("fm_engine_info *")
        lib.fm_engine_get_info(self._handle, raw)
        self._num_seqs: int = raw.num_seqs
        self._max_rows: int = raw.max_rows
        self._can_generate: bool = raw.can_generate
        self._rows = ffi.new("int32_t[]", self._max_rows)
        self._samplers = ffi.new("struct fm_sampler *[]", self._max_rows)
        self._masks = ffi.new("uint32_t *[]", self._max_rows)
        self._tokens = ffi.new("int32_t[]", self._max_rows)
        layers = self._layers(raw.num_layers)
        self.info = _info(raw, self.memory(), load_s, layers)

    @classmethod
    def load(cls, settings: EngineSettings, on_progress: ProgressCallback | None = None) -> Engine:
        """Loads a model; on_progress (fraction in [0, 1]) returning False cancels.

        ModelLoadError or OutOfMemoryError with llama.cpp's last complaints, NativeError for
        settings that cannot be. settings.rpc must have been looked at (replica/rpc.py).
        """
        started = time.perf_counter()
        if not os.path.isfile(settings.model_path):
            raise ModelLoadError(f"{settings.model_path}: there is no such model file")
        rpc_devices = device_names(settings.rpc)
        cursor = LogCursor()
        with make_params(settings, on_progress, rpc_devices) as params:
            handle_out = ffi.new("fm_engine **")
            code = lib.fm_engine_load(params.struct, handle_out)
            params.raise_callback_error()
        if code < 0:
            raise _load_error(settings, code, error_text(), cursor.problems())
        # As the settings name a device, so it is reported; one that they do not name, by number.
        reported = {name: alias for alias, name in rpc_devices.items() if alias[:3] == "RPC"}
        reported |= {rpc_devices[n]: n for n in settings.devices or () if n in rpc_devices}
        return cls(handle_out[0], time.perf_counter() - started, reported)

    @property
    def num_seqs(self) -> int:
        """Sequence ids are 0 .. num_seqs - 1: the slots, and in unified mode 16 more that can
        hold retained prefixes."""
        return self._num_seqs

    @property
    def max_rows(self) -> int:
        """The most output rows that a step can have (at least num_seqs)."""
        return self._max_rows

    @property
    def can_generate(self) -> bool:
        """False for encoders, rankers and the like, which only embed."""
        return self._can_generate

    def step(self) -> None:
        """Decodes self.batch. KvCacheFullError: nothing was changed. StepAbortedError: some
        ubatches may be in the cache, see seq_len. NativeError otherwise."""
        code = lib.fm_engine_step(self._open_handle())
        if code < 0:
            check(code)

    def sample(
        self,
        rows: Sequence[int],
        samplers: Sequence[_Sampler],
        masks: Sequence[bytes | memoryview | None] | None = None,
    ) -> list[int]:
        """Draws one token from each of these output rows of the last step; samplers accept them.

        masks: little-endian uint32 words, bit t set allows token t. A row from which nothing can
        be drawn (its mask and bans leave no token) gives -1.
        """
        num_rows = len(rows)
        if num_rows != len(samplers) or num_rows > self._max_rows:
            raise NativeError(f"{num_rows} rows need as many samplers, not {len(samplers)}")
        raw_rows, raw_samplers = self._rows, self._samplers
        for i, row in enumerate(rows):
            raw_rows[i] = row
            raw_samplers[i] = samplers[i].handle
        raw_masks: Any = ffi.NULL
        if masks is not None:
            raw_masks = self._masks
            kept = [self._mask(mask) for mask in masks]
            for i, mask in enumerate(kept):
                raw_masks[i] = mask
        code = lib.fm_engine_sample(
            self._open_handle(), num_rows, raw_rows, raw_samplers, raw_masks, self._tokens
        )
        if code < 0:
            check(code)
        return list(ffi.unpack(self._tokens, num_rows))

    def _mask(self, mask: bytes | memoryview | None) -> Any:
        if mask is None:
            return ffi.NULL
        words = ffi.from_buffer("uint32_t[]", mask)
        if len(words) * 32 < self.info.num_vocab:
            raise NativeError(
                f"a mask of {len(words)} words does not cover {self.info.num_vocab} tokens"
            )
        return words

    def abort(self) -> None:
        """From any thread: the step in flight ends within one graph node; with none in flight,
        the next one ends at once."""
        lib.fm_engine_abort(self._open_handle())

    def seq_copy(self, src: int, dst: int, num_tokens: int) -> None:
        """dst becomes the first num_tokens positions of src. Streams mode copies src's whole
        stream at the next step; unified mode shares its cells."""
        check(lib.fm_engine_seq_copy(self._open_handle(), src, dst, num_tokens))

    def seq_remove(self, seq: int, from_pos: int = 0, to_pos: int = -1) -> bool:
        """Forgets positions [from_pos, to_pos); False if this model cannot forget a part."""
        return bool(check(lib.fm_engine_seq_remove(self._open_handle(), seq, from_pos, to_pos)))

    def seq_len(self, seq: int) -> int:
        """One more than the sequence's last position; 0 if empty."""
        return check(lib.fm_engine_seq_len(self._open_handle(), seq))

    def state_size(self, seq: int) -> int:
        """Bytes that state_save would give now. NativeError while a copy is pending."""
        num_bytes = ffi.new("size_t *")
        check(lib.fm_engine_state_size(self._open_handle(), seq, num_bytes))
        return int(num_bytes[0])

    def state_save(self, seq: int) -> memoryview:
        """A sequence's KV, to be restored into any sequence of the same model and settings.

        With a sliding window it lacks what the window has left behind: a sequence that was
        restored must not be cut. Fresh pages, written once: their first touch is what costs.
        """
        num_bytes = ffi.new("size_t *")
        handle = self._open_handle()
        check(lib.fm_engine_state_size(handle, seq, num_bytes))
        state = mmap.mmap(-1, max(1, num_bytes[0]))
        data = ffi.from_buffer("uint8_t[]", state)
        check(lib.fm_engine_state_save(handle, seq, data, len(state), num_bytes))
        return memoryview(state)[: num_bytes[0]]

    def state_restore(self, seq: int, state: bytes | memoryview) -> None:
        """Replaces a sequence's KV by a saved one; the sequence is empty if that fails."""
        data = ffi.from_buffer("uint8_t[]", state)
        check(lib.fm_engine_state_restore(self._open_handle(), seq, data, len(state)))

    def embed(self, tokens: bytes, seq: int) -> bytes:
        """The pooled embedding of packed int32 tokens as packed float32, not normalised:
        [num_embd]; with pooling "none" [num_tokens, num_embd].

        Uses `seq` and leaves it empty; clears the batch.
        """
        handle = self._open_handle()
        packed = ffi.from_buffer("int32_t[]", tokens)
        num_floats = lib.fm_engine_embed_floats(handle, len(packed))
        vector = ffi.new("float[]", num_floats)
        check(lib.fm_engine_embed(handle, seq, packed, len(packed), vector))
        return bytes(ffi.buffer(vector))

    def memory(self) -> tuple[DeviceMemory, ...]:
        """What llama.cpp allocated, by device; the host's pinned buffers count as CPU."""
        rows = ffi.new("fm_memory_row[]", _MAX_MEMORY_ROWS)
        num_rows = check(lib.fm_engine_memory(self._open_handle(), rows, _MAX_MEMORY_ROWS))
        return tuple(
            DeviceMemory(
                device=self._device_name(row.device),
                weights=row.weights,
                context=row.context,
                compute=row.compute,
            )
            for row in rows[0:num_rows]
        )

    def _layers(self, num_layers: int) -> tuple[tuple[str, str], ...]:
        """Of each layer and then the head: the device of its weights, and of its experts or ""."""
        rows = ffi.new("fm_layer_row[]", num_layers + 1)
        num_rows = check(lib.fm_engine_layers(self._open_handle(), rows, num_layers + 1))
        return tuple(
            (self._device_name(row.device), self._device_name(row.expert_device))
            for row in rows[0:num_rows]
        )

    def _device_name(self, raw: Any) -> str:
        name = ffi.string(raw).decode("utf-8", "replace")
        return self._device_names.get(name, name)

    def logits(self, row: int) -> memoryview[float]:
        """float32[num_vocab] of an output row of the last step, valid until the next one."""
        logits = lib.fm_engine_logits(self._open_handle(), row)
        if logits == ffi.NULL:
            raise NativeError(f"the last step had no output row {row}")
        return memoryview(ffi.buffer(logits, self.info.num_vocab * 4)).cast("f")

    def _open_handle(self) -> Any:
        if self._handle is None:
            raise NativeError("this engine was closed")
        return self._handle

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees model and context. Idempotent; no other call may be running."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self.batch.close()
            self.vocab.close()
            ffi.release(handle)


def _info(
    raw: Any,
    memory: tuple[DeviceMemory, ...],
    load_s: float,
    layers: tuple[tuple[str, str], ...],
) -> EngineInfo:
    return EngineInfo(
        ctx_size=raw.ctx_size,
        slots=raw.slots,
        batch_size=raw.batch_size,
        ubatch_size=raw.ubatch_size,
        num_vocab=raw.num_vocab,
        num_embd=raw.num_embd,
        num_layers=raw.num_layers,
        num_params=raw.num_params,
        model_bytes=raw.model_bytes,
        ctx_train=raw.ctx_train,
        threads=raw.threads,
        kv_unified=raw.kv_unified,
        kv_tokens=raw.kv_tokens,
        pooling=_POOLING_NAMES.get(raw.pooling, "none"),
        has_encoder=raw.has_encoder,
        has_decoder=raw.has_decoder,
        is_recurrent=raw.is_recurrent,
        can_shift=raw.can_shift,
        window_tokens=raw.window_tokens,
        description=ffi.string(raw.description).decode("utf-8", "replace"),
        memory=memory,
        load_s=load_s,
        layer_devices=tuple(device for device, _ in layers),
        expert_devices=tuple(device for _, device in layers),
    )


def _load_error(settings: EngineSettings, code: int, text: str, problems: str) -> Exception:
    if code == lib.FM_ERR_ARGUMENT:
        return NativeError(text)
    if code == lib.FM_ERR_MEMORY:
        return OutOfMemoryError(f"{settings.model_path}: {text}")
    message = f"{settings.model_path}: {text}" + (f"\n{problems}" if problems else "")
    if code != lib.FM_ERR_CANCELLED and any(
        sign in problems.lower() for sign in _OUT_OF_MEMORY_SIGNS
    ):
        return OutOfMemoryError(message)
    return ModelLoadError(message)
