"""What is refused, and when to come back.

Two bounds need no estimate of the request itself and so are asked before it is tokenised: the
model's queue, and a promise that even the least possible latency would break. The third is the
router's: a request whose promise would hold nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fmedge.sched.events import Refuse
from fmedge.sched.requests import ModelState
from fmedge.types import Promise

MAX_RETRY_AFTER_S = 60.0

MAX_BYTES_PER_TOKEN = 32
"""Of a request's body: few tokens are longer, and the rest of the body only adds bytes; so the
prompt is taken for shorter than it is, as a lower bound must."""

BODY_BYTES_FREE = 2048
"""Of a body's JSON around a prompt."""

FLOOR_SHARE = 0.7
"""The floor itself is an estimate: only a promise below this share of it is refused unseen."""


def queue_refusal(
    name: str, model: ModelState | None, max_waiting: int, request_id: int
) -> Refuse | None:
    """What needs no look at the request: no such model, none that will be ready, or its queue is
    full."""
    if model is None:
        return Refuse(request_id, "model_not_found", f"No model named {name} is served.", 0.0)
    replicas = list(model.replicas.values())
    cold = model.cold
    if not replicas and (cold is None or model.gone_reason):
        message = f"Model {name} is not available: {model.gone_reason}"
        retry_s = MAX_RETRY_AFTER_S if cold is None else whole_seconds(cold.retry_after_s)
        return Refuse(request_id, "model_failed", message, retry_s)
    if cold is None and all(replica.capacity == 0 for replica in replicas):
        return Refuse(request_id, "loading", f"Model {name} is still loading.", 2.0)
    num_waiting = len(model.waiting)
    if num_waiting >= max_waiting and not any(r.takes_next for r in replicas):
        message = (
            f"Model {name} has {num_waiting} requests waiting, which is as many as are allowed."
            if num_waiting or not replicas
            else f"Every replica of model {name} is busy, and requests may not wait."
        )
        return Refuse(request_id, "overloaded", message, _queue_retry_after_s(model))
    return None


def bound_refusal(
    floor: tuple[float, float, float] | None,
    promise: Promise,
    num_body_bytes: int,
    request_id: int,
) -> Refuse | None:
    """A promise that the least possible latency breaks, where its class refuses such.

    floor: what no request of this model can beat now: (ttft_s of one prompt token,
    prefill_s_per_token, tpot_s), of the best replica for each.
    """
    if floor is None or promise.on_miss != "refuse":
        return None
    ttft_s, prefill_s_per_token, tpot_s = floor
    num_tokens = max(0, num_body_bytes - BODY_BYTES_FREE) // MAX_BYTES_PER_TOKEN
    least_s = FLOOR_SHARE * (ttft_s + num_tokens * prefill_s_per_token)
    limit_s = min(promise.ttft_s, promise.e2e_s)
    if least_s > limit_s:
        message = (
            f"Not even the first token can come within {1000 * limit_s:.0f} ms: it would take "
            f"{1000 * least_s:.0f} ms at the very least."
        )
        idle_s = FLOOR_SHARE * (tpot_s + num_tokens * prefill_s_per_token)
        retry_s = 0.0 if idle_s > limit_s else whole_seconds(least_s - limit_s)
        return Refuse(request_id, "sla_unattainable", message, retry_s)
    if FLOOR_SHARE * tpot_s > promise.tpot_s:
        message = (
            f"No replica can give a token every {1000 * promise.tpot_s:.1f} ms: alone on the "
            f"fastest, one takes {1000 * tpot_s:.1f} ms."
        )
        return Refuse(request_id, "sla_unattainable", message, 0.0)
    return None


def retry_after_s(excess_s: Sequence[float], can_ever: bool) -> float:
    """When a refused promise would fit: a queue that is not added to drains a second a second, so
    after as long as the nearest replica's estimate lies over the limit. 0: not even then."""
    over_s = [s for s in excess_s if math.isfinite(s)]
    return whole_seconds(min(over_s)) if can_ever and over_s else 0.0


def whole_seconds(wait_s: float) -> float:
    """As Retry-After has it: whole, at least 1, at most a minute."""
    return float(math.ceil(min(MAX_RETRY_AFTER_S, max(1.0, wait_s))))


def _queue_retry_after_s(model: ModelState) -> float:
    """When about half of what waits will have left, at the pace of the last finishes."""
    if math.isnan(model.finish_interval_s):
        return 1.0
    return whole_seconds(model.finish_interval_s * len(model.waiting) / 2)
