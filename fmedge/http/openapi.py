"""/openapi.json: made from the same Structs that decode requests and encode responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from aiohttp import web

from fmedge import __version__
from fmedge.http import responses, schemas
from fmedge.http.context import CONTEXT
from fmedge.http.errors import Handler

_REF = "#/components/schemas/{name}"
_STATUS_TEXT = {
    400: "The request is wrong: the message says what, `param` where.",
    401: "No API key, or a wrong one.",
    404: "No such model or endpoint.",
    405: "The endpoint does not take this method.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    429: "Too many requests wait: `Retry-After` says when to try again.",
    500: "This request failed on the server's side.",
    503: "Loading, draining or full: `Retry-After` says when to try again.",
}


class Operation(NamedTuple):
    """One endpoint. `result` is a Struct, or the content type of what is no JSON."""

    method: Literal["get", "post"]
    path: str
    id: str
    summary: str
    result: type[msgspec.Struct] | Any
    body: type[msgspec.Struct] | None = None
    events: type[msgspec.Struct] | None = None
    query: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    is_public: bool = False


_GENERATE = (400, 404, 408, 413, 429, 500, 503)
_READ = (400, 408, 413, 503)

OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "createChatCompletion", "Answer a conversation.",
        responses.ChatCompletion, schemas.ChatRequest, responses.ChatChunk, statuses=_GENERATE,
    ),
    Operation(
        "post", "/v1/completions", "createCompletion", "Continue texts.",
        responses.Completion, schemas.CompletionRequest, responses.Completion, statuses=_GENERATE,
    ),
    Operation(
        "post", "/v1/embeddings", "createEmbedding", "Turn texts into vectors.",
        responses.EmbeddingList, schemas.EmbeddingRequest, statuses=_GENERATE,
    ),
    Operation("get", "/v1/models", "listModels", "The served models.", responses.ModelList),
    Operation(
        "get", "/v1/models/{model}", "retrieveModel", "One served model.", responses.ModelCard,
        statuses=(404,),
    ),
    Operation(
        "post", "/tokenize", "tokenize", "A text's tokens.",
        responses.TokenizeResponse, schemas.TokenizeRequest, statuses=(*_READ, 404),
    ),
    Operation(
        "post", "/detokenize", "detokenize", "Tokens' text.",
        responses.DetokenizeResponse, schemas.DetokenizeRequest, statuses=(*_READ, 404),
    ),
    Operation(
        "get", "/health", "health", "200 when every model is ready, 503 until then.",
        responses.HealthResponse, is_public=True,
    ),
    Operation("get", "/metrics", "metrics", "Prometheus metrics.", "text/plain"),
    Operation(
        "get", "/props", "props", "What llama-server's tools look at, of one model.",
        responses.Props, query=("model",), statuses=(404,),
    ),
    Operation(
        "get", "/slots", "slots", "Places to decode in, of one model or all.",
        list[responses.Slot], query=("model",), statuses=(404,),
    ),
    Operation("get", "/openapi.json", "openapi", "This description.", dict[str, Any]),
)  # fmt: skip


def build_openapi(names: Sequence[str], *, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 description of a server of models of these names and aliases."""
    structs = [
        kind
        for op in OPERATIONS
        for kind in (op.body, op.result, op.events)
        if kind is not None and kind != "text/plain"
    ]
    _, components = msgspec.json.schema_components(
        [*structs, responses.ErrorResponse], ref_template=_REF
    )
    for op in OPERATIONS:
        if op.body is not None:
            _name_models(components[op.body.__name__]["properties"]["model"], names)
    paths: dict[str, dict[str, Any]] = {}
    for op in OPERATIONS:
        paths.setdefault(op.path, {})[op.method] = _operation(op, names, needs_key=needs_key)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "fmedge",
            "version": __version__,
            "description": "OpenAI-compatible serving of foundation models.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }
    if needs_key:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        document["security"] = [{"bearer": []}, {"key": []}]
    return document


def _schema(kind: Any) -> dict[str, Any]:
    ((schema,), _) = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def _name_models(schema: dict[str, Any], names: Sequence[str]) -> None:
    """Which strings are models is known to the server alone, not to the Structs."""
    for kind in schema.get("anyOf", [schema]):
        if kind.get("type") == "string":
            kind["enum"] = list(names)


def _event_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """One server-sent event, as OpenAPI 3.1 describes streams."""
    chunk = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [_schema(kind), _schema(responses.ErrorResponse)]},
    }
    data = {"anyOf": [chunk, {"const": "[DONE]"}], "description": "With `stream`: true."}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _operation(op: Operation, names: Sequence[str], *, needs_key: bool) -> dict[str, Any]:
    if op.result == "text/plain":
        content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _schema(op.result)}}
    if op.events is not None:
        content["text/event-stream"] = {"schema": _event_schema(op.events)}
    answers: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if op.path == "/health":
        answers["503"] = {"description": "Not ready yet.", "content": content}
    error = {"application/json": {"schema": _schema(responses.ErrorResponse)}}
    statuses = set(op.statuses) | {405}
    if not op.is_public:
        # Any endpoint but the public ones counts towards the limit of requests at once.
        statuses |= {503} | ({401} if needs_key else set())
    for status in sorted(statuses):
        answers.setdefault(str(status), {"description": _STATUS_TEXT[status], "content": error})
    result: dict[str, Any] = {
        "operationId": op.id,
        "summary": op.summary,
        "responses": answers,
    }
    if op.is_public and needs_key:
        result["security"] = []
    if op.body is not None:
        result["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(op.body)}},
        }
    model_schema = {"type": "string", "enum": list(names)}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "required": False, "schema": model_schema}
        for name in op.query
    ]
    if "{model}" in op.path:
        parameters.append({"name": "model", "in": "path", "required": True, "schema": model_schema})
    if parameters:
        result["parameters"] = parameters
    return result


def openapi_handler(*, needs_key: bool) -> Handler:
    """GET /openapi.json; made at the first request, as most servers are never asked."""
    body: bytes | None = None

    async def get_openapi(request: web.Request) -> web.StreamResponse:
        nonlocal body
        if body is None:
            names = request.app[CONTEXT].names
            body = msgspec.json.encode(build_openapi(names, needs_key=needs_key))
        return web.Response(body=body, content_type="application/json")

    return get_openapi
