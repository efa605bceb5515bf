"""What `ps`, /health and /metrics are told: a snapshot, made when asked for."""

from __future__ import annotations

from msgspec import Struct

from fmedge.replica.interface import ReplicaStatus


class ReplicaLoad(Struct, frozen=True, kw_only=True):
    """A replica's status and what it held at its last step. Sizes in tokens.

    num_assigned: requests given to it. num_running, num_waiting: those that decode or prefill,
    and those that do not yet. kv_tokens: the cache's size.
    """

    status: ReplicaStatus
    num_assigned: int
    num_running: int
    num_waiting: int
    kv_tokens_used: int
    kv_tokens: int


class ModelStatus(Struct, frozen=True, kw_only=True):
    """One served model. num_waiting: requests at the front; replicas have theirs beside.
    can_load: its replicas come and go, so none is needed for it to be served. error: why it cannot
    be loaded now, or ""."""

    name: str
    is_ready: bool
    num_waiting: int
    replicas: tuple[ReplicaLoad, ...]
    can_load: bool = False
    error: str = ""


class DispatcherStatus(Struct, frozen=True, kw_only=True):
    """num_open: requests taken and not yet ended."""

    is_draining: bool
    num_open: int
    models: tuple[ModelStatus, ...]
