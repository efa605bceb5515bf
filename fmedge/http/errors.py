"""Every error that leaves the server is OpenAI's JSON shape; statuses are decided here alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from fmedge.errors import (
    ConflictError,
    FmedgeError,
    GenerationFailedError,
    ModelNotFoundError,
    RequestError,
    UnavailableError,
)
from fmedge.http.estimate_headers import REQUEST_ID
from fmedge.http.responses import ErrorBody, ErrorResponse

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger("fmedge.http")
_encode = msgspec.json.Encoder().encode

_HTTP_MESSAGES = {
    404: "No such endpoint: {method} {path}. GET /openapi.json lists them.",
    405: "{path} does not take {method}; it takes {allow}.",
    413: "The request body is too large: at most {limit} bytes are accepted.",
}


class AuthenticationError(FmedgeError):
    """No key, or a wrong one: HTTP 401."""


class TooLargeError(RequestError):
    """The body is larger than the limit: HTTP 413."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is too large: at most {limit} bytes are accepted.",
            code="request_too_large",
        )


class NotFoundError(RequestError):
    """What was asked about does not exist: HTTP 404."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message, param=param, code="not_found")


class BodyTimeoutError(RequestError):
    """The client did not send its body in time: HTTP 408."""


def describe(error: BaseException) -> tuple[int, ErrorBody, dict[str, str]]:
    """Status, body and headers for an error. Anything not raised on purpose is a bare 500."""
    text = str(error)
    match error:
        case TooLargeError():
            return 413, ErrorBody(text, "invalid_request_error", None, error.code), {}
        case BodyTimeoutError():
            return 408, ErrorBody(text, "invalid_request_error", None, error.code), {}
        case NotFoundError():
            return 404, ErrorBody(text, "invalid_request_error", error.param, error.code), {}
        case ConflictError():
            return 409, ErrorBody(text, "invalid_request_error", error.param, error.code), {}
        case RequestError():
            return 400, ErrorBody(text, "invalid_request_error", error.param, error.code), {}
        case ModelNotFoundError():
            return 404, ErrorBody(text, "invalid_request_error", "model", "model_not_found"), {}
        case AuthenticationError():
            body = ErrorBody(text, "authentication_error", None, "invalid_api_key")
            return 401, body, {"WWW-Authenticate": "Bearer"}
        case UnavailableError():
            headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
            if error.request_id:
                headers[REQUEST_ID] = str(error.request_id)
            if error.is_overload:
                return 429, ErrorBody(text, "rate_limit_error", None, error.code), headers
            return 503, ErrorBody(text, "unavailable_error", None, error.code), headers
        case GenerationFailedError():
            return 500, ErrorBody(text, "server_error", None, "generation_failed"), {}
        case FmedgeError():
            return 500, ErrorBody(text, "server_error", None, "internal_error"), {}
    return 500, ErrorBody("Internal error; the log says more.", "server_error"), {}


def error_response(error: BaseException) -> web.Response:
    """`error` as a response; what was not raised on purpose is logged with its traceback."""
    status, body, headers = describe(error)
    if status == 500:
        expected = isinstance(error, FmedgeError)
        log.error("request failed: %s", error, exc_info=None if expected else error)
    return json_response(ErrorResponse(body), status=status, headers=headers)


def error_event(error: BaseException) -> bytes:
    """The same body, for a stream whose status is already sent."""
    status, body, _ = describe(error)
    if status == 500:
        expected = isinstance(error, FmedgeError)
        log.error("stream failed: %s", error, exc_info=None if expected else error)
    return _encode(ErrorResponse(body))


def json_response(
    body: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """A Struct as a JSON response."""
    return web.Response(
        body=_encode(body), status=status, headers=headers, content_type="application/json"
    )


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> web.Response:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    template = _HTTP_MESSAGES.get(error.status, "{reason}")
    message = template.format(
        method=request.method,
        path=request.path[:200],
        allow=headers.get("Allow", "other methods"),
        limit=request.client_max_size,
        reason=error.reason,
    )
    codes = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    body = ErrorBody(message, kind, None, codes.get(error.status))
    return json_response(ErrorResponse(body), status=error.status, headers=headers)


@web.middleware
async def errors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: turns exceptions into responses."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _from_aiohttp(request, error)
    except ConnectionError:
        raise
    except Exception as error:
        if (
            not isinstance(error, FmedgeError)
            and request.transport is not None
            and request.transport.is_closing()
        ):
            raise
        return error_response(error)
