"""API keys: compared in constant time, all of them, whatever was sent."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from aiohttp import web

from fmedge.http.errors import AuthenticationError, Handler
from fmedge.http.settings import ApiKey

PUBLIC_PATHS = frozenset({"/health", "/v1/health"})
KEY_ID = web.RequestKey("key_id", str)


def api_key_id(request: web.Request) -> str:
    """Who sent this; "" when no keys are asked for."""
    holder: str = request.get(KEY_ID, "")
    return holder


class KeyRing:
    """The accepted keys, as digests: equal lengths, so comparing takes equal time."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._digests = [(hashlib.sha256(key.secret.encode()).digest(), key.id) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holder(self, secret: str) -> str | None:
        """The id of the key, or None. Looks at every key even after a match."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, name in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found


def sent_key(request: web.Request) -> str | None:
    """From `Authorization: Bearer KEY`, or `x-api-key: KEY`."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    return request.headers.get("x-api-key") or None


def auth_middleware(keys: Callable[[web.Request], KeyRing]) -> object:
    """Middleware that lets only holders of a key in, except to PUBLIC_PATHS and preflights; anyone
    where there are no keys. keys: those that are accepted now."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        ring = keys(request)
        if not ring or request.path in PUBLIC_PATHS:
            return await handler(request)
        secret = sent_key(request)
        if secret is None:
            raise AuthenticationError(
                "This server asks for an API key: send `Authorization: Bearer KEY` "
                "or `x-api-key: KEY`."
            )
        holder = ring.holder(secret)
        if holder is None:
            raise AuthenticationError("The API key is not one that this server accepts.")
        request[KEY_ID] = holder
        return await handler(request)

    return middleware
