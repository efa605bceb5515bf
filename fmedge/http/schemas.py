"""Request bodies. These Structs decode requests and are the source of /openapi.json.

A documented OpenAI field that this server cannot honour has the type null, so that the schema
says the truth; `REFUSED` says why. Descriptions are those of the fields as served here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fmedge.http.chat_schemas import (
    AllowedToolChoice,
    JsonObject,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    NamedTool,
    ShortText,
    TextFormat,
    Tool,
)

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
GrammarText = Annotated[str, Meta(max_length=1 << 20)]
Regex = Annotated[str, Meta(max_length=65536)]
Stop = Annotated[str, Meta(min_length=1, max_length=1024)]
Stops = Annotated[list[Stop], Meta(max_length=16)]
RoutersTrue = Annotated[Literal[True] | None, Meta(description="Only the default is known.")]
RoutersFalse = Annotated[Literal[False] | None, Meta(description="Only the default is known.")]

# Why a field whose type is null cannot have a value. Keyed by the field's name.
REFUSED = {
    "audio": "this server generates text only",
    "prediction": "predicted outputs are not supported",
    "web_search_options": "this server searches nothing",
    "moderation": "this server has no moderation model",
    "functions": "deprecated by OpenAI: send `tools` instead",
    "function_call": "deprecated by OpenAI: send `tool_choice` and `tool_calls` instead",
    "ttl": "prefixes are kept while memory allows, for no promised time",
    "prompt_cache_breakpoint": "prefixes are found and shared without marks",
}


class StreamOptions(Struct, forbid_unknown_fields=True, frozen=True):
    """Options of a streamed response."""

    include_usage: Annotated[
        bool | None, Meta(description="Send one last chunk with the usage and no choices.")
    ] = None
    include_obfuscation: Annotated[
        Literal[False] | None, Meta(description="Padding is never sent; true is refused.")
    ] = None


MAX_MS = 1e9
Milliseconds = Annotated[float, Meta(gt=0, le=MAX_MS)]


class Sla(
    Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, rename={"sla_class": "class"}
):
    """What this request shall be promised. Its limits win over those of headers and of its class;
    GET /admin/decisions tells how it went."""

    sla_class: Annotated[
        str | None, Meta(description="A class of the configuration, [sla.NAME].")
    ] = None
    ttft_ms: Annotated[Milliseconds | None, Meta(description="Until the first token.")] = None
    tpot_ms: Annotated[
        Milliseconds | None, Meta(description="For each token after the first, on average.")
    ] = None
    e2e_ms: Annotated[Milliseconds | None, Meta(description="Until the last token.")] = None


class SamplingFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What chat and text completions share."""

    model: Annotated[str, Meta(min_length=1, max_length=512, description="Name or alias.")]
    stream: Annotated[bool | None, Meta(description="Send server-sent events.")] = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128, description="Choices for each prompt.")] | None = None
    max_tokens: (
        Annotated[
            int,
            Meta(
                ge=-1,
                le=2**31 - 1,
                description="Most tokens of output; -1 and null: the rest of the context, which "
                "also cuts a larger number (finish_reason `length`).",
            ),
        ]
        | None
    ) = None
    temperature: (
        Annotated[float, Meta(ge=0, le=2, description="0 always takes the likeliest token.")] | None
    ) = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Meta(ge=-100, le=100)]],
            Meta(
                max_length=4096,
                description="Token id -> bias on its logit; -100 bans it, 100 forces it.",
            ),
        ]
        | None
    ) = None
    seed: (
        Annotated[
            int,
            Meta(
                ge=-(2**63),
                le=2**63 - 1,
                description="The same seed and request give the same tokens. -1 and null: random.",
            ),
        ]
        | None
    ) = None
    stop: Annotated[
        Stop | Stops | None, Meta(description="Output ends before the first of these.")
    ] = None
    user: Annotated[ShortText | None, Meta(description="Accepted; nothing depends on it.")] = None
    # Extensions, named as llama-server and vLLM name them.
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1, description="0 and -1: off.")] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repetition_penalty: (
        Annotated[float, Meta(gt=0, le=10, description="vLLM's name of repeat_penalty.")] | None
    ) = None
    repeat_last_n: (
        Annotated[
            int,
            Meta(
                ge=-1,
                le=2**31 - 1,
                description="How many last tokens the penalties see; -1: all, 0: none.",
            ),
        ]
        | None
    ) = None
    penalty_last_n: (
        Annotated[int, Meta(ge=-1, le=2**31 - 1, description="Same as repeat_last_n.")] | None
    ) = None
    ignore_eos: Annotated[
        bool | None, Meta(description="Never end before max_tokens; stop strings still do.")
    ] = None
    min_tokens: (
        Annotated[int, Meta(ge=0, le=2**31 - 1, description="Do not end before.")] | None
    ) = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=256)] | None = None
    cache_prompt: Annotated[
        bool | None, Meta(description="false: neither read nor keep this prompt's KV.")
    ] = None
    regex: Annotated[Regex | None, Meta(description="Output matches this expression.")] = None
    grammar: Annotated[
        GrammarText | None, Meta(description="Output follows this grammar: Lark, or GBNF.")
    ] = None
    guided_json: Annotated[
        JsonObject | bool | None, Meta(description="vLLM's name of a JSON schema to follow.")
    ] = None
    guided_regex: Annotated[Regex | None, Meta(description="vLLM's name of regex.")] = None
    guided_choice: (
        Annotated[
            list[Annotated[str, Meta(min_length=1)]],
            Meta(min_length=1, max_length=1024, description="Output is one of these."),
        ]
        | None
    ) = None
    guided_grammar: Annotated[GrammarText | None, Meta(description="vLLM's name of grammar.")] = (
        None
    )
    priority: (
        Annotated[
            int,
            Meta(
                ge=-100,
                le=100,
                description="Higher goes first and is preempted last; wins over service_tier.",
            ),
        ]
        | None
    ) = None
    sla: Annotated[Sla | None, Meta(description="The latency that is promised.")] = None
    # SGLang's and vLLM's routers write these into whatever they pass on
    no_stop_trim: RoutersFalse = None
    skip_special_tokens: RoutersTrue = None
    return_hidden_states: RoutersFalse = None


