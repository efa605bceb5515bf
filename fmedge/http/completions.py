"""/v1/completions: raw prompts, without a chat template."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiohttp import web

from fmedge.errors import RequestError
from fmedge.http.auth import api_key_id
from fmedge.http.context import Context, check_still_served, context_of
from fmedge.http.decode import BodyDecoder
from fmedge.http.errors import json_response
from fmedge.http.estimate_headers import estimate_headers
from fmedge.http.output import LastTimings, Output, usage_of, visible
from fmedge.http.responses import Completion, CompletionChoice, CompletionLogprobs, Usage
from fmedge.http.sampling import (
    Sender,
    check_batch,
    check_completion,
    check_streaming,
    extension_grammar,
    num_tokens,
    pack,
    priority_of,
    requests_for,
    stop_strings,
    text_prompts,
    unpack,
)
from fmedge.http.schemas import CompletionRequest
from fmedge.http.sse import event
from fmedge.http.streaming import complete, stream, submit_all
from fmedge.types import GenerationRequest, Vocab

if TYPE_CHECKING:
    from fmedge.dispatch import TokenBatch
    from fmedge.models.served import ServedModel

_decoder = BodyDecoder(CompletionRequest)
_encode = msgspec.json.Encoder().encode


class Prepared(NamedTuple):
    """A checked request; `echoes` are the prompts' texts if they are to be echoed, else ""."""

    body: CompletionRequest
    model: ServedModel
    requests: list[GenerationRequest]
    echoes: list[str]
    num_prompt_tokens: int
    num_candidates: int


def prepare(
    body: bytes, context: Context, request: web.Request, *, is_estimate: bool = False
) -> Prepared:
    """Decode, check and tokenise. is_estimate: nothing will run, so nothing is refused for want of
    room. Raises RequestError, ModelNotFoundError, UnavailableError."""
    asked = _decoder.decode(body)
    model = context.model(asked.model)
    check_streaming(asked)
    check_completion(asked)
    if not model.can_generate:
        raise RequestError(
            f"`{model.name}` is an embedding model: it cannot generate text.", param="model"
        )
    terms = context.promises.terms(request, model.name, sla=asked.sla)
    if not is_estimate:
        context.dispatcher.check(model.name, promise=terms.promise, num_body_bytes=len(body))
    grammar = extension_grammar(asked)
    prompts = _prompts(asked, model)
    num_candidates = asked.best_of or asked.n or 1
    check_batch(len(prompts) * num_candidates, context.settings.max_batch, "prompt")
    logprobs = -1 if asked.logprobs is None else asked.logprobs
    if num_candidates > (asked.n or 1):
        logprobs = max(0, logprobs)
    requests: list[GenerationRequest] = []
    for prompt in prompts:
        requests += requests_for(
            asked,
            model,
            prompt,
            prompt_param="prompt",
            num_choices=num_candidates,
            logprobs=logprobs,
            grammar=grammar[1] if grammar else None,
            priority=priority_of(asked),
            sender=Sender(context.cache_key(request, None), api_key_id(request)),
            terms=terms,
        )
    echoes = [_text(prompt, model) if asked.echo else "" for prompt in prompts]
    num_prompt = sum(num_tokens(prompt) for prompt in prompts)
    return Prepared(asked, model, requests, echoes, num_prompt, num_candidates)


def _prompts(asked: CompletionRequest, model: ServedModel) -> list[bytes]:
    prompts = text_prompts(asked.prompt if asked.prompt is not None else "", model, "prompt")
    if not asked.suffix:
        bos = model.vocab.bos
        return [prompt or (pack([bos]) if bos is not None else b"") for prompt in prompts]
    vocab = model.vocab
    prefix, suffix, middle = vocab.fim_prefix, vocab.fim_suffix, vocab.fim_middle
    if prefix is None or suffix is None or middle is None:
        raise RequestError(
            f"`suffix` is not supported: `{model.name}` has no infill (FIM) tokens.",
            param="suffix",
            code="unsupported_parameter",
        )
    before = text_prompts(
        asked.prompt if asked.prompt is not None else "", model, "prompt", add_special=False
    )
    after = vocab.tokenize(asked.suffix, add_special=False, parse_special=False)
    first = [vocab.bos] if vocab.adds_bos and vocab.bos is not None else []
    start = pack([*first, prefix])
    return [start + text + pack([suffix]) + after + pack([middle]) for text in before]


def _text(prompt: bytes, model: ServedModel) -> str:
    pieces = model.pieces
    return b"".join(pieces[token] for token in unpack(prompt)).decode("utf-8", "replace")


