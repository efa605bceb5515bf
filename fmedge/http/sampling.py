"""Request fields to GenerationRequests: every impossible combination is refused here, by name."""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from fmedge.errors import ContextLengthError, RequestError
from fmedge.http.promises import Terms
from fmedge.http.schemas import ChatRequest, CompletionRequest, SamplingFields
from fmedge.models import constrain
from fmedge.sched.forecast import length_keys
from fmedge.types import GenerationRequest, Grammar, SamplingParams, Vocab

if TYPE_CHECKING:
    from fmedge.models.served import ServedModel

_SEED_STEP = 0x9E3779B97F4A7C15
_SEED_MASK = 2**64 - 1
_TIERS = {"flex": -10, "priority": 10, "fast": 10}


class Sender(Struct, frozen=True):
    """Who asks, as far as generation cares."""

    cache_key: str = ""
    api_key_id: str = ""


def pack(tokens: Sequence[int]) -> bytes:
    """Token ids as int32."""
    return array("i", tokens).tobytes()


def num_tokens(packed: bytes) -> int:
    """How many ids `packed` holds."""
    return len(packed) // 4


def unpack(packed: bytes) -> list[int]:
    """The ids."""
    return array("i", packed).tolist()


def check_tokens(tokens: Sequence[int], vocab: Vocab, param: str) -> None:
    """Raises RequestError for ids that the vocabulary does not have."""
    if tokens and max(tokens) >= vocab.num_tokens:
        bad = next(token for token in tokens if token >= vocab.num_tokens)
        raise RequestError(
            f"Token {bad} in `{param}` does not exist: the model has {vocab.num_tokens} tokens.",
            param=param,
            code="invalid_value",
        )


def stop_strings(request: SamplingFields) -> tuple[str, ...]:
    """The stop strings as a tuple."""
    if request.stop is None:
        return ()
    return (request.stop,) if isinstance(request.stop, str) else tuple(request.stop)


def _one_of(request: SamplingFields, names: tuple[str, ...]) -> tuple[str, object] | None:
    given = [(name, getattr(request, name)) for name in names]
    given = [(name, value) for name, value in given if value is not None]
    if len(given) > 1:
        raise RequestError(
            f"`{given[0][0]}` and `{given[1][0]}` say the same thing: send one of them.",
            param=given[1][0],
            code="invalid_value",
        )
    return given[0] if given else None


_GRAMMAR_FIELDS = (
    "regex", "grammar", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
)  # fmt: skip


def extension_grammar(request: SamplingFields) -> tuple[str, Grammar] | None:
    """The constraint that an extension field asks for, with the field's name."""
    given = _one_of(request, _GRAMMAR_FIELDS)
    if given is None:
        return None
    name, value = given
    if request.ignore_eos:
        raise RequestError(
            f"`ignore_eos` cannot be combined with `{name}`: the output ends where its form ends.",
            param="ignore_eos",
            code="invalid_value",
        )
    return name, _grammar(name, value)


def _grammar(name: str, value: Any) -> Grammar:
    match name:
        case "regex" | "guided_regex":
            return constrain.from_regex(value, param=name)
        case "grammar" | "guided_grammar":
            return constrain.from_grammar(value, param=name)
        case "guided_choice":
            return constrain.from_choice(value, param=name)
        case _:
            return constrain.from_json_schema(value, param=name)


def sampling_params(request: SamplingFields, model: ServedModel, logprobs: int) -> SamplingParams:
    """What the request says, else what the model's file recommends, else OpenAI's defaults.

    logprobs: SamplingParams.top_logprobs. The seed is that of the first choice."""
    vocab = model.vocab
    repeat = _one_of(request, ("repeat_penalty", "repetition_penalty"))
    last_n = _one_of(request, ("repeat_last_n", "penalty_last_n"))
    seed = request.seed
    if seed is None or seed == -1:
        seed = secrets.randbits(63)
    values: dict[str, object] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "top_k": None if request.top_k is None else min(max(0, request.top_k), vocab.num_tokens),
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "repeat_penalty": repeat[1] if repeat else None,
        "penalty_last_n": last_n[1] if last_n else None,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return msgspec.structs.replace(
        SamplingParams(),
        **{**model.metadata.sampling, **given},
        seed=seed & _SEED_MASK,
        logit_bias=_logit_bias(request.logit_bias, vocab),
        top_logprobs=logprobs,
    )


def _logit_bias(bias: dict[str, float] | None, vocab: Vocab) -> tuple[tuple[int, float], ...]:
    pairs: dict[int, float] = {}
    for key, value in (bias or {}).items():
        if not (key.isascii() and key.isdigit() and len(key) < 11 and int(key) < vocab.num_tokens):
            raise RequestError(
                f"`logit_bias` has the key `{key[:40]}`: keys are token ids from 0 to "
                f"{vocab.num_tokens - 1}.",
                param="logit_bias",
                code="invalid_value",
            )
        pairs[int(key)] = float(value)
    return tuple(pairs.items())


def priority_of(request: SamplingFields, tiers_with_class: Container[str] = ()) -> int:
    """`priority`, else what service_tier stands for, unless it stands for an SLA class."""
    if request.priority is not None:
        return request.priority
    tier = request.service_tier if isinstance(request, ChatRequest) else None
    return 0 if tier is None or tier in tiers_with_class else _TIERS.get(tier, 0)


