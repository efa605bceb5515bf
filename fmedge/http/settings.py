"""What the HTTP layer can be told; whoever composes the server fills it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from fmedge.types import Promise, WorkflowSettings


class ApiKey(Struct, frozen=True):
    """One accepted key. `id` names its holder in logs and cache keys; it is not secret."""

    id: str
    secret: str


class HttpSettings(Struct, frozen=True, kw_only=True):
    """Limits are per process; times in seconds, sizes in bytes.

    api_keys: empty means that no key is asked for.
    cors_origins: exact origins, or ("*",); empty leaves CORS off.
    isolate_cache_by_key: holders of different keys never share KV, so that nobody can learn from
    a fast first token that someone else sent the same prompt.
    ping_interval_s: a comment is sent on a stream that has been silent for that long.
    write_timeout_s: a client that takes nothing for that long is dropped, its requests cancelled.
    body_timeout_s: a client must have sent its whole body within that time.
    keepalive_timeout_s: a connection without a request in progress must have sent the whole head
    of its next one within that time.
    max_connections: more are closed as they come.
    executor_threshold_bytes: longer bodies are decoded, rendered and tokenised off the loop.
    max_batch: most sequences (prompts times choices, or embedding inputs) of one request.
    sla_classes: by name. A request that names no class has, of these, the first that is there:
    class_of_tier[service_tier], class_of_key[API key id], class_of_model[served name, no alias],
    default_class; "" is none (best effort).
    workflows: by name; a call of any other is an error.
    """

    api_keys: tuple[ApiKey, ...] = ()
    isolate_cache_by_key: bool = False
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 32 << 20
    max_header_bytes: int = 16 << 10
    max_headers: int = 100
    max_concurrent_requests: int = 1024
    max_connections: int = 8192
    executor_threshold_bytes: int = 32 << 10
    max_batch: int = 2048
    ping_interval_s: float = 15.0
    write_timeout_s: float = 300.0
    body_timeout_s: float = 60.0
    keepalive_timeout_s: float = 75.0
    retry_after_s: float = 1.0
    sla_classes: Mapping[str, Promise] = {}
    class_of_key: Mapping[str, str] = {}
    class_of_model: Mapping[str, str] = {}
    class_of_tier: Mapping[str, str] = {}
    default_class: str = ""
    workflows: Mapping[str, WorkflowSettings] = {}
