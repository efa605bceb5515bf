"""/v1/embeddings: vectors of length 1."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from aiohttp import web

from fmedge.errors import ContextLengthError, RequestError
from fmedge.http.context import Context, check_still_served, context_of
from fmedge.http.decode import BodyDecoder
from fmedge.http.errors import json_response
from fmedge.http.responses import Embedding, EmbeddingList, EmbeddingUsage
from fmedge.http.sampling import check_batch, num_tokens, text_prompts
from fmedge.http.schemas import EmbeddingRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmedge.models.served import ServedModel

    FloatVector = NDArray[np.float32]

_decoder = BodyDecoder(EmbeddingRequest)


def prepare(
    body: bytes, context: Context, request: web.Request
) -> tuple[EmbeddingRequest, ServedModel, list[bytes]]:
    """Decode, check and tokenise. Raises RequestError, ModelNotFoundError, UnavailableError."""
    asked = _decoder.decode(body)
    model = context.model(asked.model)
    if isinstance(asked.input, list):
        check_batch(len(asked.input), context.settings.max_batch, "input")
    if not asked.input:
        raise RequestError("`input` is empty.", param="input", code="invalid_value")
    terms = context.promises.terms(request, model.name)
    context.dispatcher.check(model.name, promise=terms.promise, num_body_bytes=len(body))
    inputs = text_prompts(asked.input, model, "input")
    for tokens in inputs:
        if not tokens:
            raise RequestError(
                "`input` has an empty text or token array.", param="input", code="invalid_value"
            )
        if num_tokens(tokens) > model.ctx_size:
            error = ContextLengthError(num_tokens(tokens), model.ctx_size)
            error.param = "input"
            raise error
    return asked, model, inputs


def unit_vector(packed: bytes, dimensions: int | None) -> FloatVector:
    """The first `dimensions` numbers of a packed float32 vector, scaled to length 1; a vector of
    zeros stays one. Raises RequestError if the model's vectors are shorter."""
    import numpy as np  # a tenth of a second that a server without embeddings need not pay

    vector: FloatVector = np.frombuffer(packed, dtype="<f4")
    if dimensions is not None:
        if dimensions > len(vector):
            raise RequestError(
                f"`dimensions` is {dimensions}, but this model's vectors have {len(vector)}.",
                param="dimensions",
                code="invalid_value",
            )
        vector = vector[:dimensions]
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    return (vector / norm).astype("<f4") if norm > 0 else vector


async def create_embedding(request: web.Request) -> web.Response:
    """POST /v1/embeddings"""
    context = context_of(request)
    body = await context.read(request)
    asked, model, inputs = await context.prepare(
        lambda: prepare(body, context, request), in_thread=context.is_long(body)
    )
    check_still_served(request, model)
    results = await context.dispatcher.embed(model.name, inputs)
    data = []
    for index, (packed, _) in enumerate(results):
        vector = unit_vector(packed, asked.dimensions)
        value: list[float] | str = (
            base64.b64encode(vector.tobytes()).decode()
            if asked.encoding_format == "base64"
            else vector.tolist()
        )
        data.append(Embedding(index=index, embedding=value))
    total = sum(count for _, count in results)
    return json_response(
        EmbeddingList(model=model.name, data=data, usage=EmbeddingUsage(total, total))
    )
