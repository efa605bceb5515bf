"""Structs that more than one layer speaks. No behaviour."""

from __future__ import annotations

from math import inf
from typing import Any, Literal, Protocol

from msgspec import Struct

FinishReason = Literal["stop", "length", "cancelled", "error"]


class SamplingParams(Struct, frozen=True, array_like=True, kw_only=True):
    """How the next token is drawn. Defaults are OpenAI's: the model's own distribution.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 are off. The penalties look at the last
    `penalty_last_n` tokens of prompt and output (0 off, -1 the whole sequence); repeat 1 and
    presence/frequency 0 are off. `top_logprobs`: -1 none, 0 the chosen token's alone, up to 20
    alternatives. The seed and a token's index in the output alone determine its random number.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int = 64
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int = -1


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """Natural-log probabilities of one position, from the model's distribution at temperature 1
    before any truncation: `logprob` of the chosen token; `top` the best (token, logprob),
    descending."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Grammar(Struct, frozen=True, array_like=True):
    """A constraint on the output, as an llguidance grammar string (JSON or Lark form)."""

    source: str


class Promise(Struct, frozen=True, kw_only=True):
    """What a request was promised, in seconds; inf promises nothing, and a request with all three
    inf is best effort.

    target: the probability with which the promise shall hold. on_miss: what becomes of a request
    whose promise cannot be kept. weight: of this class in goodput, and of best effort in what is
    left (weighted fair between API keys).
    """

    sla_class: str = ""
    ttft_s: float = inf
    tpot_s: float = inf
    e2e_s: float = inf
    target: float = 0.9
    on_miss: Literal["refuse", "best_effort"] = "best_effort"
    weight: float = 1.0


BEST_EFFORT = Promise()


class WorkflowCall(Struct, frozen=True, kw_only=True):
    """Which call of which workflow a request is. deadline_s: time left for the whole instance,
    counted from this call's arrival; inf is the workflow's own promise. is_last: the caller says
    that the instance ends with this call."""

    workflow: str
    instance: str
    stage: str = ""
    deadline_s: float = inf
    is_last: bool = False


class WorkflowSettings(Struct, frozen=True, kw_only=True):
    """What a workflow promises from an instance's first call to its last: [workflows.NAME].

    e2e_s: the end-to-end promise in seconds; inf promises nothing (the workflow is learned and
    reported only). target, on_miss and weight are those of Promise. idle_s: an instance without a
    call in flight for so long is over.
    """

    name: str
    e2e_s: float = inf
    target: float = 0.9
    on_miss: Literal["refuse", "best_effort"] = "best_effort"
    weight: float = 1.0
    idle_s: float = 300.0


class GenerationRequest(Struct, frozen=True, kw_only=True):
    """One sequence to generate, tokenised and checked; what dispatch and the scheduler see.

    prompt: int32 little-endian token ids, packed. n > 1 is n requests with the same prompt.
    cache_key: sequences share KV only with sequences of the same key; "" is the common pool.
    priority: higher is more urgent; decides preemption and order.
    length_keys: what output lengths are learned by, from the most particular to the coarsest.
    """

    model: str
    prompt: bytes
    max_tokens: int
    min_tokens: int = 0
    sampling: SamplingParams = SamplingParams()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    grammar: Grammar | None = None
    cache_key: str = ""
    cache_prompt: bool = True
    priority: int = 0
    api_key_id: str = ""
    promise: Promise = BEST_EFFORT
    workflow: WorkflowCall | None = None
    length_keys: tuple[str, ...] = ()


class StepTimings(Struct, frozen=True, array_like=True):
    """A finished sequence's own times on its replica, in seconds of the worker's clock."""

    queue_s: float
    prefill_s: float
    decode_s: float
    num_cached_tokens: int
    num_prefill_tokens: int
    num_decode_tokens: int


