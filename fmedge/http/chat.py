"""/v1/chat/completions: the handler. What a request means is in chat_prepare, how its output
becomes messages in chat_output."""

from __future__ import annotations

import secrets
import time

import msgspec
from aiohttp import web
from msgspec import UNSET

from fmedge.http.chat_output import ChatOutput
from fmedge.http.chat_prepare import PreparedChat, prepare
from fmedge.http.context import Context, check_still_served, context_of
from fmedge.http.errors import json_response
from fmedge.http.estimate_headers import estimate_headers
from fmedge.http.output import LastTimings, Output, usage_of
from fmedge.http.responses import ChatChunk, ChatCompletion, Usage
from fmedge.http.sampling import num_tokens, stop_strings
from fmedge.http.sse import event
from fmedge.http.streaming import complete, stream, submit_all
from fmedge.models.child import NotYetError, patience

# What a response says of the tier that served it.
_TIERS = {"flex": "flex", "priority": "priority", "fast": "priority"}


# What the event loop waits for a template, which usually takes a tenth of it.
_TEMPLATE_PATIENCE_S = 0.003


async def prepared_chat(
    body: bytes, context: Context, request: web.Request, *, is_estimate: bool = False
) -> PreparedChat:
    """Here if that is quick; else in a thread, as a chat template is foreign code. Raises as
    `prepare`."""
    if not context.is_long(body):
        try:
            with patience(_TEMPLATE_PATIENCE_S):
                return prepare(body, context, request, is_estimate=is_estimate)
        except NotYetError:
            pass
    return await context.prepare(
        lambda: prepare(body, context, request, is_estimate=is_estimate), in_thread=True
    )


async def create_chat_completion(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions"""
    context = context_of(request)
    body = await context.read(request)
    prepared = await prepared_chat(body, context, request)
    asked, model = prepared.body, prepared.model
    num_prompt = num_tokens(prepared.requests[0].prompt)
    include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    frame = ChatChunk(
        id="chatcmpl-" + secrets.token_hex(12),
        created=int(time.time()),
        model=model.name,
        system_fingerprint=context.fingerprint(model),
        choices=[],
        service_tier=_TIERS.get(asked.service_tier, "default") if asked.service_tier else UNSET,
        usage=None if include_usage else UNSET,
    )
    stops = stop_strings(asked)
    eog = model.vocab.eog_tokens if asked.logprobs else None
    last_timings = LastTimings(num_prompt)
    check_still_served(request, model)
    generations = await submit_all(context, prepared.requests)
    choices = [
        ChatOutput(
            Output(generation, prepared.pieces, stops, eog=eog),
            index,
            frame,
            vocab=model.vocab,
            splitter=prepared.splitter(),
            parser=prepared.parser(),
            timings=last_timings,
        )
        for index, generation in enumerate(generations)
    ]

    def usage() -> Usage:
        return usage_of(
            num_prompt,
            [choice.output for choice in choices],
            max(0, generations[0].num_cached_tokens),
            sum(choice.num_reasoning_tokens for choice in choices),
        )

    def ending() -> bytes:
        if not include_usage:
            return b""
        return event(msgspec.structs.replace(frame, usage=usage(), timings=last_timings.get()))

    if asked.stream:
        return await stream(request, context, choices, ending)
    await complete(choices)
    return json_response(
        ChatCompletion(
            id=frame.id,
            created=frame.created,
            model=frame.model,
            system_fingerprint=frame.system_fingerprint,
            choices=[choice.result() for choice in choices],
            usage=usage(),
            service_tier=frame.service_tier,
            timings=last_timings.get(),
        ),
        headers=estimate_headers(generations[0]),
    )