def requests_for(
    request: SamplingFields,
    model: ServedModel,
    prompt: bytes,
    *,
    prompt_param: str,
    num_choices: int,
    logprobs: int,
    grammar: Grammar | None,
    has_tools: bool = False,
    priority: int,
    sender: Sender,
    terms: Terms,
) -> list[GenerationRequest]:
    """One GenerationRequest for each choice of one prompt; they differ in their seed alone.

    Raises ContextLengthError, RequestError."""
    num_prompt = num_tokens(prompt)
    if num_prompt == 0:
        raise RequestError(
            f"`{prompt_param}` is empty and this model has no token that begins a text.",
            param=prompt_param,
            code="invalid_value",
        )
    room = model.ctx_size - num_prompt
    if room < 1:
        error = ContextLengthError(num_prompt, model.ctx_size)
        error.param = prompt_param
        raise error
    max_tokens = _max_tokens(request, room)
    min_tokens = request.min_tokens or 0
    if min_tokens > max_tokens:
        raise RequestError(
            f"`min_tokens` is {min_tokens}, but at most {max_tokens} tokens can be generated.",
            param="min_tokens",
            code="invalid_value",
        )
    stop_ids = tuple(request.stop_token_ids or ())
    check_tokens(stop_ids, model.vocab, "stop_token_ids")
    params = sampling_params(request, model, logprobs)
    first = GenerationRequest(
        model=model.name,
        prompt=prompt,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        sampling=params,
        stop_token_ids=stop_ids,
        ignore_eos=bool(request.ignore_eos),
        grammar=grammar,
        cache_key=sender.cache_key,
        cache_prompt=request.cache_prompt is not False,
        priority=priority,
        api_key_id=sender.api_key_id,
        promise=terms.promise,
        workflow=terms.workflow,
        length_keys=length_keys(
            model.name,
            num_prompt,
            api_key_id=sender.api_key_id,
            form="tools" if has_tools else "" if grammar is None else "grammar",
            workflow=terms.workflow,
        ),
    )
    replace = msgspec.structs.replace
    return [first] + [
        replace(
            first,
            sampling=replace(params, seed=(params.seed + choice * _SEED_STEP) & _SEED_MASK),
        )
        for choice in range(1, num_choices)
    ]


def _max_tokens(request: SamplingFields, room: int) -> int:
    asked = {"max_tokens": request.max_tokens}
    if isinstance(request, ChatRequest):
        asked["max_completion_tokens"] = request.max_completion_tokens
    most = room
    for name, value in asked.items():
        if value == 0:
            raise RequestError(
                f"`{name}` is 0: at least 1 token is generated.", param=name, code="invalid_value"
            )
        if value is not None and value > 0:
            most = min(most, value)
    return most


def check_streaming(request: SamplingFields) -> None:
    """stream_options without stream is refused, as OpenAI does."""
    if request.stream_options is not None and not request.stream:
        raise RequestError(
            "`stream_options` needs `stream`: true.", param="stream_options", code="invalid_value"
        )


def check_batch(num_sequences: int, max_batch: int, param: str) -> None:
    """Raises RequestError when one request asks for too many sequences."""
    if num_sequences > max_batch:
        raise RequestError(
            f"This request asks for {num_sequences} sequences; at most {max_batch} are accepted.",
            param=param,
            code="invalid_value",
        )


def text_prompts(
    value: object, model: ServedModel, param: str, *, add_special: bool = True
) -> list[bytes]:
    """Prompts of completions and inputs of embeddings: a text, a list of texts, a token array, or
    a list of those, as packed token ids. Raises RequestError for mixtures and unknown tokens."""
    vocab = model.vocab
    if isinstance(value, str):
        return [vocab.tokenize(value, add_special=add_special, parse_special=True)]
    if not isinstance(value, list) or not value:
        raise RequestError(f"`{param}` is empty.", param=param, code="invalid_value")
    kinds = {type(item) for item in value}
    if len(kinds) > 1:
        raise RequestError(
            f"`{param}` mixes texts and tokens: send texts, or tokens, or token arrays.",
            param=param,
            code="invalid_value",
        )
    if kinds == {str}:
        return [vocab.tokenize(text, add_special=add_special, parse_special=True) for text in value]
    arrays: list[list[int]] = [value] if kinds == {int} else value
    for tokens in arrays:
        check_tokens(tokens, vocab, param)
    return [pack(tokens) for tokens in arrays]


def check_completion(request: CompletionRequest) -> None:
    """Combinations of completion fields that cannot be."""
    best_of, n = request.best_of, request.n or 1
    if best_of is not None and best_of < n:
        raise RequestError(
            f"`best_of` is {best_of}, less than n = {n}.", param="best_of", code="invalid_value"
        )
    if best_of is not None and best_of > n and request.stream:
        raise RequestError(
            "`best_of` cannot be streamed: the best is known at the end.",
            param="best_of",
            code="invalid_value",
        )
    if request.echo and request.logprobs is not None:
        raise RequestError(
            "`logprobs` with `echo` is not supported: log probabilities of the prompt's tokens are "
            "not computed.",
            param="logprobs",
            code="unsupported_parameter",
        )
    if request.echo and request.suffix:
        raise RequestError(
            "`echo` and `suffix` cannot be combined.", param="echo", code="invalid_value"
        )
