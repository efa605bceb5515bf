"""Dispatch: between http and the replicas; turns the scheduler core's decisions into calls."""

from fmedge.dispatch.dispatcher import Dispatcher
from fmedge.dispatch.generation import Generation, TokenBatch
from fmedge.dispatch.status import DispatcherStatus, ModelStatus, ReplicaLoad

__all__ = [
    "Dispatcher",
    "DispatcherStatus",
    "Generation",
    "ModelStatus",
    "ReplicaLoad",
    "TokenBatch",
]
