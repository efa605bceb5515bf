"""/openapi.json: made from the same Structs that decode requests and encode responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from aiohttp import web

from fmedge import __version__
from fmedge.http import decisions, promises, responses, schemas
from fmedge.http.admin import MAX_DECISIONS, WorkflowReports
from fmedge.http.context import context_of
from fmedge.http.estimate_headers import DESCRIPTIONS as ESTIMATES
from fmedge.http.settings import HttpSettings

_REF = "#/components/schemas/{name}"
_STATUS_TEXT = {
    400: "The request is wrong: the message says what, `param` where.",
    401: "No API key, or a wrong one.",
    404: "No such model or endpoint, or nothing is known of what was asked about.",
    405: "The endpoint does not take this method.",
    408: "The body did not arrive in time.",
    409: "The workflow instance belongs to another API key.",
    413: "The body is too large.",
    429: "Too many requests wait, or the promise cannot be kept: `Retry-After` says when to try "
    "again.",
    500: "This request failed on the server's side.",
    503: "Loading, draining or full: `Retry-After` says when to try again.",
}


class Operation(NamedTuple):
    """One endpoint. `result` is a Struct, or the content type of what is no JSON. `bodies`: any
    of them. has_terms: promises and workflows may be named in headers."""

    method: Literal["get", "post"]
    path: str
    id: str
    summary: str
    result: type[msgspec.Struct] | Any
    bodies: tuple[type[msgspec.Struct], ...] = ()
    events: type[msgspec.Struct] | None = None
    query: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    is_public: bool = False
    has_terms: bool = False


_GENERATE = (400, 404, 408, 409, 413, 429, 500, 503)
_READ = (400, 408, 413, 503)

OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "createChatCompletion", "Answer a conversation.",
        responses.ChatCompletion, (schemas.ChatRequest,), responses.ChatChunk,
        statuses=_GENERATE, has_terms=True,
    ),
    Operation(
        "post", "/v1/completions", "createCompletion", "Continue texts.",
        responses.Completion, (schemas.CompletionRequest,), responses.Completion,
        statuses=_GENERATE, has_terms=True,
    ),
    Operation(
        "post", "/v1/embeddings", "createEmbedding", "Turn texts into vectors.",
        responses.EmbeddingList, (schemas.EmbeddingRequest,), statuses=_GENERATE, has_terms=True,
    ),
    Operation(
        "post", "/v1/estimate", "estimate",
        "What a chat or a completion would meet, without running it.",
        decisions.EstimateResponse, (schemas.ChatRequest, schemas.CompletionRequest),
        statuses=_GENERATE, has_terms=True,
    ),
    Operation("get", "/v1/models", "listModels", "The served models.", responses.ModelList),
    Operation(
        "get", "/v1/models/{model}", "retrieveModel", "One served model.", responses.ModelCard,
        statuses=(404,),
    ),
    Operation(
        "post", "/tokenize", "tokenize", "A text's tokens.",
        responses.TokenizeResponse, (schemas.TokenizeRequest,), statuses=(*_READ, 404),
    ),
    Operation(
        "post", "/detokenize", "detokenize", "Tokens' text.",
        responses.DetokenizeResponse, (schemas.DetokenizeRequest,),
        statuses=(*_READ, 404),
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
    Operation(
        "get", "/admin/decisions", "decisions",
        "The numbers behind the latest decisions, or behind that of one request.",
        decisions.DecisionList, query=("limit", "request_id"), statuses=(400, 404),
    ),
    Operation(
        "get", "/admin/workflows", "workflows",
        "How workflows keep their promise, and what would help most.",
        WorkflowReports, query=("name",), statuses=(404,),
    ),
    Operation("get", "/openapi.json", "openapi", "This description.", dict[str, Any]),
)  # fmt: skip


def build_openapi(
    names: Sequence[str], settings: HttpSettings | None = None, *, needs_key: bool
) -> dict[str, Any]:
    """The OpenAPI 3.1 description of a server of models of these names and aliases."""
    settings = HttpSettings() if settings is None else settings
    structs = [
        kind
        for op in OPERATIONS
        for kind in (*op.bodies, op.result, op.events)
        if kind is not None and kind != "text/plain"
    ]
    _, components = msgspec.json.schema_components(
        [*structs, responses.ErrorResponse], ref_template=_REF
    )
    for body in {body for op in OPERATIONS for body in op.bodies}:
        _limit_to(components[body.__name__]["properties"]["model"], names)
    _limit_to(components["Sla"]["properties"]["class"], settings.sla_classes)
    parameters = _query_parameters(names, settings)
    terms = _term_headers(settings)
    paths: dict[str, dict[str, Any]] = {}
    for op in OPERATIONS:
        described = _operation(op, needs_key=needs_key)
        found = [parameters[name] for name in op.query] + (terms if op.has_terms else [])
        if "{model}" in op.path:
            found.append({**parameters["model"], "in": "path", "required": True})
        if found:
            described["parameters"] = found
        paths.setdefault(op.path, {})[op.method] = described
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


def _limit_to(schema: dict[str, Any], names: Iterable[str]) -> None:
    """Which strings are models or classes is known to the server alone, not to the Structs."""
    allowed = list(names)
    for kind in schema.get("anyOf", [schema]):
        if kind.get("type") == "string":
            kind["enum"] = allowed
    if not allowed:
        schema["anyOf"] = [kind for kind in schema["anyOf"] if kind.get("type") != "string"]


def _query_parameters(names: Sequence[str], settings: HttpSettings) -> dict[str, dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {
        "model": {"type": "string", "enum": list(names)},
        "name": {"type": "string", "enum": list(settings.workflows)},
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_DECISIONS},
        "request_id": {"type": "integer", "minimum": 0, "maximum": 10**18},
    }
    if not settings.workflows:
        del schemas["name"]["enum"]
    return {
        name: {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in schemas.items()
    }


def _term_headers(settings: HttpSettings) -> list[dict[str, Any]]:
    """Headers that say on what terms a request is served; those that can have no valid value
    here are left out."""
    milliseconds = {"type": "number", "exclusiveMinimum": 0, "maximum": schemas.MAX_MS}
    name = {"type": "string", "minLength": 1, "maxLength": promises.MAX_NAME_CHARS}
    kinds: dict[str, dict[str, Any]] = dict.fromkeys(promises.LIMITS, milliseconds)
    if settings.sla_classes:
        kinds[promises.SLA] = {"type": "string", "enum": list(settings.sla_classes)}
    if settings.workflows:
        kinds |= {
            promises.WORKFLOW: {"type": "string", "enum": list(settings.workflows)},
            promises.INSTANCE: name,
            promises.STAGE: name,
            promises.DEADLINE: milliseconds,
            promises.LAST: {"type": "string", "enum": ["1", "0"]},
        }
    return [
        {
            "name": header,
            "in": "header",
            "required": False,
            "description": promises.DESCRIPTIONS[header],
            "schema": schema,
        }
        for header, schema in kinds.items()
    ]


def _event_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """One server-sent event, as OpenAPI 3.1 describes streams."""
    chunk = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [_schema(kind), _schema(responses.ErrorResponse)]},
    }
    data = {"anyOf": [chunk, {"const": "[DONE]"}], "description": "With `stream`: true."}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _operation(op: Operation, *, needs_key: bool) -> dict[str, Any]:
    if op.result == "text/plain":
        content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _schema(op.result)}}
    if op.events is not None:
        content["text/event-stream"] = {"schema": _event_schema(op.events)}
    answers: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if op.result in (responses.ChatCompletion, responses.Completion):
        answers["200"]["headers"] = {
            str(name): {"description": text, "schema": {"type": "string"}}
            for name, text in ESTIMATES.items()
        }
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
    if op.bodies:
        bodies = [_schema(body) for body in op.bodies]
        result["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": bodies[0] if len(bodies) == 1 else {"anyOf": bodies}}
            },
        }
    return result


async def get_openapi(request: web.Request) -> web.StreamResponse:
    """GET /openapi.json; made at the first request, as most servers are never asked."""
    context = context_of(request)
    if not context.openapi:
        document = build_openapi(context.names, context.settings, needs_key=bool(context.keys))
        context.openapi = msgspec.json.encode(document)
    return web.Response(body=context.openapi, content_type="application/json")