class PromptCacheOptions(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Prompt caching is always implicit."""

    mode: Literal["implicit"] | None = None
    ttl: None = None


class ChatRequest(SamplingFields, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=65536)]
    max_completion_tokens: (
        Annotated[
            int,
            Meta(ge=-1, le=2**31 - 1, description="As max_tokens; the smaller of both holds."),
        ]
        | None
    ) = None
    logprobs: Annotated[bool | None, Meta(description="Return log probabilities.")] = None
    top_logprobs: (
        Annotated[int, Meta(ge=0, le=20, description="Alternatives shown; needs logprobs.")] | None
    ) = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedToolChoice | None = None
    parallel_tool_calls: Annotated[
        bool | None, Meta(description="false: at most one call; default true.")
    ] = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None,
        Meta(
            description="Handed to the chat template if it knows reasoning_effort or "
            "enable_thinking; refused otherwise."
        ),
    ] = None
    chat_template_kwargs: Annotated[
        JsonObject | None, Meta(description="Further variables for the chat template.")
    ] = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Meta(min_length=1, max_length=1)] | None,
        Meta(description="Text only."),
    ] = None
    continue_final_message: RoutersFalse = None
    separate_reasoning: RoutersTrue = None
    stream_reasoning: RoutersTrue = None
    include_reasoning: RoutersTrue = None
    verbosity: Annotated[
        Literal["medium"] | None, Meta(description="Only the default is known.")
    ] = None
    store: Annotated[
        Literal[False] | None, Meta(description="Nothing is stored; true is refused.")
    ] = None
    metadata: (
        Annotated[
            dict[str, Annotated[str, Meta(max_length=512)]],
            Meta(max_length=16, description="Accepted; nothing is stored."),
        ]
        | None
    ) = None
    safety_identifier: Annotated[
        ShortText | None, Meta(description="Accepted; nothing depends on it.")
    ] = None
    prompt_cache_key: Annotated[
        ShortText | None,
        Meta(description="KV is shared only between requests of the same key and API key."),
    ] = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Annotated[
        Literal["in_memory", "in-memory", "24h"] | None,
        Meta(description="An upper bound in OpenAI's sense, so memory alone satisfies it."),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "scale", "priority", "fast"] | None,
        Meta(
            description="The SLA class that the configuration gives the tier; else flex: priority "
            "-10; priority and fast: 10; the others: 0."
        ),
    ] = None
    audio: None = None
    prediction: None = None
    web_search_options: None = None
    moderation: None = None
    functions: None = None
    function_call: None = None


class CompletionRequest(SamplingFields, kw_only=True):
    """Body of POST /v1/completions."""

    prompt: Annotated[
        str | list[str | TokenId | list[TokenId]] | None,
        Meta(
            description="A text, a list of texts, a token array, or a list of those; null is the "
            "empty text."
        ),
    ] = None
    suffix: Annotated[
        str | None, Meta(description="Text after the gap; only models with infill tokens.")
    ] = None
    echo: Annotated[bool | None, Meta(description="Put the prompt before the output.")] = None
    best_of: (
        Annotated[
            int,
            Meta(ge=1, le=128, description="Run so many, return the n of best mean logprob."),
        ]
        | None
    ) = None
    logprobs: (
        Annotated[int, Meta(ge=0, le=20, description="Alternatives shown for each token.")] | None
    ) = None


class EmbeddingRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /v1/embeddings."""

    model: Annotated[str, Meta(min_length=1, max_length=512, description="Name or alias.")]
    input: Annotated[
        str | list[str | TokenId | list[TokenId]],
        Meta(description="A text, a list of texts, a token array, or a list of those."),
    ]
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Meta(description="base64: float32, little-endian.")
    ] = None
    dimensions: (
        Annotated[
            int,
            Meta(ge=1, le=65536, description="Keep the first so many and normalise again."),
        ]
        | None
    ) = None
    user: Annotated[ShortText | None, Meta(description="Accepted; nothing depends on it.")] = None


class TokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /tokenize."""

    content: str
    model: Annotated[str | None, Meta(description="Default: the first model.")] = None
    add_special: Annotated[bool | None, Meta(description="Add BOS and the like.")] = None
    parse_special: Annotated[
        bool | None, Meta(description="Read control tokens' names as such; default true.")
    ] = None
    with_pieces: Annotated[bool | None, Meta(description="Return ids with their text.")] = None


class DetokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /detokenize."""

    tokens: list[TokenId]
    model: Annotated[str | None, Meta(description="Default: the first model.")] = None