class EngineSettings(Struct, frozen=True, kw_only=True):
    """Everything that decides how one replica loads its model and runs.

    ctx_size: longest sequence (prompt + output) in tokens; 0 takes min(the model's, 8192).
    slots: sequences that decode at once. kv_unified: one pool of `kv_tokens` cells shared by all
    slots instead of one stream of ctx_size cells a slot (kv_tokens 0: ctx_size x slots).
    batch_size: most tokens a step; ubatch_size: most tokens a compute graph.
    threads 0: as many as physical cores allowed to this process. gpu_layers -1: all.
    devices: ggml device names, None all GPUs. tensor_split: share of each device.
    tensor_overrides: (regex on tensor name, buffer type name).
    type_k, type_v: KV types by ggml name, such as "f16", "q8_0".
    pooling: "" as the model says, or "none", "mean", "cls", "last", "rank".
    rpc: HOST:PORT of device servers, whose devices are RPC0, RPC1, ... in this order; or by
    address, HOST:PORT the first of a server, HOST:PORT/1 its second.
    """

    model_path: str
    ctx_size: int = 0
    slots: int = 4
    kv_unified: bool = False
    kv_tokens: int = 0
    batch_size: int = 2048
    ubatch_size: int = 512
    threads: int = 0
    gpu_layers: int = -1
    devices: tuple[str, ...] | None = None
    split_mode: Literal["none", "layer", "row"] = "layer"
    main_gpu: int = 0
    tensor_split: tuple[float, ...] = ()
    tensor_overrides: tuple[tuple[str, str], ...] = ()
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attn: Literal["auto", "on", "off"] = "auto"
    mmap: bool = True
    mlock: bool = False
    offload_kqv: bool = True
    op_offload: bool = True
    pooling: str = ""
    rpc: tuple[str, ...] = ()


class DeviceMemory(Struct, frozen=True):
    """What llama.cpp reports to have allocated on one device (buffer type), in bytes."""

    device: str
    weights: int
    context: int
    compute: int


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What a loaded engine is: sizes in tokens unless named otherwise.

    layer_devices: where llama.cpp says each layer's weights are, the output head last; () unknown.
    expert_devices: where its experts are, "" of a layer without any.
    window_tokens: of sliding or chunked attention; 0: every layer sees all tokens.
    """

    ctx_size: int
    slots: int
    batch_size: int
    ubatch_size: int
    num_vocab: int
    num_embd: int
    num_layers: int
    num_params: int
    model_bytes: int
    ctx_train: int
    threads: int
    kv_unified: bool
    kv_tokens: int
    pooling: str
    has_encoder: bool
    has_decoder: bool
    is_recurrent: bool
    can_shift: bool
    description: str
    memory: tuple[DeviceMemory, ...]
    load_s: float = 0.0
    layer_devices: tuple[str, ...] = ()
    expert_devices: tuple[str, ...] = ()
    window_tokens: int = 0


class DeviceInfo(Struct, frozen=True, kw_only=True):
    """One device of ggml's registry; memory in bytes."""

    name: str
    description: str
    kind: Literal["cpu", "gpu", "igpu", "accel", "meta"]
    backend: str
    memory_total: int
    memory_free: int
    device_id: str = ""


class GgufTensor(Struct, frozen=True, array_like=True):
    """One tensor of a GGUF: shape in ggml order (ne[0] fastest), offset from the data section."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class GgufHeader(Struct, frozen=True, kw_only=True):
    """A GGUF's metadata and tensor list, read without loading weights."""

    path: str
    version: int
    alignment: int
    data_offset: int
    file_bytes: int
    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]


class Vocab(Protocol):
    """A model's tokenizer. `_native.vocab.Vocab` is the real one; tests have a fake."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def eot(self) -> int | None: ...
    @property
    def fim_prefix(self) -> int | None: ...
    @property
    def fim_suffix(self) -> int | None: ...
    @property
    def fim_middle(self) -> int | None: ...
    @property
    def adds_bos(self) -> bool: ...
    @property
    def eog_tokens(self) -> frozenset[int]:
        """Tokens that end a generation (EOS, EOT and the like)."""
        ...

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> bytes:
        """Token ids as packed int32 little-endian. GIL is released."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; control tokens give their name (`<|im_end|>`)."""
        ...

    def is_control(self, token: int) -> bool:
        """True for tokens that are not text (BOS, `<|im_end|>`, ...)."""
        ...
