"""Response bodies: encoded as they stand, and described in /openapi.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ErrorBody(Struct, frozen=True):
    """What was wrong (message), where (param), and a name for programs (code)."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(Struct, frozen=True):
    """Every error has this shape."""

    error: ErrorBody


class PromptTokensDetails(Struct, frozen=True):
    """cached_tokens: prompt tokens whose KV was there already."""

    cached_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True):
    """reasoning_tokens: tokens of output that went to reasoning_content."""

    reasoning_tokens: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens in and out. Choices share one prompt, which is counted once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class Timings(Struct, frozen=True, kw_only=True):
    """llama-server's timings: times in ms on the replica's clock, of the first choice.

    Then what was observed since the request came (queue: until its prefill began), on the server's
    clock, and what had been estimated for it at admission, if anything.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    queue_ms: float | UnsetType = UNSET
    ttft_ms: float | UnsetType = UNSET
    e2e_ms: float | UnsetType = UNSET
    est_ttft_ms: float | UnsetType = UNSET
    est_e2e_ms: float | UnsetType = UNSET
    replica: str | UnsetType = UNSET


class TopLogprob(Struct, frozen=True):
    """One alternative."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True):
    """The token taken, and the likeliest ones."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, frozen=True):
    """Log probabilities of every token of output."""

    content: list[TokenLogprob]
    refusal: None = None


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    """name comes first, then pieces of the arguments' JSON text."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class ToolCallDelta(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """id, type and function.name come with a call's first delta."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta


class ChatDelta(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


FinishReasonOut = Literal["stop", "length", "tool_calls"]


class ChatChunkChoice(Struct, frozen=True, kw_only=True):
    """One choice's part of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReasonOut | None = None


class ChatChunk(Struct, frozen=True, kw_only=True):
    """One event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    service_tier: str | UnsetType = UNSET
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET


class FunctionCallOut(Struct, frozen=True):
    """arguments: a JSON text that follows the function's schema."""

    name: str
    arguments: str


class ToolCallOut(Struct, frozen=True, kw_only=True):
    """A call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCallOut


class ChatMessageOut(Struct, frozen=True, kw_only=True):
    """The model's answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallOut] | UnsetType = UNSET


class ChatChoice(Struct, frozen=True, kw_only=True):
    """One answer."""

    index: int
    message: ChatMessageOut
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReasonOut


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """A chat completion in one piece."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: str | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET


class CompletionLogprobs(Struct, frozen=True, kw_only=True):
    """Parallel lists, one entry a token. text_offset counts characters from the text's start."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(Struct, frozen=True, kw_only=True):
    """One text (or, streamed, its next piece)."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """A text completion; streamed events have the same shape."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET


class EmbeddingUsage(Struct, frozen=True):
    """Tokens embedded."""

    prompt_tokens: int
    total_tokens: int


class Embedding(Struct, frozen=True, kw_only=True):
    """A vector of length 1: numbers, or base64 of float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(Struct, frozen=True, kw_only=True):
    """One vector for each input, in order."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


class ModelMeta(Struct, frozen=True, kw_only=True):
    """llama-server's details of a model. n_ctx: longest request in tokens."""

    n_ctx: int
    n_vocab: int
    n_ctx_train: int | UnsetType = UNSET
    n_embd: int | UnsetType = UNSET
    n_params: int | UnsetType = UNSET
    size: int | UnsetType = UNSET


class ModelCard(Struct, frozen=True, kw_only=True):
    """A name or alias of a served model, whose own name is `root`; `status` is loading, ready or
    failed."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "fmedge"
    root: str
    aliases: list[str] = []
    status: str
    meta: ModelMeta


class ModelList(Struct, frozen=True, kw_only=True):
    """Every served model."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class TokenPiece(Struct, frozen=True):
    """piece: text, or bytes where they are not UTF-8 by themselves."""

    id: int
    piece: str | list[int]


class TokenizeResponse(Struct, frozen=True):
    """Token ids, or ids with their pieces."""

    tokens: Sequence[int | TokenPiece]


class DetokenizeResponse(Struct, frozen=True):
    """The tokens' text."""

    content: str


class HealthResponse(Struct, frozen=True, kw_only=True):
    """status: ok, loading, draining or failed; models: the same of each model."""

    status: str
    models: dict[str, str]


class Slot(Struct, frozen=True, kw_only=True):
    """One place to decode in; ids count over all replicas of the model."""

    id: int
    model: str
    n_ctx: int
    is_processing: bool


class Props(Struct, frozen=True, kw_only=True):
    """What llama-server's tools look at, of one model."""

    default_generation_settings: dict[str, Any]
    total_slots: int
    model_alias: str
    model_path: str
    chat_template: str
    bos_token: str
    eos_token: str
    modalities: dict[str, bool]
    build_info: str
