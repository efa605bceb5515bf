"""/tokenize and /detokenize, with llama-server's bodies."""

from __future__ import annotations

from aiohttp import web

from fmedge.http.context import Context, context_of
from fmedge.http.decode import BodyDecoder
from fmedge.http.errors import json_response
from fmedge.http.responses import DetokenizeResponse, TokenizeResponse, TokenPiece
from fmedge.http.sampling import check_tokens, unpack
from fmedge.http.schemas import DetokenizeRequest, TokenizeRequest

_tokenize_decoder = BodyDecoder(TokenizeRequest)
_detokenize_decoder = BodyDecoder(DetokenizeRequest)


def tokenize(body: bytes, context: Context) -> TokenizeResponse:
    """A text's tokens."""
    asked = _tokenize_decoder.decode(body)
    vocab = context.model(asked.model).vocab
    packed = vocab.tokenize(
        asked.content,
        add_special=bool(asked.add_special),
        parse_special=asked.parse_special is not False,
    )
    ids = unpack(packed)
    if not asked.with_pieces:
        return TokenizeResponse(ids)
    return TokenizeResponse([TokenPiece(token, _shown(vocab.piece(token))) for token in ids])


def _shown(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


def detokenize(body: bytes, context: Context) -> DetokenizeResponse:
    """The text of tokens, control tokens by name, U+FFFD for bytes that are no UTF-8."""
    asked = _detokenize_decoder.decode(body)
    vocab = context.model(asked.model).vocab
    check_tokens(asked.tokens, vocab, "tokens")
    text = b"".join(vocab.piece(token) for token in asked.tokens)
    return DetokenizeResponse(text.decode("utf-8", "replace"))


async def post_tokenize(request: web.Request) -> web.Response:
    """POST /tokenize"""
    context = context_of(request)
    body = await context.read(request)
    return json_response(
        await context.prepare(lambda: tokenize(body, context), in_thread=context.is_long(body))
    )


async def post_detokenize(request: web.Request) -> web.Response:
    """POST /detokenize"""
    context = context_of(request)
    body = await context.read(request)
    return json_response(
        await context.prepare(lambda: detokenize(body, context), in_thread=context.is_long(body))
    )