class CompletionOutput:
    """One choice: a streaming.Choice."""

    def __init__(
        self,
        output: Output,
        index: int,
        echo: str,
        frame: Completion,
        *,
        vocab: Vocab,
        num_top: int | None,
        timings: LastTimings,
    ) -> None:
        """num_top: the request's `logprobs`."""
        timings.outputs.append(output)
        self._timings = timings
        self.output = output
        self.index = index
        self.text = echo
        self._vocab = vocab
        self._frame = frame
        self._num_top = num_top
        self._offset = len(echo)
        self._entries: list[CompletionLogprobs] = []
        marker = frame.id + "#text"
        whole = event(self._chunk(marker, None))
        self._before, _, self._after = whole.partition(_encode(marker))

    def opening(self) -> bytes:
        return self._before + _encode(self.text) + self._after if self.text else b""

    def events(self, batch: TokenBatch) -> bytes:
        output = self.output
        text = output.push(batch)
        logprobs = self._logprobs()
        if output.finish is None and logprobs is None:
            return self._before + _encode(text) + self._after if text else b""
        if output.finish is None and not text and not (logprobs and logprobs.tokens):
            return b""
        chunk = self._chunk(text, output.finish, logprobs)
        return event(msgspec.structs.replace(chunk, timings=self._timings.get()))

    def take(self, batch: TokenBatch) -> None:
        self.text += self.output.push(batch)
        logprobs = self._logprobs()
        if logprobs is not None:
            self._entries.append(logprobs)

    def result(self, index: int) -> CompletionChoice:
        """The choice in one piece."""
        merged = None
        if self._num_top is not None:
            parts = self._entries
            merged = CompletionLogprobs(
                tokens=[t for part in parts for t in part.tokens],
                token_logprobs=[p for part in parts for p in part.token_logprobs],
                top_logprobs=(
                    [d for part in parts for d in part.top_logprobs or ()]
                    if self._num_top
                    else None
                ),
                text_offset=[o for part in parts for o in part.text_offset],
            )
        return CompletionChoice(
            index=index,
            text=self.text,
            logprobs=merged,
            finish_reason=self.output.finish,  # type: ignore[arg-type]
        )

    def _chunk(
        self, text: str, finish: str | None, logprobs: CompletionLogprobs | None = None
    ) -> Completion:
        choice = CompletionChoice(
            index=self.index,
            text=text,
            logprobs=logprobs,
            finish_reason=finish,  # type: ignore[arg-type]
        )
        return msgspec.structs.replace(self._frame, choices=[choice])

    def _logprobs(self) -> CompletionLogprobs | None:
        if self._num_top is None:
            return None
        tokens, values, tops, offsets = [], [], [], []
        for entry in self.output.logprobs:
            name, _ = visible(self._vocab, entry.token)
            tokens.append(name)
            values.append(entry.logprobs.logprob)
            top = {visible(self._vocab, t)[0]: p for t, p in entry.logprobs.top}
            top.setdefault(name, entry.logprobs.logprob)
            tops.append(top)
            offsets.append(self._offset)
            self._offset += len(name)
        return CompletionLogprobs(
            tokens=tokens,
            token_logprobs=values,
            top_logprobs=tops if self._num_top else None,
            text_offset=offsets,
        )


async def create_completion(request: web.Request) -> web.StreamResponse:
    """POST /v1/completions"""
    context = context_of(request)
    body = await context.read(request)
    prepared = await context.prepare(
        lambda: prepare(body, context, request), in_thread=context.is_long(body)
    )
    asked, model = prepared.body, prepared.model
    include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    frame = Completion(
        id="cmpl-" + secrets.token_hex(12),
        created=int(time.time()),
        model=model.name,
        system_fingerprint=context.fingerprint(model),
        choices=[],
    )
    if include_usage:
        frame = msgspec.structs.replace(frame, usage=None)
    stops = stop_strings(asked)
    wants_logprobs = prepared.requests[0].sampling.top_logprobs >= 0
    eog = model.vocab.eog_tokens if wants_logprobs else None
    last_timings = LastTimings(prepared.num_prompt_tokens)
    check_still_served(request, prepared.model)
    generations = await submit_all(context, prepared.requests)
    choices = [
        CompletionOutput(
            Output(generation, model.pieces, stops, eog=eog),
            index,
            prepared.echoes[index // prepared.num_candidates],
            frame,
            vocab=model.vocab,
            num_top=asked.logprobs,
            timings=last_timings,
        )
        for index, generation in enumerate(generations)
    ]

    def usage() -> Usage:
        firsts = generations[:: prepared.num_candidates]
        cached = sum(max(0, generation.num_cached_tokens) for generation in firsts)
        return usage_of(prepared.num_prompt_tokens, [c.output for c in choices], cached)

    def ending() -> bytes:
        if not include_usage:
            return b""
        return event(msgspec.structs.replace(frame, usage=usage(), timings=last_timings.get()))

    if asked.stream:
        return await stream(request, context, choices, ending)
    await complete(choices)
    best = _best(choices, prepared.num_candidates, asked.n or 1)
    return json_response(
        msgspec.structs.replace(
            frame,
            choices=[choice.result(index) for index, choice in enumerate(best)],
            usage=usage(),
            timings=last_timings.get(),
        ),
        headers=estimate_headers(generations[0]),
    )


def _best(choices: list[CompletionOutput], num_candidates: int, n: int) -> list[CompletionOutput]:
    """Of each prompt's candidates, the n of best mean logprob, best first."""
    if num_candidates == n:
        return choices
    kept: list[CompletionOutput] = []
    for start in range(0, len(choices), num_candidates):
        group = choices[start : start + num_candidates]
        group.sort(key=lambda c: -c.output.sum_logprobs / max(1, c.output.num_tokens))
        kept += group[:n]
    return kept
