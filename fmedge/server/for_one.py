"""A server that lives for one command: what its configuration is, where nobody said otherwise.

The rule: one client's requests come one at a time. There is nothing to estimate, and no time to
measure what estimates are made of; the memory is the one conversation's; and a small model computes
with one thread, as two that wait for each other at each of its many small operations stand still
where other programs run.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from fmedge.config import Config, ModelConfig
from fmedge.server.plan import ModelPlan

SMALL_BYTES = 16 << 20
"""Of a model's file. One that is as large takes some 2 ms a token with one thread."""


def for_one(config: Config, plans: Sequence[ModelPlan]) -> Config:
    """plans: of the configuration's models, in order."""
    pairs = zip(config.models, plans, strict=True)
    return replace(
        config,
        server=replace(config.server, policy="least_outstanding"),
        models=tuple(_of(model, plan.metadata.file_bytes) for model, plan in pairs),
    )


def _of(model: ModelConfig, file_bytes: int) -> ModelConfig:
    wanted = {"slots": 1} | ({"threads": 1} if file_bytes <= SMALL_BYTES else {})
    chosen = {key: value for key, value in wanted.items() if key not in model.given}
    engine = replace(model.engine, **chosen)
    return replace(model, engine=engine, given=model.given | frozenset(chosen))
