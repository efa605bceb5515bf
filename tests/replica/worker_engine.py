"""A fake engine for real worker processes, with faults that a prompt or the settings ask for.

A token is a hash of all tokens before it, so any run, however often interrupted, must produce the
same output. `EngineSettings.model_path` holds options: "step_ms=2,load=file_error". With
"stalls=N,stall=FOLDER,streams=S" the first process stalls for ever (beating its heart) when S
sequences have 30 tokens, the second one at 60, N in all: a test kills it in mid-stream for certain.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
import threading
import time
import zlib
from array import array
from collections.abc import Callable

from fmedge.errors import ModelFileError, OutOfMemoryError
from fmedge.types import EngineInfo, EngineSettings

NUM_VOCAB = 50_000
EOG = 2
NUM_EMBD = 4

STALL_TOKENS = 30

POISON = 60_001
"""In a prompt: the process aborts when it computes this token."""
LATE_POISON = 60_002
"""In a prompt: the process aborts each time that sequence has 20 tokens."""
HANG = 60_003
"""In a prompt: the step that computes this token never ends."""


def next_token(history: array) -> int:
    """3 <= token < NUM_VOCAB, from the whole history."""
    return 3 + zlib.crc32(history.tobytes()) % (NUM_VOCAB - 3)


def expected_output(prompt: bytes, num_tokens: int) -> list[int]:
    """What an undisturbed generation of `num_tokens` gives."""
    history = array("i", prompt)
    output = []
    for _ in range(num_tokens):
        output.append(next_token(history))
        history.append(output[-1])
    return output


class WorkerVocab:
    num_tokens = NUM_VOCAB
    bos = eos = eot = fim_prefix = fim_suffix = fim_middle = None
    adds_bos = False
    eog_tokens = frozenset({EOG})

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> bytes:
        return array("i", text.encode()).tobytes()

    def piece(self, token: int) -> bytes:
        return f"<{token}>".encode()

    def is_control(self, token: int) -> bool:
        return token == EOG


class WorkerSampler:
    def __init__(self, params, num_vocab, history, num_emitted, banned_tokens):
        pass

    def set_banned(self, tokens):
        pass

    def last_logprobs(self):
        return None


class WorkerBatch:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.parts: list[tuple[int, int, array]] = []
        self.rows: list[int] = []
        self.num_tokens = 0

    def add(self, seq: int, pos: int, tokens: bytes, want_logits: bool) -> int:
        packed = array("i", bytes(tokens))
        self.parts.append((seq, pos, packed))
        self.num_tokens += len(packed)
        if not want_logits:
            return -1
        self.rows.append(seq)
        return len(self.rows) - 1

    def add_token(self, seq: int, pos: int, token: int) -> int:
        return self.add(seq, pos, struct.pack("i", token), True)


class WorkerEngine:
    new_sampler = WorkerSampler

    def __init__(self, settings: EngineSettings, options: dict[str, str]) -> None:
        self._step_s = float(options.get("step_ms", "0")) / 1e3
        self._stall_tokens = 0
        self._num_streams = int(options.get("streams", "1"))
        if folder := options.get("stall"):
            num_before = len(os.listdir(folder))
            open(os.path.join(folder, str(num_before)), "x").close()
            if num_before < int(options["stalls"]):
                self._stall_tokens = STALL_TOKENS * (num_before + 1)
        self._kv: dict[int, array] = {}
        self.vocab = WorkerVocab()
        self.batch = WorkerBatch()
        self.info = EngineInfo(
            ctx_size=settings.ctx_size or 4096,
            slots=settings.slots,
            batch_size=settings.batch_size,
            ubatch_size=settings.ubatch_size,
            num_vocab=NUM_VOCAB,
            num_embd=NUM_EMBD,
            num_layers=1,
            num_params=1,
            model_bytes=1,
            ctx_train=4096,
            threads=1,
            kv_unified=settings.kv_unified,
            kv_tokens=(settings.ctx_size or 4096) * settings.slots,
            pooling="mean",
            has_encoder=False,
            has_decoder=True,
            is_recurrent=False,
            can_shift=True,
            description="fake",
            memory=(),
        )

    def step(self) -> None:
        for seq, pos, tokens in self.batch.parts:
            kv = self._kv.setdefault(seq, array("i"))
            del kv[pos:]
            kv.extend(tokens)
            if POISON in tokens or (LATE_POISON in kv and len(kv) >= 20):
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                os.write(2, b"GGML_ASSERT(fake) failed\n")
                os.abort()
            if HANG in tokens:
                threading.Event().wait()
        if self._stall_tokens:
            long = [kv for kv in self._kv.values() if len(kv) >= self._stall_tokens]
            if len(long) >= self._num_streams:
                threading.Event().wait()
        if self._step_s:
            time.sleep(self._step_s)

    def sample(self, rows, samplers, masks=None) -> list[int]:
        return [next_token(self._kv[self.batch.rows[row]]) for row in rows]

    def abort(self) -> None:
        pass

    def seq_copy(self, src: int, dst: int, num_tokens: int) -> None:
        self._kv[dst] = self._kv[src][:num_tokens]

    def seq_remove(self, seq: int, from_pos: int = 0, to_pos: int = -1) -> bool:
        assert to_pos < 0
        if seq in self._kv:
            del self._kv[seq][from_pos:]
        return True

    def seq_len(self, seq: int) -> int:
        return len(self._kv.get(seq, ()))

    def embed(self, tokens: bytes, seq: int) -> bytes:
        if POISON in array("i", tokens):
            os._exit(77)
        time.sleep(self._step_s)
        return struct.pack("4f", *(zlib.crc32(tokens + bytes([i])) for i in range(NUM_EMBD)))

    def memory(self) -> tuple[()]:
        return ()

    def close(self) -> None:
        pass


def load(settings: EngineSettings, on_progress: Callable[[float], bool] | None) -> WorkerEngine:
    """The factory: "tests.replica.worker_engine:load"."""
    options = dict(part.split("=", 1) for part in settings.model_path.split(",") if part)
    assert on_progress is not None
    on_progress(0.5)
    if fifo := options.get("fifo"):
        with open(fifo, "w") as pipe:
            pipe.write("halfway")
    match options.get("load"):
        case "file_error":
            raise ModelFileError("not a GGUF: fix the file")
        case "memory_error":
            raise OutOfMemoryError("needs 9 GB more than there is")
        case "crash":
            os._exit(9)
        case "block":
            while on_progress(0.6):
                time.sleep(0.001)
            raise RuntimeError("cancelled")
        case "block_deaf":
            threading.Event().wait()
    if marker := options.get("once"):  # loads once, then never again
        if os.path.exists(marker):
            raise ModelFileError("it was there a moment ago")
        with open(marker, "x"):
            pass
    if options.get("say"):
        print(options["say"], file=sys.stderr, flush=True)
    on_progress(1.0)
    return WorkerEngine(settings, options)
