"""What the front and a worker say to each other: msgspec Structs over a socketpair.

Each message is a 4-byte little-endian length and that many bytes of msgpack. A batch of messages
that are ready together travels as one frame: a list of Structs. The worker's `Step` carries every
sequence's new tokens of one engine step.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fmedge.types import (
    EngineInfo,
    EngineSettings,
    FinishReason,
    Grammar,
    SamplingParams,
    StepTimings,
    TokenLogprobs,
)

MAX_FRAME_BYTES = 256 << 20


# front -> worker


class KvStoreSettings(Struct, array_like=True, frozen=True, kw_only=True):
    """Where KV of evicted sequences goes. memory_bytes: of host memory, for this replica; 0 is no
    store. folder: for what overflows it, in a folder of its own for each model, up to disk_bytes
    for all of them; 0 or "" keeps nothing on disk."""

    memory_bytes: int
    folder: str = ""
    disk_bytes: int = 0


class Load(Struct, tag="load", array_like=True, frozen=True):
    """First message: load the model. `engine` names a factory: "llama", or "module:attribute"."""

    settings: EngineSettings
    engine: str = "llama"
    kv_store: KvStoreSettings | None = None


class Submit(Struct, tag="submit", array_like=True, frozen=True, kw_only=True):
    """Run a sequence. `tokens` is the prompt and then whatever was already emitted, packed int32;
    a resumed sequence is one whose tokens are longer than num_prompt_tokens. max_tokens and
    min_tokens count all output, emitted included."""

    request_id: int
    tokens: bytes
    num_prompt_tokens: int
    max_tokens: int
    min_tokens: int = 0
    sampling: SamplingParams = SamplingParams()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    grammar: Grammar | None = None
    cache_key: str = ""
    cache_prompt: bool = True
    priority: int = 0


class Embed(Struct, tag="embed", array_like=True, frozen=True, kw_only=True):
    """Embed one token sequence; answered by Embedded (or Failed)."""

    request_id: int
    tokens: bytes


class Cancel(Struct, tag="cancel", array_like=True, frozen=True):
    """Drop these; takes effect within one step. Unknown ids are ignored. No answer is sent."""

    request_ids: tuple[int, ...]


class ClearCache(Struct, tag="clear_cache", array_like=True, frozen=True):
    """Forget every retained and stored prefix (of one cache key, or all)."""

    cache_key: str | None = None


class Measure(Struct, tag="measure", array_like=True, frozen=True):
    """Time designed steps on an idle engine, for max_s seconds at most; answered by Measured.

    points: (P, D, depth): steps of P prefill tokens and D decoding sequences whose KV holds `depth`
    tokens each, the more telling ones first. Retained prefixes are lost by it. Any message that
    arrives meanwhile ends it.
    """

    points: tuple[tuple[int, int, int], ...]
    max_s: float


class Shutdown(Struct, tag="shutdown", array_like=True, frozen=True):
    """Abort the step in flight, free the model, exit 0. save_s: time in which to keep the KV of
    all sequences on disk before that, if the store has one."""

    save_s: float = 0.0


FrontMessage = Load | Submit | Embed | Cancel | ClearCache | Measure | Shutdown


# worker -> front


class LoadProgress(Struct, tag="load_progress", array_like=True, frozen=True):
    fraction: float


class Loaded(Struct, tag="loaded", array_like=True, frozen=True):
    info: EngineInfo


class LoadFailed(Struct, tag="load_failed", array_like=True, frozen=True):
    """`kind`: "file", "memory", "device" or "other"; the worker exits after it."""

    kind: Literal["file", "memory", "device", "other"]
    message: str


class SequenceTokens(Struct, array_like=True, frozen=True):
    """One sequence's part of a step. `finish` ends it; `timings` come with the finish.

    num_cached_tokens is set on the message with the first token (else -1).
    """

    request_id: int
    tokens: tuple[int, ...]
    finish: FinishReason | None = None
    logprobs: tuple[TokenLogprobs, ...] | None = None
    num_cached_tokens: int = -1
    timings: StepTimings | None = None


class Step(Struct, tag="step", array_like=True, frozen=True, kw_only=True):
    """One engine step, for the front to stream and the profiler to learn from.

    step_s: wall time of decode and sample. period_s: wall time from the end of the step before, or
    from when work appeared, to the end of this one: what a token waits for. num_prefill_tokens P,
    num_decode_seqs D, num_kv_tokens K read by decoding sequences, prefill_attention A = sum of
    chunk x (past + chunk/2): the regressors of the step-time model (docs/latency-model.md).
    prefilled: (request id, tokens of it that have KV now) of the sequences whose prefill advanced.
    rates: the step policy's own after this step (seconds a prefill token, seconds a decoding step),
    (0, 0) with a step that only decodes.
    """

    sequences: tuple[SequenceTokens, ...]
    step_s: float = 0.0
    num_prefill_tokens: int = 0
    num_decode_seqs: int = 0
    num_kv_tokens: int = 0
    prefill_attention: float = 0.0
    num_waiting: int = 0
    num_running: int = 0
    kv_tokens_used: int = 0
    num_preempted: int = 0
    period_s: float = 0.0
    prefilled: tuple[tuple[int, int], ...] = ()
    rates: tuple[float, float] = (0.0, 0.0)


class Measured(Struct, tag="measured", array_like=True, frozen=True):
    """What a Measure gave. samples: (period_s, P, D, K, A) of each timed step, as in `Step`.

    ended: "complete"; "time" when max_s had passed; "interrupted" by a message; "busy" when the
    engine had work, "unable" when the model only embeds, "failed" by an error, whose text is
    `message`. The steps travel as Steps too, of requests whose ids are negative.
    """

    samples: tuple[tuple[float, int, int, int, float], ...] = ()
    ended: Literal["complete", "time", "interrupted", "busy", "unable", "failed"] = "complete"
    message: str = ""


class Embedded(Struct, tag="embedded", array_like=True, frozen=True):
    """`vector`: packed float32, not normalised."""

    request_id: int
    vector: bytes
    num_tokens: int


class Failed(Struct, tag="failed", array_like=True, frozen=True):
    """This request alone failed; the worker goes on. `code` "invalid" is the client's fault."""

    request_id: int
    code: str
    message: str


class Log(Struct, tag="log", array_like=True, frozen=True):
    level: int
    line: str


class Heartbeat(Struct, tag="heartbeat", array_like=True, frozen=True):
    """Sent every second by a thread that is not the engine's. `step_running_s`: how long the step
    in flight has run, 0 when idle: the front tells busy from hung by it."""

    num_steps: int
    step_running_s: float
    rss_bytes: int


WorkerMessage = (
    LoadProgress | Loaded | LoadFailed | Step | Embedded | Failed | Measured | Log | Heartbeat
)
