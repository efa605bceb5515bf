"""POST /v1/estimate: what any chat or completion body would meet, without running it."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, Struct, UnsetType

from fmedge.http import chat, completions
from fmedge.http.context import context_of
from fmedge.http.decisions import estimate_response
from fmedge.http.errors import json_response


class _Outline(Struct):
    messages: Raw | UnsetType = UNSET


_outline = msgspec.json.Decoder(_Outline)


def is_chat(body: bytes) -> bool:
    """Whether a body is a chat's, by its `messages`; what is no JSON object is anyone's."""
    try:
        return _outline.decode(body).messages is not UNSET
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


async def post_estimate(request: web.Request) -> web.Response:
    """POST /v1/estimate"""
    context = context_of(request)
    body = await context.read(request)
    if is_chat(body):
        chat_prepared = await chat.prepared_chat(body, context, request, is_estimate=True)
        requests = chat_prepared.requests
    else:
        prepared = await context.prepare(
            lambda: completions.prepare(body, context, request, is_estimate=True),
            in_thread=context.is_long(body),
        )
        requests = prepared.requests
    return json_response(estimate_response(context.dispatcher.estimate(requests[0])))
